#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=1.26"]
# ///
"""Proves the hand-written gradients of dnc-numpy.py by numbers: loads that very file and checks its own functions.

    python dnc-debug.py                             check at fresh weights, train 200 iterations, check again, give a verdict
    python dnc-debug.py --timelimit 600             go on so in rounds for ten minutes, each with a sample of the writing
    python dnc-debug.py --script lstm-numpy.py      the same for one of the siblings, or for a changed copy
    python dnc-debug.py --help                      every flag

The exit status is 0 if all gradients agree, and 1 if one does not. There are two kinds of check, both in double precision.

GRAD CHECK, by central differences: n = (loss(x + delta) - loss(x - delta)) / (2 delta) is the numerical gradient of an
entry x, a the analytical one, from backward. For each parameter a few entries are drawn and looked at:

    Wxh: n = [lowest, highest] min ..., max ...             of n; of the relative error |n - a| / (|n| + |a|)
     a = [lowest, highest] mean ... # checked/valid         of a; of the relative error; how many entries

The relative error of a valid entry has to be below 1e-4. An entry is valid if differences can tell that much:
 1. Its gradient stands out from the noise of rounding: 1e-4 (|n| + |a|) > 4 eps |loss| / delta.
 2. The loss is smooth there. The DNC sorts its memory locations by usage, and where x +- delta swaps two of them the loss
    jumps, which no gradient shows. So n counts if half and a quarter of delta give n again, up to 1e-5 (|n| + |n'|) and
    half the noise of rule 1. Else delta shrinks, from 1e-4 tenfold down to 1e-7. Only numerical gradients are compared
    here, so that a wrong a cannot hide behind this rule.

COMPLEX STEP: loss(x + ih) = loss(x) + ih loss'(x) + O(h^2), so n = Im loss(x + ih) / h. Nothing is subtracted, h can be
1e-20, n is exact up to rounding and nothing can be swapped. Hence it is held to |n - a| <= 1e-10 (|n| + |a|) + 1e-13 max,
max being the largest gradient of the parameter, at each entry of each parameter and of the incoming state, in a small
model. The loss is that of the text plus the state after the window times random numbers, so that no part goes unseen.
(Weights that a high --lr has driven far out can miss it without a mistake: of 1 - s little is left if a gate s is near 1.)
"""
import argparse
import importlib.machinery
import importlib.util
import math
import os
import sys
import time
import types

# One BLAS thread, as in the scripts: the matrices are small. NumPy reads this when it is imported.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

ARTICLE = ("Wxh", "Whh", "Why", "Whr", "Whv", "Whw", "Whe", "Wrh", "Wry", "bh", "by")    # its table's order
DELTAS, RULE = (1e-4, 1e-5, 1e-6, 1e-7), 1e-4   # central differences: the deltas to try; the relative error allowed
STEP, BOUND, FLOOR = 1e-20, 1e-10, 1e-3     # complex step: h; the error allowed; the share of max that is added to |n| + |a|
DEFAULTS = {"batchsize": 16, "hidden": 16, "seqlength": 15}     # for differences: 200 iterations bring all gradients above noise
SMALL = {"hidden": 8, "locations": 6, "width": 4, "heads": 3}   # for the complex step: sizes,
SMALL_B, SMALL_S, SMALL_M = 2, 5, 8                             # batch, steps, characters


# What is differentiated -----------------------------------------------------------------------------------------------

class Point:
    """The loss of a run's next window as a function of the parameters and the incoming state, here and now.

    The loss is summed over the characters; dstate: numbers by which the state after the window is added to it. The run
    itself stays as it is. blocks: what can be varied, name -> array, of the type dtype.
    """

    def __init__(self, script, run, ids, dstate, dtype=np.float64):
        self.script, self.dstate, self.window = script, dstate, None
        self.params = script.Params({name: p.shape for name, p in run.params.items()}, dtype)
        self.params.flat[:] = run.params.flat
        reader = types.SimpleNamespace(**vars(run))         # next_window moves on and resets streams: let it do so to copies
        reader.state = {name: value.astype(dtype) for name, value in run.state.items()}
        reader.position, reader.jumps = run.position.copy(), run.jumps.copy()
        self.inputs, self.targets = script.next_window(ids, reader, run.seqlength)
        self.state = reader.state
        self.blocks = {**self.params, **{"state " + name: value for name, value in self.state.items()}}

    def forward(self):
        """The loss, and its gradient with respect to the logits."""
        logits, after, self.window = self.script.forward(self.params, self.inputs, self.state, self.window)
        nats, dlogits = self.script.cross_entropy(logits, self.targets)
        return nats.sum() + sum((after[name] * d).sum() for name, d in self.dstate.items()), dlogits

    def gradients(self):
        """The loss, and what backward says the gradients of all blocks are."""
        loss, dlogits = self.forward()
        grads, before = self.script.backward(self.params, self.window, dlogits, self.dstate)
        used = self.script.Params({name: p.shape for name, p in self.params.items()}, grads.flat.dtype)
        used.flat[:] = grads.flat                           # the flat vector is what Adagrad uses
        return loss, {**used, **{"state " + name: value for name, value in before.items()}}


