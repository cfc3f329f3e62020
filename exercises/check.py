"""Is a changed script right?   python exercises/check.py cell my-lstm.py

README.md in this folder has the exercises. Prints what is right, up to the first thing that is
WRONG. Exit status: 0 all is right, 1 something is wrong, 2 that could not be found out.

The forward pass is compared with the exercise's equations, which stand below for one step of one
stream. The backward pass is compared with the complex step f'(x) = Im f(x + ih) / h of the script's
own forward pass, at every entry of every parameter and of the incoming state. With h = 1e-20 it is
exact up to rounding, as no difference quotient is. A difference quotient only tells whether the
forward pass has carried the imaginary part all the way.
"""
import argparse
import contextlib
import functools
import os
import sys
import traceback
import types
import warnings

import numpy as np

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
from command import ROOT, Failure, Parser, leave, one_line, run, say        # noqa: E402

V, B = 7, 2                         # characters, streams
STEP, DELTA = 1e-20, 1e-6           # of the complex step, of the difference quotient
RESET = 2                           # the character that resets a stream, where one does
CONTROLLER = "Wxh", "Whh", "Wrh", "bh"      # a mistake in the memory makes these wrong, too
NEEDED = ("MODEL", "param_shapes", "state_shapes", "init_params", "forward", "backward", "adagrad",
          "dropout_mask")


class Wrong(Exception):
    """The first thing that is wrong."""


@contextlib.contextmanager
def blaming(path, what, kind=Wrong):
    """Whatever exception the code at path raises becomes one of this kind, with its line."""
    try:
        yield
    except (Exception, SystemExit) as e:
        where = [f" (line {frame.lineno})" for frame in traceback.extract_tb(e.__traceback__)
                 if frame.filename == path]
        raise kind(f"{what}: {type(e).__name__}{''.join(where[-1:])}: {e}")


