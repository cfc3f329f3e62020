"""Is a changed script right? The checks of the exercises in README.md, "Change it yourself".

    python tests/exercises.py cell my-lstm.py       check my-lstm.py, a changed copy of lstm-numpy.py, line by line
    python tests/exercises.py --help                the five exercises: equations, where to start, names and shapes

The exit status is 0 if the script is right, 1 if it is not, 2 if that could not be found out. NumPy is all that is needed.

Forward is held against the exercise's equations, which stand below as loops over Python's numbers: one step, by each of its
results, and then several windows, in double precision. Backward is held against the complex step of the script's own
forward, at every entry of every parameter and of the incoming state, so that its lines are right or wrong for themselves. As in
dnc-debug.py, |n - a| <= 1e-10 (|n| + |a|) + 1e-13 max has to hold, n being the numerical gradient and a that of backward.
"""
import math
import os
import re
import sys
import traceback
import types
import warnings

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):      # as in the scripts
    os.environ.setdefault(_name, "1")

import numpy as np
from loading import STEP, M, agree, complex_step, load_changed

B, S, WINDOWS = 2, 3, 4                                     # streams, steps of a window, windows one after another
SIZES = {"hidden": 5}
DNC_SIZES = {"hidden": 3, "locations": 4, "width": 2, "heads": 2}
SCALES = {"large weights": 0.8, "small weights": 0.01}      # standard deviations of the parameters


# The equations: one step of one stream. x is the number of the character, a vector is a list, a matrix a list of rows -----

def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def output(p, h):
    """y_t = Why h_t + by"""
    return [sum(p["Why"][m][k] * h[k] for k in range(len(h))) + p["by"][m][0] for m in range(len(p["by"]))]


def cell(p, x, prev):
    H, h, c = len(prev["h"]), [], []
    a = [p["Wxh"][j][x] + sum(p["Whh"][j][k] * prev["h"][k] for k in range(H)) + p["bh"][j][0] for j in range(4 * H)]
    for j in range(H):
        i, o, f, g = sigmoid(a[j]), sigmoid(a[H + j]), sigmoid(a[2 * H + j]), math.tanh(a[3 * H + j])
        c.append(g * i + f * prev["c"][j])
        h.append(o * math.tanh(c[j]))
    return output(p, h), {"h": h, "c": c}


def gru(p, x, prev):
    H, h = len(prev["h"]), []
    from_x = [p["Wxh"][j][x] + p["bh"][j][0] for j in range(3 * H)]
    from_h = [sum(p["Whh"][j][k] * prev["h"][k] for k in range(H)) for j in range(3 * H)]
    for j in range(H):
        r = sigmoid(from_x[j] + from_h[j])
        z = sigmoid(from_x[H + j] + from_h[H + j])
        n = math.tanh(from_x[2 * H + j] + r * from_h[2 * H + j])
        h.append((1 - z) * n + z * prev["h"][j])
    return output(p, h), {"h": h}


def norm(p, x, prev):
    H = len(prev["h"])
    a = [p["Wxh"][j][x] + sum(p["Whh"][j][k] * prev["h"][k] for k in range(H)) for j in range(H)]
    mean = sum(a) / H
    var = sum((a[j] - mean) ** 2 for j in range(H)) / H
    h = [math.tanh(p["gain"][j][0] * (a[j] - mean) / math.sqrt(var + 1e-5) + p["bh"][j][0]) for j in range(H)]
    return output(p, h), {"h": h}


def deallocation(p, x, prev):
    """The paper's equations, dnc_paper.py, in which one line is another: what is written to was wiped before."""
    return PAPER.step(p, x, prev)


PAPER = load_changed("tests/dnc_paper.py", 'M = write(prev["M"], w_w, xi["e"], xi["v"])',
                     'M = write([[m * psi[i] for m in prev["M"][i]] for i in range(len(psi))], w_w, xi["e"], xi["v"])')


