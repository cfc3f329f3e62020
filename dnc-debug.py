#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=2.0"]
# ///
"""Checks every hand-written gradient of dnc-numpy.py numerically, and says where one is wrong.

    python dnc-debug.py                         check, train 200 iterations, check again, verdict
    python dnc-debug.py --timelimit 600         go on for ten minutes, a check every 200 iterations
    python dnc-debug.py --script lstm-numpy.py  check another script, or a changed copy of one
    python dnc-debug.py --help                  every flag: those of the script and two more

It loads the script, so what is checked is what trains. backward gives a, the gradient of the loss
with respect to a number x. forward alone gives it, too: change x a little and see how the loss
changes. That is n, the numerical gradient, got in two ways:

    central differences   n = (loss(x + delta) - loss(x - delta)) / (2 delta)
    the complex step      n = Im loss(x + ih) / h,  as loss(x + ih) = loss(x) + ih loss'(x) + O(h^2)

Differences are rough, since two nearly equal numbers are subtracted. The complex step subtracts
nothing, so h can be 1e-20; it needs a forward that takes complex numbers. Three checks:

MECHANISMS, complex step: each function that returns arrays and, last, back, which turns gradients
of these into those of its array arguments. forward runs, and what it calls is watched. Arguments
are as they came, at fresh and at large weights, or invented: weightings near one-hot, gates at 0
and 1, equal usages, rows of 0. Of wrong mechanisms that use each other, the innermost is named.

COMPLEX STEP: a small model, every entry of its parameters and of the incoming state. In its window
a stream starts afresh, and dropout has a mask. The loss has random weights, and the state after the
window is part of it, or what only later windows use would go unseen. Here and for mechanisms,
|n - a| <= 1e-10 (|n| + |a|) + 1e-13 max |a| + what arguments changed by 1e-15 change.

GRAD CHECK, differences: the model that trains, some random entries of each parameter. The relative
error |n - a| / (|n| + |a|) must be below 1e-4 at each valid entry: one that stands out of rounding,
1e-4 (|n| + |a|) > 4 eps |loss| / delta, and where the loss has no jump. (The DNC sorts locations by
usage; if x + delta and x - delta sort them differently, n is wrong. So delta/2 and delta/4 must
give n, too, or delta shrinks. Only numerical gradients are compared here: a wrong a cannot hide.)

Exit status: 0 if all agree; 1 if not, the last line says where; 2 if nothing could be checked.
"""
import argparse
import contextlib
import functools
import inspect
import math
import os
import sys
import traceback
import types
import warnings

# One BLAS thread, as in the scripts. NumPy reads these variables when it is imported.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

FOLDER = os.path.dirname(os.path.realpath(__file__))
KROCKI = ["Wxh", "Whh", "Why", "Whr", "Whv", "Whw", "Whe", "Wrh", "Wry", "bh", "by"]   # its order
DELTAS, RULE = (1e-4, 1e-5, 1e-6, 1e-7), 1e-4   # of differences: delta; the error allowed
STEP, BOUND, FLOOR = 1e-20, 1e-10, 1e-3         # of the complex step: h; the two terms of the bound
SIZES = {"hidden": 5, "locations": 7, "width": 4, "heads": 3}       # of the small model: they
B, S, V, CALLS = 2, 5, 8, 12                    # differ, so that what is transposed does not fit
NOTES = """
n: numerical gradients, smallest and largest; min, max: of |n - a| / (|n| + |a|)
a: gradients from backward, smallest and largest; mean: of |n - a| / (|n| + |a|)
# checked/valid: entries checked, and those that stand out of rounding errors"""


def quotient(f, x, at, delta):
    """The central difference of f() by x[at]."""
    value = x[at]
    x[at] = value + delta
    above, up = f(), x[at]
    x[at] = value - delta
    below, down = f(), x[at]
    x[at] = value
    return (above - below) / (up - down)            # up - down: 2 delta as it was rounded


