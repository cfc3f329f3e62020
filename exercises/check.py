"""Is a changed script right?   python exercises/check.py EXERCISE SCRIPT

    python exercises/check.py cell my-lstm.py       my-lstm.py is a changed copy of lstm-numpy.py
    python exercises/check.py --help                the exercises, and the shapes of new parameters

README.md in this folder has the exercises. A line for each check, up to the first that is WRONG.
Exit status: 0 the script is right, 1 it is wrong, 2 that could not be found out.

The forward pass is held against the exercise's equations: they stand below, for one step of one
stream. The backward pass is held against the complex step f'(x) = Im f(x + ih) / h of the script's
own forward pass, at every entry of every parameter and of the incoming state. With h = 1e-20 it is
exact up to rounding, as no difference quotient is.
"""
import contextlib
import os
import sys
import traceback
import types
import warnings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")          # as in the scripts

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
M, B, S, WINDOWS = 7, 2, 3, 4       # characters, streams, steps of a window, windows in a row
RESET = 2                           # the character that resets a stream, where one does
H = 1e-20                           # of the complex step


# The equations: one step of one stream. x is a number, all else a vector or a matrix --------------

def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def output(p, h):
    return p["Why"] @ h + p["by"][:, 0]


def cell(p, x, state):
    i, o, f, g = np.split(p["Wxh"][:, x] + p["Whh"] @ state["h"] + p["bh"][:, 0], 4)
    c = np.tanh(g) * sigmoid(i) + sigmoid(f) * state["c"]
    h = sigmoid(o) * np.tanh(c)
    return output(p, h), {"h": h, "c": c}


def gru(p, x, state):
    a_r, a_z, a_n = np.split(p["Wxh"][:, x] + p["bh"][:, 0], 3)
    u_r, u_z, u_n = np.split(p["Whh"] @ state["h"], 3)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = np.tanh(a_n + r * u_n)
    h = (1 - z) * n + z * state["h"]
    return output(p, h), {"h": h}


def norm(p, x, state):
    a = p["Wxh"][:, x] + p["Whh"] @ state["h"]
    n = (a - np.mean(a)) / np.sqrt(np.mean((a - np.mean(a)) ** 2) + 1e-5)
    h = np.tanh(p["gain"][:, 0] * n + p["bh"][:, 0])
    return output(p, h), {"h": h}


def deallocation(p, x, state):
    """dnc-numpy.py as it is, but for M_t, which stands here; psi comes from what usage is given."""
    dnc = load(os.path.join(ROOT, "dnc-numpy.py"))
    usage, psi = dnc.usage, None

    def usage_and_psi(f, wr_, u_, ww_):
        nonlocal psi
        psi = np.prod(1 - f[0, :, None] * wr_[0], axis=0)
        return usage(f, wr_, u_, ww_)

    def write(M_, ww, e, v):
        one = np.ones_like(M_[0])
        M_t = M_[0] * psi[:, None] * (one - np.outer(ww[0], e[0])) + np.outer(ww[0], v[0])
        return M_t[None], None
    dnc.usage, dnc.write = usage_and_psi, write
    logits, after, _ = dnc.forward(p, np.array([[x]]), {k: v[None] for k, v in state.items()})
    return logits[:, 0, 0], {name: value[0] for name, value in after.items()}


def rmsprop(p, d, mem, lr):
    mem = 0.9 * mem + 0.1 * d ** 2
    return p - lr * d / np.sqrt(mem + 1e-8), mem