def rmsprop(p, d, mem, lr):
    """One number's update: the new p and mem."""
    mem = 0.9 * mem + 0.1 * d * d
    return p - lr * d / math.sqrt(mem + 1e-8), mem


# What --help says, and what the checks take from it -----------------------------------------------------------------------

class Exercise(types.SimpleNamespace):
    """script: where to start; text: for --help; params, state: names and shapes; results: what a step's equations give, in order."""


LSTM_PARAMS = "Wxh (4H, M), Whh (4H, H), Why (M, H), bh (4H, 1), by (M, 1)"
Y = ("logits", "y_t = Why h_t + by")
SAME = "as it was"
EXERCISES = {
    "cell": Exercise(script="lstm-numpy.py", step=cell, sizes=SIZES, params=LSTM_PARAMS, state="h (H, B), c (H, B)", text="""\
the usual LSTM cell, which is not squashed but shown through a tanh

    c_t = g i + f c_{t-1}        h_t = o tanh(c_t)

Gates, their order in the rows (i, o, f, g) and y_t are as they were.""",
                     results=[("c", "c_t = g i + f c_{t-1}"), ("h", "h_t = o tanh(c_t)"), Y]),

    "gru": Exercise(script="rnn-numpy.py", step=gru, sizes=SIZES, state="h (H, B)",
                    params="Wxh (3H, M), Whh (3H, H), Why (M, H), bh (3H, 1), by (M, 1)", text="""\
gated recurrent unit (Cho et al. 2014)

    r = sigmoid(Wxh_r x_t + bh_r + Whh_r h_{t-1})
    z = sigmoid(Wxh_z x_t + bh_z + Whh_z h_{t-1})
    n = tanh(Wxh_n x_t + bh_n + r (Whh_n h_{t-1}))
    h_t = (1 - z) n + z h_{t-1}

Rows of Wxh, Whh and bh are stacked r, z, n. The reset gate r multiplies after the product, so that one product Whh h_{t-1} serves
all three blocks, as in cuDNN and PyTorch's nn.GRU (in the paper it multiplies h_{t-1}, before); no bias stands inside of r (...).""",
                    results=[("h", "h_t = (1 - z) n + z h_{t-1}"), Y]),

    "norm": Exercise(script="rnn-numpy.py", step=norm, sizes=SIZES, state="h (H, B)",
                     params="Wxh (H, M), Whh (H, H), Why (M, H), gain (H, 1), bh (H, 1), by (M, 1)", text="""\
layer normalisation (Ba et al. 2016) of the argument of tanh

    a_t = Wxh x_t + Whh h_{t-1}        h_t = tanh(gain (a_t - mean) / sqrt(var + 1e-5) + bh)

mean and var = mean((a_t - mean)^2) are over the H numbers of a stream. init_params sets gain to 1. (Write var as a mean of products:
np.var takes |x|^2, which the complex step cannot pass.)""",
                     results=[("h", "h_t = tanh(gain (a_t - mean) / sqrt(var + 1e-5) + bh)"), Y]),

    "rmsprop": Exercise(script="any of the three", params=None, state=None, text="""\
RMSProp instead of Adagrad: what the DNC paper trained with

    mem = 0.9 mem + 0.1 d^2        p = p - lr d / sqrt(mem + 1e-8)

The function keeps its name and arguments, adagrad(p, d, mem, lr), and changes p and mem in place. It wants a smaller --lr, say 0.005."""),

    "deallocation": Exercise(
        script="dnc-numpy.py", step=deallocation, sizes=DNC_SIZES,
        params="Wxh (4H, M), Whh (4H, H), Wrh (4H, RW), Why (M, H), Wry (M, RW), Whr (RW, H), Whw (W, H), Whv (W, H), Whe (W, H), "
               "Whf (R, H), Whga (1, H), Whgw (1, H), Whbr (R, H), Whbw (1, H), Whp (3R, H), bh (4H, 1), by (M, 1)",
        state="h (H, B), c (H, B), M (N, W, B), u (N, B), p (N, B), L (N, N, B), wr (R, N, B), ww (N, B), r (RW, B)", text="""\
freed locations of the memory are wiped (Csordas, Schmidhuber 2019)

    M_t = (M_{t-1} psi_t 1^T) (1 - ww_t e_t^T) + ww_t v_t^T, products being entry by entry

psi_t is the retention that the usage has already. Nothing else changes: content for writing looks at M_{t-1} as it was before it is
wiped, content for reading and the read vectors look at M_t.""",
        results=[("h", f"controller, h_t: {SAME}"), ("c", f"controller, c_t: {SAME}"), ("u", f"usage u_t: {SAME}"),
                 ("ww", f"write weighting ww_t: {SAME}; its content looks at M_{{t-1}} unwiped"),
                 ("M", "M_t = (M_{t-1} psi_t 1^T) (1 - ww_t e_t^T) + ww_t v_t^T"),
                 ("L", f"links L_t: {SAME}"), ("p", f"precedence p_t: {SAME}"),
                 ("wr", f"read weightings wr_t: {SAME}, looking at M_t"), ("r", f"read vectors r_t = M_t^T wr_t: {SAME}"),
                 ("logits", f"y_t = Why h_t + Wry r_t + by: {SAME}")])}

