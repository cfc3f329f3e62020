"""Solutions of the exercises, for those who have tried.

    python exercises/solutions.py gru solved-gru.py     writes one as a script; then, say,
    diff rnn-numpy.py solved-gru.py                     shows what it changes

A solution is the script to start from, how its docstring begins, and changes in the manner of diff:
lines with - go, lines with + come, the others only show where. Lines with # are remarks on the
change below them.
"""
import argparse
import os

from check import ROOT, Failure, Parser, leave, run

SOLUTIONS = {}

SOLUTIONS["cell"] = "lstm-numpy.py", '''\
A long short-term memory (LSTM) with the usual cell that learns to write, in pure NumPy.

    i, o, f = sigmoid(Wxh x_t + Whh h_{t-1} + bh)    c_t = g i + f c_{t-1}    y_t = Why h_t + by
    g       = tanh   (Wxh x_t + Whh h_{t-1} + bh)    h_t = o tanh(c_t)        p_t = softmax(y_t)
''', '''
-MODEL = "lstm"
+MODEL = "usual-lstm"

-    """c = tanh(g i + f c_),  h = o c,  with i, o, f = sigmoid(a), g = tanh(a): krocki/dnc's cell.
-
-    The usual cell (Hochreiter and Schmidhuber 1997; Gers et al. 2000) stores c = g i + f c_ and
-    shows h = o tanh(c). Here the tanh stands in the cell's way: going back one step multiplies its
-    gradient by f (1 - c^2), not by f alone. a: (B, 4 H); c_: (B, H), c of step t - 1. Returns h, c
-    and back, which turns the gradients of h and c into those of a and c_.
+    """c = g i + f c_,  h = o tanh(c),  with i, o, f = sigmoid(a), g = tanh(a): the usual cell.
+
+    Hochreiter and Schmidhuber 1997; Gers et al. 2000. a: (B, 4 H); c_: (B, H), c of step t - 1.
+    Returns h, c and back, which turns the gradients of h and c into those of a and c_.

# krocki/dnc's cell hands tanh(c) on to the next step, the usual one c itself. In back the only
# change but for names is where dc comes in: past tanh. The other factor of o is tanh(c) in both.
-    c = np.tanh(g * i + f * c_)
+    c = g * i + f * c_
+    shown = np.tanh(c)

-        ds = (dc + dh * o) * (1 - c ** 2)           # h = o c, c = tanh(s), s = g i + f c_
-        da = [ds * g * i * (1 - i),                 # sigmoid' = sigmoid (1 - sigmoid)
-              dh * c * o * (1 - o),
-              ds * c_ * f * (1 - f),
-              ds * i * (1 - g ** 2)]                # tanh' = 1 - tanh^2
-        return np.concatenate(da, axis=1), ds * f
-    return o * c, c, back
+        dc = dc + dh * o * (1 - shown ** 2)         # h = o tanh(c), c = g i + f c_
+        da = [dc * g * i * (1 - i),                 # sigmoid' = sigmoid (1 - sigmoid)
+              dh * shown * o * (1 - o),
+              dc * c_ * f * (1 - f),
+              dc * i * (1 - g ** 2)]                # tanh' = 1 - tanh^2
+        return np.concatenate(da, axis=1), dc * f
+    return o * shown, c, back
'''

