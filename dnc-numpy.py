#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy>=1.26"]
# ///
"""A Differentiable Neural Computer (DNC) that learns to write, character by character, in NumPy.

An LSTM, the controller, with a memory: a matrix M of N rows (locations) of W numbers. At each step
it writes to the memory and reads from it softly: a weighting, N numbers whose sum is at most 1,
says where. Weightings come from content (which rows look like this key?), usage (which rows are
free?) or time (which row was written after the one just read?). All of it is differentiable, so
BPTT teaches the network how to use its memory. But for the LSTM's cell it is the whole model of
Graves et al., "Hybrid computing using a neural network with dynamic external memory", Nature 538
(2016); x_ is x of step t - 1, f_r and wr_r are those of read head r:

            x_t ---Wxh---> (+) ---> LSTM ---> h_t ---Why---> (+) ---> y_t ---softmax---> next x_t
                            ^       |  ^       |              ^
                            |       +--+       | keys, gates  | Wry
                            Wrh                v              |
                            |         write > memory > read --+
                            |                           |
                            +--------- r_{t-1} ---------+  one step later

    content     c[i] = softmax over i of beta cos(k, M[i])                  key k, strength beta
    usage       u = (u_ + ww_ - u_ ww_) prod_r (1 - f_r wr_r_)              free gates f
    allocation  a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i]               phi: least used first
    write       ww = gw (ga a + (1 - ga) c),  M = M_ (1 - ww e^T) + ww v^T  gates gw, ga; erase e
    links       L[i,j] = (1 - ww[i] - ww[j]) L_[i,j] + ww[i] p_[j], i != j  precedence p: where
                p = (1 - sum ww) p_ + ww                                    was written last
    read        wr = pi_1 L^T wr_ + pi_2 c + pi_3 L wr_,  r = M^T wr        read modes pi

    python dnc-numpy.py                               train for a minute on the story in data/
    python dnc-numpy.py --data my.txt --save my.npz   train on your text and keep the result
    python dnc-numpy.py --load my.npz --iters 0       write more
    python dnc-numpy.py --help                        every flag

The model comes first, one function per mechanism: each computes its equation and returns, beside
the result, back, which computes the gradient; dh is the gradient of the loss with respect to h.
After it comes what trains any such model.

Shapes: B streams of text side by side (the batch), S steps in a window, H hidden units, M
characters in the vocabulary (in the state and in mechanisms M is the memory), R read heads. The
stream comes before H, N, R and W: h_t (B, H), M_t (B, N, W). dnc-debug.py checks the gradients.
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

MODEL = "dnc"
SIZES = {"hidden": (256, "H, hidden units"),                # flag: (default, meaning)
         "locations": (16, "N, memory locations"),
         "width": (16, "W, numbers in a memory location"),
         "heads": (2, "R, read heads")}
DEFAULTS = {"lr": 0.1}
INIT = {"forget_bias": (float, -100, 1.0, "initial bias of the forget gate")}   # as FLAGS
EPS = 1e-6      # in |k|, |M[i]| and usage: an empty row has cosine 0, no gradient divides by 0


# The model ----------------------------------------------------------------------------------------

def interface_shapes(hidden, width, heads):
    """Names and shapes of the parameters that make the interface vector of h_t, in its order."""
    H, W, R = hidden, width, heads
    return {"Whr": (R * W, H),  # read keys
            "Whw": (W, H),      # write key
            "Whv": (W, H),      # write vector
            "Whe": (W, H),      # erase vector
            "Whf": (R, H),      # free gates
            "Whga": (1, H),     # allocation gate
            "Whgw": (1, H),     # write gate
            "Whbr": (R, H),     # read strengths
            "Whbw": (1, H),     # write strength
            "Whp": (3 * R, H)}  # read modes: backward, content, forward for each head


def param_shapes(M, hidden, locations, width, heads):
    """Names and shapes of the parameters; biases are columns, the gates' rows are i, o, f, g."""
    H, RW = hidden, heads * width
    return {"Wxh": (4 * H, M),  # character to gates
            "Whh": (4 * H, H),  # hidden to gates, one step later
            "Wrh": (4 * H, RW), # read vectors to gates, one step later
            "Why": (M, H),      # hidden to output
            "Wry": (M, RW),     # read vectors to output
            **interface_shapes(hidden, width, heads),
            "bh": (4 * H, 1),
            "by": (M, 1)}


