#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=1.26"]
# ///
"""Checks every hand-written gradient of dnc-numpy.py numerically; exit status 0 if all agree.

    python dnc-debug.py                         check, train 200 iterations, check again, verdict
    python dnc-debug.py --timelimit 600         go on for ten minutes, a check every 200 iterations
    python dnc-debug.py --script lstm-numpy.py  check another script, or a changed copy of one
    python dnc-debug.py --help                  every flag: those of the script and two more

It loads the script, so what is checked is what trains. For a number x (a weight, a bias, a number
of the incoming state) backward gives a, the gradient of the loss. forward alone gives it, too:
change x a little and see how the loss changes. That is n, the numerical gradient, got in two ways:

1. GRAD CHECK, by central differences: n = (loss(x + delta) - loss(x - delta)) / (2 delta).
The simple way. It is rough, since two nearly equal numbers are subtracted. For each parameter, some
random entries are looked at, and two lines are printed:

    Wxh: n = [smallest, largest] min ..., max ...       of n; of the relative error
     a = [smallest, largest] mean ... # checked/valid   of a; of the relative error; entries

The relative error |n - a| / (|n| + |a|) must be below 1e-4 at each valid entry. Valid means:
 - The gradient stands out from rounding errors: 1e-4 (|n| + |a|) > 4 eps |loss| / delta.
 - The loss has no jump there. The DNC sorts memory locations by usage; if x + delta and x - delta
   sort them differently, n is wrong. So delta/2 and delta/4 must give n, too; else delta shrinks,
   from 1e-4 to 1e-7. Only numerical gradients are compared here: a wrong a cannot hide.

2. COMPLEX STEP: loss(x + ih) = loss(x) + ih loss'(x) + O(h^2), so n = Im loss(x + ih) / h.
The exact way: nothing is subtracted, so h can be 1e-20. It needs a forward that takes complex
numbers. It is done for every entry of every parameter and of the incoming state, in a small model:
at fresh weights, at large random ones (all parts of the memory are busy), and after training.

    |n - a| <= 1e-10 (|n| + |a|) + 1e-13 max over the entries of the parameter

To the loss is added the state after the window times random numbers, or nothing would be seen of
what only later windows use. (A high --lr can drive gates so near to 1 that 1 - gate has few digits
left. The bound is then missed without a mistake.)

Exit status: 0 if all agree; 1 if not, the last line says which; 2 if nothing could be checked.
"""
import argparse
import functools
import math
import os
import sys
import types

# One BLAS thread, as in the scripts. NumPy reads these variables when it is imported.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

FOLDER = os.path.dirname(os.path.realpath(__file__))
ARTICLE = ["Wxh", "Whh", "Why", "Whr", "Whv", "Whw", "Whe", "Wrh", "Wry", "bh", "by"]   # its order
DELTAS, RULE = (1e-4, 1e-5, 1e-6, 1e-7), 1e-4   # of differences: delta; the error allowed
STEP, BOUND, FLOOR = 1e-20, 1e-10, 1e-3         # of the complex step: h; the two terms of the bound
SMALL = {"hidden": 6, "locations": 5, "width": 3, "heads": 3}       # its model: sizes;
SMALL_B, SMALL_S, SMALL_M = 2, 5, 6                                 # streams, steps, characters


# What is differentiated ---------------------------------------------------------------------------

def fork(run, **changes):
    """A copy of run, with changes, that moves on through the text on its own."""
    own = {"position": run.position.copy(), "jumps": run.jumps.copy(),
           "state": {name: value.copy() for name, value in run.state.items()}}
    return types.SimpleNamespace(**{**vars(run), **own, **changes})


def blocks(params, state):
    """All that has a gradient, by name."""
    return {**params, **{"state " + name: value for name, value in state.items()}}


class Window:
    """The loss of the run's next window, as a function of the parameters and the incoming state."""

    def __init__(self, script, run, stop, dtype, weights=None):
        ahead = fork(run)
        self.inputs, self.targets = script.next_window(ahead)
        self.params, self.state = ({name: value.astype(dtype) for name, value in group.items()}
                                   for group in (run.params, ahead.state))
        self.script, self.stop, self.weights = script, stop, weights or {}
        self.reset = run.reset_id

    def forward(self):
        """The loss (nats, plus the state after the window times weights), dlogits, the cache."""
        if self.stop.signal:                        # Ctrl-C
            raise self.script.Failure("", 128 + self.stop.signal)
        logits, after, cache = self.script.forward(
            self.params, self.inputs, self.state, self.reset)
        nats, dlogits = self.script.cross_entropy(logits, self.targets)
        added = sum((after[name] * weight).sum() for name, weight in self.weights.items())
        return nats.sum() + added, dlogits, cache