LETTERS = {"hidden": "H", "locations": "N", "width": "W", "heads": "R"}
NEEDED = "Params", "param_shapes", "init_params", "state_shapes", "forward", "backward", "adagrad"


def shapes(text, sizes):
    """'Wxh (4H, M), ...' as a dict of shapes in numbers."""
    letters = {"M": M, "B": B, **{LETTERS[name]: n for name, n in sizes.items()}}

    def number(product):
        return math.prod(int(factor) if factor.isdigit() else letters[factor] for factor in re.findall(r"\d+|[A-Z]", product))
    return {name: tuple(map(number, shape.split(","))) for name, shape in re.findall(r"(\w+) \(([^)]*)\)", text)}


def help_text():
    """What --help prints."""
    lines = [__doc__.strip(), "", "M characters, B streams, H hidden units; N locations of W numbers, R read heads. What forward, backward "
             "and the other functions", "take and return stays as it is. Work on a copy, say my-lstm.py beside the script. The five:"]
    for name, exercise in EXERCISES.items():
        lines += ["", f"{name} (start: a copy of {exercise.script}): {exercise.text}"]
        if exercise.params:
            lines += ["", f"    parameters: {exercise.params}", f"    state: {exercise.state}"]
    return "\n".join(piece for line in lines for piece in wrap(line))


def wrap(lines):
    """Each line of a text, one that is too long in pieces."""
    for line in lines.split("\n"):
        while len(line) > 136:
            cut = line.rindex(", ", 0, 132) + 1
            yield line[:cut]
            line = " " * 16 + line[cut + 1:]
        yield line


# Checks -------------------------------------------------------------------------------------------------------------------

class Failure(Exception):
    """One line for the user; status 2."""


class Stop(Exception):
    """The script cannot be checked any further; what is wrong has been said."""


class Report:
    """A line for each check, and how many of them were wrong."""

    def __init__(self, module):
        self.module, self.checks, self.wrong = module, 0, 0

    def line(self, what, problem=None):
        self.checks += 1
        self.wrong += problem is not None
        print(f"ok     {what}" if problem is None else f"WRONG  {what}: {problem}", flush=True)

    def call(self, name, *args, what="", **kwargs):
        """A function of the script, by name. If it raises, that is said, and where."""
        try:
            return getattr(self.module, name)(*args, **kwargs)
        except Exception as e:                              # whatever a reader's code may do
            numbers = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename == self.module.__file__]
            where = f" (line {numbers[-1]})" if numbers else ""
            self.line(f"{name}{what}", f"{type(e).__name__}{where}: {' '.join(str(e).split())}")
            raise Stop

    def compare(self, what, name, found, expected):
        """A line about an array, which has to be as expected."""
        self.line(what, difference(name, found, expected))