def init_params(rng, M, init, *sizes, forget_bias=1.0):
    """Initial parameters: random weights, biases 0, but for the forget gate's: at 1 a fresh cell
    keeps what it has; at -3 it forgets, so that the memory has to keep it."""
    params = random_weights(rng, param_shapes(M, *sizes), init)
    params["bh"][2 * sizes[0]:3 * sizes[0]] = forget_bias
    return params


def state_shapes(B, hidden, locations, width, heads):
    """Names and shapes of what is carried from step to step; a row for each stream."""
    N, W, R = locations, width, heads
    return {"h": (B, hidden), "c": (B, hidden),
            "r": (B, R, W),     # read vectors
            "M": (B, N, W),     # memory
            "u": (B, N),        # usage
            "p": (B, N),        # precedence: how far each location is the last one written
            "L": (B, N, N),     # links: L[i, j] is how far i was written right after j
            "wr": (B, R, N),    # read weightings
            "ww": (B, N)}       # write weighting


MEMORY = "M", "u", "p", "L", "wr", "ww"                     # the state of memory(), in its order


# ---- common: LSTM cell (in lstm-numpy.py and dnc-numpy.py) ----
def sigmoid(z):
    """1 / (1 + e^-z), in a form that cannot overflow."""
    s = np.tanh(0.5 * z)
    s *= 0.5
    s += 0.5
    return s


def lstm_cell(a, c_):
    """c = tanh(g i + f c_),  h = o c,  with i, o, f = sigmoid(a), g = tanh(a): the article's cell.

    It differs from the usual one (Hochreiter and Schmidhuber 1997; Gers et al. 2000), which stores
    c = g i + f c_ and shows h = o tanh(c). a: (B, 4 H), c_: (B, H), c of step t - 1. Returns h, c
    and back, which turns the gradients of h and c into those of a and c_.
    """
    a = a.reshape(len(a), 4, -1).swapaxes(0, 1).copy()      # (4, B, H); slices cost up to 9 %
    i, o, f = iof = sigmoid(a[:3])
    g = np.tanh(a[3])
    c = np.tanh(g * i + f * c_)

    def back(dh, dc):
        ds = (dh * o + dc) * (1 - c * c)            # c = tanh(s), and tanh' = 1 - tanh^2
        slope_i, slope_o, slope_f = iof * (1 - iof)         # sigmoid' = sigmoid (1 - sigmoid)
        da = [ds * g * slope_i, dh * c * slope_o, ds * c_ * slope_f, ds * i * (1 - g * g)]
        return np.concatenate(da, axis=1), ds * f
    return o * c, c, back
# ---- end of common: LSTM cell ----


def dot(x, y):
    """x . y along the last axis, which stays with length 1."""
    return np.einsum("...i,...i->...", x, y)[..., None]


def softmax(z):
    """e^z / sum e^z along the last axis."""
    p = np.exp(z - z.max(axis=-1, keepdims=True))       # shifted, so that exp cannot overflow
    p /= p.sum(axis=-1, keepdims=True)

    def back(dp):
        return p * (dp - dot(p, dp))
    return p, back


def oneplus(z):
    """1 + log(1 + e^z); from 80 on that is 1 + z to all digits, and e^z might overflow."""
    log = np.maximum(z, np.log1p(np.exp(np.minimum(z, 80))))

    def back(dx):
        return -np.expm1(-log) * dx                     # the slope: sigmoid(z) = 1 - e^-log
    return 1 + log, back


def scale_keys(k, beta):
    """q = beta k / |k|: q . m / |m| is then beta cos(k, m), as content needs it; |k|^2 = k.k + EPS.

    k, q: (B, R + 1, W), of all read heads and the write head; beta: (B, R + 1).
    """
    beta = beta[:, :, None]
    scale = beta / np.sqrt(dot(k, k) + EPS)
    q = scale * k

    def back(dq):
        dbeta = dot(q, dq) / beta
        return scale * (dq - q * (dbeta / beta)), dbeta[:, :, 0]    # = scale (dq - k k.dq / |k|^2)
    return q, back


