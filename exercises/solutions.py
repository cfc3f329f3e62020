"""Solutions of the exercises, for those who have tried.

    python exercises/solutions.py gru solved-gru.py     writes one as a script; then, say,
    diff rnn-numpy.py solved-gru.py                     shows what it changes

A solution is what stands at the top level of a script, functions and names: each takes the place of
what has its name in the shipped script, and what is new goes before it.
"""
import ast
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPTS = {"cell": "lstm-numpy.py", "gru": "rnn-numpy.py", "norm": "rnn-numpy.py",
           "rmsprop": "rnn-numpy.py", "deallocation": "dnc-numpy.py"}
NEW = "sigmoid", "gru_cell", "normalize", "wipe"            # what the shipped scripts do not have
SOLUTIONS = {}

# The usual cell is not squashed itself: what comes to c_t from behind stays as it is, and tanh'
# moves to the way from h_t to c_t. The slopes of the gates are as they were, but that of o.
SOLUTIONS["cell"] = '''
"""A long short-term memory (LSTM) with the usual cell, in pure NumPy.

    i, o, f = sigmoid(Wxh x_t + Whh h_{t-1} + bh)    c_t = g i + f c_{t-1}    y_t = Why h_t + by
    g       = tanh   (Wxh x_t + Whh h_{t-1} + bh)    h_t = o tanh(c_t)        p_t = softmax(y_t)

All else is as lstm-numpy.py explains it.
"""

MODEL = "usual-lstm"

def lstm_cell(a, c_):
    """c = g i + f c_,  h = o tanh(c); arguments and results as in lstm-numpy.py."""
    H = c_.shape[1]
    iof, g = sigmoid(a[:, :3 * H]), np.tanh(a[:, 3 * H:])
    i, o, f = iof[:, :H], iof[:, H:2 * H], iof[:, 2 * H:]
    c = g * i + f * c_
    shown = np.tanh(c)

    def back(dh, dc):
        dc = dc + dh * o * (1 - shown * shown)          # tanh' = 1 - tanh^2
        diof, dg = np.concatenate([dc * g, dh * shown, dc * c_], axis=1), dc * i
        diof *= iof * (1 - iof)                         # sigmoid' = sigmoid (1 - sigmoid)
        return np.concatenate([diof, dg * (1 - g * g)], axis=1), dc * f
    return o * shown, c, back
'''

