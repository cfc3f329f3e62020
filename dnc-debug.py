#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=1.26"]
# ///
"""Checks every hand-written gradient of dnc-numpy.py numerically: exit status 0 if all agree, else 1.

    python dnc-debug.py                         check, train 200 iterations, check again, verdict
    python dnc-debug.py --timelimit 600         go on for ten minutes, a check every 200 iterations
    python dnc-debug.py --script lstm-numpy.py  check another script, or a changed copy of one
    python dnc-debug.py --help                  every flag: those of the script and two more

It loads the script itself, so the functions that are checked are those that train. backward gives the
gradient a of the loss with respect to a number x: a weight, a bias, a number of the incoming state.
The same gradient can be had from forward alone: change x a little, see how the loss changes, call
that n, the numerical gradient. There are two ways. Both run in double precision.

1. GRAD CHECK, central differences: n = (loss(x + delta) - loss(x - delta)) / (2 delta).

Simple, but rough: the two losses are nearly equal, so their difference has few correct digits. For
each parameter some entries are drawn at random, and two lines are printed:

    Wxh: n = [smallest, largest] min ..., max ...       of n; of the relative error
     a = [smallest, largest] mean ... # checked/valid   of a; of the relative error; entries

The relative error |n - a| / (|n| + |a|) has to be below 1e-4 at every valid entry. Valid means that
differences can tell:
 - The gradient is larger than the rounding errors of n: 1e-4 (|n| + |a|) > 4 eps |loss| / delta.
 - The loss has no jump there. The DNC sorts its memory locations by usage; where x + delta and
   x - delta sort them differently, the loss jumps, and n is wrong. So half of delta and a quarter
   have to give n, too; else delta shrinks, tenfold, from 1e-4 to 1e-7. Only numerical gradients are
   compared here: a wrong a cannot make its entry invalid.

2. COMPLEX STEP: loss(x + ih) = loss(x) + ih loss'(x) + O(h^2), so n = Im loss(x + ih) / h.

Nothing is subtracted, so h can be 1e-20, and n is exact up to rounding. (It takes a forward that can
compute with complex numbers.) That is enough to look at every entry of every parameter and of the
incoming state, in a small model, and to demand ten digits:

    |n - a| <= 1e-10 (|n| + |a|) + 1e-13 max |gradient of the same parameter|

The loss here is that of the text plus the state after the window times random numbers; otherwise
what only later windows use would go unseen. It is checked at fresh weights; at large random ones,
where all parts of the memory are busy; and after training. (A high --lr can drive gates so close
to 1 that 1 - gate has few digits left, and the bound is missed without a mistake.)
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
ARTICLE = "Wxh Whh Why Whr Whv Whw Whe Wrh Wry bh by".split()   # the order of the article's table
DELTAS, RULE = (1e-4, 1e-5, 1e-6, 1e-7), 1e-4       # differences: delta; largest relative error
STEP, BOUND, FLOOR = 1e-20, 1e-10, 1e-3             # complex step: h; bound; floor / bound
SMALL = {"hidden": 6, "locations": 5, "width": 3, "heads": 3}   # sizes for the complex step;
SMALL_B, SMALL_S, SMALL_M = 2, 5, 6                             # streams, steps, characters


# What is differentiated ---------------------------------------------------------------------------

def fork(run, **changes):
    """A copy of run, with changes, that can move on through the text without moving run."""
    return types.SimpleNamespace(**{
        **vars(run), "position": run.position.copy(), "jumps": run.jumps.copy(),
        "state": {name: value.copy() for name, value in run.state.items()}, **changes})


def point(script, run, dtype):
    """Parameters, inputs, targets and incoming state of the run's next window, as dtype."""
    ahead = fork(run)
    inputs, targets = script.next_window(ahead)
    params, state = ({name: value.astype(dtype) for name, value in group.items()}
                     for group in (run.params, ahead.state))
    return params, inputs, targets, state


def loss(script, params, inputs, targets, state, weights):
    """What is differentiated: nats of the window, plus the state after it times weights."""
    logits, after, _ = script.forward(params, inputs, state)
    nats, _ = script.cross_entropy(logits, targets)
    return nats.sum() + sum((after[name] * w).sum() for name, w in weights.items())


def gradient(grads, name, shape):
    """What backward gives for a block; not-a-number if that is missing or of another shape."""
    return grads[name] if np.shape(grads.get(name)) == shape else np.full(shape, math.nan)