def difference(name, found, expected, tolerance=1e-10, least=1):
    """What is wrong with an array, if anything is. The tolerance is relative, but to no less than least."""
    if np.shape(found) != expected.shape:
        return f"{name} has the shape {np.shape(found)}, not {expected.shape}"
    error = abs(found - expected)
    bad = ~(error <= tolerance * np.maximum(abs(expected), least))       # a number that is none is bad
    if bad.any():
        at = worst(error)
        return (f"{name}{list(map(int, at))} is {found[at]:.9g}, should be {expected[at]:.9g}; {bad.sum()} of {bad.size} numbers "
                f"differ, by up to {np.max(error):.1e}")
    return None


def worst(error):
    """Where an error is largest; what is no number is worse than anything."""
    return np.unravel_index(np.where(np.isnan(error), np.inf, error).argmax(), error.shape)


def has_shapes(report, function, found, expected):
    """Names and shapes; without them nothing else can be looked at."""
    problems = [f"{name} is {tuple(found[name])}, should be {shape}" if name in found else f"{name} {shape} is missing"
                for name, shape in expected.items() if name not in found or tuple(found[name]) != shape]
    problems += [f"{name} should not be there" for name in found if name not in expected]
    report.line(f"{function}: names and shapes", "; ".join(problems) or None)
    if problems:
        raise Stop


def equations(exercise, params, inputs, state):
    """The exercise's own equations for all steps of all streams: logits (M, S, B) and the state after them."""
    p, logits, after = {name: value.tolist() for name, value in params.items()}, [], []
    for b in range(inputs.shape[1]):
        stream, y = {name: value[..., b].tolist() for name, value in state.items()}, []
        for x in inputs[:, b].tolist():
            y_t, stream = exercise.step(p, x, stream)
            y.append(y_t)
        logits.append(y)
        after.append(stream)
    return np.array(logits).transpose(2, 1, 0), {name: np.stack([np.array(s[name]) for s in after], axis=-1) for name in state}


def draw(exercise, module, scale):
    """Parameters, and a state that the equations reach with them in a few steps; all random numbers of a case."""
    rng = np.random.default_rng(round(1 / scale))
    expected = shapes(exercise.params, exercise.sizes)
    params = module.Params(module.param_shapes(M, **exercise.sizes), np.float64)
    for name, shape in expected.items():
        params[name][:] = rng.standard_normal(shape) * scale + (name == "gain")
        if name.startswith("Wh") and name not in ("Whh", "Why"):
            params[name] *= 4                               # h_t is below 1: the DNC's gates get far from the middle
    zero = {name: np.zeros(shape) for name, shape in shapes(exercise.state, exercise.sizes).items()}
    state = equations(exercise, params, rng.integers(M, size=(5, B)), zero)[1]
    return types.SimpleNamespace(params=params, state=state, rng=rng)


def copies(state):
    """The script may write into what it is given."""
    return {name: value.copy() for name, value in state.items()}


def check_step(report, exercise, case):
    """One step, result by result, in the order in which the equations use each other: the first that is wrong counts."""
    inputs = case.rng.integers(M, size=(1, B))
    logits, state, _ = report.call("forward", case.params, inputs, copies(case.state))
    expected_logits, expected = equations(exercise, case.params, inputs, case.state)
    missing = [name for name in expected if name not in state]
    if missing:
        report.line("forward: the state after the window", f"{', '.join(missing)} missing")
        raise Stop
    for name, equation in exercise.results:
        found, should = (logits, expected_logits) if name == "logits" else (state[name], expected[name])
        report.compare(f"one step: {equation}", name, found, should)


def check_windows(report, exercise, case, title):
    """Several windows, in each of which forward goes on from its own state, with the arrays of the one before."""
    state, expected, window, problem = copies(case.state), case.state, None, None
    for k in range(WINDOWS):
        inputs = case.rng.integers(M, size=(S, B))
        logits, state, window = report.call("forward", case.params, inputs, state, window)
        should, expected = equations(exercise, case.params, inputs, expected)
        pairs = [("logits", logits, should), *((name, state[name], expected[name]) for name in expected)]
        problem = problem or next((f"in window {k + 1}, {p}" for p in (difference(*pair) for pair in pairs) if p), None)
    report.line(f"{WINDOWS} windows of {S} steps, {title}", problem)