Y = "logits", "y_t = Why h_t + by"
EXERCISES = {
    "cell": types.SimpleNamespace(
        start="lstm-numpy.py", what="the usual LSTM cell", sizes=(5,), step=cell, new={},
        results=[("c", "c_t = g i + f c_{t-1}"), ("h", "h_t = o tanh(c_t)"), Y]),
    "gru": types.SimpleNamespace(
        start="rnn-numpy.py", what="a gated recurrent unit", sizes=(5,), step=gru,
        new={"Wxh": ("3H", "M"), "Whh": ("3H", "H"), "bh": ("3H", "1")},
        results=[("h", "h_t = (1 - z) n + z h_{t-1}"), Y]),
    "norm": types.SimpleNamespace(
        start="rnn-numpy.py", what="layer normalisation", sizes=(5,), step=norm,
        new={"gain": ("H", "1")},
        results=[("h", "h_t = tanh(gain (a_t - mean) / sqrt(var + 1e-5) + bh)"), Y]),
    "rmsprop": types.SimpleNamespace(start="any of the three", what="RMSProp", new={}),
    "deallocation": types.SimpleNamespace(
        start="dnc-numpy.py", what="freed locations are wiped", sizes=(3, 4, 2, 2),
        step=deallocation, new={},
        results=[("h", "h_t, as it was"), ("c", "c_t, as it was"), ("u", "usage u_t, as it was"),
                 ("ww", "write weighting ww_t, as it was: its content looks at M_{t-1}, not wiped"),
                 ("M", "M_t = (M_{t-1} psi_t 1^T) (1 - ww_t e_t^T) + ww_t v_t^T"),
                 ("L", "links L_t, as they were"), ("p", "precedence p_t, as it was"),
                 ("wr", "read weightings wr_t, as they were: their content looks at M_t"),
                 ("r", "read vectors r_t = M_t^T wr_t, as they were"),
                 ("logits", "y_t = Why h_t + Wry r_t + by, as it was")])}


# Checks -------------------------------------------------------------------------------------------

class Wrong(Exception):
    """The first thing that is wrong."""


class Failure(Exception):
    """Why nothing could be found out, in one line."""


@contextlib.contextmanager
def blaming(module, what):
    """Whatever exception the reader's code raises, or what it returns: that is what is wrong."""
    try:
        yield
    except (Exception, SystemExit) as e:
        lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__)
                 if frame.filename == module.__file__]
        where = f" (line {lines[-1]})" if lines else ""
        raise Wrong(f"{what}: {type(e).__name__}{where}: {e}")


def shapes(arrays):
    return {name: np.shape(value) for name, value in arrays.items()}


def same_shapes(what, found, expected):
    problems = [f"{name} is {tuple(found[name])}, should be {shape}" if name in found else
                f"{name} {shape} is missing"
                for name, shape in expected.items() if tuple(found.get(name, ())) != shape]
    problems += [f"{name} should not be there" for name in found if name not in expected]
    if problems:
        raise Wrong(f"{what}: {'; '.join(problems)}")


def same_numbers(what, found, expected, tolerance):
    """tolerance: an array, or a number. A number that is nan is wrong."""
    if np.shape(found) != np.shape(expected):
        raise Wrong(f"{what} has the shape {np.shape(found)}, should have {np.shape(expected)}")
    error = np.abs(found - expected)
    if (bad := ~(error <= tolerance)).any():
        at = np.unravel_index(np.where(bad, np.nan_to_num(error, nan=np.inf), -1).argmax(), bad.shape)
        raise Wrong(f"{what}{list(map(int, at))} is {found[at]:.9g}, should be {expected[at]:.9g}; "
                    f"{bad.sum()} of {bad.size} numbers are wrong")


def reference(exercise, params, inputs, state, reset=None):
    """The equations for all steps of all streams: logits (M, S, B), and the state after them."""
    logits, after = np.empty((M, *inputs.shape)), {k: np.empty_like(v) for k, v in state.items()}
    for (t, b), x in np.ndenumerate(inputs):
        stream = {name: value[b] for name, value in (after if t else state).items()}
        if x == reset:
            stream = {name: np.zeros_like(value) for name, value in stream.items()}
        logits[:, t, b], stream = exercise.step(params, x, stream)
        for name, value in stream.items():
            after[name][b] = value
    return logits, after