def gradient(grads, name, shape):
    """The gradient that backward gives; not a number if it is missing or of another shape."""
    return grads[name] if np.shape(grads.get(name)) == shape else np.full(shape, math.nan)


# 1. Central differences ---------------------------------------------------------------------------

def quotient(f, x, at, delta):
    """The central difference of f() by x.flat[at]."""
    value = x.flat[at]
    x.flat[at] = value + delta
    above, up = f(), x.flat[at]
    x.flat[at] = value - delta
    below, down = f(), x.flat[at]
    x.flat[at] = value
    return (above - below) / (up - down)            # up - down: 2 delta as it was rounded


def numerical(f, x, at, a):
    """The numerical gradient of f() by x.flat[at], and whether it is valid; a: the other one."""
    loss = abs(f())
    for delta in DELTAS:
        noise = 4 * np.finfo(float).eps * loss / delta
        n, *others = (quotient(f, x, at, d) for d in (delta, delta / 2, delta / 4))
        if all(abs(n - m) <= RULE / 10 * (abs(n) + abs(m)) + noise / 2 for m in others):
            return n, not RULE * (abs(n) + abs(a)) <= noise     # valid if a is not a number
    return n, False


def grad_check(script, run, stop):
    """Print the article's table for the run's next window. Returns the parameters that fail."""
    window, faults = Window(script, run, stop, float), []
    loss, grads, _ = script.gradients(
        window.params, window.inputs, window.targets, window.state, window.reset)
    rng = np.random.default_rng([run.seed, 3, run.iter])        # the scripts use 0, 1 and 2
    script.say(f"\n{when(run)}, loss {loss:.3f}\n\nGRAD CHECK\n")
    if not math.isfinite(loss):
        raise script.Failure("the loss is not finite: try a smaller --init or --lr", 1)
    for name in sorted(run.params, key=lambda name: [*ARTICLE, name].index(name)):
        x = window.params[name]
        entries = rng.permutation(x.size)[:run.gradcheck]
        a = gradient(grads, name, x.shape).flat[entries]
        n, valid = map(np.array, zip(*(
            numerical(lambda: window.forward()[0], x, at, a_at) for at, a_at in zip(entries, a))))
        error = abs(n - a)[valid] / (abs(n) + abs(a))[valid]
        low, high, mean = (g(error) if error.size else math.nan for g in (np.min, np.max, np.mean))
        script.say(f"{name}: n = [{n.min():e}, {n.max():e}] min {low:e}, max {high:e}",
                   f" a = [{a.min():e}, {a.max():e}] mean {mean:e} # {n.size}/{error.size}")
        if not (error < RULE).all():
            faults.append(name)
    return faults


# 2. Complex step ----------------------------------------------------------------------------------

def complex_step(script, run, stop):
    """Check every entry; print a line for each block: the number of its entries, the largest
    gradient, the worst error, which must be at most BOUND. Returns the blocks that fail."""
    rng = np.random.default_rng([run.seed, 4, run.iter])
    weights = {name: rng.standard_normal(value.shape) for name, value in run.state.items()}
    window, faults = Window(script, run, stop, float, weights), []
    _, dlogits, cache = window.forward()
    grads = blocks(*script.backward(window.params, cache, dlogits, weights))

    window = Window(script, run, stop, complex, weights)
    sizes = ", ".join(f"{name} {size}" for name, size in zip(script.SIZES, run.sizes))
    script.say(f"\n{when(run)}, {sizes}\n\nCOMPLEX STEP\n")
    for name, x in blocks(window.params, window.state).items():
        n, a = np.empty(x.shape), gradient(grads, name, x.shape)
        for at in np.ndindex(x.shape):
            value = x[at]
            x[at] = value + STEP * 1j
            n[at] = window.forward()[0].imag / STEP
            x[at] = value
        largest = np.maximum(abs(n), abs(a)).max()
        scale = abs(n) + abs(a) + FLOOR * largest
        worst = (abs(n - a) / np.where(scale == 0, 1, scale)).max()
        script.say(f"{name + ':':9}{x.size:5} entries  max |a| {largest:.3e}  error {worst:.3e}")
        if not worst <= BOUND:
            faults.append(name)
    return faults


# Fresh, large and trained weights -----------------------------------------------------------------

