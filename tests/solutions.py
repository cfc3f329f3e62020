'''Solutions of the exercises in README.md, "Change it yourself": for those who have tried.

A solution is a list of changes to a script: for each a piece of it, which occurs once, and what stands there instead. A
piece ends before the line break. test_exercises.py applies them and holds the result against exercises.py; to have one
as a script,

    python tests/solutions.py gru my-gru.py

writes it. Lines that a solution does not show stay as they are.
'''
import pathlib
import sys

SCRIPTS = {"cell": "lstm-numpy.py", "gru": "rnn-numpy.py", "norm": "rnn-numpy.py", "rmsprop": "rnn-numpy.py",
           "deallocation": "dnc-numpy.py"}                  # what a solution changes; that of rmsprop fits all three
SOLUTIONS = {}


# cell: c_t = g i + f c_{t-1}, h_t = o tanh(c_t) -----------------------------------------------------------------------
#
# The cell itself is not squashed, so tanh(c_t) is an array of its own: the slope of o needs it, that of f needs c_{t-1}. Backward gets
# simpler. The derivative of c_t by c_{t-1} is f at every step, in the first one too, and what comes from behind the window is
# the gradient of c_t as it is. MODEL changes because a checkpoint of the one cell is none of the other.

SOLUTIONS["cell"] = [
    ('''\
    i_t, o_t, f_t = sigmoid(Wxh x_t + Whh h_{t-1} + bh)      c_t = tanh(g_t * i_t + f_t * c_{t-1})      y_t = Why h_t + by
    g_t           = tanh   (Wxh x_t + Whh h_{t-1} + bh)      h_t = o_t * c_t                            p_t = softmax(y_t)''', '''\
    i_t, o_t, f_t = sigmoid(Wxh x_t + Whh h_{t-1} + bh)      c_t = g_t * i_t + f_t * c_{t-1}            y_t = Why h_t + by
    g_t           = tanh   (Wxh x_t + Whh h_{t-1} + bh)      h_t = o_t * tanh(c_t)                      p_t = softmax(y_t)'''),

    ('''\
MODEL = "lstm"''', '''\
MODEL = "lstm-usual"'''),

    ('''\
            "ig": (B, H),               # g * i; in the backward loop the gradient of s_t''', '''\
            "tc": (S, B, H),            # tanh(c_t)
            "ig": (B, H),               # g * i; in the backward loop the gradient of c_t'''),

    ('''\
            "dsnext": (B, H),           # the same for the argument of the cell's tanh
            "dtanh": (S, B, H),         # derivative of the cell's tanh
            "h_s": (S, B, H),           # derivative of h_t by the argument s_t of the cell's tanh
            "s_a": (S, 4, B, H),        # derivatives of s_t by the arguments of i, o (0), f, g
            "h_o": (S, B, H),           # derivative of h_t by the argument of o
            "s_s": (S, B, H)}           # derivative of s_t by s_{t-1}''', '''\
            "dcnext": (B, H),           # the same for c_t
            "h_c": (S, B, H),           # derivative of h_t by c_t
            "c_a": (S, 4, B, H),        # derivatives of c_t by the arguments of i, o (0), f, g
            "h_o": (S, B, H)}           # derivative of h_t by the argument of o'''),

    ('''\
    w.forward = list(zip(w.x, w.a, w.a[:, :3], i, o, f, g, w.c, w.c[1:], w.h, w.h[1:]))
    w.backward = list(zip(w.dh, w.h_s, w.s_a, w.h_o, w.s_s, da, da[:, 1], w.x))[::-1]''', '''\
    w.forward = list(zip(w.x, w.a, w.a[:, :3], i, o, f, g, w.c, w.c[1:], w.tc, w.h, w.h[1:]))
    w.backward = list(zip(w.dh, w.h_c, w.c_a, w.h_o, f, da, da[:, 1], w.x))[::-1]'''),

    ('''\
    for x, a, iof, i, o, f, g, cprev, c, hprev, h in w.forward:''', '''\
    for x, a, iof, i, o, f, g, cprev, c, tc, hprev, h in w.forward:'''),

    ('''\
        np.multiply(g, i, out=w.ig)                         # c_t = tanh(g * i + f * c_{t-1}), as the article has it; the
        np.multiply(f, cprev, out=c)                        # usual cell is not squashed: c_t = g * i + f * c_{t-1},
        c += w.ig                                           # h_t = o * tanh(c_t)
        np.tanh(c, out=c)
        np.multiply(o, c, out=h)                            # h_t = o * c_t''', '''\
        np.multiply(g, i, out=w.ig)                         # c_t = g * i + f * c_{t-1}
        np.multiply(f, cprev, out=c)
        c += w.ig
        np.tanh(c, out=tc)                                  # h_t = o * tanh(c_t)
        np.multiply(o, tc, out=h)'''),

    ('''\
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
''', '''\
    i, o, f, g = gates(w)                                   # derivatives of h_t = o * tanh(c_t) and of c_t, for all steps at once
    cprev, c_i, c_f, c_g = w.c[:-1], w.c_a[:, 0], w.c_a[:, 2], w.c_a[:, 3]
    np.multiply(w.tc, w.tc, out=w.h_c)                      # tanh' = 1 - tanh^2
    np.subtract(1, w.h_c, out=w.h_c)
    w.h_c *= o
    sigmoid_slope(o, w.tc, out=w.h_o)
    sigmoid_slope(i, g, out=c_i)
    sigmoid_slope(f, cprev, out=c_f)
    np.multiply(g, g, out=c_g)
    np.subtract(1, c_g, out=c_g)
    c_g *= i
'''),

    ('''\
    np.multiply(dstate["c"].T, w.dtanh[-1], out=w.dsnext)
    for dh, h_s, s_a, h_o, s_s, da, da_o, da_all in w.backward:
        dh += w.dhnext
        np.multiply(dh, h_s, out=w.ig)                      # h_t = o * tanh(s_t): to s_t,
        w.ig += w.dsnext
        np.multiply(w.ig, s_a, out=da)                      # s_t = g * i + f * c_{t-1}: to the arguments of i, f, g
        np.multiply(dh, h_o, out=da_o)                      # and of o,
        np.multiply(w.ig, s_s, out=w.dsnext)                # to s_{t-1},''', '''\
    w.dcnext[:] = dstate["c"].T
    for dh, h_c, c_a, h_o, f, da, da_o, da_all in w.backward:
        dh += w.dhnext
        np.multiply(dh, h_c, out=w.ig)                      # h_t = o * tanh(c_t): to c_t,
        w.ig += w.dcnext
        np.multiply(w.ig, c_a, out=da)                      # c_t = g * i + f * c_{t-1}: to the arguments of i, f, g
        np.multiply(dh, h_o, out=da_o)                      # and of o,
        np.multiply(w.ig, f, out=w.dcnext)                  # to c_{t-1},'''),

    ('''\
    return grads, {"h": w.dhnext.T.copy(), "c": w.dsnext.T.copy()}''', '''\
    return grads, {"h": w.dhnext.T.copy(), "c": w.dcnext.T.copy()}'''),
]