SOLUTIONS["gru"] = "rnn-numpy.py", '''\
A gated recurrent unit (GRU, Cho et al. 2014) that learns to write, in pure NumPy.

    r, z = sigmoid(Wxh x_t + bh + Whh h_{t-1})        h_t = (1 - z) n + z h_{t-1}
    n    = tanh(Wxh x_t + bh + r (Whh h_{t-1}))       y_t = Why h_t + by
''', '''
-MODEL = "rnn"
+MODEL = "gru"

-    """Names and shapes of the parameters; biases are columns, as in the equations."""
+    """Names and shapes of the parameters; biases are columns, the gates' rows are r, z, n."""

-    return {"Wxh": (H, V),      # character to hidden
-            "Whh": (H, H),      # hidden to hidden, one step later
+    return {"Wxh": (3 * H, V),  # character to gates
+            "Whh": (3 * H, H),  # hidden to gates, one step later

-            "bh": (H, 1),
+            "bh": (3 * H, 1),

# The gradient of n comes to u through r, to a without it: the first two results of back differ
# there. Two ways lead to h_: straight through z, which is the third result, and through u = Whh h_.
+def sigmoid(z):
+    """1 / (1 + e^-z), in a form that cannot overflow."""
+    return 0.5 + 0.5 * np.tanh(0.5 * z)
+
+
+def gru_cell(a, u, h_):
+    """r, z = sigmoid(a + u),  n = tanh(a + r u),  h = (1 - z) n + z h_.
+
+    a = Wxh x + bh and u = Whh h_, (B, 3 H), a third for each of r, z, n; h_: (B, H). Returns h and
+    back, which turns the gradient of h into those of a, u and h_ (without what comes through u).
+    """
+    (a_r, a_z, a_n), (u_r, u_z, u_n) = np.split(a, 3, axis=1), np.split(u, 3, axis=1)
+    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
+    n = np.tanh(a_n + r * u_n)
+
+    def back(dh):
+        dn = dh * (1 - z) * (1 - n ** 2)            # of a_n + r u_n; tanh' = 1 - tanh^2
+        dr = dn * u_n * r * (1 - r)                 # sigmoid' = sigmoid (1 - sigmoid)
+        dz = dh * (h_ - n) * z * (1 - z)
+        return (np.concatenate([dr, dz, dn], axis=1),
+                np.concatenate([dr, dz, dn * r], axis=1), dh * z)
+    return (1 - z) * n + z * h_, back
+
+
 def forward(params, inputs, state, reset=-1, mask=None):

-    h[-1] = state["h"]                              # for now, so h[t - 1] is right for t = 0
+    h[-1], backs = state["h"], []                   # for now, so h[t - 1] is right for t = 0

-        h[t] = np.tanh(Wx[inputs[t]] + h_[t] @ WhhT)    # one-hot x: Wxh x + bh is a row of Wx
+        h[t], back = gru_cell(Wx[inputs[t]], h_[t] @ WhhT, h_[t])   # x_t picks a row of Wx
+        backs.append(back)

-    return y.reshape(S, B, V), {"h": h[-1].copy()}, (inputs, fresh, h, h_, mask, mh)
+    return y.reshape(S, B, V), {"h": h[-1].copy()}, (inputs, fresh, h_, backs, mask, mh)

-    (inputs, fresh, h, h_, mask, mh), (S, B, V) = cache, dy.shape
+    (inputs, fresh, h_, backs, mask, mh), (S, B, V) = cache, dy.shape

-    da, dh_next = np.empty_like(dh), dstate["h"]            # dh_next: through step t + 1
+    (da, du), dh_next = np.empty((2, S, B, len(Whh)), Whh.dtype), dstate["h"]

-        da[t] = (dh[t] + dh_next) * (1 - h[t] ** 2)     # h = tanh(a), and tanh' = 1 - tanh^2
-        dh_next = restart(da[t] @ Whh, fresh[t])        # a = Wxh x + Whh h_ + bh
+        da[t], du[t], dh_ = backs[t](dh[t] + dh_next)   # h = gru_cell(a, u, h_)
+        dh_next = restart(dh_ + du[t] @ Whh, fresh[t])  # u = Whh h_

-    return {"Wxh": dWxh, "Whh": rows(da).T @ rows(h_),  # da_t h_{t-1}^T, dy_t (m_t h_t)^T, ...
+    return {"Wxh": dWxh, "Whh": rows(du).T @ rows(h_),  # du_t h_{t-1}^T, dy_t (m_t h_t)^T, ...
'''

