"""Is a changed script right?   python exercises/check.py cell my-lstm.py

README.md in this folder has the exercises. Prints what is right, up to the first thing that is
WRONG. Exit status: 0 all is right, 1 something is wrong, 2 that could not be found out.

The forward pass is compared with the exercise's equations, which stand below for one step of one
stream. The backward pass is compared with the complex step f'(x) = Im f(x + ih) / h of the script's
own forward pass, at every entry of every parameter and of the incoming state. With h = 1e-20 it is
exact up to rounding, as no difference quotient is. A difference quotient only tells whether the
forward pass has carried the imaginary part all the way.
"""
import contextlib
import copy
import functools
import os
import sys
import traceback
import types
import warnings

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
M, B = 7, 2                         # characters, streams
STEP, DELTA = 1e-20, 1e-6           # of the complex step, of the difference quotient
RESET = 2                           # the character that resets a stream, where one does
CONTROLLER = "Wxh", "Whh", "Wrh", "bh"      # a mistake in the memory makes these wrong, too


# The equations: one step of one stream. x is a number, all else a vector or a matrix --------------

def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def cell(p, x, state):
    i, o, f, g = np.split(p["Wxh"][:, x] + p["Whh"] @ state["h"] + p["bh"][:, 0], 4)
    c = np.tanh(g) * sigmoid(i) + sigmoid(f) * state["c"]
    h = sigmoid(o) * np.tanh(c)
    return {"h": h, "c": c}


def gru(p, x, state):
    a_r, a_z, a_n = np.split(p["Wxh"][:, x] + p["bh"][:, 0], 3)
    u_r, u_z, u_n = np.split(p["Whh"] @ state["h"], 3)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = np.tanh(a_n + r * u_n)
    return {"h": (1 - z) * n + z * state["h"]}


def norm(p, x, state):
    a = p["Wxh"][:, x] + p["Whh"] @ state["h"]
    n = (a - np.mean(a)) / np.sqrt(np.mean((a - np.mean(a)) ** 2) + 1e-5)
    return {"h": np.tanh(p["gain"][:, 0] * n + p["bh"][:, 0])}


@functools.cache
def wiping_dnc():
    """dnc-numpy.py as it is, but for M_t, which stands here; psi comes from what usage is given."""
    dnc = load(os.path.join(ROOT, "dnc-numpy.py"))
    usage = dnc.usage

    def usage_and_psi(f, wr_, u_, ww_):
        dnc.psi = np.prod(1 - f[0, :, None] * wr_[0], axis=0)
        return usage(f, wr_, u_, ww_)

    def write(M_, ww, e, v):
        M_t = M_[0] * dnc.psi[:, None] * (1 - np.outer(ww[0], e[0])) + np.outer(ww[0], v[0])
        return M_t[None], None
    dnc.usage, dnc.write = usage_and_psi, write
    return dnc


def deallocation(p, x, state):
    state = {name: value[None] for name, value in state.items()}
    return {name: value[0] for name, value in
            wiping_dnc().forward(p, np.array([[x]]), state)[1].items()}


# name: (where to start, sizes, equations, gates in the order of their rows, new shapes by H, what
# to say of results that are wrong)
EXERCISES = {
    "cell": ("lstm-numpy.py", (5,), cell, "iofg", lambda H: {},
             {"c": "c_t = g i + f c_{t-1}", "h": "h_t = o tanh(c_t)"}),
    "gru": ("rnn-numpy.py", (5,), gru, "rzn",
            lambda H: {"Wxh": (3 * H, M), "Whh": (3 * H, H), "bh": (3 * H, 1)},
            {"h": "h_t = (1 - z) n + z h_{t-1}"}),
    "norm": ("rnn-numpy.py", (5,), norm, "", lambda H: {"gain": (H, 1)},
             {"h": "h_t = tanh(gain (a_t - mean) / sqrt(var + 1e-5) + bh)"}),
    "rmsprop": (),
    "deallocation": ("dnc-numpy.py", (3, 4, 2, 2), deallocation, "iofg", lambda H: {},
                     {"ww": "content for writing looks at M_{t-1} before it is wiped",
                      "M": "M_t = (M_{t-1} psi_t 1^T) (1 - ww_t e_t^T) + ww_t v_t^T"})}
RESULTS = "c", "h", "u", "ww", "M", "L", "p", "wr", "r", "logits"      # each one uses those before


# Checks -------------------------------------------------------------------------------------------

class Wrong(Exception):
    """The first thing that is wrong."""


@contextlib.contextmanager
def blaming(module, what):
    """Whatever exception the reader's code raises, or what it returns: that is what is wrong."""
    try:
        yield
    except (Exception, SystemExit) as e:
        where = [f" (line {frame.lineno})" for frame in traceback.extract_tb(e.__traceback__)
                 if frame.filename == module.__file__]
        raise Wrong(f"{what}: {type(e).__name__}{''.join(where[-1:])}: {e}")


def shapes(arrays):
    return {name: np.shape(value) for name, value in arrays.items()}