def gradients(report, case):
    """Numerical and analytical gradients of all blocks, and a function that gives a difference quotient by an entry of one."""
    inputs, rng = case.rng.integers(M, size=(S, B)), case.rng
    dlogits = rng.standard_normal((M, S, B))
    dstate = {name: rng.standard_normal(value.shape) for name, value in case.state.items()}
    window = None
    for _ in range(2):                                      # the second time with arrays that are not zeros any more
        window = report.call("forward", case.params, inputs, copies(case.state), window)[2]
        grads, before = report.call("backward", case.params, window, dlogits.copy(), copies(dstate))
    missing = [name for name in case.params if name not in grads] + ["the incoming " + name for name in case.state if name not in before]
    if missing:
        report.line("backward: gradients of everything", f"{', '.join(missing)} missing")
        raise Stop
    used = report.module.Params({name: p.shape for name, p in case.params.items()}, np.float64)
    used.flat[:] = grads.flat                               # the flat vector is what is trained with
    analytical = {**used, **{"the incoming " + name: value for name, value in before.items()}}
    replaced = [name for name in used if not np.array_equal(used[name], grads[name], equal_nan=True)]

    def objective(params, state, what=""):
        logits, after, _ = report.call("forward", params, inputs, state, what=what)
        return (logits * dlogits).sum() + sum((after[name] * dstate[name]).sum() for name in dstate)

    def of_type(dtype):
        params = report.module.Params({name: p.shape for name, p in case.params.items()}, dtype)
        params.flat[:] = case.params.flat
        state = {name: value.astype(dtype) for name, value in case.state.items()}
        return params, state, {**params, **{"the incoming " + name: value for name, value in state.items()}}

    params, state, blocks = of_type(complex)
    numerical = {name: complex_step(lambda: objective(params, state, " with complex parameters"), x) for name, x in blocks.items()}

    def quotient(name, at, delta=1e-6):
        params, state, blocks = of_type(np.float64)
        x = blocks[name][at]
        sides = []
        for sign in 1, -1:
            blocks[name][at] = x + sign * delta
            sides.append(objective(params, state))
        return (sides[0] - sides[1]) / (2 * delta)
    return numerical, analytical, replaced, quotient


def gradient_problem(name, n, a, replaced, quotient):
    """What is wrong with a gradient, if anything is."""
    if name in replaced:
        return f'grads["{name}"] is no view of grads.flat any more, with which the script is trained: write into it, with out= or [:]'
    if n.shape != np.shape(a):
        return f"it has the shape {np.shape(a)}, not {n.shape}"
    if agree(n, a):
        return None
    error = abs(n - a)
    wrong, at = ~(error <= 1e-10 * (abs(n) + abs(a)) + 1e-13 * max(abs(n).max(), abs(a).max())), worst(error)
    problem = (f"backward has {a[at]:.9g} at {list(map(int, at))}, the complex step {n[at]:.9g}; {wrong.sum()} of {wrong.size} numbers "
               f"differ, by up to {np.max(error):.1e}")
    q = quotient(name, at)
    if abs(q - a[at]) <= 1e-4 * (abs(q) + abs(a[at])) < abs(q - n[at]):
        problem += (f" (a difference quotient gives {q:.9g}, as backward does: forward does something to complex numbers that is not "
                    "differentiable, like abs, np.var or .real)")
    return problem


