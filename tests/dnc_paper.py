"""The Differentiable Neural Computer, equation by equation, in numbers and loops.

Read it beside its paper: A. Graves et al., "Hybrid computing using a neural network with dynamic
external memory", Nature 538, 471-476 (2016), Methods. Sections, names and symbols are the paper's,
in its order; the last section puts them together. There is one stream and no array: a vector is a
list of numbers, a matrix a list of rows; an index means what it means in the paper, but counts from
0. In names, _prev is the paper's t-1; what has no time is of step t.

    R read heads    N locations of W numbers    H hidden units of the controller    V characters

The tests compare dnc-numpy.py with it; the two share no line and no package. Where this deviates
from the paper, dnc-numpy.py does, too:

    controller   one LSTM layer, with the cell of the article that these scripts follow; no bias but
                 bh and by
    interface    the pieces of the paper's matrix for the interface vector xi have a name each
    cosine       EPSILON under the square roots: rows or keys of zeros resemble nothing, not 0/0
    allocation   u is taken as EPSILON + (1 - EPSILON) u: the product's gradient stays finite
    free list    DELTA more for each next location: equal usages are taken in their order; DELTA is
                 1e-6 in single precision
    output       dropout's mask, where there is one, multiplies what the output reads of h_t
"""
import math

EPSILON = 1e-6
DELTA = 1e-9


# Glossary -----------------------------------------------------------------------------------------

def sigmoid(z):
    """σ(z) = 1 / (1 + e^-z), times e^z / e^z where e^-z could overflow"""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def oneplus(z):
    """oneplus(z) = 1 + log(1 + e^z); where e^z could overflow, log(1 + e^z) = z + log(1 + e^-z)"""
    return 1 + math.log1p(math.exp(z)) if z < 0 else 1 + z + math.log1p(math.exp(-z))


def softmax(z):
    """softmax(z)[i] = e^z[i] / Σ_j e^z[j]"""
    e = [math.exp(z_i - max(z)) for z_i in z]       # the same for z less its maximum: no overflow
    return [e_i / sum(e) for e_i in e]


def times(A, x):
    """(A x)[i] = Σ_j A[i,j] x[j]"""
    return [sum(a * b for a, b in zip(row, x, strict=True)) for row in A]


# Controller network -------------------------------------------------------------------------------

def controller(params, x, r_prev, h_prev, c_prev):
    """The controller's input is χ_t = [x_t; r¹_{t-1}; ...; r^R_{t-1}].

    i, o, f = σ(W [χ_t; h_{t-1}] + b)    g = tanh(W [χ_t; h_{t-1}] + b)
    c_t = tanh(g i + f c_{t-1})          h_t = o c_t
    """
    H, h, c = len(h_prev), [], []
    a = [sum(terms) for terms in zip(
        times(params["Wxh"], x), times(params["Wrh"], [n for r in r_prev for n in r]),
        times(params["Whh"], h_prev), [row[0] for row in params["bh"]], strict=True)]
    for n in range(H):
        i, o, f = sigmoid(a[n]), sigmoid(a[H + n]), sigmoid(a[2 * H + n])
        g = math.tanh(a[3 * H + n])
        c.append(math.tanh(g * i + f * c_prev[n]))
        h.append(o * c[n])
    return h, c


def output(params, h, r):
    """υ_t = W_y h_t,  y_t = υ_t + W_r [r¹_t; ...; r^R_t]"""
    upsilon, from_r = times(params["Why"], h), times(params["Wry"], [n for r_i in r for n in r_i])
    return [upsilon[k] + params["by"][k][0] + from_r[k] for k in range(len(upsilon))]


# Interface parameters -----------------------------------------------------------------------------

def interface(params, h):
    """ξ_t = W_ξ h_t = [k^r; β^r; k^w; β^w; e; v; f; g^a; g^w; π], each in its range"""
    R, W = len(params["Whbr"]), len(params["Whw"])
    rows, modes = times(params["Whr"], h), times(params["Whp"], h)
    return {"k_r": [rows[r * W:(r + 1) * W] for r in range(R)],             # read keys
            "beta_r": [oneplus(z) for z in times(params["Whbr"], h)],       # read strengths
            "k_w": times(params["Whw"], h),                                 # write key
            "beta_w": oneplus(times(params["Whbw"], h)[0]),                 # write strength
            "e": [sigmoid(z) for z in times(params["Whe"], h)],             # erase vector
            "v": times(params["Whv"], h),                                   # write vector
            "f": [sigmoid(z) for z in times(params["Whf"], h)],             # free gates
            "g_a": sigmoid(times(params["Whga"], h)[0]),                    # allocation gate
            "g_w": sigmoid(times(params["Whgw"], h)[0]),                    # write gate
            "pi": [softmax(modes[3 * r:3 * r + 3]) for r in range(R)]}      # read modes: backward,
                                                                            # content, forward

# Reading and writing to memory --------------------------------------------------------------------

def read_vector(M, w_r):
    """r_t = M_tᵀ w^r_t"""
    return times(zip(*M), w_r)


def write(M_prev, w_w, e, v):
    """M_t = M_{t-1} ∘ (E - w^w_t e_tᵀ) + w^w_t v_tᵀ"""
    N, W = len(M_prev), len(e)
    return [[M_prev[i][j] * (1 - w_w[i] * e[j]) + w_w[i] * v[j] for j in range(W)]
            for i in range(N)]


