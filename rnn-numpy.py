#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=2.0"]
# ///
"""A recurrent neural network (RNN) that learns to write, one character at a time, in pure NumPy.

It reads a character x_t (one-hot, one of V), updates its hidden state h_t (H numbers) and predicts
the next character:

    h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)        y_t = Why h_t + by        p_t = softmax(y_t)

            x_t ---Wxh---> (+) ---tanh---> h_t ---Why---> y_t ---softmax---> p_t
                            ^               |
                            +-----Whh-------+  one step later

    python rnn-numpy.py                               train for 45 seconds on the story in data/
    python rnn-numpy.py --data my.txt --save my.npz   train on your text and keep the result
    python rnn-numpy.py --load my.npz --iters 0       write more
    python rnn-numpy.py --help                        every flag

The model comes first: forward, then backward, its gradient by back-propagation through time (BPTT).
What the three scripts share follows: helpers (rows, restart, drop), loss, Adagrad, text, samples,
checkpoints, flags.

Shapes: B streams of text side by side (the batch), S steps in a window, H hidden units, V
characters in the vocabulary. The equations treat a stream as a column, as papers do; in the code it
is a row, h_t (B, H), so that all steps of a window, (S, B, H), are one matrix of S B rows.
The equations, names and log are those of github.com/krocki/dnc.
"""
# ---- common: imports (blocks like this are the same, to the byte, in all three scripts) ----
import argparse
import codecs
import contextlib
import io
import itertools
import json
import math
import os
import re
import signal
import sys
import time
import zipfile
import zlib

# One BLAS thread: sharing products as small as these costs more than it gains. NumPy reads these
# variables when it is imported; what the user has set stays.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

# glibc returns freed memory to the system, page by page, above a threshold that grows with the
# largest block freed. Freeing one of 31 MiB makes it keep all: 1.2 to 1.7 times as fast.
with contextlib.suppress(MemoryError):
    np.empty(31 << 20, np.uint8)                    # freed at once
# ---- end of common: imports ----

MODEL = "rnn"
FLAGS = {   # (type, smallest value, default, unit, meaning); each int is a size, for param_shapes
    "hidden": (int, 1, 256, "N", "hidden units, H"),
    "dropout": (float, 0, 0.3, "P", "share of hidden units, below 1, that the output misses"),
    "lr": (float, 0, 0.05, "X", "learning rate of Adagrad")}


# The model ----------------------------------------------------------------------------------------

def param_shapes(V, hidden):
    """Names and shapes of the parameters; biases are columns, as in the equations."""
    H = hidden
    return {"Wxh": (H, V),      # character to hidden
            "Whh": (H, H),      # hidden to hidden, one step later
            "Why": (V, H),      # hidden to output
            "bh": (H, 1),
            "by": (V, 1)}


def init_params(rng, V, args):
    """Initial parameters: random weights, biases 0."""
    return random_weights(rng, param_shapes(V, args.hidden), args.init)


def state_shapes(B, hidden):
    """Names and shapes of what is carried from step to step; a row for each stream."""
    return {"h": (B, hidden)}


def forward(params, inputs, state, reset=-1, mask=None):
    """Run S steps of B streams. Training, scoring and sampling all use this one function.

    inputs: (S, B), x_t as indices into the vocabulary. state: see state_shapes. reset: the index
    before which a stream's state becomes 0, or -1. mask: dropout's, (S, B, H), or None.
    Returns the logits y (S, B, V), the state after the last step, and the cache for backward.
    """
    Wxh, Whh, Why, bh, by = params.values()
    (S, B), (V, H) = inputs.shape, Why.shape

    fresh = starts(inputs, reset)                   # streams whose state becomes 0, for each step
    h, h_ = np.empty((2, S, B, H), Whh.dtype)       # h_t and h_{t-1} for all t
    h[-1] = state["h"]                              # for now, so h[t - 1] is right for t = 0
    Wx, WhhT = (Wxh + bh).T.copy(), Whh.T.copy()    # copies are 3 to 8 % faster than views
    for t in range(S):
        h_[t] = restart(h[t - 1], fresh[t])
        h[t] = np.tanh(Wx[inputs[t]] + h_[t] @ WhhT)    # one-hot x: Wxh x + bh is a row of Wx
    mh = drop(mask, h)                              # only y misses what is dropped
    y = rows(mh) @ Why.T + by.T
    return y.reshape(S, B, V), {"h": h[-1].copy()}, (inputs, fresh, h, h_, mask, mh)