# Two ways lead back to h_{t-1}: through Whh, and straight through z. The u of n gets its gradient
# through r, the a of n does not, so both have gradients of their own.
SOLUTIONS["gru"] = '''
"""A gated recurrent unit (GRU, Cho et al. 2014) in pure NumPy.

    r, z = sigmoid(Wxh x_t + bh + Whh h_{t-1})        h_t = (1 - z) n + z h_{t-1}
    n    = tanh(Wxh x_t + bh + r (Whh h_{t-1}))       y_t = Why h_t + by

All else is as rnn-numpy.py explains it.
"""

MODEL = "gru"

def param_shapes(M, hidden):
    """Names and shapes of the parameters; biases are columns, the rows are those of r, z, n."""
    H = hidden
    return {"Wxh": (3 * H, M),  # character to gates
            "Whh": (3 * H, H),  # hidden to gates, one step later
            "Why": (M, H),      # hidden to output
            "bh": (3 * H, 1),
            "by": (M, 1)}

def sigmoid(z):
    """1 / (1 + e^-z), in a form that cannot overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * z)

def gru_cell(a, u, h_):
    """r, z = sigmoid(a + u),  n = tanh(a + r u),  h = (1 - z) n + z h_.

    a = Wxh x + bh and u = Whh h_, (B, 3 H), a third for each of r, z, n; h_: (B, H). Returns h and
    back, which makes of the gradient of h those of a, u and h_ (without what comes through u).
    """
    H = h_.shape[1]
    rz, un = sigmoid(a[:, :2 * H] + u[:, :2 * H]), u[:, 2 * H:]
    r, z = rz[:, :H], rz[:, H:]
    n = np.tanh(a[:, 2 * H:] + r * un)

    def back(dh):
        dn = dh * (1 - z) * (1 - n * n)                 # tanh' = 1 - tanh^2
        dr, dz = dn * un * r * (1 - r), dh * (h_ - n) * z * (1 - z)
        return (np.concatenate([dr, dz, dn], axis=1), np.concatenate([dr, dz, dn * r], axis=1),
                dh * z)
    return (1 - z) * n + z * h_, back

def forward(params, inputs, state, reset=None):
    """Run S steps of B streams; arguments and results as in rnn-numpy.py."""
    Wxh, Whh, Why, bh, by = (params[name] for name in ("Wxh", "Whh", "Why", "bh", "by"))
    (S, B), (M, H) = inputs.shape, Why.shape

    x = np.take((Wxh + bh).T.copy(), inputs, axis=0)    # Wxh x_t + bh: x_t picks a column
    h, h_ = np.empty((S + 1, B, H), Whh.dtype), np.empty((S, B, H), Whh.dtype)
    h[0], WhhT, steps = state["h"], Whh.T.copy(), []
    keep = (inputs != (-1 if reset is None else reset))[:, :, None].astype(Whh.dtype)   # 0: reset
    for t in range(S):
        np.multiply(h[t], keep[t], out=h_[t])
        h[t + 1], cell_back = gru_cell(x[t], np.dot(h_[t], WhhT), h_[t])
        steps.append(cell_back)

    y = np.dot(Why, h[1:].reshape(S * B, H).T) + by
    return y.reshape(M, S, B), {"h": h[S].copy()}, (inputs, h, h_, keep, steps)

def backward(params, cache, dlogits, dstate):
    """The lines of forward in reverse order; arguments and results as in rnn-numpy.py."""
    Whh, Why = params["Whh"], params["Why"]
    inputs, h, h_, keep, steps = cache
    (M, S, B), H = dlogits.shape, Why.shape[1]

    dy = dlogits.reshape(M, S * B)
    dh = np.dot(dy.T, Why).reshape(S, B, H)     # through y_t; in the loop through h_{t+1}, too
    da, du = np.empty((2, S, B, 3 * H), Whh.dtype)
    dh_next = dstate["h"]
    for t in reversed(range(S)):
        da[t], du[t], dh_ = steps[t](dh[t] + dh_next)
        dh_next = (dh_ + np.dot(du[t], Whh)) * keep[t]

    da, du = da.reshape(S * B, 3 * H), du.reshape(S * B, 3 * H)
    return {"Wxh": one_hot_product(da, inputs, M),
            "Whh": np.dot(du.T, h_.reshape(S * B, H)),
            "Why": np.dot(dy, h[1:].reshape(S * B, H)),
            "bh": da.sum(axis=0)[:, None],
            "by": dy.sum(axis=1, keepdims=True)}, {"h": dh_next}
'''

