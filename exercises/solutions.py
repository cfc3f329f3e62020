"""Solutions of the exercises, for those who have tried.

    python exercises/solutions.py gru solved-gru.py     writes one as a script; then, say,
    diff rnn-numpy.py solved-gru.py                     shows what it changes

A solution is the script to start from, how its docstring begins, and changes in the manner of diff:
lines with - go, lines with + come, the others only show where. Lines with # are remarks on the
change below them.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOLUTIONS = {}

SOLUTIONS["cell"] = "lstm-numpy.py", '''\
A long short-term memory (LSTM) with the usual cell that learns to write, in pure NumPy.

    i, o, f = sigmoid(Wxh x_t + Whh h_{t-1} + bh)    c_t = g i + f c_{t-1}    y_t = Why h_t + by
    g       = tanh   (Wxh x_t + Whh h_{t-1} + bh)    h_t = o tanh(c_t)        p_t = softmax(y_t)
''', '''
-MODEL = "lstm"
+MODEL = "usual-lstm"

-    """c = tanh(g i + f c_),  h = o c,  with i, o, f = sigmoid(a), g = tanh(a): the article's cell.
-
-    It differs from the usual one (Hochreiter and Schmidhuber 1997; Gers et al. 2000), which stores
-    c = g i + f c_ and shows h = o tanh(c). a: (B, 4 H), c_: (B, H), c of step t - 1. Returns h, c
-    and back, which turns the gradients of h and c into those of a and c_.
+    """The usual cell (Hochreiter and Schmidhuber 1997; Gers et al. 2000): s, and c = tanh(s).
+
+    s = g i + f s_,  h = o tanh(s),  with i, o, f = sigmoid(a), g = tanh(a). a: (B, 4 H);
+    c_: (B, H), s of step t - 1. Returns h, s and back, which turns gradients of h and s into those
+    of a and s_.

# The article's cell hands tanh(s) on to the next step, the usual one s itself. In back, the only
# change is where dc comes in: past tanh. The other factor of o is tanh(s) in both.
-    c = np.tanh(g * i + f * c_)
+    s = g * i + f * c_
+    c = np.tanh(s)

-        ds = (dh * o + dc) * (1 - c * c)            # c = tanh(s), and tanh' = 1 - tanh^2
+        ds = dh * o * (1 - c * c) + dc              # c = tanh(s), and tanh' = 1 - tanh^2

-    return o * c, c, back
+    return o * c, s, back
'''

SOLUTIONS["gru"] = "rnn-numpy.py", '''\
A gated recurrent unit (GRU, Cho et al. 2014) that learns to write, in pure NumPy.

    r, z = sigmoid(Wxh x_t + bh + Whh h_{t-1})        h_t = (1 - z) n + z h_{t-1}
    n    = tanh(Wxh x_t + bh + r (Whh h_{t-1}))       y_t = Why h_t + by
''', '''
-MODEL = "rnn"
+MODEL = "gru"

-    """Names and shapes of the parameters; biases are columns."""
+    """Names and shapes of the parameters; biases are columns, the gates' rows are r, z, n."""

