#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=1.26"]
# ///
"""A recurrent neural network (RNN) that learns to write, one character at a time, in pure NumPy.

It reads a character x_t (one-hot, one of M), updates its hidden state h_t (H numbers) and predicts
the next character:

    h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)        y_t = Why h_t + by        p_t = softmax(y_t)

            x_t ---Wxh---> (+) ---tanh---> h_t ---Why---> y_t ---softmax---> p_t
                            ^               |
                            +-----Whh-------+  one step later

    python rnn-numpy.py                               train for a minute on the story in data/
    python rnn-numpy.py --data my.txt --save my.npz   train on your text and keep the result
    python rnn-numpy.py --load my.npz --iters 0       write more
    python rnn-numpy.py --help                        every flag

The model comes first: forward, then backward, its gradient by back-propagation through time (BPTT).
After it comes what trains any such model: loss, Adagrad, text, sampling, checkpoints, command line.

Shapes: B streams of text side by side (the batch), S steps in a window, H hidden units, M
characters in the vocabulary. The equations treat a stream as a column, as papers do; in the code it
is a row, h_t (B, H), so that all steps of a window, (S, B, H), are one matrix of S B rows.
"The article" is the introduction to such scripts that was built on github.com/krocki/dnc.
"""
# ---- common: imports (blocks like this are the same, to the byte, in all three scripts) ----
import argparse
import codecs
import contextlib
import io
import math
import os
import re
import signal
import sys
import tempfile
import time
import warnings
import zlib

# One BLAS thread: sharing products as small as these costs more than it gains. NumPy reads these
# variables when it is imported; what the user has set stays.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

# glibc returns freed memory to the system, page by page, above a threshold that grows with the
# largest block freed. Freeing one of 31 MiB makes it keep all: 1.2 to 1.7 times as fast.
np.empty(31 << 20, np.uint8)
# ---- end of common: imports ----

MODEL = "rnn"
SIZES = {"hidden": (256, "H, hidden units")}                # flag: (default, meaning)
DEFAULTS = {"lr": 0.05}
INIT = {}                                                   # flags of init_params, as FLAGS


# The model ----------------------------------------------------------------------------------------

def param_shapes(M, hidden):
    """Names and shapes of the parameters; biases are columns."""
    H = hidden
    return {"Wxh": (H, M),      # character to hidden
            "Whh": (H, H),      # hidden to hidden, one step later
            "Why": (M, H),      # hidden to output
            "bh": (H, 1),
            "by": (M, 1)}


def init_params(rng, M, init, *sizes):
    """Initial parameters: random weights, biases 0."""
    return random_weights(rng, param_shapes(M, *sizes), init)


def state_shapes(B, hidden):
    """Names and shapes of what is carried from step to step; a row for each stream."""
    return {"h": (B, hidden)}


def forward(params, inputs, state, reset=None):
    """Run S steps of B streams. Training, scoring and sampling all use this one function.

    inputs: (S, B) character numbers. state: see state_shapes. reset: the character before which a
    stream's state becomes zero, or None. Returns the logits y (M, S, B), the state after the last
    step, and the cache that backward needs.
    """
    Wxh, Whh, Why, bh, by = (params[name] for name in ("Wxh", "Whh", "Why", "bh", "by"))
    (S, B), (M, H) = inputs.shape, Why.shape

    h = np.empty((S + 1, B, H), Whh.dtype)          # h[t + 1] is h_t, h[0] the incoming state
    h[0] = state["h"]
    WxhT, WhhT = (Wxh + bh).T.copy(), Whh.T.copy()  # copies are faster than views
    keep = None if reset is None else (inputs != reset)[:, :, None].astype(Whh.dtype)   # 0: reset
    for t in range(S):
        a = np.dot(h[t], WhhT)
        if reset is not None:                       # h[t] stays as it is: y needs it
            a *= keep[t]
        a += WxhT.take(inputs[t], axis=0)           # the one-hot x_t picks a row; bh is in it
        np.tanh(a, out=h[t + 1])

    y = np.dot(Why, h[1:].reshape(S * B, H).T) + by
    return y.reshape(M, S, B), {"h": h[S].copy()}, (inputs, h, keep)