def as_type(dtype, *groups):
    return ({name: value.astype(dtype) for name, value in group.items()} for group in groups)


def same(what, found, expected):
    for name in {**expected, **found}:
        is_, should = found.get(name, "missing"), expected.get(name, "absent")
        if is_ != should:
            raise Wrong(f"{what}: {name} is {is_}, should be {should}")


def same_numbers(what, found, expected, tolerance, gates=""):
    """tolerance: an array, or a number. A number that is nan is wrong. gates: names of equal parts,
    to say which are wrong."""
    if np.shape(found) != np.shape(expected):
        raise Wrong(f"{what} has the shape {np.shape(found)}, should have {np.shape(expected)}")
    error = np.abs(found - expected)
    if (bad := ~(error <= tolerance)).any():
        at = np.unravel_index(np.where(bad, np.nan_to_num(error, nan=1e99), -1).argmax(), bad.shape)
        rows = [gate for gate, part in zip(gates, np.split(bad, len(gates) or 1)) if part.any()]
        raise Wrong(f"{what}{list(map(int, at))} is {found[at]:.9g}, should be {expected[at]:.9g}; "
                    f"{bad.sum()} of {bad.size} numbers are wrong" +
                    f", all in the rows of {', '.join(rows)}" * (0 < len(rows) < len(gates)))


def reference(step, params, inputs, state, reset=None):
    """The equations for all steps of all streams: logits (M, S, B), and the state after them."""
    logits, after = np.empty((M, *inputs.shape)), {k: v.copy() for k, v in state.items()}
    for (t, b), x in np.ndenumerate(inputs):
        stream = {name: value[b] * (x != reset) for name, value in after.items()}
        for name, value in step(params, x, stream).items():
            after[name][b] = value
        logits[:, t, b] = params["Why"] @ after["h"][b] + params["by"][:, 0]
        if "Wry" in params:
            logits[:, t, b] += params["Wry"] @ after["r"][b].ravel()
    return logits, after