def backward(params, cache, dy, dstate):
    """Back-propagation through time: the lines of forward in reverse order, each differentiated.

    dh is the gradient of the loss with respect to h, and so on. dy, from cross_entropy: (S, B, V);
    dstate: of the last state, 0 in training. Returns those of parameters and incoming state.
    """
    Whh, Why = params["Whh"], params["Why"]
    (inputs, fresh, h, h_, mask, mh), (S, B, V) = cache, dy.shape

    dh = drop(mask, (rows(dy) @ Why).reshape(S, B, -1))     # y = Why (m h) + by
    da, dh_next = np.empty_like(dh), dstate["h"]            # dh_next: through step t + 1
    for t in reversed(range(S)):
        da[t] = (dh[t] + dh_next) * (1 - h[t] ** 2)     # h = tanh(a), and tanh' = 1 - tanh^2
        dh_next = restart(da[t] @ Whh, fresh[t])        # a = Wxh x + Whh h_ + bh
    dWxh = one_hot_product(rows(da), inputs, V)         # sums over t and all streams: da_t x_t^T,
    return {"Wxh": dWxh, "Whh": rows(da).T @ rows(h_),  # da_t h_{t-1}^T, dy_t (m_t h_t)^T, ...
            "Why": rows(dy).T @ rows(mh),
            "bh": dWxh.sum(axis=1, keepdims=True),      # the sum of da_t, as x_t adds up to 1
            "by": rows(dy).sum(axis=0)[:, None]}, {"h": dh_next}


# ---- common: learning ----
def rows(x):
    """All steps of all streams as the rows of one matrix: (S, B, ...) -> (S B, n)."""
    return x.reshape(x.shape[0] * x.shape[1], -1)


def starts(inputs, reset):
    """The streams that start afresh before each step; none, in no time, if no reset is read."""
    return [(x == reset).nonzero()[0] for x in inputs] if reset in inputs else [()] * len(inputs)


def restart(x, fresh):
    """x, but 0 for the streams that start afresh: their state, and on the way back its gradient."""
    if len(fresh):
        x = x.copy()
        x[fresh] = 0
    return x


def drop(mask, x):
    """Dropout's mask * x, or x if there is no mask: 4 to 8 % faster than to multiply by 1."""
    return x if mask is None else mask * x


def one_hot_product(d, inputs, V):
    """The sum over all rows of d^T x, for one-hot x: (S B, n), (S, B) -> (n, V). Only characters
    that occur are multiplied, since an alphabet can have thousands."""
    used, product = np.unique(inputs), np.zeros((d.shape[1], V), d.dtype)
    x = inputs.reshape(-1, 1) == used                   # one-hot among those
    product[:, used] = d.T @ x.astype(d.dtype)
    return product


def random_weights(rng, shapes, init):
    """Normal weights, biases 0. Standard deviation: init over the root of the number of inputs that
    a unit adds up (1 for the one-hot x); or 0.01, as in krocki/dnc, if init is 0."""
    def std(name, shape):
        return init / math.sqrt(1 if name == "Wxh" else shape[1]) or 0.01
    return {name: rng.standard_normal(shape) * std(name, shape) if name[0] == "W" else
            np.zeros(shape) for name, shape in shapes.items()}


def cross_entropy(y, targets):
    """-log softmax(y)[target] in nats, (S, B), and dy, the gradient of their sum, (S, B, V)."""
    highest = rows(y).T.copy().max(axis=0)          # a copy by columns: 5 % of an RNN's iteration
    z = rows(y) - highest[:, None]                  # the same softmax, but exp cannot overflow
    at_target = np.arange(len(z)), targets.ravel()
    e = np.exp(z)
    total = np.einsum("nv->n", e)                   # a third of the time of sum
    nats = np.log(total) - z[at_target]
    dy = e / total[:, None]                         # softmax(y),
    dy[at_target] -= 1                              # minus the one-hot target
    return nats.reshape(targets.shape), dy.reshape(y.shape)


def gradients(params, inputs, targets, state, reset=-1, mask=None):
    """The loss of a window in nats, its gradients, and the state after it. Loss and gradients are
    sums over characters, so those of parts of a batch add up."""
    y, state, cache = forward(params, inputs, state, reset, mask)
    nats, dy = cross_entropy(y, targets)
    dstate = {name: np.zeros_like(value) for name, value in state.items()}      # BPTT is truncated
    return float(nats.sum()), backward(params, cache, dy, dstate)[0], state


def norm(grads):
    """The Euclidean norm of all gradients together, for clipping (Pascanu et al. 2013); inf if a
    square overflows, which ends the run."""
    return math.hypot(*(np.linalg.norm(d) for d in grads.values()))


def adagrad(p, d, mem, lr):
    """Adagrad (Duchi et al. 2011): p and mem, the sum of squared gradients, after a step."""
    mem = mem + d * d
    return p - lr * d / np.sqrt(mem + 1e-8), mem


def averaged(average, p, t):
    """The average of a parameter over all t iterations, in which iteration t weighs as t^9: mostly
    that of the last tenth. It is scored, sampled and kept as the best, since it predicts better
    than p alone, by 0.01 to 0.02 BPC. Polynomial-decay averaging (Shamir and Zhang 2013)."""
    return average + 10 / (t + 9) * (p - average)