# 1. Central differences ---------------------------------------------------------------------------

def quotient(f, x, at, delta):
    """The central difference of f() by entry x.flat[at]."""
    value = x.flat[at]
    x.flat[at] = value + delta
    above, up = f(), x.flat[at]
    x.flat[at] = value - delta
    below, down = f(), x.flat[at]
    x.flat[at] = value
    return (above - below) / (up - down)            # up - down: 2 delta as it was rounded


def numerical(f, x, at, a):
    """The numerical gradient of f() by x.flat[at], and whether it is valid; a: what backward says."""
    value = abs(f())
    for delta in DELTAS:
        noise = 4 * np.finfo(float).eps * value / delta
        n, *others = (quotient(f, x, at, d) for d in (delta, delta / 2, delta / 4))
        if all(abs(n - m) <= RULE / 10 * (abs(n) + abs(m)) + noise / 2 for m in others):
            return n, not RULE * (abs(n) + abs(a)) <= noise     # if a is not a number, this is valid
    return n, False


def grad_check(script, run, stop):
    """Print the article's table for the run's next window. Returns the parameters that fail."""
    params, inputs, targets, state = point(script, run, float)
    value, grads, _ = script.gradients(params, inputs, targets, state)
    f = functools.partial(loss, script, params, inputs, targets, state, {})
    rng = np.random.default_rng([run.seed, 3, run.iter])        # the scripts use 0, 1 and 2
    faults = []
    script.say(f"\n{weights_of(run)}, loss {value:.3f}\n\nGRAD CHECK\n")
    if not math.isfinite(value):
        raise script.Failure("the loss is not finite: try a smaller --init or --lr", 1)
    for name in sorted(params, key=lambda name: (ARTICLE + [name]).index(name)):
        x = params[name]
        entries = rng.permutation(x.size)[:run.gradcheck]
        a = gradient(grads, name, x.shape).flat[entries]
        n, valid = map(np.array, zip(*(numerical(f, x, at, a_at) for at, a_at in zip(entries, a))))
        error = abs(n - a)[valid] / (abs(n) + abs(a))[valid]
        low, high, mean = (g(error) if len(error) else math.nan for g in (np.min, np.max, np.mean))
        script.say(f"{name}: n = [{n.min():e}, {n.max():e}] min {low:e}, max {high:e}",
                   f" a = [{a.min():e}, {a.max():e}] mean {mean:e} # {len(n)}/{len(error)}")
        if not (error < RULE).all():
            faults.append(name)
        if stop.signal:
            break
    return faults


# 2. Complex step ----------------------------------------------------------------------------------

def blocks(params, state):
    """Everything that has a gradient, by name."""
    return {**params, **{"state " + name: value for name, value in state.items()}}


def complex_step(script, run, stop):
    """Check each entry of each parameter and of the state; print a line for each block: entries,
    largest gradient, worst error (at most BOUND). Returns the blocks that fail."""
    params, inputs, targets, state = point(script, run, float)
    rng = np.random.default_rng([run.seed, 4, run.iter])
    weights = {name: rng.standard_normal(value.shape) for name, value in state.items()}
    logits, _, cache = script.forward(params, inputs, state)
    dlogits = script.cross_entropy(logits, targets)[1]
    grads = blocks(*script.backward(params, cache, dlogits, weights))

    params, inputs, targets, state = point(script, run, complex)
    sizes = ", ".join(f"{name} {size}" for name, size in zip(script.SIZES, run.sizes))
    script.say(f"\nCOMPLEX STEP, {weights_of(run)}, {sizes}\n")
    faults = []
    for name, x in blocks(params, state).items():
        n, a = np.empty(x.shape), gradient(grads, name, x.shape)
        for at in np.ndindex(x.shape):
            value = x[at]
            x[at] = value + STEP * 1j
            n[at] = loss(script, params, inputs, targets, state, weights).imag / STEP
            x[at] = value
        largest = np.maximum(abs(n), abs(a)).max()
        scale = abs(n) + abs(a) + FLOOR * largest
        worst = (abs(n - a) / np.where(scale == 0, 1, scale)).max()
        script.say(f"{name + ':':9}{x.size:5} entries  max |a| {largest:.3e}  error {worst:.3e}")
        if not worst <= BOUND:
            faults.append(name)
        if stop.signal:
            break
    return faults