# Central differences --------------------------------------------------------------------------------------------------

def quotient(point, x, at, delta):
    """The central difference quotient by entry x[at]."""
    value = x[at]
    x[at] = value + delta
    above, up = point.forward()[0], x[at]
    x[at] = value - delta
    below, down = point.forward()[0], x[at]
    x[at] = value
    return (above - below) / (up - down)                    # up - down: 2 delta as it came out in floating point


def numerical(point, loss, x, at, a):
    """The numerical gradient by x[at], and whether it is valid: the two rules at the top of this file."""
    for delta in DELTAS:
        noise = 4 * np.finfo(float).eps * abs(loss) / delta
        n, *others = (quotient(point, x, at, part) for part in (delta, delta / 2, delta / 4))
        if all(abs(n - other) <= RULE / 10 * (abs(n) + abs(other)) + noise / 2 for other in others):
            return n, not RULE * (abs(n) + abs(a)) <= noise     # "not": an a that is not a number is wrong, not invisible
    return n, False


def grad_check(script, run, ids, entries, faults):
    """Print the article's table; add the parameters that break its rule to faults. Returns how many entries were valid."""
    point = Point(script, run, ids, script.zeros(script.state_shapes(run.batchsize, **run.sizes), np.float64))
    loss, grads = point.gradients()
    rng = script.generator(run.seed, 3, run.iter)           # 3: the scripts use 0, 1 and 2
    names = [name for name in ARTICLE if name in run.params]
    print(f"\n{describe(run)}, {'fresh weights' if run.iter == 0 else f'after {run.iter} iterations'}, loss {loss:.3f}\n\nGRAD CHECK\n")
    visible = 0
    for name in names + [name for name in run.params if name not in names]:
        x, a = (blocks[name].reshape(-1) for blocks in (point.blocks, grads))
        looked_at = rng.permutation(x.size)[:entries]
        a = a[looked_at]
        n, valid = map(np.array, zip(*(numerical(point, loss, x, at, a_at) for at, a_at in zip(looked_at, a))))
        error = abs(n - a)[valid] / (abs(n) + abs(a))[valid]
        low, high, mean = (error.min(), error.max(), error.mean()) if len(error) else (math.nan,) * 3
        print(f"{name}: n = [{n.min():e}, {n.max():e}] min {low:e}, max {high:e}\n"
              f" a = [{a.min():e}, {a.max():e}] mean {mean:e} # {len(n)}/{len(error)}", flush=True)
        visible += len(error)
        if not (error < RULE).all():
            faults[name] = None
    return visible


# Complex step ---------------------------------------------------------------------------------------------------------

def complex_step(script, run, ids):
    """For each parameter and piece of state: entries, largest gradient, worst error; it has to be at most BOUND."""
    rng = script.generator(run.seed, 4, run.iter)
    dstate = {name: rng.standard_normal(value.shape) for name, value in run.state.items()}
    _, grads = Point(script, run, ids, dstate).gradients()
    point, result = Point(script, run, ids, dstate, complex), {}
    for name, x in point.blocks.items():
        n, a = np.empty(x.shape), grads.get(name, math.nan)     # what backward leaves out is wrong
        for at in np.ndindex(x.shape):
            value = x[at]
            x[at] = value + STEP * 1j
            n[at] = point.forward()[0].imag / STEP
            x[at] = value
        largest = np.maximum(abs(n), abs(a)).max()
        scale = abs(n) + abs(a) + FLOOR * largest
        result[name] = x.size, largest, (abs(n - a) / np.where(scale == 0, 1, scale)).max()
    return result