SOLUTIONS["norm"] = "rnn-numpy.py", '''\
A recurrent neural network (RNN) with layer normalization (Ba et al. 2016), in pure NumPy.

    a_t = Wxh x_t + Whh h_{t-1}        h_t = tanh(gain (a_t - mean) / sqrt(var + 1e-5) + bh)
                                       y_t = Why h_t + by
''', '''
-MODEL = "rnn"
+MODEL = "norm-rnn"

-    """Names and shapes of the parameters; biases are columns, as in the equations."""
+    """Names and shapes of the parameters; biases and gain are columns, as in the equations."""

+            "gain": (H, 1),
             "bh": (H, 1),

-    """Initial parameters: random weights, biases 0."""
-    return random_weights(rng, param_shapes(V, args.hidden), args.init)
+    """Initial parameters: random weights, biases 0, gain 1."""
+    params = random_weights(rng, param_shapes(V, args.hidden), args.init)
+    params["gain"][:] = 1
+    return params

# If all of a grows by the same amount, or is scaled, n stays the same. So back takes out of the
# gradient what would only scale a (the part along n) or shift it (its mean).
+def normalize(a):
+    """n = (a - mean) / sqrt(var + 1e-5), over the H numbers of a stream. a, n: (B, H)."""
+    n = a - a.mean(axis=1, keepdims=True)
+    deviation = np.sqrt((n * n).mean(axis=1, keepdims=True) + 1e-5)
+    n = n / deviation
+
+    def back(dn):
+        dn = dn - n * (n * dn).mean(axis=1, keepdims=True)          # through the deviation
+        return (dn - dn.mean(axis=1, keepdims=True)) / deviation    # through the mean
+    return n, back
+
+
 def forward(params, inputs, state, reset=-1, mask=None):

-    Wxh, Whh, Why, bh, by = params.values()
-    (S, B), (V, H) = inputs.shape, Why.shape
+    Wxh, Whh, Why, gain, bh, by = params.values()
+    (S, B), (V, H) = inputs.shape, Why.shape

-    h[-1] = state["h"]                              # for now, so h[t - 1] is right for t = 0
-    Wx, WhhT = (Wxh + bh).T.copy(), Whh.T.copy()    # copies are 3 to 8 % faster than views
+    h[-1] = state["h"]                              # for now, so h[t - 1] is right for t = 0
+    n, backs = np.empty((S, B, H), Whh.dtype), []
+    Wx, WhhT = Wxh.T.copy(), Whh.T.copy()           # copies are 3 to 8 % faster than views

-        h[t] = np.tanh(Wx[inputs[t]] + h_[t] @ WhhT)    # one-hot x: Wxh x + bh is a row of Wx
+        n[t], back = normalize(Wx[inputs[t]] + h_[t] @ WhhT)    # x_t picks a row of Wx
+        h[t] = np.tanh(gain.T * n[t] + bh.T)
+        backs.append(back)

-    return y.reshape(S, B, V), {"h": h[-1].copy()}, (inputs, fresh, h, h_, mask, mh)
+    return y.reshape(S, B, V), {"h": h[-1].copy()}, (inputs, fresh, h, h_, n, backs, mask, mh)

-    Whh, Why = params["Whh"], params["Why"]
-    (inputs, fresh, h, h_, mask, mh), (S, B, V) = cache, dy.shape
+    Whh, Why, gain = params["Whh"], params["Why"], params["gain"]
+    (inputs, fresh, h, h_, n, backs, mask, mh), (S, B, V) = cache, dy.shape

-    da, dh_next = np.empty_like(dh), dstate["h"]            # dh_next: through step t + 1
+    dz, da, dh_next = np.empty_like(dh), np.empty_like(dh), dstate["h"]

-        da[t] = (dh[t] + dh_next) * (1 - h[t] ** 2)     # h = tanh(a), and tanh' = 1 - tanh^2
-        dh_next = restart(da[t] @ Whh, fresh[t])        # a = Wxh x + Whh h_ + bh
+        dz[t] = (dh[t] + dh_next) * (1 - h[t] ** 2)     # h = tanh(z), and tanh' = 1 - tanh^2
+        da[t] = backs[t](gain.T * dz[t])                # z = gain n + bh, n = normalize(a)
+        dh_next = restart(da[t] @ Whh, fresh[t])        # a = Wxh x + Whh h_

-            "bh": dWxh.sum(axis=1, keepdims=True),      # the sum of da_t, as x_t adds up to 1
+            "gain": (rows(dz) * rows(n)).sum(axis=0)[:, None],
+            "bh": rows(dz).sum(axis=0)[:, None],
'''