# ---- common: text ----
class Failure(Exception):
    """Ends the run with one line on standard error; status 1 if training has begun, else 2."""


def say(text, end="\n", file=None):
    """Print, with control characters, which could steer a terminal, spelt out."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda c: ascii(c[0])[1:-1], text)
    print(text, end=end, file=file, flush=True)


def read_text(path, encoding):
    """The characters of a file. Newlines become \\n, but latin-1 takes bytes one to one."""
    try:
        newline = "" if codecs.lookup(encoding).name == "iso8859-1" else None
        with open(path, encoding=encoding, newline=newline) as file:
            return file.read().removeprefix("\ufeff")       # the byte order mark is not text
    except UnicodeDecodeError as e:
        raise Failure(f"{path} is not {encoding} at byte {e.start:,}: name its encoding, as in "
                      "--encoding gbk, cp1252 or utf-16; latin-1 takes bytes as they are")
    except (OSError, LookupError, ValueError) as e:
        raise Failure(f"cannot read {path}: {getattr(e, 'strerror', None) or e} (--data FILE names "
                      "a text, --prime @FILE reads one)")


def encode(text, vocab, name):
    """Characters to their numbers in vocab, in the smallest unsigned type."""
    number = {c: k for k, c in enumerate(vocab)}
    if lacking := sorted(set(text) - number.keys()):
        shown = " ".join(map(repr, lacking[:20]))
        raise Failure(f"{name}: {len(lacking)} characters are not in the vocabulary: {shown}")
    return np.fromiter(map(number.get, text), np.min_scalar_type(len(vocab) - 1), len(text))


WEIGHTS, PLACES, SAMPLE, MASK = range(4)                # purposes of random numbers


def generator(seed, purpose, iteration):
    """Random numbers that depend on nothing else, so that a run continues exactly."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, iteration)))


def share(B):
    """The streams of the batch that this process trains; parallel/train.py replaces it."""
    return slice(B)


def next_window(args, run, text):
    """The next S characters of each stream and those that follow them, (S, B) each; the state
    before and the positions behind. A stream that has come to the end of the text, and one in 80
    others, jumps to a random place and starts afresh, as samples and held-out segments do."""
    B, S, last = args.batchsize, args.seqlength, text.tail - args.seqlength
    rng = generator(args.seed, PLACES, run.iter)
    chance, place = rng.random(B), rng.integers(last, size=B)
    if text.begins is not None:                         # behind a reset character
        place = text.begins[place % np.searchsorted(text.begins, last)]
    jump = (run.position >= last) | (chance < 1 / 80)[share(B)]
    position = np.where(jump, place[share(B)], run.position)
    window = text.ids[position + np.arange(S + 1)[:, None]]
    state = {name: restart(value, jump.nonzero()[0]) for name, value in run.state.items()}
    return window[:-1], window[1:], state, position + S


def dropout_mask(args, run):
    """Dropout (Srivastava et al. 2014) on what the output reads, (S, B, H): 0 with probability P,
    in steps of 1/256, else 1 / (1 - P). Random bytes, since floats take 4 % of an iteration."""
    if not args.dropout:
        return None
    shape = args.seqlength, args.batchsize, args.hidden
    dropped = min(255, round(256 * args.dropout))
    numbers = generator(args.seed, MASK, run.iter).bytes(math.prod(shape))
    kept = np.frombuffer(numbers, np.uint8).reshape(shape)[:, share(args.batchsize)] >= dropped
    return kept * run.params["by"].dtype.type(256 / (256 - dropped))


# ---- common: scoring and sampling ----
def sizes(args):
    """The flags that fix the shapes of the parameters, in the order of param_shapes."""
    return [getattr(args, name) for name, (kind, *_) in FLAGS.items() if kind is int]


def reset_id(run):
    """The number of the character of --reset, or -1."""
    return run.vocab.index(run.settings.reset) if run.settings.reset else -1


def zero_state(run, B):
    """The state of B streams that have read nothing."""
    return {name: np.zeros(shape, run.params["by"].dtype)
            for name, shape in state_shapes(B, *sizes(run.settings)).items()}