def numerical(f, loss, x, at, a):
    """The numerical gradient of f() by x[at], and whether it is valid. loss: f(); a: backward's."""
    for delta in DELTAS:
        noise = 4 * np.finfo(float).eps * abs(loss) / delta
        n, *others = (quotient(f, x, at, d) for d in (delta, delta / 2, delta / 4))
        if all(abs(n - m) <= RULE / 10 * (abs(n) + abs(m)) + noise / 2 for m in others):
            return n, not RULE * (abs(n) + abs(a)) <= noise     # valid if a is not a number
    return n, False


def grad_check(script, args, run, text):
    """Print the table of krocki/dnc for the run's next window. Returns the parameters that fail."""
    inputs, targets, state, _ = script.next_window(args, run, text)
    reset, mask, wrong = script.reset_id(run), script.dropout_mask(args, run), []
    params, state = ({name: value.astype(float) for name, value in group.items()}
                     for group in (run.params, state))
    loss, grads, _ = script.gradients(params, inputs, targets, state, reset, mask)
    title = f"after {run.iter} iterations" if run.iter else "fresh weights"
    script.say(f"\n{title}, loss {loss:.3f}\n\nGRAD CHECK\n")
    if not math.isfinite(loss):
        raise script.Failure("the loss is not finite: try a smaller --init or --lr")

    def f():
        if script.stop.signal:                      # Ctrl-C
            raise InterruptedError
        y = script.forward(params, inputs, state, reset, mask)[0]
        return script.cross_entropy(y, targets)[0].sum()
    rng = np.random.default_rng([args.seed, 3, run.iter])
    for name in sorted(params, key=lambda name: [*KROCKI, name].index(name)):
        x = params[name]
        grad = grads[name] if np.shape(grads.get(name)) == x.shape else np.full(x.shape, math.nan)
        entries = [np.unravel_index(k, x.shape) for k in rng.permutation(x.size)[:args.gradcheck]]
        a = np.array([grad[at] for at in entries])
        n, valid = map(np.array, zip(*(numerical(f, loss, x, at, grad[at]) for at in entries)))
        error = abs(n - a)[valid] / (abs(n) + abs(a))[valid]
        low, high, mean = (g(error) if error.size else math.nan for g in (np.min, np.max, np.mean))
        wrong += [] if (error < RULE).all() else [name]
        script.say(f"{'WRONG ' * (name in wrong)}{name}: n = [{n.min():e}, {n.max():e}] min {low:e}"
                   f", max {high:e}\n a = [{a.min():e}, {a.max():e}] mean {mean:e} # {n.size}/"
                   f"{error.size}{'' if error.size else ' (no entry stands out of rounding)'}")
    return wrong


def complex_step(script, names, function, args, rng):
    """Compare the gradients of function(*args), which returns arrays and back, with the complex
    step of the arrays' sum with random weights. Returns for each array among args the number of
    entries, the largest gradient, the worst error, and the first mistake in words."""
    def run(args):
        *results, back = function(*(x.copy() if arrays(x) else x for x in args))
        return arrays(results), back

    def f():
        if script.stop.signal:
            raise InterruptedError
        return sum((y * d).sum() for y, d in zip(run(z)[0], weights))
    weights = [rng.standard_normal(y.shape) for y in run(args)[0]]
    nearby = [x + 1e-15 * (1 + abs(x)) * rng.standard_normal(x.shape) if arrays(x) else x
              for x in args]
    z, found = [x.astype(complex) if arrays(x) else x for x in args], []
    grads, grads_nearby = (arrays(run(x)[1](*map(np.copy, weights))) for x in (args, nearby))
    blocks = [(name, x) for name, x in zip(names, z) if arrays(x)]
    if len(grads) != len(blocks):
        return [(0, 0, math.nan, f"back returns {len(grads)} gradients of {len(blocks)} arrays")]
    for (name, x), a, a_nearby in zip(blocks, grads, grads_nearby):
        n, mistake = np.empty(x.shape), ""
        for at in np.ndindex(x.shape):
            value = x[at]
            x[at] = value + STEP * 1j
            n[at] = f().imag / STEP
            x[at] = value
        if a.shape != n.shape:
            mistake = f"{name} has shape {a.shape}, should have {n.shape}"
            a = a_nearby = np.full(n.shape, np.nan)
        largest = np.maximum(abs(n), abs(a)).max()
        scale = abs(n) + abs(a) + FLOOR * largest + abs(a - a_nearby).max() / BOUND
        error = abs(n - a) / np.where(scale == 0, 1, scale)
        for entry in np.argwhere(~(error <= BOUND))[:0 if mistake else 1].tolist():
            at = tuple(entry)
            q, q_too = (quotient(f, x, at, delta).real for delta in (1e-5, 1e-6))
            if abs(q - q_too) <= RULE * abs(q) and not abs(q - n[at]) <= 100 * RULE * abs(q):
                raise script.Failure(f"forward loses the imaginary part of {name}{entry}")
            mistake = f"{name}{entry} is {a[at]:.12g}, should be {n[at]:.12g}"
        found.append((n.size, largest, error.max(), mistake))
    return found