SOLUTIONS["rmsprop"] = "rnn-numpy.py", "", '''
-    """Adagrad (Duchi et al. 2011): p and mem, the sum of squared gradients, after a step."""
-    mem = mem + d * d
+    """RMSProp (Hinton 2012) under the old name: p and mem, a running mean of d^2, after a step."""
+    mem = 0.9 * mem + 0.1 * d * d
'''

SOLUTIONS["dropout"] = "rnn-numpy.py", '''\
A recurrent neural network (RNN) with one dropout mask for all steps, in pure NumPy.

    h_t = tanh(Wxh x_t + Whh (m h_{t-1}) + bh)        y_t = Why (m h_t) + by

(Gal and Ghahramani 2016.)
''', '''
-MODEL = "rnn"
+MODEL = "dropout-rnn"

-    before which a stream's state becomes 0, or -1. mask: dropout's, (S, B, H), or None.
+    before which a stream's state becomes 0, or -1. mask: dropout's, (B, H), or None.

-        h[t] = np.tanh(Wx[inputs[t]] + h_[t] @ WhhT)    # one-hot x: Wxh x + bh is a row of Wx
+        h[t] = np.tanh(Wx[inputs[t]] + drop(mask, h_[t]) @ WhhT)    # Wxh x + bh is a row of Wx

# What the mask multiplied, m h_{t-1}, gives the gradient of Whh, and what comes back through it is
# multiplied by the mask once more.
-        dh_next = restart(da[t] @ Whh, fresh[t])        # a = Wxh x + Whh h_ + bh
+        dh_next = restart(drop(mask, da[t] @ Whh), fresh[t])    # a = Wxh x + Whh (m h_) + bh

-    return {"Wxh": dWxh, "Whh": rows(da).T @ rows(h_),  # da_t h_{t-1}^T, dy_t (m_t h_t)^T, ...
+    return {"Wxh": dWxh, "Whh": rows(da).T @ rows(drop(mask, h_)),      # da_t (m h_{t-1})^T, ...

-    """Dropout (Srivastava et al. 2014) on what the output reads, (S, B, H): 0 with probability P,
+    """Dropout (Gal and Ghahramani 2016), one mask for all steps, (B, H): 0 with probability P,

-    shape = args.seqlength, args.batchsize, args.hidden
+    shape = args.batchsize, args.hidden

-    kept = np.frombuffer(numbers, np.uint8).reshape(shape)[:, share(args.batchsize)] >= dropped
+    kept = np.frombuffer(numbers, np.uint8).reshape(shape)[share(args.batchsize)] >= dropped
'''

SOLUTIONS["deallocation"] = "dnc-numpy.py", '''\
A Differentiable Neural Computer (DNC) that wipes what it frees, in pure NumPy.

    M = (M_ psi 1^T) (1 - ww e^T) + ww v^T, with psi = prod_r (1 - f_r wr_r_), as in usage

(Csordas and Schmidhuber 2019). All else is as dnc-numpy.py explains it.
''', '''
-MODEL = "dnc"
+MODEL = "wiping-dnc"

+    Returns u, psi and back, which takes the gradients of both.
     f: (B, R); wr_: (B, R, N); u, u_, ww_: (B, N).

# psi has two uses, in u and in wipe, so two gradients add up.
-    def back(du):
-        dused, dpsi = du * psi, du * used
+    def back(du, dpsi):
+        dused, dpsi = du * psi, dpsi + du * used

-    return used * psi, back
+    return used * psi, psi, back

+def wipe(M_, psi):
+    """What is freed is wiped: M_ psi 1^T. M_: (B, N, W); psi: (B, N)."""
+    def back(dM):
+        return dM * psi[:, :, None], (dM * M_).sum(axis=2)      # dM_, dpsi
+    return M_ * psi[:, :, None], back
+
+
 def write(M_, ww, e, v):

-    u, usage_back = usage(f, wr_, u_, ww_)
+    u, psi, usage_back = usage(f, wr_, u_, ww_)

-    M, write_back = write(M_, ww, e, v)
+    wiped, wipe_back = wipe(M_, psi)
+    M, write_back = write(wiped, ww, e, v)

-        dM_, dww_from_M, de, dv = write_back(dM + dM_from_r + dM_from_cr)
+        dwiped, dww_from_M, de, dv = write_back(dM + dM_from_r + dM_from_cr)
+        dM_, dpsi = wipe_back(dwiped)

-        df, dwr_from_u, du_, dww_ = usage_back(du + allocation_back(da))
+        df, dwr_from_u, du_, dww_ = usage_back(du + allocation_back(da), dpsi)
'''