def load(path):
    """The script at path as a module, always from its source."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise Failure(f"cannot read {path}: it is not a regular file")
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as e:
        raise Failure(f"cannot read {path}: {e.strerror}")
    module = types.ModuleType("exercise")
    module.__file__ = path
    with blaming(path, f"{path} cannot be loaded", Failure):
        exec(compile(source, path, "exec"), vars(module))
    return module


SHIPPED = {name: load(os.path.join(ROOT, f"{name}-numpy.py")) for name in ("rnn", "lstm", "dnc")}


# The equations: one step of one stream. p: parameters, x: a number, m: the stream's dropout mask,
# all ones without dropout. The rest are vectors and matrices --------------------------------------

def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def softmax(z):
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def cell(p, x, state, m):
    i, o, f, g = np.split(p["Wxh"][:, x] + p["Whh"] @ state["h"] + p["bh"][:, 0], 4)
    c = np.tanh(g) * sigmoid(i) + sigmoid(f) * state["c"]
    h = sigmoid(o) * np.tanh(c)
    return {"h": h, "c": c}


def gru(p, x, state, m):
    a_r, a_z, a_n = np.split(p["Wxh"][:, x] + p["bh"][:, 0], 3)
    u_r, u_z, u_n = np.split(p["Whh"] @ state["h"], 3)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = np.tanh(a_n + r * u_n)
    return {"h": (1 - z) * n + z * state["h"]}


def norm(p, x, state, m):
    a = p["Wxh"][:, x] + p["Whh"] @ state["h"]
    n = (a - np.mean(a)) / np.sqrt(np.mean((a - np.mean(a)) ** 2) + 1e-5)
    return {"h": np.tanh(p["gain"][:, 0] * n + p["bh"][:, 0])}


def dropout(p, x, state, m):
    return {"h": np.tanh(p["Wxh"][:, x] + p["Whh"] @ (m * state["h"]) + p["bh"][:, 0])}


def dnc(p, x, state, m, wiped=False, masked=False):
    """The DNC, and what an exercise adds to it. M_ is M of step t - 1, and so on."""
    M_, u_, L_, wr_, ww_ = (state[name] for name in ("M", "u", "L", "wr", "ww"))
    (N, W), R, eps = M_.shape, len(wr_), 1e-6
    i, o, f, g = np.split(p["Wxh"][:, x] + p["Whh"] @ state["h"] +
                          p["Wrh"] @ state["r"].ravel() + p["bh"][:, 0], 4)
    c = np.tanh(np.tanh(g) * sigmoid(i) + sigmoid(f) * state["c"])
    h = sigmoid(o) * c
    xi = {name[2:]: weights @ h for name, weights in p.items() if name[:2] == "Wh"}

    def content(M, key, strength, mask):
        key, M = mask * key, mask * M
        lengths = np.sqrt(key @ key + eps) * np.sqrt((M * M).sum(axis=1) + eps)
        return softmax((1 + np.log1p(np.exp(strength))) * (M @ key) / lengths)

    psi = np.prod([1 - free * w for free, w in zip(sigmoid(xi["f"]), wr_)], axis=0)
    u = (u_ + ww_ - u_ * ww_) * psi
    phi, u_eps, a = np.argsort(u + 1e-9 * np.arange(N)), eps + (1 - eps) * u, np.empty(N)
    for j, row in enumerate(phi):
        a[row] = (1 - u_eps[row]) * np.prod(u_eps[phi[:j]])
    mw = sigmoid(xi["mw"]) if masked else np.ones(W)
    mr = sigmoid(xi["mr"]).reshape(R, W) if masked else np.ones((R, W))
    ga, gw, e = sigmoid(xi["ga"]), sigmoid(xi["gw"]), sigmoid(xi["e"])
    ww = gw * (ga * a + (1 - ga) * content(M_, xi["w"], xi["bw"], mw))
    M = (M_ * psi[:, None] if wiped else M_) * (1 - np.outer(ww, e)) + np.outer(ww, xi["v"])
    L = (1 - ww[:, None] - ww) * L_ + np.outer(ww, state["p"])
    np.fill_diagonal(L, 0)
    wr = np.empty((R, N))
    for r, key in enumerate(xi["r"].reshape(R, W)):
        back, here, ahead = softmax(xi["p"].reshape(R, 3)[r])
        wr[r] = (back * L.T @ wr_[r] + here * content(M, key, xi["br"][r], mr[r]) +
                 ahead * L @ wr_[r])
    return {"h": h, "c": c, "u": u, "ww": ww, "M": M, "L": L,
            "p": (1 - ww.sum()) * state["p"] + ww, "wr": wr, "r": wr @ M}


# name: (where to start, sizes, equations, gates in the order of their rows, new shapes by the
# sizes, what to say of results that are wrong)
EXERCISES = {
    "cell": ("lstm", (5,), cell, "iofg", lambda H: {},
             {"c": "c_t = g i + f c_{t-1}", "h": "h_t = o tanh(c_t)"}),
    "gru": ("rnn", (5,), gru, "rzn",
            lambda H: {"Wxh": (3 * H, V), "Whh": (3 * H, H), "bh": (3 * H, 1)},
            {"h": "h_t = (1 - z) n + z h_{t-1}"}),
    "norm": ("rnn", (5,), norm, "", lambda H: {"gain": (H, 1)},
             {"h": "h_t = tanh(gain (a_t - mean) / sqrt(var + 1e-5) + bh)"}),
    "rmsprop": (),
    "dropout": ("rnn", (5,), dropout, "", lambda H: {},
                {"h": "h_t = tanh(Wxh x_t + Whh (m h_{t-1}) + bh)", "y": "y_t = Why (m h_t) + by"}),
    "deallocation": ("dnc", (3, 4, 2, 2), functools.partial(dnc, wiped=True), "iofg",
                     lambda H, N, W, R: {},
                     {"ww": "content for writing looks at M_{t-1} before it is wiped",
                      "M": "M_t = (M_{t-1} psi_t 1^T) (1 - ww_t e_t^T) + ww_t v_t^T"}),
    "masks": ("dnc", (3, 4, 3, 2), functools.partial(dnc, masked=True), "iofg",
              lambda H, N, W, R: {"Whmr": (R * W, H), "Whmw": (W, H)},
              {"ww": "c[i] = softmax over i of beta cos(m k, m M[i]), for writing",
               "wr": "c[i] = softmax over i of beta cos(m k, m M[i]), for reading"})}
RESULTS = "c", "h", "u", "ww", "M", "L", "p", "wr", "r", "y"        # each one uses those before


# Checks -------------------------------------------------------------------------------------------

def shapes(arrays):
    return {name: np.shape(value) for name, value in arrays.items()}


def as_type(dtype, *groups):
    return [{name: value.astype(dtype) for name, value in group.items()} for group in groups]


def own(x):
    """A copy for the reader's code, which has to leave it as it is: what load returns is read-only,
    too. x: an array, a dict of arrays, a number, or None."""
    if isinstance(x, dict):
        return {name: own(value) for name, value in x.items()}
    if isinstance(x, np.ndarray):
        x = x.copy()
        x.flags.writeable = False
    return x


def only_arrays(results):
    """What the reader's code returns, by name, can be compared."""
    for name, value in results.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fc":
            raise Failure(f"{name} is no array of floating-point numbers: {type(value).__name__}")


def same(what, found, expected):
    if not isinstance(found, dict):
        raise Wrong(f"{what} returns no dict, but {type(found).__name__}")
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