def check_model(report, exercise):
    """All checks of a model."""
    sizes = exercise.sizes
    has_shapes(report, "param_shapes", report.call("param_shapes", M, **sizes), shapes(exercise.params, sizes))
    has_shapes(report, "state_shapes", report.call("state_shapes", B, **sizes), shapes(exercise.state, sizes))
    if "gain" in exercise.params:
        params = report.module.Params(report.module.param_shapes(M, **sizes), np.float64)
        report.call("init_params", params, np.random.default_rng(1))
        report.compare("init_params: gain = 1", "gain", params["gain"], np.ones_like(params["gain"]))
    cases = {title: draw(exercise, report.module, scale) for title, scale in SCALES.items()}
    check_step(report, exercise, cases["large weights"])
    for title, case in cases.items():
        check_windows(report, exercise, case, title)
    numerical, analytical, replaced, quotient = gradients(report, cases["large weights"])
    for name, n in numerical.items():
        report.line(f"gradient of {name}", gradient_problem(name, n, analytical[name], replaced, quotient))


def check_rmsprop(report, _):
    """adagrad(p, d, mem, lr) for some steps, with gradients around 1e-4, where the 1e-8 under the root counts."""
    rng, lr, problems = np.random.default_rng(6), 0.1, {}
    p, mem = rng.standard_normal(20), np.zeros(20)
    expected_p, expected_mem = p.copy(), mem.copy()
    sizes = 10.0 ** rng.integers(-6, 2, 20)
    sizes[0] = 0
    for step in range(1, 6):
        d = rng.standard_normal(20) * sizes
        report.call("adagrad", p, d.copy(), mem, lr)
        for k in range(20):
            expected_p[k], expected_mem[k] = rmsprop(float(expected_p[k]), float(d[k]), float(expected_mem[k]), lr)
        for name, found, expected, least in ("mem", mem, expected_mem, 0), ("p", p, expected_p, 1):
            if problem := difference(name, found, expected, 1e-12, least):
                problems.setdefault(name, f"after step {step}, {problem}")
    report.line("adagrad, in place: mem = 0.9 mem + 0.1 d^2", problems.get("mem"))
    report.line("adagrad, in place: p = p - lr d / sqrt(mem + 1e-8)", problems.get("p"))


# Command line -------------------------------------------------------------------------------------------------------------

def load(path):
    """The script at path as a module: always from its source, and nothing is written beside it."""
    module = types.ModuleType("exercise")
    module.__file__ = path
    try:
        with open(path, "rb") as file:
            exec(compile(file.read(), path, "exec"), vars(module))
    except OSError as e:
        raise Failure(f"cannot read {path}: {e.strerror or e}")
    except (Exception, SystemExit) as e:                    # whatever a file may do when it is run
        raise Failure(f"cannot load {path}: {type(e).__name__}: {e}")
    lacking = [name for name in NEEDED if not hasattr(module, name)]
    if lacking:
        raise Failure(f"{path} is no copy of one of the three scripts: it has no {lacking[0]}")
    return module


def main(argv):
    """Run the command line; returns the exit status."""
    try:
        if "-h" in argv or "--help" in argv:
            print(help_text(), flush=True)
            return 0
        if len(argv) != 2:
            raise Failure(f"takes the name of an exercise ({', '.join(EXERCISES)}) and a script; see --help")
        name, path = argv
        if name not in EXERCISES:
            raise Failure(f"there is no exercise {name}, but {', '.join(EXERCISES)}; see --help")
        report = Report(load(path))
    except Failure as e:
        print(f"{os.path.basename(sys.argv[0])}: {' '.join(str(e).split())}", file=sys.stderr)
        return 2
    with warnings.catch_warnings(), np.errstate(all="ignore"):      # what is not finite is wrong: the lines say so
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            (check_rmsprop if name == "rmsprop" else check_model)(report, EXERCISES[name])
        except Stop:
            pass
        except BrokenPipeError:
            raise
        except Exception as e:                              # forward returns one thing less, say
            report.line("what the script's functions return", f"{type(e).__name__}: {' '.join(str(e).split())}")
    if report.wrong:
        print(f"\nnot right yet: {report.wrong} of {report.checks} checks; the first line that says WRONG is the one to begin with")
        return 1
    print(f"\nright: {path} does what the exercise {name} asks for")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:                                 # the reader of our output has gone, as in | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