class Model:
    """The reader's script with random parameters, and a state that the equations have reached."""

    def __init__(self, module, start, sizes, step, gates, new, equations):
        self.module, self.step, self.gates, self.equations = module, step, gates, equations
        self.rng, shipped = np.random.default_rng(1), load(os.path.join(ROOT, start))
        self.taken = shipped.MODEL
        expected = {**shipped.param_shapes(M, *sizes), **new(sizes[0])}
        zero = {k: np.zeros(shape) for k, shape in shipped.state_shapes(B, *sizes).items()}
        with blaming(module, "param_shapes, state_shapes, init_params"):
            found = module.param_shapes(M, *sizes), module.state_shapes(B, *sizes)
            gain = module.init_params(self.rng, M, 0, *sizes).get("gain", np.ones(1))
        same("param_shapes", found[0], expected)
        same("state_shapes", found[1], shapes(zero))
        same_numbers("init_params: gain", gain, np.ones_like(gain), 0)
        self.params = {}
        for name in sorted(expected, key=CONTROLLER.__contains__):
            large = 3 if name[:2] == "Wh" and name not in ("Whh", "Why") else 0.8   # gates far from
            self.params[name] = self.rng.standard_normal(expected[name]) * large    # their middle
        self.state = reference(step, self.params, self.inputs(5), zero)[1]

    def inputs(self, steps):
        """Random characters; the one that resets comes first in one stream, midway in the other."""
        inputs = self.rng.integers(M, size=(steps, B))
        inputs[0, 1] = inputs[steps // 2, 0] = RESET
        return inputs

    def forward(self, inputs, params, state, reset=None):
        what = "forward" + " with complex numbers" * np.iscomplexobj(params["Why"])
        with blaming(self.module, what):
            logits, after, cache = self.module.forward(
                params, inputs, copy.deepcopy(state), *[reset] * bool(reset))
            found = shapes(after)
        same("forward: state after the window", found, shapes(state))
        return logits, after, cache

    def check_forward(self, windows, steps, reset=None):
        """Windows that follow each other, in each the results in the order of their use."""
        after = expected = self.state
        for k in range(windows):
            inputs = self.inputs(steps)
            logits, after, _ = self.forward(inputs, self.params, after, reset)
            y, expected = reference(self.step, self.params, inputs, expected, reset)
            found, should = {"logits": logits, **after}, {"logits": y, **expected}
            for name in filter(should.__contains__, RESULTS):
                what = f"{self.equations.get(name, 'an equation that stays')}: {name}"
                same_numbers(what, found[name], should[name], 1e-10)

    def check_backward(self, steps, reset=None):
        """The gradients of a weighted sum of the logits and of the state after the window."""
        inputs = self.inputs(steps)
        logits, after, cache = self.forward(inputs, self.params, self.state, reset)
        dlogits = self.rng.standard_normal(logits.shape)
        dstate = {k: self.rng.standard_normal(v.shape) for k, v in after.items()}
        with blaming(self.module, "backward"):
            grads, before = self.module.backward(self.params, cache, dlogits.copy(),
                                                 copy.deepcopy(dstate))
            found = {**grads, **{f"the incoming {k}": v for k, v in before.items()}}

        params, state = as_type(complex, self.params, self.state)
        blocks = {**params, **{f"the incoming {k}": v for k, v in state.items()}}
        same("backward: gradients", shapes(found), shapes(blocks))

        def value(x, change):
            """The weighted sum, with x, a block, changed for the moment."""
            before = x.copy()
            x += change
            logits, after, _ = self.forward(inputs, params, state, reset)
            x[...] = before
            return (logits * dlogits).sum() + sum((after[k] * dstate[k]).sum() for k in dstate)

        for name, x in blocks.items():
            n, a = np.empty(x.shape), found[name]
            for at in np.ndindex(x.shape):
                change = np.zeros(x.shape, complex)
                change[at] = STEP * 1j
                n[at] = value(x, change).imag / STEP
            small = DELTA * self.rng.standard_normal(x.shape)
            difference = value(x, small) - value(x, -small)
            if abs(difference - 2 * (n * small).sum()) > 1e-4 * abs(n * small).sum() + 1e-12:
                raise Wrong(f"forward drops the imaginary part between {name} and the results, so "
                            "the gradient cannot be checked: use no abs, np.var or real part")
            same_numbers(f"gradient of {name}", a, n, 1e-10 * (abs(n) + abs(a)) +
                         1e-13 * max(abs(n).max(), abs(a).max()),
                         self.gates if name in CONTROLLER else "")

    def check_type(self):
        params, state = as_type(np.float32, self.params, self.state)
        for reset in None, RESET:
            logits, after, cache = self.forward(self.inputs(3), params, state, reset)
            with blaming(self.module, "backward"):
                grads, before = self.module.backward(params, cache, logits, state)
            found = {"logits": logits, **after,
                     **{f"the gradient of {k}": v for k, v in {**grads, **before}.items()}}
            types = {k: v.dtype.name for k, v in found.items()}
            same("type", types, dict.fromkeys(found, "float32"))

    def check_name(self):
        """Checkpoints of two models must not be mixed up."""
        if self.module.MODEL == self.taken:
            raise Wrong(f"it is still {self.taken!r}, as in the script that was copied")


def check_rmsprop(module):
    """Some steps with gradients around 1e-4, where the 1e-8 under the root counts."""
    rng = np.random.default_rng(6)
    p, mem, scale = rng.standard_normal(20), np.zeros(20), 10.0 ** rng.integers(-6, 2, 20)
    for _ in range(5):
        d, before = rng.standard_normal(20) * scale, {"mem": mem.copy(), "p": p.copy()}
        expected_mem = 0.9 * mem + 0.1 * d ** 2
        expected_p = p - 0.1 * d / np.sqrt(expected_mem + 1e-8)
        with blaming(module, "adagrad"):
            module.adagrad(p, d.copy(), mem, 0.1)
        for name, value in ("mem", mem), ("p", p):
            if np.array_equal(value, before[name]):
                raise Wrong(f"{name} has not changed: {name} = ... does not change it in place")
        same_numbers("mem", mem, expected_mem, 1e-12 * expected_mem)
        same_numbers("p", p, expected_p, 1e-12)


def checks(name, module):
    """What is checked, in words, the function that does it, and its arguments."""
    if name == "rmsprop":
        return [("mem = 0.9 mem + 0.1 d^2, p = p - lr d / sqrt(mem + 1e-8), in place",
                 check_rmsprop, module)]
    model = Model(module, *EXERCISES[name])             # looks at names and shapes
    return [("forward, one step", model.check_forward, 1, 1),
            ("forward, 4 windows of 3 steps", model.check_forward, 4, 3),
            ("backward, one step", model.check_backward, 1),
            ("backward, 3 steps", model.check_backward, 3),
            ("--reset, forward", model.check_forward, 4, 3, RESET),
            ("--reset, backward", model.check_backward, 3, RESET),
            ("single precision stays single precision", model.check_type),
            ("MODEL has a new name", model.check_name)]


def load(path):
    """The script at path as a module, always from its source."""
    module = types.ModuleType("exercise")
    module.__file__ = path
    with open(path, "rb") as file:
        source = file.read()
    with blaming(module, f"{path} cannot be loaded"):
        exec(compile(source, path, "exec"), vars(module))
    return module


def main(argv):
    """Run the command line; returns the exit status."""
    if len(argv) != 2 or argv[0] not in EXERCISES:
        print(f"usage: check.py {'|'.join(EXERCISES)} SCRIPT", file=sys.stderr)
        return 2 * ("--help" not in argv)
    try:
        module = load(argv[1])
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            for what, function, *args in checks(argv[0], module):
                print(what, end=": ", flush=True)
                function(*args)
                print("ok")
        print(f"right: {argv[1]} solves {argv[0]}", flush=True)
        return 0
    except Wrong as e:
        print("WRONG:", " ".join(str(e).split()), flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:                             # as in | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as e:
        print(f"check.py: cannot read {argv[1]}: {e.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