-    return {"Wxh": (H, M),      # character to hidden
-            "Whh": (H, H),      # hidden to hidden, one step later
+    return {"Wxh": (3 * H, M),  # character to gates
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
+    back, which makes of the gradient of h those of a, u and h_ (without what comes through u).
+    """
+    H = h_.shape[1]
+    rz, un = sigmoid(a[:, :2 * H] + u[:, :2 * H]), u[:, 2 * H:]
+    r, z = rz[:, :H], rz[:, H:]
+    n = np.tanh(a[:, 2 * H:] + r * un)
+
+    def back(dh):
+        dn = dh * (1 - z) * (1 - n * n)             # tanh' = 1 - tanh^2
+        dr, dz = dn * un * r * (1 - r), dh * (h_ - n) * z * (1 - z)
+        return (np.concatenate([dr, dz, dn], axis=1), np.concatenate([dr, dz, dn * r], axis=1),
+                dh * z)
+    return (1 - z) * n + z * h_, back
+
+
 def forward(params, inputs, state, reset=None):

-    h[0] = state["h"]
+    h[0], steps = state["h"], []

-        a = np.dot(h[t], WhhT)
-        if reset is not None:                       # h[t] stays as it is: y needs it
-            a *= keep[t]
-        a += WxhT.take(inputs[t], axis=0)           # the one-hot x_t picks a row; bh is in it
-        np.tanh(a, out=h[t + 1])
+        h_ = h[t] if keep is None else h[t] * keep[t]       # h[t] stays as it is: y needs it
+        a = WxhT.take(inputs[t], axis=0)            # the one-hot x_t picks a row; bh is in it
+        h[t + 1], cell_back = gru_cell(a, np.dot(h_, WhhT), h_)
+        steps.append(cell_back)

-    return y.reshape(M, S, B), {"h": h[S].copy()}, (inputs, h, keep)
+    return y.reshape(M, S, B), {"h": h[S].copy()}, (inputs, h, keep, steps)

-    inputs, h, keep = cache
+    inputs, h, keep, steps = cache

-    slope = 1 - h[1:] ** 2                      # tanh' = 1 - tanh^2
-    da = np.empty_like(dh)                      # a_t: the argument of tanh
+    da, du = np.empty((2, S, B, 3 * H), Whh.dtype)

-        np.multiply(dh[t] + dh_next, slope[t], out=da[t])
-        dh_next = np.dot(da[t] if keep is None else da[t] * keep[t], Whh)
+        da[t], du[t], dh_ = steps[t](dh[t] + dh_next)
+        dh_next = dh_ + np.dot(du[t], Whh)
+        if keep is not None:
+            dh_next *= keep[t]

-    da_kept = (da if keep is None else da * keep).reshape(S * B, -1)
+    h_ = h[:S] if keep is None else h[:S] * keep

-            "Whh": np.dot(da_kept.T, h[:S].reshape(S * B, H)),
+            "Whh": np.dot(du.reshape(S * B, -1).T, h_.reshape(S * B, H)),
'''

SOLUTIONS["norm"] = "rnn-numpy.py", '''\
A recurrent neural network (RNN) with layer normalization (Ba et al. 2016), in pure NumPy.

    a_t = Wxh x_t + Whh h_{t-1}        h_t = tanh(gain (a_t - mean) / sqrt(var + 1e-5) + bh)
                                       y_t = Why h_t + by
''', '''
-MODEL = "rnn"
+MODEL = "norm-rnn"

-    """Names and shapes of the parameters; biases are columns."""
+    """Names and shapes of the parameters; biases and gain are columns."""

+            "gain": (H, 1),
             "bh": (H, 1),

-    """Initial parameters: random weights, biases 0."""
-    return random_weights(rng, param_shapes(M, *sizes), init)
+    """Initial parameters: random weights, biases 0, gain 1."""
+    params = random_weights(rng, param_shapes(M, *sizes), init)
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
 def forward(params, inputs, state, reset=None):

-    Wxh, Whh, Why, bh, by = (params[name] for name in ("Wxh", "Whh", "Why", "bh", "by"))
+    Wxh, Whh, Why, gain, bh, by = (
+        params[name] for name in ("Wxh", "Whh", "Why", "gain", "bh", "by"))

-    h[0] = state["h"]
-    WxhT, WhhT = (Wxh + bh).T.copy(), Whh.T.copy()  # copies are faster than views
+    h[0], n, steps = state["h"], np.empty((S, B, H), Whh.dtype), []
+    WxhT, WhhT = Wxh.T.copy(), Whh.T.copy()         # copies are faster than views

-        a += WxhT.take(inputs[t], axis=0)           # the one-hot x_t picks a row; bh is in it
-        np.tanh(a, out=h[t + 1])
+        a += WxhT.take(inputs[t], axis=0)           # the one-hot x_t picks a row
+        n[t], normalize_back = normalize(a)
+        np.tanh(gain.T * n[t] + bh.T, out=h[t + 1])
+        steps.append(normalize_back)

-    return y.reshape(M, S, B), {"h": h[S].copy()}, (inputs, h, keep)
+    return y.reshape(M, S, B), {"h": h[S].copy()}, (inputs, h, n, keep, steps)

-    Whh, Why = params["Whh"], params["Why"]
-    inputs, h, keep = cache
+    Whh, Why, gain = params["Whh"], params["Why"], params["gain"]
+    inputs, h, n, keep, steps = cache

-    da = np.empty_like(dh)                      # a_t: the argument of tanh
+    dz, da = np.empty_like(dh), np.empty_like(dh)       # z_t: the argument of tanh

-        np.multiply(dh[t] + dh_next, slope[t], out=da[t])
+        np.multiply(dh[t] + dh_next, slope[t], out=dz[t])
+        da[t] = steps[t](dz[t] * gain.T)

+    dz, n = dz.reshape(S * B, H), n.reshape(S * B, H)
     dWxh = one_hot_product(da.reshape(S * B, -1), inputs, M)

-            "bh": dWxh.sum(axis=1, keepdims=True),      # each row of da is in one column of it
+            "gain": (dz * n).sum(axis=0)[:, None],
+            "bh": dz.sum(axis=0)[:, None],
'''

SOLUTIONS["rmsprop"] = "rnn-numpy.py", "", '''
-    """Adagrad (Duchi et al. 2011), in place; mem is the sum of squared gradients."""
-    mem += d * d
+    """RMSProp (Hinton 2012), in place and under the old name; mem: a running mean of d^2."""
+    mem *= 0.9
+    mem += 0.1 * d * d
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
-        dused, dpsi, dkept = du * psi, du * used, np.empty_like(kept)
+    def back(du, dpsi):
+        dused, dpsi, dkept = du * psi, dpsi + du * used, np.empty_like(kept)

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

-        dM_, dww4, de, dv = write_back(dM + dM2 + dM3)
+        dwiped, dww4, de, dv = write_back(dM + dM2 + dM3)
+        dM_, dpsi = wipe_back(dwiped)

-        df, dwr_2, du_, dww_ = usage_back(du + allocation_back(da))
+        df, dwr_2, du_, dww_ = usage_back(du + allocation_back(da), dpsi)
'''


class Failure(Exception):
    """What the user reads instead of a traceback, in one line."""


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


def main(argv):
    """Run the command line; returns the exit status."""
    try:
        if len(argv) != 2 or argv[0] not in SOLUTIONS:
            raise Failure(f"usage: solutions.py {'|'.join(SOLUTIONS)} FILE")
        source = solved(argv[0])
        with open(argv[1], "x", encoding="utf-8", newline="\n") as file:
            file.write(source)
        return 0
    except FileExistsError:
        message = f"{argv[1]} exists: give another name"
    except OSError as e:
        message = f"{e.filename or argv[1]}: {e.strerror}"
    except Failure as e:
        message = str(e)
    print("solutions.py:", " ".join(message.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