def row(script, name, found):
    """Print what complex_step has found, in one line. Returns the first mistake."""
    entries, largest, errors, mistakes = zip(*found)
    mistake = next(filter(None, mistakes), "")
    script.say(f"{'WRONG ' * bool(mistake)}{name + ':':16}{sum(entries):6} entries  max |a| "
               f"{max(largest):.3e}  error {np.max(errors):.3e}{'  ' * bool(mistake)}{mistake}")
    return mistake


def check_window(script, title, params, state, reset, mask, rng):
    """Print the table of a window, a function of parameters and state. Returns what is wrong."""
    inputs, targets = rng.integers(1, V, (S, B)), rng.integers(V, size=(S, B))
    inputs[[1, 3], 0] = 0                           # if reset is 0, this stream starts afresh twice

    def function(*values):
        x, before = dict(zip(params, values)), dict(zip(state, values[len(params):]))
        y, after, cache = script.forward(x, inputs, before, reset, mask)
        nats, dy = script.cross_entropy(y, targets)

        def back(dnats, *dafter):
            grads = script.backward(x, cache, dy * dnats[..., None], dict(zip(after, dafter)))
            return [d.get(k, np.empty(0)) for d, like in zip(grads, (params, state)) for k in like]
        return nats, *after.values(), back
    script.say(f"\n{title}\n\nCOMPLEX STEP\n")
    names = [*params, *("state " + name for name in state)]
    found = complex_step(script, names, function, [*params.values(), *state.values()], rng)
    return [name for name, result in zip(names, found) if row(script, name, [result])]


def arrays(x):
    """The arrays of real or complex numbers in x, which may be a nested tuple."""
    if isinstance(x, (tuple, list)):
        return [array for item in x for array in arrays(item)]
    return [x] if isinstance(x, np.ndarray) and x.dtype.kind in "fc" else []


@contextlib.contextmanager
def watching(script):
    """Watch the script's functions. Yields {(mechanism, shapes of its arguments): [arguments]},
    inner ones first, and {function: mechanisms that it uses}; both grow."""
    calls, uses, stack, before = {}, {}, [], dict(vars(script))

    def watched(name, function):
        def call(*args, **kwargs):
            stack.append(name)
            result = function(*args, **kwargs)
            stack.pop()
            if isinstance(result, tuple) and callable(result[-1]):      # it is a mechanism
                kept = [x.astype(float) if arrays(x) else x for x in args]
                shapes = tuple(x.shape for x in arrays(kept))
                calls.setdefault((name, shapes), []).append(kept)
                for outer in stack:
                    uses.setdefault(outer, set()).add(name)
            return result
        return call
    vars(script).update({name: watched(name, function) for name, function in before.items()
                         if isinstance(function, types.FunctionType)})
    try:
        yield calls, uses
    finally:
        vars(script).update(before)