# Fresh, large and trained weights -----------------------------------------------------------------

def weights_of(run):
    """Which weights a check looks at."""
    return getattr(run, "title", f"after {run.iter} iterations" if run.iter else "fresh weights")


def small_run(script, run):
    """A fresh run of sizes that the complex step can afford. Its text has few characters: the
    number of each modulo M."""
    sizes = tuple(SMALL.get(name, 3) for name in script.SIZES)
    rng, M = np.random.default_rng([run.seed, 0]), min(SMALL_M, len(run.vocab))
    params = script.init_params(rng, M, run.init, *sizes)
    small = fork(run, sizes=sizes, batchsize=SMALL_B, seqlength=min(SMALL_S, run.seqlength),
                 dtype=np.dtype(float), vocab=run.vocab[:M], ids=run.ids % M, params=params,
                 mem={name: np.zeros_like(p) for name, p in params.items()}, iter=0,
                 stream=np.arange(SMALL_B), position=np.full(SMALL_B, len(run.ids)),
                 jumps=np.zeros(SMALL_B, np.int64))             # beyond the text, so streams start
    small.state = script.zero_state(small, SMALL_B)
    return small


def large_run(script, small):
    """The small run with large random weights, and a state that they have led to."""
    rng = np.random.default_rng([small.seed, 5])
    params = {name: rng.standard_normal(p.shape) / 2 for name, p in small.params.items()}
    run = fork(small, params=params, title="large weights")
    for _ in range(10):
        inputs, _ = script.next_window(run)
        run.state = script.forward(run.params, inputs, run.state)[1]
    return run


def check_and_train(script, run, stop):
    """Check, train as the script does, with a check after each of its reports, and give the verdict."""
    small, report, start = small_run(script, run), script.report, run.iter

    def check(*small_runs):
        faults = grad_check(script, run, stop)
        for each in small_runs:
            faults += [] if stop.signal else complex_step(script, each, stop)
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
    if run.iters == run.timelimit == math.inf:      # no limit was given
        run.iters = run.check_interval
    script.report = report_and_check
    if not stop.signal:
        script.train(run, stop)
    if not stop.signal:
        script.say(f"all gradients agree: {len(run.params)} parameters and the incoming state "
                   f"({', '.join(run.state)})")


# The command line ---------------------------------------------------------------------------------

def load(path):
    """The script at path, as a module."""
    module = types.ModuleType("script")
    module.__file__ = path
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), vars(module))
    for name in ("forward", "backward", "gradients", "iterate", "report", "FLAGS", "main"):
        if not hasattr(module, name):
            raise ImportError(f"it has no {name}")
    return module


def flags(script):
    """Our two flags and those of the script, some with a default and a meaning of their own."""
    story = script.STORY = os.path.join(FOLDER, "data", "gull-rock.txt")    # a copy may have none
    table = {
        "script": (str, "", None, "script to check (default: the dnc-numpy.py beside this file)"),
        "gradcheck": (int, 1, 10, "entries of each parameter that differences look at"),
        **script.FLAGS,
        "data": (str, "", story, script.FLAGS["data"][-1]),
        "iters": (int, 1, None, "iterations of training (default: those of one --check_interval; "
                  "no limit with --timelimit)"),
        "timelimit": (float, 1e-300, math.inf, "seconds of training and checks"),
        "check_interval": (int, 1, 200, "iterations between checks"),
        "sample_length": (int, 0, 0, "characters of a sample before each check; 0: none")}
    for name, default in (("hidden", 16), ("batchsize", 16), ("seqlength", 15)):
        kind, low, _, meaning = table[name]
        table[name] = kind, low, default, meaning
    return table


def main(argv=None):
    """Run the command line; returns the exit status."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--script", nargs="?")       # the other flags depend on the script
    path = first.parse_known_args(argv)[0].script or os.path.join(FOLDER, "dnc-numpy.py")
    try:
        script = load(path)
    except (Exception, SystemExit) as e:            # whatever a file may do when it is run
        message = " ".join(f"cannot load {path}: {getattr(e, 'strerror', 0) or e}".split())
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
        return 2
    script.__doc__, script.FLAGS = __doc__, flags(script)       # the script's parser shows both
    return script.main(argv, train=functools.partial(check_and_train, script))


if __name__ == "__main__":
    sys.exit(main())