# gru: h_t = (1 - z) n + z h_{t-1}, gates r and z, n = tanh(Wxh x_t + bh + r (Whh h_{t-1})) ----------------------------
#
# u_t = Whh h_{t-1} is one product for all three blocks, kept because backward needs what r is multiplied with. h_{t-1} has two
# ways to h_t: through u_t and, times z, straight on. In n's block the gradients of u_t and of Wxh x_t + bh differ by the
# factor r; in the blocks of r and z they are the same. So the loop leaves the former in du and n's part of the latter in dn,
# and one copy after the loop turns du into the other.

SOLUTIONS["gru"] = [
    ('''\
    h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)          y_t = Why h_t + by          p_t = softmax(y_t)

            x_t ---Wxh---> (+) ---tanh---> h_t ---Why---> y_t ---softmax---> p_t
                            ^               |
                            +-----Whh-------+ one step later''', '''\
    r_t, z_t = sigmoid(Wxh x_t + bh + Whh h_{t-1})                h_t = (1 - z_t) * n_t + z_t * h_{t-1}      y_t = Why h_t + by
    n_t      = tanh   (Wxh x_t + bh + r_t * (Whh h_{t-1}))                                                   p_t = softmax(y_t)

            x_t ---Wxh---> (+) ---> r, z, n ---> h_t ---Why---> y_t ---softmax---> p_t
                            ^                     |
                            +-----Whh-------------+ one step later'''),

    ('''\
MODEL = "rnn"''', '''\
MODEL = "gru"'''),

    ('''\
    """Names and shapes of the parameters, as in the article; biases are columns."""
    H = hidden
    return {"Wxh": (H, M),      # character to hidden
            "Whh": (H, H),      # hidden to hidden, one step later
            "Why": (M, H),      # hidden to output
            "bh": (H, 1),
            "by": (M, 1)}''', '''\
    """Names and shapes of the parameters; biases are columns, gates are stacked r, z, n."""
    H = hidden
    return {"Wxh": (3 * H, M),  # character to gates
            "Whh": (3 * H, H),  # hidden to gates, one step later
            "Why": (M, H),      # hidden to output
            "bh": (3 * H, 1),
            "by": (M, 1)}'''),

    ('''\
    return {"x": (S, B, H),             # Wxh x_t + bh
            "h": (S + 1, B, H),         # h[0] is the incoming state, h[t + 1] the state after step t
            "dh": (S, B, H),            # gradient of h_t: first from the output, in the loop from step t + 1 too
            "dhnext": (B, H),           # the part from step t + 1
            "dtanh": (S, B, H),         # derivative of tanh
            "da": (S, B, H)}            # gradient with respect to the argument a_t of tanh''', '''\
    return {"x": (S, B, 3 * H),         # Wxh x_t + bh
            "u": (S, B, 3 * H),         # Whh h_{t-1}
            "a": (S, B, 3 * H),         # the gates r, z, n, side by side
            "h": (S + 1, B, H),         # h[0] is the incoming state, h[t + 1] the state after step t
            "dh": (S, B, H),            # gradient of h_t: first from the output, in the loop from step t + 1 too
            "dhnext": (B, H),           # the part from step t + 1
            "h_n": (S, B, H),           # derivative of h_t by the argument of n
            "h_z": (S, B, H),           # derivative of h_t by the argument of z
            "n_r": (S, B, H),           # derivative of the argument of n by the argument of r
            "dn": (S, B, H),            # gradient with respect to the argument of n
            "du": (S, B, 3 * H)}        # gradient of u_t; at the end that of Wxh x_t + bh'''),

    ('''\
    w.forward = list(zip(w.x, w.h, w.h[1:]))
    w.backward = list(zip(w.dh, w.dtanh, w.da))[::-1]
''', '''\
    H = w.dh.shape[2]
    r, z, n = gates(w.a)
    _, _, xn = gates(w.x)
    _, _, un = gates(w.u)
    dur, duz, dun = gates(w.du)
    w.forward = list(zip(w.x[:, :, :2 * H], w.u[:, :, :2 * H], w.a[:, :, :2 * H], xn, w.u, un, r, z, n, w.h, w.h[1:]))
    w.backward = list(zip(w.dh, w.h_n, w.h_z, w.n_r, r, z, w.dn, w.du, dur, duz, dun))[::-1]


def gates(a):
    """The three pieces of all steps, (S, B, H) each, in the order in which they are stacked."""
    H = a.shape[2] // 3
    return a[:, :, :H], a[:, :, H:2 * H], a[:, :, 2 * H:]
'''),

    ('''\
    gather_rows(Wxh + bh, inputs, out=w.x)                  # Wxh x_t + bh, for all steps at once
    WhhT = np.ascontiguousarray(Whh.T)                      # h_{t-1} is rows here: h_{t-1} Whh^T instead of Whh h_{t-1}
    for x, hprev, h in w.forward:
        np.dot(hprev, WhhT, out=h)                          # h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)
        h += x
        np.tanh(h, out=h)
''', '''\
    gather_rows(Wxh + bh, inputs, out=w.x)                  # Wxh x_t + bh, for all steps at once
    WhhT = np.ascontiguousarray(Whh.T)                      # h_{t-1} is rows here: h_{t-1} Whh^T instead of Whh h_{t-1}
    for xrz, urz, rz, xn, u, un, r, z, n, hprev, h in w.forward:
        np.dot(hprev, WhhT, out=u)                          # u_t = Whh h_{t-1}
        np.add(xrz, urz, out=rz)                            # r, z = sigmoid(Wxh x_t + bh + u_t), sigmoid(a) = (1 + tanh(a / 2)) / 2
        rz *= 0.5
        np.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        np.multiply(r, un, out=n)                           # n = tanh(Wxh x_t + bh + r * u_t)
        n += xn
        np.tanh(n, out=n)
        np.subtract(hprev, n, out=h)                        # h_t = (1 - z) * n + z * h_{t-1} = n + z * (h_{t-1} - n)
        h *= z
        h += n
'''),

    ('''\
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
''', '''\
    r, z, n = gates(w.a)                                    # derivatives of h_t and of n's argument, for all steps at once
    _, _, un = gates(w.u)
    np.multiply(n, n, out=w.h_n)                            # tanh' = 1 - tanh^2
    np.subtract(1, w.h_n, out=w.h_n)
    w.h_n *= 1 - z
    sigmoid_slope(z, w.h[:S] - n, out=w.h_z)
    sigmoid_slope(r, un, out=w.n_r)

    w.dhnext[:] = dstate["h"].T
    for dh, h_n, h_z, n_r, r, z, dn, du, dur, duz, dun in w.backward:
        dh += w.dhnext
        np.multiply(dh, h_n, out=dn)                        # h_t = (1 - z) * n + z * h_{t-1}: to the arguments of n
        np.multiply(dh, h_z, out=duz)                       # and z,
        dh *= z                                             # straight to h_{t-1}
        np.multiply(dn, n_r, out=dur)                       # n = tanh(Wxh x_t + bh + r * u_t): to the argument of r
        np.multiply(dn, r, out=dun)                         # and to u_t
        np.dot(du, Whh, out=w.dhnext)                       # u_t = Whh h_{t-1}: to h_{t-1}, the other way
        w.dhnext += dh

    du = w.du.reshape(S * B, 3 * H)                         # u_t = Whh h_{t-1}, for all steps at once
    np.dot(du.T, w.h[:S].reshape(S * B, H), out=grads["Whh"])
    du[:, 2 * H:] = w.dn.reshape(S * B, H)                  # Wxh x_t + bh is not multiplied by r
    scatter_rows(du, w.inputs, room=w.x.reshape(S * B, 3 * H), out=grads["Wxh"])
    np.sum(du, axis=0, out=grads["bh"][:, 0])
    return grads, {"h": w.dhnext.T.copy()}


def sigmoid_slope(s, factor, out):
    """out = s (1 - s) factor: the derivative of a sigmoid, times what it is multiplied with."""
    np.subtract(1, s, out=out)
    out *= s
    out *= factor
'''),
]