class Model:
    """The reader's script with random parameters, and a state that the equations have reached."""

    def __init__(self, module, exercise):
        self.module, self.exercise, self.rng = module, exercise, np.random.default_rng(1)
        shipped = load(os.path.join(ROOT, exercise.start))
        new = {name: tuple({"3H": 3 * H, "H": H, "M": M, "1": 1}[n] for n in shape)
               for H in exercise.sizes[:1] for name, shape in exercise.new.items()}
        expected = {**shipped.param_shapes(M, *exercise.sizes), **new}
        with blaming(module, "param_shapes, state_shapes"):
            found = module.param_shapes(M, *exercise.sizes), module.state_shapes(B, *exercise.sizes)
        same_shapes("param_shapes", found[0], expected)
        zero = {k: np.zeros(n) for k, n in shipped.state_shapes(B, *exercise.sizes).items()}
        same_shapes("state_shapes", found[1], shapes(zero))
        with blaming(module, "init_params"):
            gain = module.init_params(self.rng, M, None, *exercise.sizes).get("gain", np.ones(1))
        same_numbers("init_params: gain", gain, np.ones_like(gain), 0)
        self.params = {}
        for name, shape in expected.items():        # large, so that no gate stays in its middle
            scale = 3 if name[:2] == "Wh" and name not in ("Whh", "Why") else 0.8
            self.params[name] = self.rng.standard_normal(shape) * scale + (name == "gain")
        self.state = reference(exercise, self.params, self.inputs(5), zero)[1]

    def inputs(self, steps):
        inputs = self.rng.integers(M, size=(steps, B))
        inputs[steps // 2, 0] = RESET               # in one stream at least, in the middle
        return inputs

    def forward(self, inputs, params, state, reset=None):
        with blaming(self.module, "forward"):
            logits, after, cache = self.module.forward(
                params, inputs, {k: v.copy() for k, v in state.items()}, *[reset] * bool(reset))
            same = shapes(after)
        same_shapes("forward: the state after the window", same, shapes(state))
        return logits, after, cache

    def check_step(self):
        inputs = self.inputs(1)
        found, after, _ = self.forward(inputs, self.params, self.state)
        logits, expected = reference(self.exercise, self.params, inputs, self.state)
        for name, equation in self.exercise.results:
            same_numbers(f"{equation}: {name}", *((found, logits) if name == "logits" else
                                                  (after[name], expected[name])), 1e-10)

    def check_windows(self, reset=None):
        after = expected = self.state
        for k in range(1, WINDOWS + 1):
            inputs = self.inputs(S)
            found, after, _ = self.forward(inputs, self.params, after, reset)
            logits, expected = reference(self.exercise, self.params, inputs, expected, reset)
            for name in expected:
                same_numbers(f"window {k}: {name}", after[name], expected[name], 1e-10)
            same_numbers(f"window {k}: logits", found, logits, 1e-10)

    def check_gradients(self, steps, reset=None):
        """The gradients of a random weighted sum of the logits and of the state after the window."""
        inputs = self.inputs(steps)
        logits, after, cache = self.forward(inputs, self.params, self.state, reset)
        dlogits = self.rng.standard_normal(logits.shape)
        dstate = {k: self.rng.standard_normal(np.shape(v)) for k, v in after.items()}
        with blaming(self.module, "backward"):
            grads, before = self.module.backward(self.params, cache, dlogits.copy(),
                                                 {k: v.copy() for k, v in dstate.items()})
            found = shapes(grads), shapes(before)
        same_shapes("backward: gradients", found[0], shapes(self.params))
        same_shapes("backward: gradients of the incoming state", found[1], shapes(self.state))

        def objective(x, at, step, params, state):
            x[at] += step
            logits, after, _ = self.forward(inputs, params, state, reset)
            x[at] -= step
            return (logits * dlogits).sum() + sum((after[k] * dstate[k]).sum() for k in dstate)

        # the controller's parameters last: each mistake in the memory makes them wrong, too
        last = "bh", "Wxh", "Whh", "Wrh"
        names = sorted(reversed(grads), key=lambda name: last.index(name) if name in last else -1)
        complex_ = [{k: v.astype(complex) for k, v in x.items()} for x in (self.params, self.state)]
        for k, (analytical, blocks) in enumerate([(grads, names), (before, before)]):
            for name in blocks:
                n, x = np.empty(analytical[name].shape), complex_[k][name]
                with blaming(self.module, "forward with complex numbers"):
                    for at in np.ndindex(n.shape):
                        n[at] = objective(x, at, H * 1j, *complex_).imag / H
                a = analytical[name]
                what = f"gradient of {'the incoming ' * k}{name}"
                bound = 1e-10 * (abs(n) + abs(a)) + 1e-13 * max(abs(n).max(), abs(a).max())
                try:
                    same_numbers(what, a, n, bound)
                except Wrong as e:                  # is it forward that the complex step cannot pass?
                    real = [{k: v.copy() for k, v in x.items()} for x in (self.params, self.state)]
                    at = np.unravel_index(np.argmax(abs(n - a)), n.shape)
                    sides = [objective(real[k][name], at, step, *real) for step in (1e-6, -1e-6)]
                    q = (sides[0] - sides[1]) / 2e-6
                    if abs(q - a[at]) <= 1e-4 * (abs(q) + abs(a[at])) < abs(q - n[at]):
                        raise Wrong(f"forward: by a difference quotient the {what} is as backward "
                                    "has it, but the complex step cannot pass forward: look for "
                                    "what ignores imaginary parts (abs, np.var, .real)")
                    raise e

    def check_single_precision(self):
        params, state = ({k: v.astype(np.float32) for k, v in x.items()}
                         for x in (self.params, self.state))
        logits, after, cache = self.forward(self.inputs(S), params, state)
        with blaming(self.module, "backward"):
            grads, before = self.module.backward(params, cache, logits, state)
        for name, value in {"logits": logits, **after, **grads, **before}.items():
            if value.dtype != np.float32:
                raise Wrong(f"{name} is {value.dtype} where all parameters are float32")


def check_rmsprop(module):
    """Some steps with gradients around 1e-4, where the 1e-8 under the root counts."""
    rng = np.random.default_rng(6)
    p, mem, scale = rng.standard_normal(20), np.zeros(20), 10.0 ** rng.integers(-6, 2, 20)
    for _ in range(5):
        d = rng.standard_normal(20) * scale
        expected_p, expected_mem = rmsprop(p, d, mem, 0.1)
        with blaming(module, "adagrad"):
            module.adagrad(p, d.copy(), mem, 0.1)
        same_numbers("mem, in place", mem, expected_mem, 1e-12 * expected_mem)
        same_numbers("p, in place", p, expected_p, 1e-12)


def check(name, module):
    """All checks; prints what is right, and raises what is wrong."""
    if name == "rmsprop":
        check_rmsprop(module)
        return print("ok     mem = 0.9 mem + 0.1 d^2, p = p - lr d / sqrt(mem + 1e-8)")
    model = Model(module, EXERCISES[name])
    print("ok     names and shapes of parameters and state", flush=True)
    for what, function, *args in (
            ("forward, one step", model.check_step),
            (f"forward, {WINDOWS} windows of {S} steps", model.check_windows),
            ("backward, one step", model.check_gradients, 1),
            (f"backward, {S} steps", model.check_gradients, S),
            ("single precision stays single", model.check_single_precision),
            ("--reset: forward", model.check_windows, RESET),
            ("--reset: backward", model.check_gradients, S, RESET)):
        try:
            function(*args)
        except Wrong as e:
            raise Wrong(f"{what}: {e}")
        print(f"ok     {what}", flush=True)


# Command line -------------------------------------------------------------------------------------

def load(path):
    """The script at path as a module, always from its source."""
    module = types.ModuleType("exercise")
    module.__file__ = path
    try:
        with open(path, "rb") as file:
            exec(compile(file.read(), path, "exec"), vars(module))
    except OSError as e:
        raise Failure(f"cannot read {path}: {e.strerror or e}")
    except (Exception, SystemExit) as e:
        raise Failure(f"cannot load {path}: {type(e).__name__}: {e}")
    for name in "param_shapes", "init_params", "state_shapes", "forward", "backward", "adagrad":
        if not hasattr(module, name):
            raise Failure(f"{path} is no copy of one of the three scripts: it has no {name}")
    return module


def main(argv):
    """Run the command line; returns the exit status."""
    message, status = "", 0
    try:
        if {"-h", "--help"} & set(argv):
            print("usage: python exercises/check.py EXERCISE SCRIPT\n")
            for name, e in EXERCISES.items():
                new = ", ".join(f"{k} ({', '.join(shape)})" for k, shape in e.new.items())
                print(f"{name:14}{e.what} (start: {e.start})" + f"; {new}" * bool(new))
            print("\nREADME.md in the same folder has the equations.")
            return 0
        if len(argv) != 2 or argv[0] not in EXERCISES:
            raise Failure(f"name an exercise ({', '.join(EXERCISES)}) and a script; see --help")
        module = load(argv[1])
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            check(argv[0], module)
        print(f"right: {argv[1]} solves {argv[0]}", flush=True)
    except Wrong as e:
        print("WRONG ", " ".join(str(e).split()), flush=True)
        status = 1
    except Failure as e:
        message, status = str(e), 2
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:                             # as in | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 141
    if message:
        print("check.py:", " ".join(message.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