def interface(xi, R, W):
    """Interface vector xi, all that the controller tells the memory: see interface_shapes.

    Returns the keys of the read heads (B, R, W) and the write head (B, 1, W), scaled as scale_keys
    says, write vector v and erase vector e (B, W), free gates f (B, R), allocation gate ga and
    write gate gw (B, 1), read modes pi (B, R, 3), and back.
    """
    B, k_end, v_end, s_end = len(xi), (R + 1) * W, (R + 2) * W, (R + 3) * W + R + 2     # in xi
    s = sigmoid(xi[:, v_end:s_end])
    e, f, ga, gw = s[:, :W], s[:, W:W + R], s[:, -2:-1], s[:, -1:]
    beta, beta_back = oneplus(xi[:, s_end:s_end + R + 1])
    k, k_back = scale_keys(xi[:, :k_end].reshape(B, R + 1, W), beta)
    pi, pi_back = softmax(xi[:, s_end + R + 1:].reshape(B, R, 3))

    def back(dkr, dkw, dv, de, df, dga, dgw, dpi):
        dk, dbeta = k_back(np.concatenate([dkr, dkw], axis=1))
        ds = np.concatenate([de, df, dga, dgw], axis=1)
        ds *= s * (1 - s)                               # sigmoid' = sigmoid (1 - sigmoid)
        return np.concatenate([dk.reshape(B, k_end), dv, ds, beta_back(dbeta),
                               pi_back(dpi).reshape(B, 3 * R)], axis=1)
    return k[:, :R], k[:, R:], xi[:, k_end:v_end], e, f, ga, gw, pi, back


def content(M, q):
    """Content weighting: c[i] = softmax over i of beta cos(k, M[i]) = q . M[i] / |M[i]|.

    M: (B, N, W); q: (B, K, W), scaled keys of K heads; c: (B, K, N). |M[i]|^2 = M[i].M[i] + EPS.
    """
    m = np.sqrt(dot(M, M) + EPS).swapaxes(1, 2)         # |M[i]|, (B, 1, N)
    z = np.matmul(q, M.swapaxes(1, 2))
    z /= m
    c, c_back = softmax(z)

    def back(dc):
        dz = c_back(dc)
        dz /= m                                         # now that of q . M[i]
        dM = sum_outer(dz, q)
        dM -= ((dz * z).sum(axis=1) / m[:, 0])[:, :, None] * M      # through |M[i]|
        return dM, np.matmul(dz, M)                                 # dM, dq
    return c, back


def sum_outer(x, y):
    """sum over k of x[k] y[k]^T: (B, K, N), (B, K, W) -> (B, N, W)."""
    # a matmul over one k takes 2 to 4 times as long as outer
    return outer(x[:, 0], y[:, 0]) if x.shape[1] == 1 else np.matmul(x.swapaxes(1, 2), y)


def outer(x, y):
    """x y^T: (B, N), (B, W) -> (B, N, W)."""
    return np.einsum("bn,bw->bnw", x, y)        # 1.1 to 1.6 times as fast as broadcasting


def usage(f, wr_, u_, ww_):
    """Usage: u = (u_ + ww_ - u_ ww_) psi, with the retention psi = prod over r of (1 - f_r wr_r_).

    What is written is used; a read head's free gate can free what the head has read.
    f: (B, R); wr_: (B, R, N); u, u_, ww_: (B, N).
    """
    f = f[:, :, None]
    kept, before = 1 - f * wr_, [1]     # before[r]: the product of the factors of all heads before
    for r in range(kept.shape[1]):
        before.append(before[r] * kept[:, r])
    psi = before[-1]
    used = u_ + ww_ - u_ * ww_

    def back(du):
        dused, dpsi, dkept = du * psi, du * used, np.empty_like(kept)
        for r in reversed(range(kept.shape[1])):        # dpsi: gradient of before[r + 1]
            dkept[:, r] = dpsi * before[r]
            dpsi = dpsi * kept[:, r]
        return (-(dkept * wr_).sum(axis=2), -f * dkept,
                dused * (1 - ww_), dused * (1 - u_))    # df, dwr_, du_, dww_
    return used * psi, back