def proof(run, columns, faults):
    """Print the results of complex_step side by side, by title; add what misses the bound to faults."""
    print(f"\n{describe(run)}\n\nCOMPLEX STEP\n")
    print(" " * 17 + "".join(f"  {title:>22}" for title in columns))
    print("          entries" + "     max |a|  worst error" * len(columns))
    for name in next(iter(columns.values())):
        results = [column[name] for column in columns.values()]
        print(f"{name + ':':9}{results[0][0]:8}" + "".join(f"  {largest:10.3e} {worst:12.3e}" for _, largest, worst in results))
        if not all(worst <= BOUND for _, _, worst in results):
            faults[name] = None
    print(end="", flush=True)


# Runs -----------------------------------------------------------------------------------------------------------------

def describe(run):
    """What a check looks at, in a line."""
    sizes = ", ".join(f"{name} {value}" for name, value in run.sizes.items())
    return f"{sizes}, batchsize {run.batchsize}, seqlength {run.seqlength}, {len(run.vocab)} characters"


def small_run(script, big):
    """A run like the big one, with sizes that the complex step can afford. Its text has few characters: numbers modulo M."""
    run = types.SimpleNamespace(**vars(big))
    run.sizes = {name: SMALL[name] for name in big.sizes}
    run.batchsize, run.seqlength, run.vocab = SMALL_B, min(SMALL_S, big.seqlength), big.vocab[:SMALL_M]
    run.params, run.mem = (script.Params(script.param_shapes(len(run.vocab), **run.sizes), run.dtype) for _ in range(2))
    script.init_params(run.params, script.generator(run.seed, 0))
    run.state = script.zeros(script.state_shapes(run.batchsize, **run.sizes), run.dtype)
    run.position, run.jumps = np.full(run.batchsize, 2**40), np.zeros(run.batchsize, np.int64)     # beyond the text: streams start
    return run


def large_run(script, small, ids):
    """The small run with weights that no training has had to find: normal, 0.5; and a state that they have led to."""
    run = small_run(script, small)
    run.params.flat[:] = script.generator(run.seed, 5).standard_normal(run.params.flat.size) / 2
    for _ in range(10):
        inputs, _ = script.next_window(ids, run, run.seqlength)
        run.state = script.forward(run.params, inputs, run.state)[1]
    return run


def train_quietly(script, run, ids, iterations):
    """What the script's train does, without a word."""
    window, nothing = None, script.zeros({name: value.shape for name, value in run.state.items()}, run.dtype)
    for _ in range(iterations):
        inputs, targets = script.next_window(ids, run, run.seqlength)
        logits, run.state, window = script.forward(run.params, inputs, run.state, window)
        grads, _ = script.backward(run.params, window, script.cross_entropy(logits, targets)[1], nothing)
        script.adagrad(run.params.flat, grads.flat, run.mem.flat, run.lr)
        run.iter += 1


def parse(script, argv):
    """The command line: flags of our own, and the script's values for everything else that it wants to know."""
    p = script.OneLineParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                             epilog="Exit status: 0 if all gradients agree, 1 if not, 2 if it could not be found out.")
    count, amount, natural = script.above_zero(int), script.above_zero(float), script.above_zero(int, zero=True, below=2**62)
    standard = {**script.DEFAULTS, **{name: default for name, (default, _) in script.SIZES.items()}, **DEFAULTS}
    flag = p.add_argument
    flag("--script", metavar="FILE", help="the script to check: one of the three or a changed copy (default dnc-numpy.py beside this file)")
    flag("--gradcheck", type=count, metavar="N", default=10, help="entries of each parameter that differences look at (default 10)")
    for name, (_, meaning) in script.SIZES.items():
        flag(f"--{name}", type=count, metavar="N", default=standard[name], help=f"{meaning}, for differences (default {standard[name]})")
    for name, meaning in (("batchsize", "B, streams of text side by side"), ("seqlength", "S, steps of a window")):
        flag(f"--{name}", type=count, metavar="N", default=standard[name], help=f"{meaning}, for differences (default {standard[name]})")
    flag("--timelimit", type=amount, metavar="SECONDS", help="go on in rounds until these seconds are over: train, print a sample, "
         "check (default: one round)")
    flag("--check_interval", type=count, metavar="N", default=200, help="iterations that a round trains (default 200)")
    flag("--sample_length", type=natural, metavar="N", help="characters of a round's sample (default 200 with --timelimit, else 0: none)")
    flag("--fname", metavar="FILE", help="append the figures of training here, tab-separated, as the scripts do")
    flag("--data", metavar="FILE", help="text to check and train on (default: that of the script)")
    flag("--lr", type=amount, metavar="X", default=standard["lr"], help=f"learning rate of Adagrad (default {standard['lr']})")
    flag("--seed", type=natural, metavar="N", default=1, help="of weights, places in the text, samples, and entries to look at (default 1)")
    flag("--fp64", action="store_true", help="train in double precision, too; checks always are")
    given = p.parse_args(argv)
    args = script.parse([])                                 # the script's own values for whatever has no flag here
    vars(args).update((name, value) for name, value in vars(given).items() if value is not None)
    args.timelimit, args.iters = given.timelimit or math.inf, args.check_interval
    args.rounds = math.inf if given.timelimit else 1
    if given.sample_length is None:
        args.sample_length = 200 if given.timelimit else 0
    return args