# Memory addressing: content-based addressing ------------------------------------------------------

def cosine_similarity(u, v):
    """D(u, v) = u·v / (|u| |v|)"""
    length_u = math.sqrt(sum(n * n for n in u) + EPSILON)
    length_v = math.sqrt(sum(n * n for n in v) + EPSILON)
    return sum(u[j] * v[j] for j in range(len(u))) / (length_u * length_v)


def content_weighting(M, k, beta):
    """C(M, k, β)[i] = exp(D(k, M[i,·]) β) / Σ_j exp(D(k, M[j,·]) β)"""
    return softmax([cosine_similarity(k, row) * beta for row in M])


# Memory addressing: dynamic memory allocation -----------------------------------------------------

def memory_retention(f, w_r_prev):
    """ψ_t = Π_i (1 - f^i_t w^{r,i}_{t-1}), over the read heads i"""
    R, N = len(w_r_prev), len(w_r_prev[0])
    return [math.prod(1 - f[i] * w_r_prev[i][n] for i in range(R)) for n in range(N)]


def usage_vector(u_prev, w_w_prev, psi):
    """u_t = (u_{t-1} + w^w_{t-1} - u_{t-1} ∘ w^w_{t-1}) ∘ ψ_t"""
    return [(u_prev[i] + w_w_prev[i] - u_prev[i] * w_w_prev[i]) * psi[i]
            for i in range(len(u_prev))]


def free_list(u):
    """φ_t: the locations, the least used first"""
    return sorted(range(len(u)), key=lambda i: u[i] + i * DELTA)


def allocation_weighting(u):
    """a_t[φ_t[j]] = (1 - u_t[φ_t[j]]) Π_{i<j} u_t[φ_t[i]]"""
    phi, a = free_list(u), [0.0] * len(u)
    u = [EPSILON + (1 - EPSILON) * u_i for u_i in u]
    for j in range(len(u)):
        a[phi[j]] = (1 - u[phi[j]]) * math.prod(u[phi[i]] for i in range(j))
    return a


def write_weighting(g_w, g_a, a, c_w):
    """w^w_t = g^w_t [g^a_t a_t + (1 - g^a_t) c^w_t]"""
    return [g_w * (g_a * a[i] + (1 - g_a) * c_w[i]) for i in range(len(a))]


# Memory addressing: temporal memory linkage -------------------------------------------------------

def precedence_weighting(p_prev, w_w):
    """p_t = (1 - Σ_i w^w_t[i]) p_{t-1} + w^w_t"""
    return [(1 - sum(w_w)) * p_prev[i] + w_w[i] for i in range(len(w_w))]


def link_matrix(L_prev, w_w, p_prev):
    """L_t[i,j] = (1 - w^w_t[i] - w^w_t[j]) L_{t-1}[i,j] + w^w_t[i] p_{t-1}[j],  L_t[i,i] = 0

    L_t[i,j] is the degree to which i was the location written to after j.
    """
    N = len(w_w)
    return [[(1 - w_w[i] - w_w[j]) * L_prev[i][j] + w_w[i] * p_prev[j] if i != j else 0.0
             for j in range(N)] for i in range(N)]


def forward_weighting(L, w_r_prev):
    """f_t = L_t w^r_{t-1}"""
    return times(L, w_r_prev)


def backward_weighting(L, w_r_prev):
    """b_t = L_tᵀ w^r_{t-1}"""
    return times(zip(*L), w_r_prev)


def read_weighting(pi, b, c, f):
    """w^r_t = π_t[1] b_t + π_t[2] c^r_t + π_t[3] f_t"""
    return [pi[0] * b[i] + pi[1] * c[i] + pi[2] * f[i] for i in range(len(b))]


# All together -------------------------------------------------------------------------------------

def step(params, character, prev, mask):
    """One step: y_t and the state after it, from a character's number, the state before it and H
    numbers, 1 without dropout."""
    x = [1.0 if k == character else 0.0 for k in range(len(params["Why"]))]     # one-hot
    h, c = controller(params, x, prev["r"], prev["h"], prev["c"])
    xi = interface(params, h)

    psi = memory_retention(xi["f"], prev["wr"])
    u = usage_vector(prev["u"], prev["ww"], psi)
    a = allocation_weighting(u)
    c_w = content_weighting(prev["M"], xi["k_w"], xi["beta_w"])
    w_w = write_weighting(xi["g_w"], xi["g_a"], a, c_w)
    M = write(prev["M"], w_w, xi["e"], xi["v"])

    L = link_matrix(prev["L"], w_w, prev["p"])
    p = precedence_weighting(prev["p"], w_w)

    w_r = []                                                                # of each head
    for i in range(len(prev["wr"])):
        b = backward_weighting(L, prev["wr"][i])
        f = forward_weighting(L, prev["wr"][i])
        c_r = content_weighting(M, xi["k_r"][i], xi["beta_r"][i])
        w_r.append(read_weighting(xi["pi"][i], b, c_r, f))
    r = [read_vector(M, w_r_i) for w_r_i in w_r]

    y = output(params, [mask[n] * h[n] for n in range(len(h))], r)
    return y, {"h": h, "c": c, "r": r, "M": M, "u": u, "p": p, "L": L, "wr": w_r, "ww": w_w}