def score(run, text):
    """Held-out bits per character (BPC), or nan after a signal: at most 64 segments of at least
    2,000 characters, side by side from zero state. With --reset they begin behind a reset."""
    first, end = max(text.tail, 1), len(text.ids)       # the first character of a text is read only
    edges = np.linspace(first, end, max(1, min(64, (end - first) // 2000)) + 1).astype(int)
    if text.begins is not None:
        begins = np.append(text.begins, end)
        edges[1:-1] = begins[np.searchsorted(begins, edges[1:-1])]
    starts, ends, nats = edges[:-1], edges[1:], 0.0
    state, reset = zero_state(run, len(starts)), reset_id(run)
    for t in range(0, (ends - starts).max(), 25):
        at = starts + t + np.arange(25)[:, None]
        counts, at = at < ends, np.minimum(at, end - 1)
        y, state, _ = forward(run.params, text.ids[at - 1], state, reset)
        nats += cross_entropy(y, text.ids[at])[0][counts].sum(dtype=float)
        if stop.signal:
            return math.nan
    return float(nats) / math.log(2) / (end - first)


def sample(run, prime="", length=500, temperature=1.0, seed=1, iteration=0):
    """Generate the characters that follow the prime: each is drawn from softmax(y / temperature)
    and then read. Temperature 0 takes the likeliest."""
    rng, state, reset = generator(seed, SAMPLE, iteration), zero_state(run, 1), reset_id(run)
    prime = encode(prime or ("\n" if "\n" in run.vocab else run.vocab[0]), run.vocab, "--prime")
    for t in range(0, len(prime), 25):
        y, state, _ = forward(run.params, prime[t:t + 25, None], state, reset)
    for _ in range(length):
        z = y[-1, 0].astype(float)
        if not np.isfinite(z).all():
            raise Failure("the network's output is not finite")
        p = np.exp((z - z.max()) / temperature) if temperature else z == z.max()
        k = rng.choice(len(p), p=p / p.sum())
        yield run.vocab[k]
        one = {**run.params, "Wxh": run.params["Wxh"][:, [k]]}      # forward copies Wxh: one column
        y, state, _ = forward(one, np.zeros((1, 1), int), state, 0 if k == reset else -1)


# ---- common: checkpoints ----
COUNTERS = {"iter": 0, "seconds": 0.0, "digest": 0, "heldout": 0, "best": math.inf, "best_iter": 0}
PREFIXES = "", "adagrad_", "average_", "state_", "best_"    # of names of arrays in a checkpoint


def saved_settings(run):
    """All of a checkpoint but its arrays."""
    return {**vars(run.settings), **{name: getattr(run, name) for name in COUNTERS},
            "model": MODEL, "vocab": run.vocab, "position": run.position.tolist()}


def save(run, path):
    """Replace a checkpoint (.npz) by a whole one, or leave it and return what went wrong."""
    groups = zip(PREFIXES, (run.params, run.mem, run.average, run.state, run.best_params))
    arrays = {prefix + name: value for prefix, group in groups for name, value in group.items()}
    if not all(np.isfinite(value).all() for value in arrays.values()):
        return f"cannot save {path}: a weight or state is not finite"
    archive, real = io.BytesIO(), os.path.realpath(path)            # a link stays one
    np.savez(archive, settings=json.dumps(saved_settings(run)), **arrays)
    temporary = f"{real}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(archive.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(real):
            os.chmod(temporary, os.stat(real).st_mode)
        os.replace(temporary, real)
    except OSError as e:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        return f"cannot save {path}: {e.strerror}"


def load(path):
    """The run that save wrote. Nothing is unpickled, and an array is taken if it is stored, not
    compressed, behind the header that the settings promise: no file takes more than its size."""
    try:
        if not os.path.isfile(path):
            raise ValueError("there is no regular file of this name")
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if any(m.compress_type for m in archive.infolist()) or "model.npy" in members:
                raise ValueError("an earlier version saved it, or another program")
            text = archive.read("settings.npy").partition(b"\n")[2]     # behind the header
            saved = json.loads(text.decode("utf-32"))
            if saved["model"] != MODEL:
                raise ValueError(f"{saved['model']}-numpy.py saved it")
            counters = {name: type(first)(saved[name]) for name, first in COUNTERS.items()}
            flags = argparse.Namespace(**{name: checked(name, saved[name]) for name in SAVED})
            run = argparse.Namespace(vocab=str(saved["vocab"]), settings=flags, **counters,
                                     position=np.array(saved["position"], np.int64))
            B, dtype = run.settings.batchsize, "<f8" if run.settings.fp64 else "<f4"
            shapes, best = param_shapes(len(run.vocab), *sizes(run.settings)), run.best < math.inf
            state = state_shapes(B, *sizes(run.settings))
            groups = shapes, shapes, shapes, state, shapes if best else {}

            def read(name, shape):
                header, data = io.BytesIO(), archive.read(name + ".npy")
                np.lib.format.write_array_header_1_0(
                    header, {"descr": dtype, "fortran_order": False, "shape": shape})
                value = np.frombuffer(data, dtype, offset=header.tell()).reshape(shape)
                finite = np.isfinite(np.sqrt(value) if name[:8] == "adagrad_" else value).all()
                if not data.startswith(header.getvalue()) or not finite:
                    raise ValueError(f"{name} is not as it was saved")
                return value
            run.params, run.mem, run.average, run.state, run.best_params = (
                {name: read(prefix + name, shape) for name, shape in group.items()}
                for prefix, group in zip(PREFIXES, groups))
        if (not all(x >= 0 and (x < 2**62 or isinstance(x, float)) for x in counters.values())
                or run.position.shape != (B,) or run.position.min() < 0
                or len(set(run.vocab)) < len(run.vocab)
                or saved_settings(run) != saved or len(members) > 1 + sum(map(len, groups))):
            raise ValueError("its settings are not as they were saved")
        return run
    except Exception as e:                              # a damaged archive raises a dozen kinds
        raise Failure(f"{path} is not a usable checkpoint: {str(e) or type(e).__name__}")


# ---- common: training ----
EARLY = {50 << k for k in range(60)}                    # checks at 50, 100, 200, 400, ...


def iterate(args, run, text):
    """One iteration: the gradients of one window, and Adagrad. The run changes in one statement at
    the end, so that whatever fails before leaves it whole. Returns the window's BPC."""
    inputs, targets, state, position = next_window(args, run, text)
    nats, grads, state = gradients(run.params, inputs, targets, state, reset_id(run),
                                   dropout_mask(args, run))
    characters, length = args.batchsize * args.seqlength, norm(grads)
    scale = min(1, args.clip * characters / length) if args.clip and length else 1
    health, params, mem, average = nats + length, {}, {}, {}
    for name, p in run.params.items():
        params[name], mem[name] = adagrad(p, scale * grads[name], run.mem[name], args.lr)
        average[name] = averaged(run.average[name], params[name], run.iter + 1)
        health += float(mem[name].max()) + float(params[name].sum())    # inf would freeze weights
    if not math.isfinite(health):
        raise Failure(f"loss, gradient or weights are not finite in iteration {run.iter + 1}: "
                      "try a smaller --lr or --init")
    vars(run).update(params=params, mem=mem, average=average, state=state, position=position,
                     iter=run.iter + 1)
    return nats / characters / math.log(2)


def agree(wish):
    """(signal, time is over); with parallel/train.py what any of the workers wishes."""
    return wish


def train(args, run, text):
    """Train until --iters, --timelimit or a signal ends it; report and check on the way."""
    start, before = time.perf_counter(), run.seconds    # those of a loaded run count, too
    last = math.inf if args.iters is None else run.iter + args.iters
    bpcs, began, printed, done = [], start, start, False
    while not done:
        bpcs.append(iterate(args, run, text))
        now = time.perf_counter()
        run.seconds = before + now - start
        wish, late = agree((stop.signal, now - start >= args.timelimit))
        stop.signal = stop.signal or wish               # one that has just come waits its turn
        done = wish or late or run.iter >= last
        early = run.iter in EARLY and run.iter < args.check_interval
        check = args.check_interval and not wish and (
            done or early or run.iter % args.check_interval == 0)
        if not (done or check or run.iter == 1 or run.iter % args.print_interval == 0
                or now - printed >= 10):
            continue
        count, spent, printed = len(bpcs), now - began, now
        bpc, speed = sum(bpcs) / count, count * args.batchsize * args.seqlength / spent
        say(f"0: {run.seconds:.3f} s, iter {run.iter}, {bpc:.4f} BPC, {speed:.2f} char/s")
        if bpc > math.log2(len(run.vocab)) and run.iter > 100:
            say("a guess among all characters would be better: try a smaller --lr")
        shown = argparse.Namespace(**{**vars(run), "params": run.average})
        heldout = report(args, shown, text) if check else math.nan
        if heldout < run.best:                          # nan is not
            run.best, run.best_iter, run.best_params = heldout, run.iter, run.average
        log(args, run.iter, f"{run.seconds:.3f}\t{bpc:.4f}\t{heldout:.4f}\t{speed:.2f}")
        bpcs, began = [], time.perf_counter()           # a report is not training, but takes time
        run.seconds = before + began - start
        if check and args.save and not done and (error := save(run, args.save)):
            say(f"{PROGRAM}: {error}", file=sys.stderr)     # there will be a next check
    if heldout > run.best + 0.01:                       # a small text is memorized after a while
        say(f"the best held-out BPC was {run.best:.4f}, after iteration {run.best_iter}")


def claim(args, path):
    """Create the file of --save, which only one of several runs can; False if it is continued."""
    same = args.load and os.path.exists(path) and os.path.samefile(path, args.load)
    if same and args.continued:
        return False
    try:
        open(path, "xb").close()
        return True
    except OSError as e:
        advice = (", since another text is learnt or held out" if same else
                  f", or continue it by --load {args.save}" if os.path.isfile(path) else "")
        raise Failure(f"cannot save {args.save}: {e.strerror}: --save another name{advice}")


def train_and_save(args, run, text):
    """Train. However that ends, by an error, too, what the last whole iteration left is saved. A
    save before the first iteration shows whether that is possible."""
    begun, path = run.iter, args.save and os.path.realpath(args.save)
    log(args, heading=True)                             # refuses what is no log
    new = path and claim(args, path)
    try:
        if path and (error := save(run, args.save)):
            raise Failure(error)
        flags = (f"{name}={value!r}" for name, value in vars(run.settings).items())
        log(args, f"# {MODEL}", *flags,
            "columns: iter seconds train_bpc heldout_bpc chars_per_s", heading=True)
        stop.trained = True                             # from here on errors have status 1
        train(args, run, text)
    finally:
        if new and run.iter == begun:
            os.remove(path)
        elif run.iter > begun:
            if path and (error := save(run, args.save)):
                with contextlib.suppress(OSError):      # the second try comes, said or not
                    say(f"{PROGRAM}: {error}", file=sys.stderr)
                time.sleep(1)
                if error := save(run, args.save):
                    raise Failure(error)
            with contextlib.suppress(OSError):          # of the output, which may be why it ended
                if path or stop.signal:
                    say(f"saved {args.save}" if path else "nothing is saved without --save")


def log(args, *columns, heading=False):
    """Append a line to the file of --fname. A heading begins a file, or is behind another log."""
    if args.fname and (columns or os.path.exists(args.fname)):
        with open(args.fname, "a+" if os.path.isfile(args.fname) else "x+", encoding="utf-8",
                  errors="replace") as file:
            text = file.read() if heading and not file.seek(0) else ""
            if not re.match(r"$|# \S+\thidden=", text):
                raise Failure(f"--fname {args.fname} is not a log: nothing is appended to it")
            end = "" if text[-1:] in ("", "\n") else "\n"           # of a line that was cut
            if columns:
                print(end + str(columns[0]), *columns[1:], sep="\t", file=file)


def report(args, run, text):
    """A check: print held-out BPC, which is returned, and a sample."""
    heldout, count = math.nan, len(text.ids) - max(text.tail, 1)
    if count > 0 and not math.isnan(heldout := score(run, text)):
        say(f"held-out: {heldout:.4f} BPC over {count:,} characters")
    if count < 1 and (args.val or args.iters == 0 and args.score):
        say("held-out: there is no character to score")
    if args.sample_length and not stop.signal:
        raw = not sys.stdout or sys.stdout.seekable()   # a file gets control characters as they are
        drawn = sample(run, args.prime, args.sample_length, args.temperature, args.seed, run.iter)
        say("----")
        for c in itertools.chain(args.prime if args.iters == 0 else "", drawn):
            print(c, end="", flush=True) if raw else say(c, end="")
            if stop.signal:
                break
        say("\n----")
    return heldout


# ---- common: command line ----
STORY = os.path.join(os.path.dirname(os.path.realpath(globals().get("__file__", "a cell"))),
                     "data", "gull-rock.txt")           # in a notebook's cell there is no __file__
SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"]   # Windows lacks some, others lack the last
PROGRAM = f"{MODEL}-numpy.py"                           # dnc-debug.py gives its own name
stop = argparse.Namespace(signal=0, trained=False)      # the signal that came; training has begun
ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}      # for --reset
GROUPS = {          # group: {flag: (type, smallest value or length, default, unit, meaning)}
    "model": {
        **FLAGS,
        "init": (float, 0, 1.0, "X", "initial weights vary by X / sqrt(inputs); 0: by 0.01"),
        "fp64": (bool, 0, False, "", "compute in double precision")},
    "training": {
        "batchsize": (int, 1, 64, "N", "streams of text side by side, B"),
        "seqlength": (int, 1, 25, "N", "steps in a window, S: how far back gradients flow"),
        "clip": (float, 0, 0.01, "X", "largest norm of the gradient, per character; 0: no limit"),
        "iters": (int, 0, None, "N", "iterations of this run; 0: only score and sample"),
        "timelimit": (float, 1e-9, None, "SECONDS", "of this run (default 45; none with --iters)"),
        "seed": (int, 0, 1, "N", "of all random numbers: weights, places in the text, samples")},
    "text": {
        "data": (str, 1, None, "FILE", "text to learn (default: the story in data/)"),
        "encoding": (str, 1, "utf-8", "NAME", "of the text; latin-1 takes bytes as they are"),
        "val": (float, 0, None, "SHARE", "held out, at the end (default 0.05, at most 100,000)"),
        "reset": (str, 1, None, "CHARACTER", "(or \\n \\t \\r \\\\) that begins an episode")},
    "reports": {
        "print_interval": (int, 1, 100, "N", "iterations between lines with bits per character"),
        "check_interval": (int, 0, 500, "N", "between checks: held-out BPC, sample, save; 0: none"),
        "sample_length": (int, 0, 500, "N", "characters of a sample; 0: none"),
        "temperature": (float, 0, 1.0, "X", "of sampling; below 1: careful; 0: the likeliest"),
        "prime": (str, 1, "", "TEXT", "that a sample continues; @FILE reads it from there")},
    "files": {
        "save": (str, 1, None, "FILE", "checkpoint: the last weights, their average and the best"),
        "load": (str, 1, None, "FILE", "checkpoint to continue, or to start from on another text"),
        "fname": (str, 1, None, "FILE", "log: figures are appended to it, tab-separated")}}
TABLE = {name: row for group in GROUPS.values() for name, row in group.items()}
FIXED = [name for name in (*FLAGS, "init", "fp64") if name not in ("lr", "dropout")]
SAVED = [*FIXED, *"lr dropout batchsize seqlength clip seed data encoding reset".split()]


def checked(name, value):
    """The value of a flag, given or saved, if it is of its type and in its range."""
    kind, low, default, unit, _ = TABLE[name]
    if value == default:
        return value
    above = {"dropout": 1, "reset": 2}.get(name, 2**62 if kind is int else math.inf)
    with contextlib.suppress(ValueError):
        result = kind(ESCAPES.get(value, value) if name == "reset" else value)
        if low <= (len(result) if kind is str else result) < above:     # nan is not
            return result
    limit = "of one character" if name == "reset" else f"of at least {low}, and below {above}"
    raise argparse.ArgumentTypeError(f"{value!r} is not a {unit} {limit}")


def parse(argv):
    """The flags that are given, by name."""
    p = argparse.ArgumentParser(
        prog=PROGRAM, allow_abbrev=False, argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(__doc__ or "").partition("\n")[0],
        epilog="\n".join(re.findall("    python .*", __doc__ or "")))

    def error(message):
        hint = "; a value that begins with - needs --flag=VALUE" if "expected" in message else ""
        raise Failure(f"{message}{hint} (see --help)")
    p.error = error
    p.print_help = lambda: say(p.format_help(), end="")     # it fails if the output does
    for title, flags in GROUPS.items():
        group = p.add_argument_group(title)
        for name, (kind, _, default, unit, meaning) in flags.items():
            shown = f" (default {default})" if default else ""
            how = {"action": "store_true"} if kind is bool else {
                "metavar": unit, "type": lambda text, name=name: checked(name, text)}
            group.add_argument("--" + name, help=meaning + shown, **how)
    return vars(p.parse_args(argv))


def settle(given, run):
    """All flags: as they are given, else as a loaded run has them, else the defaults."""
    defaults, saved = {name: row[2] for name, row in TABLE.items()}, run and vars(run.settings)
    args = argparse.Namespace(**{**defaults, **(saved or {}), **given})
    for name in FIXED if run else []:
        new, old = getattr(args, name), getattr(run.settings, name)
        if new != old and not (name == "locations" and args.iters == 0):
            raise Failure(f"--{name} {new}: {args.load} has {old}, which stays")
    if (args.val or 0) >= 1 and not (args.val == 1 and run and args.iters == 0):
        raise Failure("--val is a share below 1; only --load FILE --iters 0 takes 1")
    if args.iters == 0 and (args.save or args.fname):
        raise Failure("--iters 0 trains nothing that --save or --fname could keep")
    args.timelimit = args.timelimit or (45 if args.iters is None else math.inf)
    if args.prime[:1] == "@":
        args.prime = read_text(args.prime[1:], args.encoding)
    args.path = args.data or STORY
    args.score = not run or args.iters != 0 or "data" in given          # is there a text?
    if args.score and args.data and "data" not in given:
        say(f"{args.load} has learnt from {args.data}")
        if not os.path.isfile(args.data):
            raise Failure(f"{args.data} is not a file: name the text with --data FILE")
    return args


def prepare(args, run):
    """The text, ids and vocab. Behind tail all is held out; begins are the places behind reset
    characters; known: whether the run has learnt it, continued: and the same part is held out."""
    characters = read_text(args.path, args.encoding) if args.score else ""
    vocab = run.vocab if run else ""
    if args.iters != 0 or not run:                      # what is new is appended
        vocab += "".join(sorted(set(characters) - set(vocab)))
    for name, value in ("--prime", args.prime), ("--reset", args.reset or ""):
        encode(value, vocab, name)
    ids = encode(characters, vocab, args.path)
    text = argparse.Namespace(ids=ids, vocab=vocab, digest=zlib.crc32(ids), begins=None)
    text.known = run and (text.digest, vocab) == (run.digest, run.vocab)
    heldout = run.heldout if text.known else min(round(0.05 * len(ids)), 100_000)
    text.heldout = heldout if args.val is None else round(args.val * len(ids))
    text.tail = len(ids) - text.heldout
    args.continued = text.known and text.heldout == run.heldout
    if args.reset:
        text.begins = np.append(0, np.flatnonzero(ids == vocab.index(args.reset)) + 1)
    if args.iters != 0 and text.tail <= args.seqlength or len(vocab) < 2:
        raise Failure(f"{args.path} is too short: {text.tail:,} characters to train on, "
                      f"{len(vocab)} different; needed are {args.seqlength + 1:,} and 2")
    return text


def new_run(args, text, before=None):
    """A run with random weights; or, if there was one before, on another text, with its best ones
    and its sums, which keep steps small. What new characters need is random, with sums of 0."""
    dtype, rng = np.float64 if args.fp64 else np.float32, generator(args.seed, WEIGHTS, 0)
    params = {name: p.astype(dtype) for name, p in init_params(rng, len(text.vocab), args).items()}
    mem = {name: np.zeros_like(p) for name, p in params.items()}        # Adagrad's sums
    for name, p in (before.best_params or before.average).items() if before else ():
        old = tuple(map(slice, p.shape))
        params[name][old] = p
        mem[name][old] = before.mem[name]
    return argparse.Namespace(
        vocab=text.vocab, params=params, mem=mem, average=params, best_params={},
        state={}, position=np.zeros(0, int), **COUNTERS)        # of the streams


def begin(argv):
    """The flags, the run, fresh or loaded, and its text."""
    given = parse(argv)
    run = load(given["load"]) if "load" in given else None
    args = settle(given, run)
    text, B = prepare(args, run), args.batchsize
    params, state = param_shapes(len(text.vocab), *sizes(args)), state_shapes(B, *sizes(args))
    if max(map(math.prod, (*params.values(), *state.values()))) > 2**48:
        raise MemoryError                               # NumPy has a ValueError for them
    if not run or args.iters != 0 and not text.known:
        run = new_run(args, text, run)
    run.settings = argparse.Namespace(**{name: getattr(args, name) for name in SAVED})
    if args.iters == 0 and args.load:
        say(f"the best weights of {args.load}: iteration {run.best_iter}, {run.best:.4f} BPC"
            if run.best_params else f"the averaged weights of {args.load}: iteration {run.iter}")
        run.params = run.best_params or run.average
    elif not args.continued:                            # a best is of one held-out text
        vars(run).update(digest=text.digest, heldout=text.heldout, best=math.inf, best_iter=0,
                         best_params={})
    if len(run.position) != B:                          # all streams jump, and start afresh
        run.position, run.state = np.full(B, len(text.ids)), zero_state(run, B)
    return args, run, text


def introduce(args, run, text):
    """The first lines: what is trained, on what."""
    size = sum(p.size for p in run.params.values())
    say(f"{MODEL}: {size:,} parameters, {args.batchsize} streams, {args.seqlength} steps; "
        f"{os.path.basename(args.path)}: {text.tail:,} characters, {len(text.vocab)} different, "
        f"and {text.heldout:,} held out")
    if size > text.tail and not args.dropout:
        say("more parameters than characters: it may memorize them, try --dropout 0.5")
    if args.load and not text.known:
        say(f"another text than that of {args.load}: a new run, from its weights")


def main(argv=None):
    """Run the command line; returns the exit status."""
    def handler(number, frame):
        """A first signal lets the iteration end and be saved, a second one ends at once."""
        signal.signal(number, lambda *_: os._exit(128 + number))
        stop.signal = number
    stop.signal, stop.trained, message, status = 0, False, "", 0
    try:
        with contextlib.ExitStack() as after, np.errstate(all="ignore"):    # iterate asks: finite?
            if getattr(sys.stdout, "closed", False):
                after.enter_context(contextlib.redirect_stdout(None))
            if hasattr(sys.stdout, "reconfigure"):      # a notebook's has none
                sys.stdout.reconfigure(errors="backslashreplace")   # stderr does that by itself
            for name in SIGNALS:
                number = getattr(signal, name, None)
                if number and signal.getsignal(number) not in (None, signal.SIG_IGN):   # as nohup
                    with contextlib.suppress(ValueError):       # in a thread there are no handlers
                        after.callback(signal.signal, number, signal.signal(number, handler))
            args, run, text = begin(argv)
            if args.iters == 0:
                report(args, run, text)
            elif not stop.signal:
                introduce(args, run, text)
                train_and_save(args, run, text)
    except Failure as e:
        message, status = str(e), 1 if stop.trained else 2
    except MemoryError:
        message, status = "there is not enough memory for these sizes", 1 if stop.trained else 2
    except OSError as e:                                # of the log or of standard output
        message = f"cannot write {e.filename or 'the output'}: {e.strerror}"
        status = 2 if e.filename and not stop.trained else 1
        if isinstance(e, BrokenPipeError) or stop.signal:       # | head has seen enough
            message, status = "", 141
    finally:                                            # of --help, too
        if message:
            line = " ".join(f"{PROGRAM}: {message}".split())
            with contextlib.suppress(OSError, ValueError):
                say(line if len(line) < 500 else line[:500] + " ...", file=sys.stderr)
        for stream in sys.stdout, sys.stderr:
            try:
                if stream and not getattr(stream, "closed", False):
                    stream.flush()
            except OSError:                             # what it could not write is lost
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    came, stop.signal = stop.signal, 0                  # a notebook goes on
    return 128 + came if came and status in (0, 141) else status


if __name__ == "__main__":
    sys.exit(main())
# ---- end of common: command line ----