def invented(seen, rng):
    """A random argument; seen: examples, which tell what it can be. In the first stream it is as
    usual, which gives the bound a scale; in the others most of it is at the limits, rows are 0."""
    shape, low, high = seen.shape[1:], seen.min(), seen.max()
    some, alive = rng.random(shape) < 0.7, rng.random((*shape[:-1], 1)) < 0.8
    if low >= 0 and seen.sum(axis=-1).max() < 1 + 1e-9 and shape[-1] > 1:       # weightings
        x, some = rng.dirichlet(np.ones(shape[-1] + 1), shape[:-1])[..., :-1], some[..., :1]
        one_hot = np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]
        limits = one_hot + rng.choice([0, 0.001, 0.01], some.shape) * (x - one_hot)
    elif high <= 1:                                 # gates and usages; what tanh gives
        x = rng.uniform(max(low, -1), 1, shape)
        limits = rng.choice([0, 1, 0.5, 0.001, 0.999] if low >= 0 else [-1, 0, 1], shape)
    elif low > 0:                                   # strengths
        x, limits = low + rng.exponential(size=shape), rng.choice([low, 10, 30], shape)
    else:                                           # arguments of gates, keys, memory
        x, limits = rng.standard_normal(shape), rng.choice([-12, -9, 9, 12], shape)
    x[1:] = (np.where(some, limits, x) * (alive | (low > 0)))[1:]
    return x