def backward(params, cache, dlogits, dstate):
    """Back-propagation through time: the lines of forward in reverse order, each differentiated.

    dh is the gradient of the loss with respect to h, and so on. dlogits: (M, S, B); dstate: those
    of the state after the last step. Returns those of the parameters and of the incoming state.
    """
    Whh, Why = params["Whh"], params["Why"]
    inputs, h, keep = cache
    (M, S, B), H = dlogits.shape, Whh.shape[1]

    dy = dlogits.reshape(M, S * B)
    dh = np.dot(dy.T, Why).reshape(S, B, H)     # through y_t; the loop adds the rest
    slope = 1 - h[1:] ** 2                      # tanh' = 1 - tanh^2
    da = np.empty_like(dh)                      # a_t: the argument of tanh
    dh_next = dstate["h"]
    for t in reversed(range(S)):
        np.multiply(dh[t] + dh_next, slope[t], out=da[t])
        dh_next = np.dot(da[t] if keep is None else da[t] * keep[t], Whh)

    da_kept = (da if keep is None else da * keep).reshape(S * B, -1)
    dWxh = one_hot_product(da.reshape(S * B, -1), inputs, M)
    return {"Wxh": dWxh,
            "Whh": np.dot(da_kept.T, h[:S].reshape(S * B, H)),
            "Why": np.dot(dy, h[1:].reshape(S * B, H)),
            "bh": dWxh.sum(axis=1, keepdims=True),      # each row of da is in one column of it
            "by": dy.sum(axis=1, keepdims=True)}, {"h": dh_next}


# ---- common: learning ----
def one_hot_product(d, inputs, M):
    """d^T x (n, M) for one-hot x (S B, M): column k sums the rows of d (S B, n) whose input is k.
    Sorting rows by input instead of multiplying makes training 4 to 8 % faster from H = 128 on."""
    rows = d.take(inputs.argsort(axis=None, kind="stable"), axis=0)
    sums, ones, end = np.empty((M, d.shape[1]), d.dtype), np.ones(len(d), d.dtype), 0
    for k, count in enumerate(np.bincount(inputs.ravel(), minlength=M).tolist()):
        start, end = end, end + count
        np.dot(ones[:count], rows[start:end], out=sums[k])
    return sums.T.copy()


def random_weights(rng, shapes, init):
    """Normal weights, biases 0. Standard deviation: init over the root of the number of inputs that
    a unit adds up (1 for the one-hot x); or 0.01, as in the article, if init is 0."""
    def std(name, shape):
        return init / math.sqrt(1 if name == "Wxh" else shape[1]) or 0.01
    return {name: rng.standard_normal(shape) * std(name, shape) if name[0] == "W" else
            np.zeros(shape) for name, shape in shapes.items()}


def cross_entropy(logits, targets):
    """-log softmax(logits)[target], in nats (S, B), and the gradient of their sum (M, S, B)."""
    M, S, B = logits.shape
    z = (logits - logits.max(axis=0)).reshape(M, S * B)     # the same softmax; exp cannot overflow
    at_target = targets.ravel(), np.arange(S * B)
    nats = -z[at_target]
    np.exp(z, out=z)
    total = z.sum(axis=0)
    nats += np.log(total)
    z /= total
    z[at_target] -= 1
    return nats.reshape(S, B), z.reshape(M, S, B)


def gradients(params, inputs, targets, state, reset=None):
    """The loss of a window in nats, its gradients, and the state after it. Loss and gradients are
    sums over characters, so those of parts of a batch add up."""
    logits, state, cache = forward(params, inputs, state, reset)
    nats, dlogits = cross_entropy(logits, targets)
    dstate = {name: np.zeros_like(value) for name, value in state.items()}      # BPTT is truncated
    return float(nats.sum()), backward(params, cache, dlogits, dstate)[0], state