SOLUTIONS["masks"] = "dnc-numpy.py", '''\
A Differentiable Neural Computer (DNC) that masks what its keys compare, in pure NumPy.

    content     c[i] = softmax over i of beta cos(m k, m M[i])      key k, strength beta, mask m

(Csordas and Schmidhuber 2019). All else is as dnc-numpy.py explains it.
''', '''
-MODEL = "dnc"
+MODEL = "masking-dnc"

-            "Whp": (3 * R, H)}  # read modes: backward, content, forward for each head
+            "Whp": (3 * R, H),  # read modes: backward, content, forward for each head
+            "Whmr": (R * W, H), # masks of the read keys
+            "Whmw": (W, H)}     # mask of the write key

-    (B, 1), read strengths br (B, R), write strength bw (B, 1), read modes pi (B, R, 3), and back.
-    """
-    lengths = [R * W, W, W, W, R, 1, 1, R, 1, 3 * R]
-    ends = list(itertools.accumulate(lengths))
-    kr, kw, v, e, f, ga, gw, br, bw, pi = np.split(xi, ends[:-1], axis=1)
-    kr, kw = kr.reshape(-1, R, W), kw.reshape(-1, 1, W)
+    (B, 1), read strengths br (B, R), write strength bw (B, 1), read modes pi (B, R, 3), masks of
+    the keys mr (B, R, W) and mw (B, 1, W), and back.
+    """
+    lengths = [R * W, W, W, W, R, 1, 1, R, 1, 3 * R, R * W, W]
+    ends = list(itertools.accumulate(lengths))
+    kr, kw, v, e, f, ga, gw, br, bw, pi, mr, mw = np.split(xi, ends[:-1], axis=1)
+    kr, kw = kr.reshape(-1, R, W), kw.reshape(-1, 1, W)
+    mr, mw = sigmoid(mr).reshape(-1, R, W), sigmoid(mw).reshape(-1, 1, W)

-    def back(dkr, dkw, dv, de, df, dga, dgw, dbr, dbw, dpi):
+    def back(dkr, dkw, dv, de, df, dga, dgw, dbr, dbw, dpi, dmr, dmw):

-                 br_back(dbr), bw_back(dbw), pi_back(dpi)]
+                 br_back(dbr), bw_back(dbw), pi_back(dpi),
+                 dmr * mr * (1 - mr), dmw * mw * (1 - mw)]

-    return kr, kw, v, e, f, ga, gw, br, bw, pi, back
+    return kr, kw, v, e, f, ga, gw, br, bw, pi, mr, mw, back

# The mask stands in all three products of the cosine, always squared: with q = m^2 they are
# sum_w q k M[i], sum_w q k^2 and sum_w q M[i]^2. So each factor has three gradients, and that of m
# is 2 m dq. The length of a row depends on the head now.
-def content(M, k, beta):
+def content(M, k, beta, m):

-    M: (B, N, W); k: (B, K, W), keys of K heads; beta: (B, K); c: (B, K, N). |k|^2 = k . k + EPS.
+    k and M[i] stand for m k and m M[i]. M: (B, N, W); k, m: (B, K, W), keys of K heads and their
+    masks; beta: (B, K); c: (B, K, N). |k|^2 = k . k + EPS.

-    beta = beta[:, :, None]
-    k_norm = np.sqrt(dot(k, k) + EPS)                       # |k|, (B, K, 1)
-    M_norm = np.sqrt(dot(M, M) + EPS)                       # |M[i]|, (B, N, 1)
-    norms = k_norm * M_norm.swapaxes(1, 2)
-    cos = k @ M.swapaxes(1, 2) / norms
+    beta, q, MT = beta[:, :, None], m ** 2, M.swapaxes(1, 2)
+    k_norm = np.sqrt(dot(q * k, k) + EPS)                   # |m k|, (B, K, 1)
+    M_norm = np.sqrt(q @ MT ** 2 + EPS)                     # |m M[i]|, (B, K, N)
+    norms = k_norm * M_norm
+    cos = (q * k) @ MT / norms

-        dkM = dcos / norms      # d cos / d M[i] = k / norms - cos M[i] / |M[i]|^2, and so for k
-        through_M = np.einsum("bki,bki->bi", dcos, cos)[:, :, None] / M_norm ** 2
-        dM = dkM.swapaxes(1, 2) @ k - through_M * M
-        dk = dkM @ M - dot(dcos, cos) / k_norm ** 2 * k
-        return dM, dk, dot(dz, cos)[:, :, 0]                # dM, dk, dbeta
+        dkM = dcos / norms                                  # of m k . m M[i]
+        dkk = -dot(dcos, cos) / k_norm ** 2 / 2             # of |m k|^2
+        dMM = -dcos * cos / M_norm ** 2 / 2                 # of |m M[i]|^2
+        dM = dkM.swapaxes(1, 2) @ (q * k) + 2 * M * (dMM.swapaxes(1, 2) @ q)
+        dk = q * (dkM @ M) + 2 * dkk * q * k
+        dq = k * (dkM @ M) + dkk * k ** 2 + dMM @ M ** 2
+        return dM, dk, dot(dz, cos)[:, :, 0], 2 * m * dq    # dM, dk, dbeta, dm

-    kr, kw, v, e, f, ga, gw, br, bw, pi, interface_back = interface(
+    kr, kw, v, e, f, ga, gw, br, bw, pi, mr, mw, interface_back = interface(

-    cw, write_content_back = content(M_, kw, bw)
+    cw, write_content_back = content(M_, kw, bw, mw)

-    cr, read_content_back = content(M, kr, br)
+    cr, read_content_back = content(M, kr, br, mr)

-        dM_from_cr, dkr, dbr = read_content_back(dcr)
+        dM_from_cr, dkr, dbr, dmr = read_content_back(dcr)

-        dM_from_cw, dkw, dbw = write_content_back(dcw[:, None])
+        dM_from_cw, dkw, dbw, dmw = write_content_back(dcw[:, None])

-        dxi = interface_back(dkr, dkw, dv, de, df, dga, dgw, dbr, dbw, dpi)
+        dxi = interface_back(dkr, dkw, dv, de, df, dga, dgw, dbr, dbw, dpi, dmr, dmw)
'''