# normalize is a mechanism of its own. Its back: mean and deviation depend on all of a_t, so what
# would change the mean of n, or its length, is taken out of the gradient.
SOLUTIONS["norm"] = '''
"""A recurrent neural network (RNN) with layer normalisation (Ba et al. 2016), in pure NumPy.

    a_t = Wxh x_t + Whh h_{t-1}        h_t = tanh(gain (a_t - mean) / sqrt(var + 1e-5) + bh)
                                       y_t = Why h_t + by

All else is as rnn-numpy.py explains it.
"""

MODEL = "norm-rnn"

def param_shapes(M, hidden):
    """Names and shapes of the parameters; biases and gain are columns."""
    H = hidden
    return {"Wxh": (H, M),      # character to hidden
            "Whh": (H, H),      # hidden to hidden, one step later
            "Why": (M, H),      # hidden to output
            "gain": (H, 1),
            "bh": (H, 1),
            "by": (M, 1)}

def init_params(rng, M, init, hidden):
    """Initial parameters: random weights (see random_weights), biases 0, gain 1."""
    params = random_weights(rng, param_shapes(M, hidden), init)
    params["gain"][:] = 1
    return params

def normalize(a):
    """n = (a - mean) / sqrt(var + 1e-5), over the H numbers of a stream. a, n: (B, H)."""
    n = a - a.mean(axis=1, keepdims=True)
    deviation = np.sqrt((n * n).mean(axis=1, keepdims=True) + 1e-5)
    n /= deviation

    def back(dn):
        da = dn - n * (n * dn).mean(axis=1, keepdims=True)      # through the deviation
        return (da - da.mean(axis=1, keepdims=True)) / deviation
    return n, back

def forward(params, inputs, state, reset=None):
    """Run S steps of B streams; arguments and results as in rnn-numpy.py."""
    Wxh, Whh, Why, gain, bh, by = (
        params[name] for name in ("Wxh", "Whh", "Why", "gain", "bh", "by"))
    (S, B), (M, H) = inputs.shape, Why.shape

    x = np.take(Wxh.T.copy(), inputs, axis=0)           # Wxh x_t: x_t picks a column
    h, n = np.empty((S + 1, B, H), Whh.dtype), np.empty((S, B, H), Whh.dtype)
    h[0], WhhT, steps = state["h"], Whh.T.copy(), []
    keep = (inputs != (-1 if reset is None else reset))[:, :, None].astype(Whh.dtype)   # 0: reset
    for t in range(S):
        n[t], normalize_back = normalize(x[t] + np.dot(h[t], WhhT) * keep[t])
        np.tanh(gain.T * n[t] + bh.T, out=h[t + 1])
        steps.append(normalize_back)

    y = np.dot(Why, h[1:].reshape(S * B, H).T) + by
    return y.reshape(M, S, B), {"h": h[S].copy()}, (inputs, h, n, keep, steps)

def backward(params, cache, dlogits, dstate):
    """The lines of forward in reverse order; arguments and results as in rnn-numpy.py."""
    Whh, Why, gain = params["Whh"], params["Why"], params["gain"]
    inputs, h, n, keep, steps = cache
    (M, S, B), H = dlogits.shape, len(Whh)

    dy = dlogits.reshape(M, S * B)
    dh = np.dot(dy.T, Why).reshape(S, B, H)     # through y_t; in the loop through h_{t+1}, too
    dtanh = 1 - h[1:] ** 2                      # tanh' = 1 - tanh^2
    dz, da = np.empty_like(dh), np.empty_like(dh)       # z_t: the argument of tanh
    dh_next = dstate["h"]
    for t in reversed(range(S)):
        np.multiply(dh[t] + dh_next, dtanh[t], out=dz[t])
        da[t] = steps[t](dz[t] * gain.T)
        dh_next = np.dot(da[t] * keep[t], Whh)

    dz, da_kept, n = (x.reshape(S * B, H) for x in (dz, da * keep, n))
    return {"Wxh": one_hot_product(da.reshape(S * B, H), inputs, M),
            "Whh": np.dot(da_kept.T, h[:S].reshape(S * B, H)),
            "Why": np.dot(dy, h[1:].reshape(S * B, H)),
            "gain": (dz * n).sum(axis=0)[:, None],
            "bh": dz.sum(axis=0)[:, None],
            "by": dy.sum(axis=1, keepdims=True)}, {"h": dh_next}
'''

SOLUTIONS["rmsprop"] = '''
def adagrad(p, d, mem, lr):
    """RMSProp (Hinton 2012), in place and under the old name; mem: a running mean of d^2."""
    mem *= 0.9
    mem += 0.1 * d * d
    p -= lr * d / np.sqrt(mem + 1e-8)
'''