def allocation(u):
    """Allocation weighting: a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i], phi: least used first.

    u, a: (B, N). Two deviations from the paper: u is moved into [EPS, 1], since back divides by it;
    and usages equal but for rounding, as all are after a reset, are sorted by location, by
    u + i delta. The order phi is a constant for the gradient, as in the paper.
    """
    B, N = u.shape
    delta = 1e-6 if u.real.dtype == np.float32 else 1e-9
    phi = (u.real + delta * np.arange(N)).argsort(axis=1, kind="stable")    # real: dnc-debug.py
    phi += np.arange(0, B * N, N)[:, None]              # as indices of u.ravel()
    v = EPS + (1 - EPS) * u.take(phi)
    before = np.multiply.accumulate(v, axis=1) / v      # prod_{i<j} v_i
    a_phi, a = (1 - v) * before, np.empty_like(u)
    a.put(phi, a_phi)

    def back(da):
        da_phi, behind, du = da.take(phi), np.zeros_like(v), np.empty_like(v)
        # v_i is a factor of all a_j behind it: behind_i = sum_{j>i} da_j a_j, summed from the end
        np.add.accumulate((da_phi * a_phi)[:, :0:-1], axis=1, out=behind[:, -2::-1])
        du.put(phi, (1 - EPS) * (behind / v - da_phi * before))
        return du
    return a, back


def write_weighting(gw, ga, a, c):
    """Write weighting: ww = gw (ga a + (1 - ga) c). gw, ga: (B, 1); a, c, ww: (B, N)."""
    mix = c + ga * (a - c)

    def back(dww):
        dmix = gw * dww
        da = ga * dmix
        return (dot(dww, mix), dot(dmix, a - c), da, dmix - da)     # dgw, dga, da, dc
    return gw * mix, back


def write(M_, ww, e, v):
    """Memory: M = M_ (1 - ww e^T) + ww v^T. M, M_: (B, N, W); ww: (B, N); e, v: (B, W)."""
    fade, row = 1 - outer(ww, e), ww[:, None]
    M = fade * M_ + outer(ww, v)

    def back(dM):
        dfade = dM * M_
        dww = np.matmul(dM, v[:, :, None]) - np.matmul(dfade, e[:, :, None])
        return (fade * dM, dww[:, :, 0],
                -np.matmul(row, dfade)[:, 0], np.matmul(row, dM)[:, 0])     # dM_, dww, de, dv
    return M, back


def link(L_, p_, ww):
    """Temporal links: L[i, j] = (1 - ww[i] - ww[j]) L_[i, j] + ww[i] p_[j], L[i, i] = 0.

    L, L_: (B, N, N); p_, ww: (B, N).
    """
    row = ww[:, None]
    fade = (1 - ww)[:, :, None] - row
    L = fade * L_ + outer(ww, p_)
    np.einsum("bii->bi", L)[:] = 0                      # a view of the diagonals

    def back(dL):
        dL = dL.copy()                                  # the caller's stays
        np.einsum("bii->bi", dL)[:] = 0
        dfade, ones = dL * L_, np.ones_like(row)        # a product with ones is the fastest sum
        dww = np.matmul(dL, p_[:, :, None]) - np.matmul(dfade, ones.swapaxes(1, 2))
        dww = dww[:, :, 0] - np.matmul(ones, dfade)[:, 0]
        return fade * dL, np.matmul(row, dL)[:, 0], dww             # dL_, dp_, dww
    return L, back


def precedence(p_, ww):
    """Precedence: p = (1 - sum ww) p_ + ww. All (B, N)."""
    kept = 1 - ww.sum(axis=1, keepdims=True)

    def back(dp):
        return kept * dp, dp - dot(dp, p_)              # dp_, dww
    return kept * p_ + ww, back