def when(run):
    """Which weights are checked."""
    return getattr(run, "when", f"after {run.iter} iterations" if run.iter else "fresh weights")


def small_run(script, run):
    """A fresh run that the complex step can afford. Its text: run's numbers modulo M."""
    sizes, M = tuple(SMALL.get(name, 3) for name in script.SIZES), min(SMALL_M, len(run.vocab))
    params = script.init_params(np.random.default_rng([run.seed, 0]), M, run.init, *sizes,
                                **{name: getattr(run, name) for name in script.INIT})
    small = fork(run, iter=0, sizes=sizes, batchsize=SMALL_B, stream=np.arange(SMALL_B),
                 seqlength=min(SMALL_S, run.seqlength), vocab=run.vocab[:M], ids=run.ids % M,
                 dtype=np.dtype(float), params=params,
                 mem={name: np.zeros_like(p) for name, p in params.items()},
                 position=np.full(SMALL_B, len(run.ids)), jumps=np.zeros(SMALL_B, np.int64),
                 reset_id=None if run.reset_id is None else run.reset_id % M)
    small.state = script.zero_state(small, SMALL_B)
    return small


def large_run(script, small):
    """The small run with large random weights, and a state that they have led to."""
    rng = np.random.default_rng([small.seed, 5])
    run = fork(small, when="large weights", params={
        name: rng.standard_normal(p.shape) / 2 for name, p in small.params.items()})
    for _ in range(10):
        inputs, _ = script.next_window(run)
        run.state = script.forward(run.params, inputs, run.state, run.reset_id)[1]
    return run


def check_and_train(script, run, stop):
    """Check, train as the script does, with a check after each of its reports; the verdict."""
    small, report, start = small_run(script, run), script.report, run.iter

    def check(*small_runs):
        faults = grad_check(script, run, stop)
        for each in small_runs:
            faults += complex_step(script, each, stop)
        if faults:
            script.say("\nGRADIENTS THAT DO NOT AGREE: " + ", ".join(dict.fromkeys(faults)))
            raise script.Failure("", 1)
        script.say("")

    def report_and_check(run, stop):
        heldout = report(run, stop)
        while small.iter < run.iter - start:
            script.iterate(small, script.gradients)
        check(small)
        return heldout

    check(small, large_run(script, small))
    if run.iters == run.timelimit == math.inf:      # neither was given
        run.iters = run.check_interval
    script.report = report_and_check
    script.train(run, stop)
    if not stop.signal:
        script.say(f"all gradients agree: {len(run.params)} parameters and the incoming state "
                   f"({', '.join(run.state)})")


# The command line ---------------------------------------------------------------------------------

def load(path):
    """The script at path, as a module."""
    script = types.ModuleType("script")
    script.__file__ = path
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), vars(script))
    for name in ("forward", "backward", "gradients", "iterate", "report", "FLAGS", "main"):
        if not hasattr(script, name):
            raise ImportError(f"it has no {name}")
    return script


def flags(script):
    """The script's flags, some with another default or meaning, and two more."""
    story = script.STORY = os.path.join(FOLDER, "data", "gull-rock.txt")    # a copy may have none
    table = {
        "script": (str, "", None, "script to check (default: the dnc-numpy.py beside this file)"),
        "gradcheck": (int, 1, 10, "entries of each parameter for differences"),
        **script.FLAGS,
        "iters": (int, 1, None, "iterations (default: one --check_interval, without --timelimit)"),
        "timelimit": (float, 1e-300, math.inf, "seconds for training and checks"),
        "check_interval": (int, 1, 200, "iterations between checks")}
    for name, default in {"hidden": 16, "batchsize": 16, "seqlength": 15, "sample_length": 0,
                          "data": story}.items():
        table[name] = (*table[name][:2], default, table[name][3])
    return table


def main(argv=None):
    """Run the command line; returns the exit status."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--script", nargs="?")       # the other flags depend on the script
    path = first.parse_known_args(argv)[0].script or os.path.join(FOLDER, "dnc-numpy.py")
    try:
        script = load(path)
    except (Exception, SystemExit) as e:            # whatever a file may do when it is run
        line = f"{os.path.basename(sys.argv[0])}: cannot load {path}: "
        line += getattr(e, "strerror", None) or str(e) or type(e).__name__
        print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), file=sys.stderr)
        return 2
    script.__doc__, script.FLAGS = __doc__, flags(script)       # what its parser shows
    return script.main(argv, train=functools.partial(check_and_train, script))


if __name__ == "__main__":
    sys.exit(main())