def clip(grads, limit):
    """Gradient clipping (Pascanu et al. 2013): scale all down to a joint norm of at most limit."""
    norm = math.hypot(*(np.linalg.norm(d.astype(float)) for d in grads.values()))
    for d in grads.values():
        d *= min(1, limit / norm) if norm else 1


def adagrad(p, d, mem, lr):
    """Adagrad (Duchi et al. 2011), in place; mem is the sum of squared gradients."""
    mem += d * d
    p -= lr * d / np.sqrt(mem + 1e-8)


# ---- common: text ----
class Failure(Exception):
    """Ends the run with one line on standard error. Arguments: message, exit status (default 2)."""


def say(*lines, file=None):
    """Print, with control characters, which could steer a terminal, spelt out."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda c: ascii(c[0])[1:-1], "\n".join(lines))
    print(text, file=file, flush=True)


def read_text(path, encoding, flag):
    """The characters of a file. Newlines become \\n, but latin-1 takes bytes one to one."""
    try:
        newline = "" if codecs.lookup(encoding).name == "iso8859-1" else None
        with open(path, encoding=encoding, newline=newline) as file:
            return file.read().removeprefix("\ufeff")       # the byte order mark is not text
    except UnicodeDecodeError as e:
        mark = e.start == 0 and e.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        quotes = re.search(rb"[\x91-\x94]", e.object) and codecs.lookup(encoding).name != "cp1252"
        advice = "utf-16" if mark else "cp1252" if quotes else "latin-1"
        raise Failure(f"{path} is not {encoding} at byte {e.start:,}: try --encoding {advice}")
    except (OSError, LookupError, ValueError) as e:
        raise Failure(f"cannot read {path}: {getattr(e, 'strerror', e)} ({flag} names a text)")


def encode(text, vocab, name):
    """Characters to their numbers in vocab, in the smallest unsigned type."""
    number = {c: k for k, c in enumerate(vocab)}
    if lacking := sorted(set(text) - number.keys()):
        shown = " ".join(map(ascii, lacking[:20]))
        raise Failure(f"{name}: {len(lacking)} characters are not in the vocabulary: {shown}")
    return np.fromiter(map(number.get, text), np.min_scalar_type(len(vocab) - 1), len(text))


def generator(seed, *key):
    """Random numbers for (0,) weights, (1, stream, jump) a place, (2, iteration) a sample."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def next_window(run):
    """The next S characters of each stream and those that follow them: (S, B) each. A stream
    without a whole window left jumps to a random place. There, and at each 80th window of the text,
    it starts from zero state, as samples and held-out segments do."""
    S, last = run.seqlength, run.tail - run.seqlength       # what begins at tail is held out
    jump = run.position >= last
    for b in np.flatnonzero(jump):
        run.position[b] = generator(run.seed, 1, run.stream[b], run.jumps[b]).integers(last)
        run.jumps[b] += 1
    for value in run.state.values():
        value[jump | (run.position // S % 80 == 0)] = 0
    window = run.ids[run.position + np.arange(S + 1)[:, None]]
    run.position += S
    return window[:-1], window[1:]


# ---- common: scoring and sampling ----
def zero_state(run, B):
    """The state of B streams that have read nothing."""
    return {name: np.zeros(shape, run.dtype) for name, shape in state_shapes(B, *run.sizes).items()}


def score(run, stop):
    """Held-out bits per character (BPC), or nan after a signal: 64 segments, side by side from zero
    state. With --reset all but the first are moved to begin behind a reset character."""
    edges = np.linspace(max(run.tail, 1), len(run.ids), 64 + 1).astype(int)
    if run.reset_id is not None:
        begins = np.append(np.flatnonzero(run.ids[:-1] == run.reset_id) + 1, len(run.ids))
        edges[1:-1] = begins[np.searchsorted(begins, edges[1:-1])]
    first, last, state, nats = edges[:-1], edges[1:], zero_state(run, 64), 0.0
    for t in range(0, (last - first).max(), 25):
        at = first + t + np.arange(25)[:, None]
        counts, at = at < last, np.minimum(at, len(run.ids) - 1)
        logits, state, _ = forward(run.params, run.ids[at - 1], state, run.reset_id)
        nats += cross_entropy(logits, run.ids[at])[0][counts].sum(dtype=float)
        if stop.signal:
            return math.nan
    return float(nats) / math.log(2) / (len(run.ids) - edges[0])


def sample(run, stop):
    """What follows the prime: each character drawn from softmax(y / temperature), then read."""
    text = prime = run.prime or ("\n" if "\n" in run.vocab else run.vocab[0])
    rng, state = generator(run.seed, 2, run.iter), zero_state(run, 1)
    for t in range(len(prime) + run.sample_length - 1):
        x = np.array([[run.vocab.index(text[t])]])
        logits, state, _ = forward(run.params, x, state, run.reset_id)
        if t + 1 == len(text):
            z = logits.ravel().astype(float)
            if not np.isfinite(z).all():
                raise Failure(f"the output is not finite after iteration {run.iter}", 1)
            z -= z.max()
            p = np.exp(z / run.temperature) if run.temperature else z == 0
            text += run.vocab[rng.choice(len(p), p=p / p.sum())]
        if stop.signal:
            break
    return text[len(prime):]


# ---- common: checkpoints ----
COUNTERS = {"iter": 0, "digest": 0, "smooth": 0.0, "seconds": 0.0, "best": 1e99, "best_iter": 0}
SAVED = (*SIZES, "batchsize", "seqlength", "lr", "clip", "val", "seed", "reset", *COUNTERS)


def save(run, paths):
    """Write a checkpoint (.npz). Whatever happens, each path has a whole one, old or new."""
    archive = io.BytesIO()      # NumPy 1.26 has a traceback for savez straight into a full disk
    np.savez(archive, model=MODEL, vocabulary=[ord(c) for c in run.vocab],
             position=run.position, jumps=run.jumps, **run.params,
             **{"adagrad_" + name: value for name, value in run.mem.items()},
             **{"state_" + name: value for name, value in run.state.items()},
             **{name: getattr(run, name) for name in SAVED})
    for path in paths:
        temporary = f"{path}.{os.urandom(4).hex()}.tmp"     # two runs may save to one path
        try:
            with open(temporary, "xb") as file:
                file.write(archive.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as e:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            raise Failure(f"cannot save {path}: {e.strerror}", 1)


def load(path):
    """The run that save wrote. A hostile file runs no code, and takes no memory beyond its size."""
    try:
        with warnings.catch_warnings(), np.lib.npyio.NpzFile(path) as archive:      # no pickles
            warnings.simplefilter("error")              # NumPy only warns of headers it has mended
            size, members = os.path.getsize(path), archive.zip.infolist()
            if sum(m.file_size for m in members) > size or any(m.compress_type for m in members):
                raise ValueError("it is compressed")
            for m in members:                           # NumPy would allocate what a header claims
                with archive.zip.open(m) as file:
                    np.lib.format.read_magic(file)
                    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                    if math.prod(shape) * dtype.itemsize > size:
                        raise ValueError(f"{m.filename} is cut")
            arrays = dict(archive)
        if str(arrays.get("model")) != MODEL:
            raise ValueError(f"{MODEL}-numpy.py did not save it")
        flags = FLAGS | {name: (type(first), 0, first, "") for name, first in COUNTERS.items()}
        run = argparse.Namespace(**parse([f"--{name}={arrays[name]}" for name in SAVED], flags))
        run.sizes = tuple(getattr(run, name) for name in SIZES)
        run.dtype = np.dtype(np.float64 if arrays["by"].dtype == np.float64 else np.float32)
        run.vocab = sorted(set(map(chr, arrays["vocabulary"].tolist())))

        def checked(name, shape, dtype=run.dtype, low=0):
            """An array, if it is as save writes it; low: -1 where it may be negative."""
            high = 2**62 if dtype == np.int64 else np.finfo(dtype).max
            value = arrays[name]
            if (value.shape, value.dtype) != (shape, dtype) or not (
                    low * high <= value.min() and value.max() <= high):     # nan is not
                raise ValueError(f"{name} is not as it was saved")
            return value
        shapes, B = param_shapes(len(run.vocab), *run.sizes), run.batchsize
        run.params = {name: checked(name, shape, low=-1) for name, shape in shapes.items()}
        run.mem = {name: checked("adagrad_" + name, shape) for name, shape in shapes.items()}
        run.state = {name: checked("state_" + name, shape, low=-1)
                     for name, shape in state_shapes(B, *run.sizes).items()}
        run.position, run.jumps = (checked(name, (B,), np.int64) for name in ("position", "jumps"))
        return run
    except Exception as e:                              # a damaged archive raises a dozen kinds
        raise Failure(f"{path} is not a usable checkpoint: {str(e) or type(e).__name__} "
                      "(give --load or --save another name)")


# ---- common: training ----
def iterate(run, gradients):
    """One iteration: the gradients of one window, and Adagrad. Returns the window's BPC."""
    inputs, targets = next_window(run)
    nats, grads, run.state = gradients(run.params, inputs, targets, run.state, run.reset_id)
    characters = run.batchsize * run.seqlength
    if run.clip:
        clip(grads, run.clip * characters)
    run.iter += 1
    health = nats
    for name, p in run.params.items():
        adagrad(p, grads[name], run.mem[name], run.lr)
        health += float(run.mem[name].max()) + float(p.sum())   # inf in mem would freeze weights
    if not math.isfinite(health):
        raise Failure(f"loss, gradient or weights are not finite in iteration {run.iter}: "
                      "try a smaller --lr or --init", 1)
    return nats / characters / math.log(2)


def train(run, stop, gradients=gradients, save=save, agree=tuple):
    """Train until --iters, --timelimit or a signal ends it; report, check and save on the way.
    parallel/train.py replaces gradients, save and agree."""
    zero = time.perf_counter() - run.seconds            # those of the loaded run count, too
    end, last = time.perf_counter() + (run.timelimit or math.inf), run.iter + run.iters
    spent, spent_iter, done = 0.0, run.iter, False      # on training, since the line before
    log(run, f"# {MODEL}", *(f"{name}={getattr(run, name)!r}" for name in SAVED),
        "columns: iter seconds train_bpc heldout_bpc chars_per_s")
    while not done:
        start = time.perf_counter()
        bpc = iterate(run, gradients)
        now = time.perf_counter()
        spent, run.seconds = spent + now - start, now - zero
        run.smooth += 0.001 * (bpc - run.smooth)        # a running average from 0 on,
        smooth = run.smooth / (1 - 0.999 ** run.iter)   # corrected for its start

        wish, late = agree((stop.signal, now >= end))   # parallel/train.py: of any worker
        stop.signal = wish or stop.signal               # one that has just come waits its turn
        done = bool(wish or late or run.iter >= last)
        progress = done or run.iter == 1 or run.iter % run.print_interval == 0
        check = run.check_interval and (done or run.iter % run.check_interval == 0)
        speed = heldout = math.nan
        if progress:
            speed = (run.iter - spent_iter) * run.seqlength * run.batchsize / spent
            spent, spent_iter = 0.0, run.iter
            say(f"0: {run.seconds:.3f} s, iter {run.iter}, {smooth:.4f} BPC, {speed:.2f} char/s")
        if check and not stop.signal:
            heldout = report(run, stop)
        if better := heldout < run.best:                # nan is not
            run.best, run.best_iter = heldout, run.iter
        if progress or check:
            log(run, run.iter, f"{run.seconds:.3f}\t{smooth:.4f}\t{heldout:.4f}\t{speed:.2f}")
        if run.targets and (check or done):
            run.seconds = time.perf_counter() - zero
            save(run, run.targets[not better:])         # the best comes first
    if heldout > run.best + 0.01:                       # a small text is memorized after a while
        say(f"the best held-out BPC was {run.best:.4f}, after iteration {run.best_iter}" +
            "".join(f": {path}" for path in run.targets[:1]))


def log(run, *columns):
    """Append a line to the file of --fname."""
    try:
        with open(run.fname or os.devnull, "a", encoding="utf-8") as file:
            print(*columns, sep="\t", file=file)
    except OSError as e:
        raise Failure(f"cannot write {run.fname}: {e.strerror}", 1)


def report(run, stop, shown=""):
    """A check: print held-out BPC, which is returned, and a sample, after what is to be shown."""
    heldout, count = math.nan, len(run.ids) - max(run.tail, 1)
    if count > 0 and not math.isnan(heldout := score(run, stop)):
        say(f"held-out: {heldout:.4f} BPC over {count:,} characters")
    if run.sample_length:
        say("----", shown + sample(run, stop), "----")
    return heldout


# ---- common: command line ----
STORY = os.path.join(os.path.dirname(os.path.realpath(__file__)), "data", "gull-rock.txt")
FLAGS = {                                       # name: (type, smallest value, default, help)
    **{name: (int, 1, *rest) for name, rest in SIZES.items()},
    "batchsize": (int, 1, 64, "B, streams of text side by side"),
    "seqlength": (int, 1, 25, "S, steps in a window: how far back gradients flow"),
    "lr": (float, 1e-300, DEFAULTS["lr"], "learning rate of Adagrad"),
    "clip": (float, 0, 0.01, "largest norm of the gradient, per character; 0: no limit"),
    "init": (float, 0, 1.0, "initial weights vary by FLOAT / sqrt(inputs); 0: by 0.01"),
    **INIT,
    "iters": (int, 0, None, "iterations of this run (default: no limit); 0: score, sample"),
    "timelimit": (float, 1e-300, None, "seconds of this run (default: 60; none with --iters)"),
    "data": (str, "", STORY, "text to learn (default: the story in data/)"),
    "encoding": (str, "", "utf-8", "of the text; latin-1 takes bytes one to one"),
    "val": (float, 0, 0.05, "share of the text, at its end, that is held out from training"),
    "print_interval": (int, 1, 100, "iterations between lines with BPC, bits per character"),
    "check_interval": (int, 0, 500, "iterations between held-out BPC, a sample, a save; 0: none"),
    "sample_length": (int, 0, 500, "characters of a sample; 0: none"),
    "temperature": (float, 0, 1.0, "of sampling; below 1: more careful; 0: the likeliest"),
    "prime": (str, "", "", "what a sample continues, @FILE reads it (default: a newline)"),
    "reset": (str, "", "", "this CHARACTER (or \\n, \\t, \\r, \\\\) begins an episode: zero state"),
    "seed": (int, 0, 1, "of all random numbers: weights, places in the text, samples"),
    "save": (str, "", None, "checkpoint, at checks and the end; the best of a.npz is a.best.npz"),
    "load": (str, "", None, "continue this checkpoint; sizes and seed come from it"),
    "fname": (str, "", None, "append the figures of the log to this file, tab-separated")}


def parse(argv, flags=None):
    """The flags that are given, by name; flags: a table as FLAGS."""
    def error(message):
        raise Failure(f"{message} (see --help; a text is named by --data FILE)")
    p = argparse.ArgumentParser(
        description=(__doc__ or MODEL).partition("\n")[0], allow_abbrev=False,
        argument_default=argparse.SUPPRESS, epilog="Ctrl-C ends the iteration, saves, and stops.")
    p.error = error
    p.add_argument("--fp64", action="store_true", help="compute in double precision")
    for name, (kind, _, default, meaning) in (flags or FLAGS).items():
        shown = f" (default: {default})" if default not in (None, "", STORY) else ""
        p.add_argument("--" + name, type=kind, metavar=kind.__name__.upper(), help=meaning + shown)
    given = vars(p.parse_args(argv))
    for name, (kind, low, *_) in (flags or FLAGS).items():
        limit = {int: 2**62, float: math.inf}.get(kind)
        if limit and not low <= given.get(name, low) < limit:       # nan is not
            error(f"--{name} {given[name]} is out of range: at least {low}, below {limit}")
    return given


def begin(given):
    """The run that the flags ask for, fresh or loaded, with its text."""
    run = argparse.Namespace(**{name: flag[2] for name, flag in FLAGS.items()}, **COUNTERS)
    run.dtype = np.dtype(np.float64 if "fp64" in given else np.float32)
    if "load" in given:
        vars(run).update(vars(load(given["load"])))
        run.fp64 = run.dtype == np.float64
        score_only = given.get("iters") == 0            # no parameter depends on seed or locations
        free = {"reset": not run.reset, "seed": score_only, "locations": score_only}
        for name in (*SIZES, *INIT, "init", "fp64", "reset", "seed"):
            if given.get(name, getattr(run, name)) != getattr(run, name) and not free.get(name):
                raise Failure(f"--{name} {given[name]}: {given['load']} has its own, which stays")
        if given.get("val", run.val) != run.val:        # the best is of another held-out text
            run.best = COUNTERS["best"]
    vars(run).update(given)
    run.sizes = tuple(getattr(run, name) for name in SIZES)
    if run.iters is None:
        run.iters, run.timelimit = math.inf, run.timelimit or 60
    if run.val > 1 or run.val == 1 and (run.iters or not run.load):
        raise Failure("--val is a share below 1; only --load FILE --iters 0 takes 1")

    needed = not run.load or run.iters or "data" in given           # not by a sample
    text = read_text(run.data, run.encoding, "--data FILE") if needed else ""
    run.vocab = run.vocab if run.load else sorted(set(text))
    run.ids = encode(text, run.vocab, run.data)
    run.tail = len(run.ids) - round(run.val * len(run.ids))
    if len(run.vocab) < 2 or run.iters and run.tail <= run.seqlength:
        raise Failure(f"{run.data} is too short: {run.tail:,} characters to train on, "
                      f"{len(run.vocab)} different; needed are {run.seqlength + 1:,} and 2")
    before, run.digest, run.changed = run.digest, zlib.crc32(run.ids), ""
    if run.load and needed and run.digest != before:
        run.changed = f"{run.data} is not the text of {run.load}"
    if run.prime[:1] == "@":
        run.prime = read_text(run.prime[1:], run.encoding, "--prime @FILE")
    encode(run.prime, run.vocab, "--prime")
    meant = [k for k, c in enumerate(run.vocab) if run.reset in (c, ascii(c)[1:-1])]    # \\n is \n
    if run.reset and not meant:
        raise Failure(f"--reset {run.reset}: not a character of the vocabulary")
    run.reset_id = meant[0] if meant else None

    check_memory(run)
    check_targets(run)
    run.stream = np.arange(run.batchsize)
    if run.changed or not run.load or run.batchsize != len(run.position):   # streams start afresh
        run.position = np.full(run.batchsize, len(run.ids), np.int64)
        run.jumps = np.full_like(run.position, run.iter)    # none has jumped as often: new places
        run.state = zero_state(run, run.batchsize)
    if not run.load:
        params = init_params(generator(run.seed, 0), len(run.vocab), run.init, *run.sizes,
                             **{name: getattr(run, name) for name in INIT})
        run.params = {name: p.astype(run.dtype) for name, p in params.items()}
        run.mem = {name: np.zeros_like(p) for name, p in run.params.items()}
    return run


def check_memory(run):
    """Refuse sizes whose parameters and one window are larger than the machine's memory."""
    M, rows = len(run.vocab), max(run.batchsize * run.seqlength, 64 * 25)       # or those of score
    shapes = param_shapes(M, *run.sizes) | state_shapes(rows, *run.sizes) | {"y": (M, rows)}
    need = 4 * run.dtype.itemsize * sum(map(math.prod, shapes.values()))    # gradients, caches, too
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not all systems tell
        if need > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
            raise Failure(f"this takes about {need:,} bytes of memory; there are {memory:,}")


def check_targets(run):
    """Refuse to write where that is impossible, and over what this run does not continue."""
    best = "{0}.best{1}".format(*os.path.splitext(run.save or ""))
    run.targets = [best, run.save] if run.save and run.iters else []
    own = run.load and os.path.realpath(run.load) in map(os.path.realpath, run.targets)
    for path in filter(os.path.lexists, run.targets):
        if run.changed or not own or not os.path.isfile(path):
            raise Failure(f"{path} exists, and {run.changed or 'is not of this run'}: "
                          f"continue it by --load {path}, or give --save another name")
        load(path)                                      # or is it a text, or another model's?
    if not own:                                         # no file of this run has the loaded best
        run.best = COUNTERS["best"]
    try:
        for path in run.targets:
            tempfile.TemporaryFile(dir=os.path.dirname(path) or ".").close()
        if path := run.fname:
            others = map(os.path.realpath, (run.data, run.load or run.data, *run.targets))
            if os.path.realpath(path) in others:
                raise Failure(f"--fname {path} is the name of another file of this run")
            open(path, "a").close()
    except OSError as e:
        raise Failure(f"cannot write {path}: {e.strerror}")


def main(argv=None, train=train):
    """Run the command line; returns the exit status."""
    if hasattr(sys.stdout, "reconfigure"):              # a closed one, or a notebook's, has none
        sys.stdout.reconfigure(errors="backslashreplace")       # stderr does that by itself

    def stop(number, frame):
        """A first Ctrl-C or SIGTERM lets the iteration end and be saved, a second ends at once."""
        signal.signal(number, lambda *_: os._exit(128 + number))
        stop.signal = number
    stop.signal = 0                                     # none yet
    try:
        with contextlib.ExitStack() as after, np.errstate(all="ignore"):    # iterate asks: finite?
            for number in (signal.SIGINT, signal.SIGTERM):      # put back: a notebook goes on
                after.callback(signal.signal, number, signal.signal(number, stop))
            run = begin(parse(argv))
            if run.iters == 0:
                report(run, stop, run.prime)
            elif not stop.signal:
                if run.changed:
                    say(f"{run.changed}: streams start afresh")
                size = sum(p.size for p in run.params.values())
                say(f"{MODEL}: {size:,} parameters, {run.batchsize} streams, {run.seqlength} "
                    f"steps; {os.path.basename(run.data)}: {run.tail:,} characters, "
                    f"{len(run.vocab)} different, and {len(run.ids) - run.tail:,} held out")
                train(run, stop)
            return 128 + stop.signal if stop.signal else 0
    except Failure as e:
        message, status = (*e.args, 2)[:2]
    except MemoryError:
        message, status = "there is not enough memory for these sizes", 2
    except OSError as e:                                # of standard output
        head = isinstance(e, BrokenPipeError)           # | head has seen enough
        message, status = ("", 141) if head else (f"cannot write the output: {e.strerror}", 1)
        with contextlib.suppress(AttributeError, OSError):      # what is left of it is lost
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if message:
        say(" ".join(f"{os.path.basename(sys.argv[0])}: {message}".split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
# ---- end of common: command line ----