def check_mechanisms(script, calls, uses, rng):
    """Print the table. Returns what is wrong, in words. What uses a wrong one is not checked."""
    script.say("\nMECHANISMS\n" if calls else "\nMECHANISMS: this script has none")
    wrong = {}
    for (name, _), examples in calls.items():
        if inner := uses.get(name, set()) & wrong.keys():
            script.say(f"{name + ':':17}not checked, it uses {', '.join(sorted(inner))}")
            continue
        found, mechanism = [], getattr(script, name)
        names = ["d" + parameter for parameter in inspect.signature(mechanism).parameters]
        parts_of_parts = any(map(uses.get, uses.get(name, ())))     # extremes lose digits there
        for k in range(4 if parts_of_parts else CALLS):
            args = examples[k % 4 * len(examples) // 4]
            if k >= 4:
                args = [invented(np.stack(x), rng) if arrays(x) else x[0] for x in zip(*examples)]
            found += complex_step(script, names, mechanism, args, rng)
        if mistake := row(script, name, found):
            wrong.setdefault(name, f"{name}: {mistake}")
    return [*wrong.values()]


def small_windows(script, args, rng):
    """What check_window takes, for windows of a model of which every entry can be checked: title,
    parameters, state, reset and mask; and what watching sees in it."""
    sizes = {name: SIZES.get(name, 3) for name, flag in script.FLAGS.items() if flag[0] is int}
    args = argparse.Namespace(**vars(args) | sizes | {
        "batchsize": B, "seqlength": S, "fp64": True, "dropout": 0.25})
    fresh, shapes = script.init_params(rng, V, args), script.state_shapes(B, *script.sizes(args))
    large = {name: rng.standard_normal(p.shape) for name, p in fresh.items()}
    zero = state = {name: np.zeros(shape) for name, shape in shapes.items()}
    mask = script.dropout_mask(args, argparse.Namespace(iter=0, params=fresh))
    with watching(script) as (calls, uses):
        for params in 3 * [fresh] + 5 * [large] + 5 * [{k: 3 * p for k, p in large.items()}]:
            state = script.forward(params, rng.integers(V, size=(S, B)), state)[1]
    return [("fresh weights", fresh, zero, 0, mask), ("large weights", large, state, 0, mask),
            ("large weights, no resets, no dropout", large, state, -1, 1)], calls, uses


def check_and_train(script, train_and_save, args, run, text):
    """Check; train as the script does, with a check after each of its reports; the verdict."""
    if args.iters is None and args.timelimit == math.inf:       # neither was given
        args.iters = args.check_interval
    rng, report = np.random.default_rng([args.seed, 5]), script.report
    windows, calls, uses = small_windows(script, args, rng)
    mistakes, wrong, case = check_mechanisms(script, calls, uses, rng), [], ""

    def verdict():
        if mistakes or wrong:
            blocks = [case + ", ".join(dict.fromkeys(wrong))] if wrong else []
            script.say("\nGRADIENTS THAT DO NOT AGREE: " + "; ".join(mistakes + blocks))
            script.stop.trained = True              # status 1, not 2
            raise script.Failure("")
        script.say("")

    def report_and_check(*run):
        heldout = report(*run)
        wrong.extend(grad_check(script, *run))
        verdict()
        return heldout
    with contextlib.suppress(*[ValueError, TypeError] * len(mistakes)):     # what does not fit
        for window in windows:
            fails = check_window(script, *window, rng)
            wrong += fails
        case = "only with resets or dropout: " if wrong and not fails else ""
        script.say(NOTES)
        wrong += grad_check(script, args, run, text)
    verdict()
    script.report, script.EARLY = report_and_check, ()
    train_and_save(args, run, text)
    if not script.stop.signal:
        script.say(f"all gradients agree: {len({name for name, _ in calls})} mechanisms, "
                   f"{len(run.params)} parameters and the incoming state ({', '.join(run.state)})")


def load(path):
    """The script at path as a module, with this file's flags, and with checks around training."""
    script = types.ModuleType("script")
    script.__file__ = path
    if os.path.exists(path) and not os.path.isfile(path):   # a pipe would let us wait for ever
        raise OSError(0, "it is not a regular file")
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), vars(script))
    script.__doc__, script.PROGRAM = __doc__, "dnc-debug.py"
    script.STORY = os.path.join(FOLDER, "data", "gull-rock.txt")        # a copy may have none
    new = {"script": (str, 1, None, "FILE", "to check (default: dnc-numpy.py beside this file)"),
           "gradcheck": (int, 1, 10, "N", "entries of each parameter for differences"),
           "iters": (int, 1, None, "N", "iterations (default: one --check_interval)"),
           "timelimit": (float, 1e-300, math.inf, "SECONDS", "of training; two checks come on top"),
           "check_interval": (int, 1, 200, "N", "iterations between checks")}
    defaults = {"hidden": 16, "batchsize": 8, "seqlength": 10, "dropout": 0.0, "sample_length": 0}
    for flags in script.GROUPS.values():
        for name, old in flags.items():
            flags[name] = new.pop(name, (*old[:2], defaults.get(name, old[2]), *old[3:]))
    script.GROUPS = {"checks": new, **script.GROUPS}
    script.TABLE = {name: row for flags in script.GROUPS.values() for name, row in flags.items()}
    script.train_and_save = functools.partial(check_and_train, script, script.train_and_save)
    return script


def main(argv=None):
    """Run the command line; returns the exit status."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--script", nargs="?")       # the other flags depend on the script
    first.add_argument("-h", "--help", action="store_true")
    known, _ = first.parse_known_args(argv)
    path = known.script or os.path.join(FOLDER, "dnc-numpy.py")
    script = None
    try:
        script = load(path)
        with warnings.catch_warnings():             # "drops the imaginary part" is an error
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            return script.main(argv)
    except (Exception, SystemExit) as e:            # whatever a script may do
        if script and known.help and isinstance(e, SystemExit):
            raise
        line = f"cannot {'check' if script else 'load'} {path}: {type(e).__name__}: "
        line += getattr(e, "strerror", None) or str(e)
        line += "".join([f" ({frame.name}, line {frame.lineno})" for frame in
                         traceback.extract_tb(e.__traceback__) if frame.filename == path][-1:])
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        print(f"dnc-debug.py: {line[:500]}{' ...' * (len(line) > 500)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