def read_weighting(pi, L, wr_, c):
    """Read weighting: wr = pi_1 L^T wr_ + pi_2 c + pi_3 L wr_: backward, by content, forward.

    pi: (B, R, 3); L: (B, N, N); wr, wr_, c: (B, R, N).
    """
    LT, pi = L.swapaxes(1, 2), pi.transpose(2, 0, 1)[..., None]
    ways = np.array([np.matmul(wr_, L), c, np.matmul(wr_, LT)])     # rows: L^T wr_ is wr_ L

    def back(dwr):
        dpi = (ways * dwr).sum(axis=3).transpose(1, 2, 0)
        dback, dc, dforth = pi * dwr
        dL = sum_outer(wr_, dback) + sum_outer(dforth, wr_)
        return dpi, dL, np.matmul(dback, LT) + np.matmul(dforth, L), dc     # dpi, dL, dwr_, dc
    return (pi * ways).sum(axis=0), back


def read(M, wr):
    """Read vectors: r = M^T wr. M: (B, N, W); wr: (B, R, N); r: (B, R, W)."""
    def back(dr):
        return sum_outer(wr, dr), np.matmul(dr, M.swapaxes(1, 2))   # dM, dwr
    return np.matmul(wr, M), back


def memory(xi, M_, u_, p_, L_, wr_, ww_):
    """One step of the memory, from the interface vector xi to the read vectors r.

    Returns r, the state after the step, in the order of the arguments, and back.
    """
    kr, kw, v, e, f, ga, gw, pi, interface_back = interface(xi, wr_.shape[1], M_.shape[2])
    u, usage_back = usage(f, wr_, u_, ww_)
    a, allocation_back = allocation(u)
    cw, write_content_back = content(M_, kw)
    ww, write_weighting_back = write_weighting(gw, ga, a, cw[:, 0])
    M, write_back = write(M_, ww, e, v)
    L, link_back = link(L_, p_, ww)
    p, precedence_back = precedence(p_, ww)
    cr, read_content_back = content(M, kr)
    wr, read_weighting_back = read_weighting(pi, L, wr_, cr)
    r, read_back = read(M, wr)

    def back(dr, dM, du, dp, dL, dwr, dww):
        """The same list upwards. M has three uses: dM, dM2 and dM3 add up, and so for others."""
        dM2, dwr2 = read_back(dr)
        dpi, dL2, dwr_, dcr = read_weighting_back(dwr + dwr2)
        dM3, dkr = read_content_back(dcr)
        dp_, dww2 = precedence_back(dp)
        dL_, dp_2, dww3 = link_back(dL + dL2)
        dM_, dww4, de, dv = write_back(dM + dM2 + dM3)
        dgw, dga, da, dcw = write_weighting_back(dww + dww2 + dww3 + dww4)
        dM_2, dkw = write_content_back(dcw[:, None])
        df, dwr_2, du_, dww_ = usage_back(du + allocation_back(da))
        dxi = interface_back(dkr, dkw, dv, de, df, dga, dgw, dpi)
        return dxi, (dM_ + dM_2, du_, dp_ + dp_2, dL_, dwr_ + dwr_2, dww_)
    return r, (M, u, p, L, wr, ww), back


def keep_rows(x, keep):
    """x (B, ...), but 0 for the streams whose keep (B, 1) is 0."""
    return (x.T * keep.T).T