# norm: h_t = tanh(gain * n_t + bh), n_t = (a_t - mean) / sd, sd = sqrt(var + 1e-5), a_t = Wxh x_t + Whh h_{t-1} --------
#
# Of a gradient dn with respect to n_t, two parts have no effect, since a_t cannot change n_t so: what is common to all H numbers
# (the mean is taken away again) and what is along n_t itself (it is divided away again). Backward takes them out and divides by sd:
#     da = (dn - mean(dn) - n mean(dn * n)) / sd
# The variance is the mean of squares, not np.var, which takes |x|^2: the complex step must go through it. The gain starts at
# 1: it is no weight, and with 0 nothing would ever reach it from x.

SOLUTIONS["norm"] = [
    ('''\
    h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)          y_t = Why h_t + by          p_t = softmax(y_t)

            x_t ---Wxh---> (+) ---tanh---> h_t''', '''\
    a_t = Wxh x_t + Whh h_{t-1}                                              y_t = Why h_t + by
    h_t = tanh(gain * (a_t - mean(a_t)) / sqrt(var(a_t) + 1e-5) + bh)        p_t = softmax(y_t)

            x_t ---Wxh---> (+) ---norm, tanh---> h_t'''),

    ('''\
                            ^               |
                            +-----Whh-------+ one step later''', '''\
                            ^                     |
                            +-----Whh-------------+ one step later'''),

    ('''\
MODEL = "rnn"''', '''\
MODEL = "rnn-norm"'''),

    ('''\
            "bh": (H, 1),
            "by": (M, 1)}''', '''\
            "gain": (H, 1),     # of the normalised argument of tanh
            "bh": (H, 1),
            "by": (M, 1)}'''),

    ('''\
    """Small random weights, biases 0."""''', '''\
    """Small random weights, biases 0, gains 1."""'''),

    ('''\
        p[:] = rng.standard_normal(p.shape) * std if name.startswith("W") else 0''', '''\
        p[:] = rng.standard_normal(p.shape) * std if name.startswith("W") else 0
    params["gain"][:] = 1'''),

    ('''\
    return {"x": (S, B, H),             # Wxh x_t + bh
            "h": (S + 1, B, H), ''', '''\
    return {"x": (S, B, H),             # Wxh x_t
            "n": (S, B, H),             # a_t, normalised
            "sd": (S, B, 1),            # sqrt(var(a_t) + 1e-5)
            "h": (S + 1, B, H), '''),

    ('''\
            "da": (S, B, H)}            # gradient with respect to the argument a_t of tanh''', '''\
            "dz": (S, B, H),            # gradient with respect to the argument of tanh
            "da": (S, B, H)}            # gradient of a_t'''),

    ('''\
    w.forward = list(zip(w.x, w.h, w.h[1:]))
    w.backward = list(zip(w.dh, w.dtanh, w.da))[::-1]''', '''\
    w.forward = list(zip(w.x, w.n, w.sd, w.h, w.h[1:]))
    w.backward = list(zip(w.dh, w.dtanh, w.n, w.sd, w.dz, w.da))[::-1]'''),

    ('''\
    Wxh, Whh, Why, bh, by = (params[name] for name in ("Wxh", "Whh", "Why", "bh", "by"))''', '''\
    Wxh, Whh, Why, gain, bh, by = (params[name] for name in ("Wxh", "Whh", "Why", "gain", "bh", "by"))'''),

    ('''\
    gather_rows(Wxh + bh, inputs, out=w.x)                  # Wxh x_t + bh, for all steps at once''', '''\
    gather_rows(Wxh, inputs, out=w.x)                       # Wxh x_t, for all steps at once'''),

    ('''\
    for x, hprev, h in w.forward:
        np.dot(hprev, WhhT, out=h)                          # h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)
        h += x
        np.tanh(h, out=h)
''', '''\
    for x, n, sd, hprev, h in w.forward:
        np.dot(hprev, WhhT, out=n)                          # a_t = Wxh x_t + Whh h_{t-1}
        n += x
        n -= np.mean(n, axis=1, keepdims=True)              # n_t = (a_t - mean) / sd, sd = sqrt(var + 1e-5)
        np.mean(n * n, axis=1, keepdims=True, out=sd)
        sd += 1e-5
        np.sqrt(sd, out=sd)
        n /= sd
        np.multiply(n, gain.T, out=h)                       # h_t = tanh(gain * n_t + bh)
        h += bh.T
        np.tanh(h, out=h)
'''),

    ('''\
    Whh, Why, w = params["Whh"], params["Why"], window''', '''\
    Whh, Why, gain, w = params["Whh"], params["Why"], params["gain"], window'''),

    ('''\
    for dh, dtanh, da in w.backward:
        dh += w.dhnext
        np.multiply(dh, dtanh, out=da)                      # through h_t = tanh(a_t)
        np.dot(da, Whh, out=w.dhnext)                       # to h_{t-1}

    da = w.da.reshape(S * B, H)                             # a_t = Wxh x_t + Whh h_{t-1} + bh, for all steps at once''', '''\
    for dh, dtanh, n, sd, dz, da in w.backward:
        dh += w.dhnext
        np.multiply(dh, dtanh, out=dz)                      # through h_t = tanh(gain * n_t + bh)
        np.multiply(dz, gain.T, out=da)                     # to n_t,
        along = np.mean(da * n, axis=1, keepdims=True)      # n_t = (a_t - mean) / sd: to a_t, without what mean and sd take away
        da -= np.mean(da, axis=1, keepdims=True)
        da -= n * along
        da /= sd
        np.dot(da, Whh, out=w.dhnext)                       # to h_{t-1}

    dz = w.dz.reshape(S * B, H)                             # gain * n_t + bh, for all steps at once
    np.sum(dz * w.n.reshape(S * B, H), axis=0, out=grads["gain"][:, 0])
    np.sum(dz, axis=0, out=grads["bh"][:, 0])
    da = w.da.reshape(S * B, H)                             # a_t = Wxh x_t + Whh h_{t-1}, for all steps at once'''),

    ('''\
    scatter_rows(da, w.inputs, room=w.x.reshape(S * B, H), out=grads["Wxh"])
    np.sum(da, axis=0, out=grads["bh"][:, 0])''', '''\
    scatter_rows(da, w.inputs, room=w.x.reshape(S * B, H), out=grads["Wxh"])'''),
]