# wipe is a mechanism of its own, between usage, which has psi, and write. psi then has two uses, so
# usage's back gets a second gradient, and the memory before is read by wipe in place of write.
SOLUTIONS["deallocation"] = '''
"""A Differentiable Neural Computer (DNC) that wipes what it frees, in pure NumPy.

    M = (M_ psi 1^T) (1 - ww e^T) + ww v^T, with psi = prod_r (1 - f_r wr_r_), as in usage

(Csordas and Schmidhuber 2019). All else is as dnc-numpy.py explains it.
"""

MODEL = "wiping-dnc"

def usage(f, wr_, u_, ww_):
    """Usage as in dnc-numpy.py; returns u, psi and back, which takes a gradient of psi, too."""
    f = f[:, :, None]
    kept, before = 1 - f * wr_, [1]     # before[r]: the product of the factors before head r's
    for r in range(kept.shape[1]):
        before.append(before[r] * kept[:, r])
    psi = before[-1]
    used = u_ + ww_ - u_ * ww_

    def back(du, dpsi):                                 # dpsi: through wipe
        dused, dpsi, dkept = du * psi, dpsi + du * used, np.empty_like(kept)
        for r in reversed(range(kept.shape[1])):        # dpsi: gradient of before[r + 1]
            dkept[:, r] = dpsi * before[r]
            dpsi = dpsi * kept[:, r]
        return (-(dkept * wr_).sum(axis=2), -f * dkept,
                dused * (1 - ww_), dused * (1 - u_))    # df, dwr_, du_, dww_
    return used * psi, psi, back

def wipe(M_, psi):
    """What is freed is wiped: M_ psi 1^T. M_: (B, N, W); psi: (B, N)."""
    def back(dM):
        return dM * psi[:, :, None], (dM * M_).sum(axis=2)      # dM_, dpsi
    return M_ * psi[:, :, None], back

def memory(xi, M_, u_, p_, L_, wr_, ww_):
    """One step of the memory as in dnc-numpy.py, but for wipe."""
    kr, kw, v, e, f, ga, gw, pi, interface_back = interface(xi, wr_.shape[1], M_.shape[2])
    u, psi, usage_back = usage(f, wr_, u_, ww_)
    a, allocation_back = allocation(u)
    cw, write_content_back = content(M_, kw)
    ww, write_weighting_back = write_weighting(gw, ga, a, cw[:, 0])
    M_wiped, wipe_back = wipe(M_, psi)
    M, write_back = write(M_wiped, ww, e, v)
    L, link_back = link(L_, p_, ww)
    p, precedence_back = precedence(p_, ww)
    cr, read_content_back = content(M, kr)
    wr, read_weighting_back = read_weighting(pi, L, wr_, cr)
    r, read_back = read(M, wr)

    def back(dr, dM, du, dp, dL, dwr, dww):
        """The same list upwards; dM2, dM3: of the second and third use of M. Uses add up."""
        dM2, dwr2 = read_back(dr)
        dpi, dL2, dwr_, dcr = read_weighting_back(dwr + dwr2)
        dM3, dkr = read_content_back(dcr)
        dp_, dww2 = precedence_back(dp)
        dL_, dp_2, dww3 = link_back(dL + dL2)
        dM_wiped, dww4, de, dv = write_back(dM + dM2 + dM3)
        dM_, dpsi = wipe_back(dM_wiped)
        dgw, dga, da, dcw = write_weighting_back(dww + dww2 + dww3 + dww4)
        dM_2, dkw = write_content_back(dcw[:, None])
        df, dwr_2, du_, dww_ = usage_back(du + allocation_back(da), dpsi)
        dxi = interface_back(dkr, dkw, dv, de, df, dga, dgw, dpi)
        return dxi, (dM_ + dM_2, du_, dp_ + dp_2, dL_, dwr_ + dwr_2, dww_)
    return r, (M, u, p, L, wr, ww), back
'''


class Failure(Exception):
    """What the user reads instead of a traceback, in one line."""


def pieces(source):
    """What has a name at the top level, the docstring included: name -> (first, last line)."""
    found = {}
    for node in ast.parse(source).body:
        target = getattr(node, "targets", [node])[0]
        name = getattr(target, "id", getattr(target, "name", None))
        found.setdefault("the docstring" if isinstance(node, ast.Expr) else name,
                         (node.lineno - 1, node.end_lineno))
    return found


def apply(source, solution, script):
    """The source of the script with the solution's pieces in their places."""
    lines, old, new, text = source.splitlines(True), pieces(source), {}, ""
    for name, (first, last) in pieces(solution).items():
        text += "".join(solution.splitlines(True)[first:last])
        if name in NEW:                                 # stands before the next one
            text += "\n\n"
            continue
        if name not in old:
            raise Failure(f"{script} has no {name}: this solution is for another version of it")
        new[name], text = text, ""
    for name in sorted(new, key=old.get, reverse=True):         # from below, so that numbers stay
        lines[slice(*old[name])] = [new[name]]
    return "".join(lines)


def solved(name):
    """The source of a script that solves the exercise."""
    with open(os.path.join(ROOT, SCRIPTS[name]), encoding="utf-8") as file:
        return apply(file.read(), SOLUTIONS[name], SCRIPTS[name])


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