def forward(params, inputs, state, reset=None):
    """Run S steps of B streams. Training, scoring and sampling all use this one function.

    inputs: (S, B) character numbers. state: see state_shapes. reset: the character before which a
    stream's state becomes zero, or None. Returns the logits y (M, S, B), the state after the last
    step, and the cache that backward needs.
    """
    Wxh, Whh, Wrh, Why, Wry, bh, by = (
        params[name] for name in ("Wxh", "Whh", "Wrh", "Why", "Wry", "bh", "by"))
    (S, B), (M, H), (R, W) = inputs.shape, Why.shape, state["r"].shape[1:]
    WhxiT = np.concatenate([params[name] for name in interface_shapes(H, W, R)]).T.copy()

    h = np.empty((S + 1, B, H), Whh.dtype)          # h[t + 1] is h_t, h[0] the incoming state
    r = np.empty((S + 1, B, R * W), Whh.dtype)
    h[0], r[0], c, steps = state["h"], state["r"].reshape(B, R * W), state["c"], []
    memory_state = [state[name] for name in MEMORY]
    WxhT, WhhT = (Wxh + bh).T.copy(), Whh.T.copy()  # copies are faster than views
    WrhT = Wrh.T.copy()
    keep = None if reset is None else (inputs != reset)[:, :, None].astype(Whh.dtype)   # 0: reset
    for t in range(S):
        a = np.dot(h[t], WhhT) + np.dot(r[t], WrhT)
        if reset is not None:                       # h[t] stays as it is: y needs it
            a, c = a * keep[t], c * keep[t]
            memory_state = [keep_rows(value, keep[t]) for value in memory_state]
        a += WxhT.take(inputs[t], axis=0)           # the one-hot x_t picks a row; bh is in it
        h[t + 1], c, cell_back = lstm_cell(a, c)
        r_t, memory_state, memory_back = memory(np.dot(h[t + 1], WhxiT), *memory_state)
        r[t + 1] = r_t.reshape(B, R * W)
        steps.append((cell_back, memory_back))

    y = np.dot(Why, h[1:].reshape(S * B, H).T) + np.dot(Wry, r[1:].reshape(S * B, R * W).T) + by
    after = {"h": h[S].copy(), "c": c, "r": r_t, **dict(zip(MEMORY, memory_state))}
    return y.reshape(M, S, B), after, (inputs, h, r, keep, steps)


def backward(params, cache, dlogits, dstate):
    """Back-propagation through time: the lines of forward in reverse order, each differentiated.

    dh is the gradient of the loss with respect to h, and so on. dlogits: (M, S, B); dstate: those
    of the state after the last step. Returns those of the parameters and of the incoming state.
    """
    Whh, Wrh, Why, Wry = (params[name] for name in ("Whh", "Wrh", "Why", "Wry"))
    inputs, h, r, keep, steps = cache
    (M, S, B), H, (R, W) = dlogits.shape, Whh.shape[1], dstate["r"].shape[1:]
    shapes = interface_shapes(H, W, R)
    Whxi = np.concatenate([params[name] for name in shapes])

    dy = dlogits.reshape(M, S * B)
    dh = np.dot(dy.T, Why).reshape(S, B, H)     # through y_t; the loop adds the rest
    dr = np.dot(dy.T, Wry).reshape(S, B, R, W)
    da = np.empty((S, B, 4 * H), Whh.dtype)     # a_t: the argument of the gates
    dxi = np.empty((S, B, len(Whxi)), Whh.dtype)
    dh_next, dc, dr_next = dstate["h"], dstate["c"], dstate["r"]
    dmemory = [dstate[name] for name in MEMORY]
    for t in reversed(range(S)):
        cell_back, memory_back = steps[t]
        dxi[t], dmemory = memory_back(dr[t] + dr_next, *dmemory)
        da[t], dc = cell_back(dh[t] + dh_next + np.dot(dxi[t], Whxi), dc)
        da_t = da[t]
        if keep is not None:
            da_t, dc = da_t * keep[t], dc * keep[t]
            dmemory = [keep_rows(value, keep[t]) for value in dmemory]
        dh_next, dr_next = np.dot(da_t, Whh), np.dot(da_t, Wrh).reshape(B, R, W)
    before = {"h": dh_next, "c": dc, "r": dr_next, **dict(zip(MEMORY, dmemory))}

    da_kept = (da if keep is None else da * keep).reshape(S * B, -1)
    dxi = dxi.reshape(S * B, len(Whxi))
    h_, h, r_, r = (x.reshape(S * B, -1) for x in (h[:S], h[1:], r[:S], r[1:]))
    ends = np.cumsum([shape[0] for shape in shapes.values()])[:-1]
    dWxh = one_hot_product(da.reshape(S * B, -1), inputs, M)
    return {"Wxh": dWxh,
            "Whh": np.dot(da_kept.T, h_),
            "Wrh": np.dot(da_kept.T, r_),
            "Why": np.dot(dy, h),
            "Wry": np.dot(dy, r),
            **dict(zip(shapes, np.split(np.dot(dxi.T, h), ends))),
            "bh": dWxh.sum(axis=1, keepdims=True),      # each row of da is in one column of it
            "by": dy.sum(axis=1, keepdims=True)}, before


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