def check(script, args):
    """Everything from fresh weights to the verdict; returns the exit status."""
    if args.fname and (os.path.isdir(args.fname) or not os.path.isdir(os.path.dirname(args.fname) or ".")):
        raise script.Failure(f"cannot write {args.fname}: it is a folder, or its folder is not there")
    workers, nobody = script.Workers(), types.SimpleNamespace(signal=0)     # nobody stops training: Ctrl-C ends everything here
    if workers.size > 1:
        raise script.Failure("gradients are checked by one process: start it without mpirun")
    run, ids, heldout = script.begin(args, workers)
    args.prime = "\n" if "\n" in run.vocab else run.vocab[0]
    small, faults, broken, rounds = small_run(script, run), {}, None, 0
    text, few = ids[:heldout], ids[:heldout] % len(small.vocab)

    visible = grad_check(script, run, text, args.gradcheck, faults)
    proof(small, {"fresh weights": complex_step(script, small, few),
                  "large weights": complex_step(script, large_run(script, small, few), few)}, faults)
    end = time.perf_counter() + args.timelimit
    try:
        while rounds == 0 or rounds < args.rounds and time.perf_counter() < end:
            rounds += 1
            print("\nTRAINING\n", flush=True)
            args.timelimit = end - time.perf_counter()
            script.train(run, ids, heldout, args, workers, nobody)
            train_quietly(script, small, few, args.check_interval)
            visible += grad_check(script, run, text, args.gradcheck, faults)
            proof(small, {f"after {small.iter} iterations": complex_step(script, small, few)}, faults)
    except script.Failure as e:                             # numbers that are not finite: first say what has been found
        broken = e

    if faults:
        print(f"\nGRADIENTS THAT DO NOT AGREE: {', '.join(faults)}", flush=True)
    if broken:
        raise broken
    if faults:
        return 1
    print(f"\nall gradients agree: {len(run.params)} parameters ({visible} entries by differences, all by the complex step) and the "
          f"incoming state {', '.join(run.state)}")
    return 0


# The command line -----------------------------------------------------------------------------------------------------

def load(path):
    """The script at path as a module: always from its source, and nothing is written beside it."""
    spec = importlib.util.spec_from_file_location("script", path, loader=importlib.machinery.SourceFileLoader("script", path))
    module = importlib.util.module_from_spec(spec)
    exec(spec.loader.source_to_code(spec.loader.get_data(path), path), vars(module))
    lacking = [name for name in ("forward", "backward", "param_shapes", "state_shapes", "begin", "train") if not hasattr(module, name)]
    if lacking:
        raise ImportError(f"it is none of the three scripts: it has no {lacking[0]}")
    return module


def fail(message, status=2):
    """One line for the user; returns the exit status."""
    line = f"{os.path.basename(sys.argv[0])}: {' '.join(str(message).split())}"
    print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), file=sys.stderr)      # a name cannot steer a terminal
    return status


def main(argv=None):
    """Run the command line; returns the exit status."""
    for stream in filter(None, (sys.stdout, sys.stderr)):   # a closed one is None
        stream.reconfigure(errors="backslashreplace")
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)     # the other flags depend on the script
    first.add_argument("--script", nargs="?")
    path = first.parse_known_args(argv)[0].script or os.path.join(os.path.dirname(os.path.abspath(__file__)), "dnc-numpy.py")
    try:
        try:
            script = load(path)
        except (Exception, SystemExit) as e:                # whatever a file may do when it is run
            return fail(f"cannot load {path}: {e or type(e).__name__}")
        try:
            with np.errstate(all="ignore"):                 # numbers that are not finite do not agree: the verdict says so
                return check(script, parse(script, argv))
        except script.Failure as e:
            return fail(e, e.status)
    except MemoryError:
        return fail("not enough memory for these sizes")
    except BrokenPipeError:                                 # the reader of our output has gone, as in | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as e:
        return fail(f"cannot write {e.filename or 'the output'}: {e.strerror or e}", 1)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