# rmsprop: mem = 0.9 mem + 0.1 d^2, p -= lr d / sqrt(mem + 1e-8) -------------------------------------------------------
#
# mem must be changed in place: the caller keeps it, and a checkpoint too. A running mean forgets, so steps do not shrink by
# themselves: --lr has to be smaller, say 0.005. The name stays, since the training loop and dnc-debug.py call it. The block "numbers"
# is the same in all three scripts, and so is this change.

SOLUTIONS["rmsprop"] = [
    ('''\
    """Adagrad (Duchi et al. 2011): each number's step shrinks with the sum of its squared gradients, mem."""
    step = d * d
    mem += step
''', '''\
    """RMSProp (Tieleman, Hinton 2012): each number's step is divided by the root of a running mean of its squared gradients, mem."""
    step = d * d
    step *= 0.1
    mem *= 0.9
    mem += step
'''),
]


# deallocation: M_t = (M_{t-1} * psi_t 1^T) * (1 - ww e^T) + ww v^T -----------------------------------------------------
#
# What was freed is wiped first, Mfreed = M_{t-1} * psi_t 1^T, and the rest of the write works on that. Backward has the gradient of
# Mfreed where that of M_{t-1} was; from there it goes to M_{t-1}, times psi, and to psi, times M_{t-1}. psi now has two
# gradients: this one and, a few lines further on, that of the usage. Content for writing looks at M_{t-1}, as before.