def apply(source, docstring, changes, script):
    """The source of the script with another docstring, if one is given, and the changes."""
    if docstring:                           # what explains the code in general stays
        head, shipped, tail = source.split('"""', 2)
        general = "".join(shipped.partition("\nThe model comes first")[1:])
        source = f'{head}"""{docstring}{general}"""{tail}'
    for change in changes.strip("\n").split("\n\n"):
        old, new = ("".join(line[1:] + "\n" for line in change.split("\n") if line[0] in kinds)
                    for kinds in ("- ", "+ "))
        if source.count("\n" + old) != 1:
            raise Failure(f"this solution is for another version of {script}, which has: {old}")
        source = source.replace("\n" + old, "\n" + new)
    return source


def solved(name):
    """The source of a script that solves the exercise."""
    script, docstring, changes = SOLUTIONS[name]
    with open(os.path.join(ROOT, script), encoding="utf-8") as file:
        return apply(file.read(), docstring, changes, script)


def write(path, source):
    """Write a new file, whole or not at all."""
    try:
        file = open(path, "x", encoding="utf-8", newline="\n")
    except FileExistsError:
        raise Failure(f"{path} exists: give another name")
    with file:
        try:
            file.write(source)
            file.flush()
        except BaseException as e:
            e.filename = path                           # for the message
            os.remove(path)
            raise


def work(argv):
    """The command line."""
    p = Parser(prog="solutions.py", description=__doc__,
               formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("exercise", choices=SOLUTIONS)
    p.add_argument("file", help="to write; it may not exist")
    args = p.parse_args(argv)
    write(args.file, solved(args.exercise))


if __name__ == "__main__":
    leave(run("solutions.py", work))