def reference(step, params, inputs, state, reset=-1, mask=None):
    """The equations for all steps of all streams: y (S, B, V), and the state after them."""
    y, after = np.empty((*inputs.shape, V)), {k: v.copy() for k, v in state.items()}
    for (t, b), x in np.ndenumerate(inputs):
        stream = {name: value[b] * (x != reset) for name, value in after.items()}
        m = np.broadcast_to(1 if mask is None else mask, (*inputs.shape, len(stream["h"])))[t, b]
        for name, value in step(params, x, stream, m).items():
            after[name][b] = value
        y[t, b] = params["Why"] @ (m * after["h"][b]) + params["by"][:, 0]
        if "Wry" in params:
            y[t, b] += params["Wry"] @ after["r"][b].ravel()
    return y, after


class Model:
    """The reader's script with random parameters, and a state that the equations have reached."""

    def __init__(self, module, start, sizes, step, gates, new, equations):
        self.module, self.step, self.gates, self.equations = module, step, gates, equations
        self.rng, self.taken, shipped = np.random.default_rng(1), start, SHIPPED[start]
        self.expected = {**shipped.param_shapes(V, *sizes), **new(*sizes)}
        args = argparse.Namespace(init=1.0, forget_bias=1.0,
                                  **dict(zip(("hidden", "locations", "width", "heads"), sizes)))
        with blaming(module.__file__, "param_shapes, state_shapes, init_params"):
            found = module.param_shapes(V, *sizes), module.state_shapes(B, *sizes)
            first = dict(module.init_params(self.rng, V, args))
        same("param_shapes", found[0], self.expected)
        same("state_shapes", found[1], shipped.state_shapes(B, *sizes))
        same("init_params", shapes(first), self.expected)
        only_arrays(first)
        gain = first.get("gain", np.ones(1))
        same_numbers("init_params: gain", gain, np.ones_like(gain), 0)
        self.params = {}
        for name, shape in found[0].items():            # forward relies on their order
            large = 3 if name[:2] == "Wh" and name not in ("Whh", "Why") else 0.8   # gates far from
            self.params[name] = self.rng.standard_normal(shape) * large             # their middle
        zero = {name: np.zeros(shape) for name, shape in found[1].items()}
        self.state = reference(step, self.params, self.inputs(5), zero)[1]

    def inputs(self, steps):
        """Random characters; the one that resets comes first in one stream, midway in the other."""
        inputs = self.rng.integers(V, size=(steps, B))
        inputs[0, 1] = inputs[steps // 2, 0] = RESET
        return inputs

    def mask(self, steps, drop):
        """Dropout's: a unit is dropped, or counts twice. None: none is."""
        shape = () if self.step is dropout else (steps,)
        return 2.0 * (self.rng.random(shape + self.state["h"].shape) < 0.5) if drop else None

    def forward(self, inputs, params, state, reset, mask):
        """y and the state after the window, by name, and the cache."""
        what = "forward" + " with complex numbers" * np.iscomplexobj(params["Why"])
        with blaming(self.module.__file__, what):
            y, after, cache = self.module.forward(
                own(params), own(inputs), own(state), reset, own(mask))
            results = {"y": y, **after}
        only_arrays(results)
        expected = {"y": (*inputs.shape, V), **shapes(state)}
        same("forward: y and the state after the window", shapes(results), expected)
        return results, cache

    def check_forward(self, windows, steps, reset=-1, drop=False):
        """Windows that follow each other, in each the results in the order of their use."""
        after = expected = self.state
        for k in range(windows):
            inputs, mask = self.inputs(steps), self.mask(steps, drop)
            found, _ = self.forward(inputs, self.params, after, reset, mask)
            y, expected = reference(self.step, self.params, inputs, expected, reset, mask)
            after, should = {k: v for k, v in found.items() if k != "y"}, {"y": y, **expected}
            for name in filter(should.__contains__, RESULTS):
                what = f"{self.equations.get(name, 'an equation that stays')}: {name}"
                same_numbers(what, found[name], should[name], 1e-10)

    def check_backward(self, steps, reset=-1, drop=False):
        """The gradients of a weighted sum of y and of the state after the window."""
        inputs, mask = self.inputs(steps), self.mask(steps, drop)
        results, cache = self.forward(inputs, self.params, self.state, reset, mask)
        weights = {k: self.rng.standard_normal(v.shape) for k, v in results.items()}
        dstate = {k: weights[k] for k in self.state}
        with blaming(self.module.__file__, "backward"):
            grads, before = self.module.backward(
                own(self.params), cache, own(weights["y"]), own(dstate))
            found = {**grads, **{f"the incoming {k}": v for k, v in before.items()}}
        only_arrays({f"the gradient of {k}": v for k, v in found.items()})

        params, state = as_type(complex, self.params, self.state)
        blocks = {**params, **{f"the incoming {k}": v for k, v in state.items()}}
        same("backward: gradients", shapes(found), shapes(blocks))

        def value(x, change):
            """The weighted sum, with x, a block, changed for the moment."""
            before = x.copy()
            x += change
            results, _ = self.forward(inputs, params, state, reset, mask)
            x[...] = before
            return sum((results[k] * weights[k]).sum() for k in weights)

        for name in sorted(params, key=CONTROLLER.__contains__) + list(blocks)[len(params):]:
            x = blocks[name]
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
        for reset, drop in (-1, False), (RESET, True):
            mask = self.mask(3, drop)
            results, cache = self.forward(self.inputs(3), params, state, reset,
                                          mask.astype(np.float32) if drop else mask)
            with blaming(self.module.__file__, "backward"):
                grads, before = self.module.backward(
                    own(params), cache, own(results["y"]), own(state))
                found = {**results, **{f"the gradient of {k}": v
                                       for k, v in {**grads, **before}.items()}}
            only_arrays(found)
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
        d = rng.standard_normal(20) * scale
        with blaming(module.__file__, "adagrad"):
            new_p, new_mem = module.adagrad(own(p), own(d), own(mem), 0.1)
        only_arrays({"p": new_p, "mem": new_mem})
        mem = 0.9 * mem + 0.1 * d ** 2
        p = p - 0.1 * d / np.sqrt(mem + 1e-8)
        same_numbers("mem", new_mem, mem, 1e-12 * mem)
        same_numbers("p", new_p, p, 1e-12)


def check_mask(module):
    """One mask for all steps, of the streams of share(B), that differs between iterations."""
    share = 1.0 * (np.arange(200) > 50)                 # of 200 streams this process has 150
    module.share = lambda B: slice(50, B)
    run = argparse.Namespace(iter=0, params={"by": np.zeros((V, 1), np.float32)})
    args = argparse.Namespace(dropout=0.25, batchsize=len(share), seqlength=3, hidden=20, seed=1)
    masks = []
    for run.iter in 0, 1:
        with blaming(module.__file__, "dropout_mask"):
            masks.append(module.dropout_mask(args, run))
        only_arrays({"dropout_mask": masks[-1]})
        same("dropout_mask", {"its shape": masks[-1].shape, "its type": masks[-1].dtype.name},
             {"its shape": (150, 20), "its type": "float32"})
        same("dropout_mask with --dropout 0.25",
             {"its values": [round(float(x), 4) for x in np.unique(masks[-1])]},
             {"its values": [0.0, 1.3333]})
        same_numbers("dropout_mask: mean", masks[-1].mean(dtype=float), 1.0, 0.1)
    if (masks[0] == masks[1]).all():
        raise Wrong("dropout_mask is the same in all iterations")
    args.dropout = 0.0
    with blaming(module.__file__, "dropout_mask"):
        same("dropout_mask", {"without dropout": module.dropout_mask(args, run)},
             {"without dropout": None})


def checks(name, module):
    """What is checked, in words, the function that does it, and its arguments."""
    if name == "rmsprop":
        return [("mem = 0.9 mem + 0.1 d^2, p = p - lr d / sqrt(mem + 1e-8)",
                 check_rmsprop, module)]
    model = Model(module, *EXERCISES[name])             # looks at names and shapes
    shared = [("one mask for all steps", check_mask, module)] if name == "dropout" else []
    return [("forward, one step", model.check_forward, 1, 1),
            ("forward, 4 windows of 3 steps", model.check_forward, 4, 3),
            ("backward, one step", model.check_backward, 1),
            ("backward, 3 steps", model.check_backward, 3),
            ("--reset, forward", model.check_forward, 4, 3, RESET),
            ("--reset, backward", model.check_backward, 3, RESET),
            *shared,
            ("--dropout, forward", model.check_forward, 4, 3, RESET, True),
            ("--dropout, backward", model.check_backward, 3, RESET, True),
            ("single precision stays single precision", model.check_type),
            ("MODEL has a new name", model.check_name)]


def check(name, path):
    """Print what is right, up to what is not; returns the exit status."""
    module = load(path)
    if missing := [needed for needed in NEEDED if not hasattr(module, needed)]:
        raise Failure(f"{path} has no {missing[0]}: it is no copy of one of the scripts")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            for what, function, *args in checks(name, module):
                say(what, end=": ")
                function(*args)
                if getattr(sys.stdout, "closed", True):
                    raise Failure(f"{path} has closed standard output")
                say("ok")
    except Wrong as e:
        say(one_line(f"WRONG: {e}"))
        return 1
    except Failure:
        if not getattr(sys.stdout, "closed", True):
            say("")                                     # its message goes to standard error
        raise
    say(f"right: {path} solves {name}")
    return 0


def work(argv):
    """The command line; returns the exit status."""
    p = Parser(prog="check.py", description=__doc__,
               formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("exercise", choices=EXERCISES)
    p.add_argument("script")
    args = p.parse_args(argv)
    return check(args.exercise, args.script)


if __name__ == "__main__":
    leave(run("check.py", work))