SOLUTIONS["deallocation"] = [
    ('''\
MODEL = "dnc"''', '''\
MODEL = "dnc-deallocation"'''),

    ('''\
            "kept": (S, B, R, N), "psi": (S, B, N), "upsi": (S, B, N),      # 1 - f wr, their product, usage before it''', '''\
            "kept": (S, B, R, N), "psi": (S, B, N), "upsi": (S, B, N),      # 1 - f wr, their product, usage before it
            "Mfreed": (S, B, N, W),                         # M_{t-1} psi 1^T'''),

    ('''\
                     "score", "bcf", "ww1", "pairM", "pairL", "rest", "order",''', '''\
                     "Mfreed", "score", "bcf", "ww1", "pairM", "pairL", "rest", "order",'''),

    ('''\
    np.negative(s.e, out=s.pairM[0, :, 0])                  # memory: M = M_{t-1} (1 - ww e^T) + ww v^T
    s.pairM[1, :, 0] = s.v
    fade_and_add(s.Mprev, s.ww1, s.pairM, w.roomM, out=s.M)''', '''\
    np.multiply(s.Mprev, s.psi[:, :, None], out=s.Mfreed)   # memory: M = (M_{t-1} psi 1^T) (1 - ww e^T) + ww v^T
    np.negative(s.e, out=s.pairM[0, :, 0])
    s.pairM[1, :, 0] = s.v
    fade_and_add(s.Mfreed, s.ww1, s.pairM, w.roomM, out=s.M)'''),

    ('''\
    dpair = fade_and_add_backward(s.Mprev, s.ww1, s.pairM, w.roomdM, dww)   # M = M_{t-1} (1 - ww e^T) + ww v^T
    np.negative(dpair[0, :, 0], out=s.de)
    s.dv[:] = dpair[1, :, 0]
''', '''\
    dpair = fade_and_add_backward(s.Mfreed, s.ww1, s.pairM, w.roomdM, dww)  # M = (M_{t-1} psi 1^T) (1 - ww e^T) + ww v^T
    np.negative(dpair[0, :, 0], out=s.de)
    s.dv[:] = dpair[1, :, 0]
    dpsi = sum_last(np.multiply(w.dM, s.Mprev, out=w.roomM[0]), w.onesW)    # M_{t-1} psi 1^T: to psi
    w.dM *= s.psi[:, :, None]                               # and to M_{t-1}
'''),

    ('''\
    dpsi = du * s.upsi                                      # u = (u_{t-1} + ww_{t-1} - u_{t-1} ww_{t-1}) psi''', '''\
    dpsi += du * s.upsi                                     # u = (u_{t-1} + ww_{t-1} - u_{t-1} ww_{t-1}) psi'''),
]


def apply(source, changes):
    """The source with each piece replaced; an error if a piece is not there exactly once."""
    for old, new in changes:
        assert source.count(old) == 1, f"there {source.count(old)} times, not once:\n{old}"
        source = source.replace(old, new)
    return source


def solved(name):
    """The solution of an exercise as a whole script."""
    script = pathlib.Path(__file__).resolve().parents[1] / SCRIPTS[name]
    return apply(script.read_text(encoding="utf-8"), SOLUTIONS[name])


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SOLUTIONS:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(SOLUTIONS)} FILE")
    with open(sys.argv[2], "x", encoding="utf-8", newline="\n") as file:    # "x": a file that is there stays
        file.write(solved(sys.argv[1]))
