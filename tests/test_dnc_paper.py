"""dnc-numpy.py against the paper: its forward pass agrees with dnc_paper.py, the same equations as loops over numbers.

First, dnc_paper.py itself is held against examples worked out by hand. Then the script is held against it, over several
windows, with streams that start anew in between, and a table of mistakes proves that this comparison sees them. Last, what
has to hold for every DNC, after many steps.
"""
import math

import dnc_paper as paper
import numpy as np
import pytest
from loading import M, load, load_changed

dnc = load("dnc-numpy.py")
close = pytest.approx


def shapes(M, hidden, locations, width, heads):
    """Names and shapes of the parameters."""
    H, N, W, R = hidden, locations, width, heads
    return {"Wxh": (4 * H, M), "Whh": (4 * H, H), "Wrh": (4 * H, R * W), "Why": (M, H), "Wry": (M, R * W),
            "Whr": (R * W, H), "Whbr": (R, H), "Whw": (W, H), "Whbw": (1, H), "Whe": (W, H), "Whv": (W, H),
            "Whf": (R, H), "Whga": (1, H), "Whgw": (1, H), "Whp": (3 * R, H), "bh": (4 * H, 1), "by": (M, 1)}


def zero_params(M, **sizes):
    """All parameters 0, double precision, in the dict that the script uses."""
    return dnc.Params(dnc.param_shapes(M, **sizes), np.float64)


def zero_state(B, **sizes):
    """The state that training starts from."""
    return dnc.zeros(dnc.state_shapes(B, **sizes), np.float64)


def paper_forward(params, inputs, state, oracle=paper):
    """dnc_paper's forward, called as the script's: streams side by side on the last axis."""
    lists = {name: p.tolist() for name, p in params.items()}
    streams = range(inputs.shape[1])
    runs = [oracle.forward(lists, inputs[:, b].tolist(), {name: s[..., b].tolist() for name, s in state.items()})
            for b in streams]
    y = np.array([y for y, _ in runs])
    after = {name: np.stack([np.array(s[name]) for _, s in runs], axis=-1) for name in state}
    return y.transpose(2, 1, 0), after, None


def script_forward(params, inputs, state):
    return dnc.forward(params, inputs, {name: s.copy() for name, s in state.items()})


both = pytest.mark.parametrize("forward", [paper_forward, script_forward], ids=["paper", "script"])


# ---- dnc_paper.py against examples worked out by hand ---------------------------------------------------------------

def test_activations():
    assert [paper.sigmoid(z) for z in (-1e4, -math.log(3), 0, math.log(3), 1e4)] == close([0, 0.25, 0.5, 0.75, 1])
    assert [paper.oneplus(z) for z in (-1e4, 0, math.log(math.e - 1), 1e4)] == close([1, 1 + math.log(2), 2, 1 + 1e4])
    assert paper.softmax([1e4, 1e4 + math.log(3), -1e4]) == close([0.25, 0.75, 0])
    assert paper.times([[1, 2, 3], [4, 5, 6]], [1, 0, -1]) == [-2, -2]


def test_allocation_takes_the_least_used_first():
    # phi = 2, 0, 1 is not its own inverse: (1 - 0.2), then 0.2 (1 - 0.5), then 0.2 * 0.5 (1 - 0.8)
    assert paper.free_list([0.5, 0.8, 0.2]) == [2, 0, 1]
    assert paper.allocation_weighting([0.5, 0.8, 0.2]) == close([0.1, 0.02, 0.8], abs=3e-6)
    assert paper.allocation_weighting([1.0, 0.0, 1.0]) == close([0, 1, 0], abs=3e-6)
    assert paper.allocation_weighting([1.0] * 4) == close([0] * 4, abs=1e-15)               # full: nowhere to write
    assert paper.allocation_weighting([0.0] * 3) == close([1 - 1e-6, 1e-6 * (1 - 1e-6), 1e-12 * (1 - 1e-6)], rel=1e-9)


def test_equal_usages_are_taken_in_order():
    assert paper.free_list([0.0] * 5) == paper.free_list([1.0] * 5) == [0, 1, 2, 3, 4]
    assert paper.free_list([0.5 + 1e-15, 0.5, 0.5 - 1e-15, 0.1]) == [3, 0, 1, 2]            # equal but for rounding
    assert paper.free_list([0.5 + 3e-9, 0.5, 0.5]) == [1, 2, 0]                             # not equal


def test_usage_grows_by_writing_and_shrinks_by_freeing():
    assert paper.usage_vector([0.0, 0.5, 1.0], [0.3, 0.5, 0.2], [1, 1, 1]) == close([0.3, 0.75, 1.0])
    psi = paper.memory_retention([1.0, 0.5], [[1.0, 0.0, 0.2], [0.0, 0.4, 0.2]])
    assert psi == close([0.0, 0.8, 0.8 * 0.9])
    assert paper.usage_vector([1.0, 1.0, 0.5], [0.0, 0.0, 0.0], psi) == close([0.0, 0.8, 0.36])


def test_write_weighting():
    a, c = [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]
    assert paper.write_weighting(0, 0.7, a, c) == [0, 0, 0]
    assert paper.write_weighting(1, 1, a, c) == a
    assert paper.write_weighting(1, 0, a, c) == c
    assert paper.write_weighting(0.5, 0.25, a, c) == close([0.5 * (0.25 + 0.75 * 0.2), 0.5 * 0.75 * 0.3, 0.5 * 0.75 * 0.5])


def test_write_erases_then_adds():
    M = [[1.0, 2.0], [3.0, 4.0]]
    assert paper.write(M, [0, 1], [1, 1], [7, 8]) == [[1, 2], [7, 8]]
    assert paper.write(M, [0, 1], [0, 0], [7, 8]) == [[1, 2], [10, 12]]
    assert paper.write(M, [0, 1], [1, 0], [0, 0]) == [[1, 2], [0, 4]]
    assert paper.write(M, [0.5, 0.25], [1, 0.5], [4, 8]) == [[2.5, 5.5], [3.25, 5.5]]
    assert paper.read_vector(M, [0.25, 0.5]) == [1.75, 2.5]


def test_content_weighting():
    M = [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert paper.content_weighting(M, [0.0, 1.0, 0.0], 1e4) == close([0, 1, 0, 0])          # by direction, not by length
    assert paper.content_weighting(M, [5.0, 5.0, 0.0], 1e4) == close([0, 0, 1, 0])
    similarity = [0, 1, math.sqrt(0.5), 0]
    total = sum(math.exp(2 * d) for d in similarity)
    assert paper.content_weighting(M, [0.0, 1.0, 0.0], 2) == close([math.exp(2 * d) / total for d in similarity], rel=1e-5)
    assert paper.content_weighting(M, [0.0] * 3, 1e4) == close([0.25] * 4)                  # similar to nothing
    assert paper.content_weighting([[0.0] * 3] * 4, [1.0, 2.0, 3.0], 1e4) == close([0.25] * 4)
    assert paper.cosine_similarity([3e-3, 0], [1e-3, 0]) == close(3e-6 / math.sqrt(10e-6 * 2e-6))   # epsilon, under each root


def written(*locations, N=4):
    """Links and precedence after a write with weight 1 to each of these locations in turn."""
    L, p = [[0.0] * N for _ in range(N)], [0.0] * N
    for location in locations:
        w = [float(i == location) for i in range(N)]
        L, p = paper.link_matrix(L, w, p), paper.precedence_weighting(p, w)
    return L, p


def test_links_lead_forward_and_backward():
    L, p = written(0, 1, 2)
    one, two, last, none = [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]
    assert p == last
    assert L == [none, one, two, none]                                                      # L[i,j]: i was written after j
    assert paper.forward_weighting(L, one) == two and paper.forward_weighting(L, two) == last
    assert paper.forward_weighting(L, last) == none
    assert paper.backward_weighting(L, last) == two and paper.backward_weighting(L, two) == one
    assert paper.backward_weighting(L, one) == none


def test_links_of_a_location_that_is_written_again_are_lost():
    L, p = written(0, 1, 2, 0)
    assert p == [1, 0, 0, 0]
    assert L == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert written(1, 1)[0] == [[0] * 4] * 4                                                # no link to itself


def test_links_by_hand():
    w, p_prev, L_prev = [0.5, 0.25, 0.0], [0.2, 0.3, 0.4], [[0, 0.1, 0.2], [0.3, 0, 0.4], [0.5, 0.4, 0]]
    assert np.array(paper.link_matrix(L_prev, w, p_prev)) == close(np.array([
        [0, 0.25 * 0.1 + 0.5 * 0.3, 0.5 * 0.2 + 0.5 * 0.4],
        [0.25 * 0.3 + 0.25 * 0.2, 0, 0.75 * 0.4 + 0.25 * 0.4],
        [0.5 * 0.5, 0.75 * 0.4, 0]]))
    assert paper.precedence_weighting(p_prev, w) == close([0.25 * 0.2 + 0.5, 0.25 * 0.3 + 0.25, 0.25 * 0.4])
    assert paper.precedence_weighting(p_prev, [0, 0, 0]) == p_prev                          # nothing written, nothing changed


def test_read_modes():
    b, c, f = [1, 0], [0.5, 0.5], [0, 1]
    assert [paper.read_weighting(pi, b, c, f) for pi in ([1, 0, 0], [0, 1, 0], [0, 0, 1])] == [b, c, f]
    assert paper.read_weighting([0.5, 0.25, 0.25], b, c, f) == [0.625, 0.375]


def test_interface_is_cut_into_the_right_pieces():
    """One hidden unit that is 1, and in every row of the interface's weights another number."""
    W, R = 3, 2
    rows = {"Whr": 6, "Whbr": 2, "Whw": 3, "Whbw": 1, "Whe": 3, "Whv": 3, "Whf": 2, "Whga": 1, "Whgw": 1, "Whp": 6}
    number = iter(range(100))
    params = {name: [[next(number) / 10] for _ in range(n)] for name, n in rows.items()}
    xi = paper.interface(params, [1.0])
    sigmoid, oneplus = (lambda z: 1 / (1 + math.exp(-z))), (lambda z: 1 + math.log(1 + math.exp(z)))
    assert np.array(xi["k_r"]) == close(np.arange(0, 6).reshape(R, W) / 10)
    assert xi["beta_r"] == close([oneplus(0.6), oneplus(0.7)])
    assert xi["k_w"] == close([0.8, 0.9, 1.0])
    assert xi["beta_w"] == close(oneplus(1.1))
    assert xi["e"] == close([sigmoid(1.2), sigmoid(1.3), sigmoid(1.4)])
    assert xi["v"] == close([1.5, 1.6, 1.7])
    assert xi["f"] == close([sigmoid(1.8), sigmoid(1.9)])
    assert [xi["g_a"], xi["g_w"]] == close([sigmoid(2.0), sigmoid(2.1)])
    modes = [math.exp(0.1 * m) for m in range(3)]                                           # each head's three, 0.1 apart
    assert np.array(xi["pi"]) == close(np.array([modes, modes]) / sum(modes))


def test_controller_and_output_by_hand():
    """H = 1, two characters, one read vector of two numbers."""
    params = {"Wxh": [[1, 2], [3, 4], [5, 6], [7, 8]], "Whh": [[-1], [-2], [-3], [-4]], "bh": [[0.1], [0.2], [0.3], [0.4]],
              "Wrh": [[0.5, 1], [1.5, 2], [2.5, 3], [3.5, 4]], "Why": [[1], [2]], "Wry": [[3, 4], [5, 6]], "by": [[0.5], [0.6]]}
    h, c = paper.controller(params, [0.0, 1.0], [0.2, -0.3], [0.7], [0.8])
    i, o, f = (1 / (1 + math.exp(-a)) for a in (2 - 0.7 + 0.1 - 0.3 + 0.1, 4 - 1.4 + 0.3 - 0.6 + 0.2, 6 - 2.1 + 0.5 - 0.9 + 0.3))
    cell = math.tanh(math.tanh(8 - 2.8 + 0.7 - 1.2 + 0.4) * i + f * 0.8)
    assert c == close([cell]) and h == close([o * cell])
    assert paper.output(params, [0.5], [0.2, -0.1]) == close([0.5 + 0.5 + 0.6 - 0.4, 1.0 + 0.6 + 1.0 - 0.6])


# ---- both implementations on networks whose weights were set by hand ------------------------------------------------

@both
def test_a_step_with_all_parameters_zero(forward):
    """Gates are 1/2, read modes 1/3, keys and vectors 0, so every number after one and two steps is known."""
    sizes = {"hidden": 2, "locations": 4, "width": 3, "heads": 2}
    params = zero_params(5, **sizes)
    params["by"][:, 0] = range(5)
    y, state, _ = forward(params, np.array([[2]]), zero_state(1, **sizes))
    assert y[:, 0, 0] == close(np.arange(5))
    ww = 0.5 * (0.5 * np.array([1, 0, 0, 0]) + 0.5 / 4)
    assert state["ww"][:, 0] == close(ww, abs=1e-6) and state["p"][:, 0] == close(ww, abs=1e-6)
    assert state["wr"][:, :, 0] == close(np.full((2, 4), 1 / 12))                           # content alone, no links yet
    assert not any(state[name].any() for name in ("h", "c", "M", "u", "L", "r"))

    _, state, _ = forward(params, np.array([[2]]), state)
    u = ww * (1 - 0.5 / 12) ** 2
    assert state["u"][:, 0] == close(u, abs=1e-6)
    v, rank = u[3], np.array([3, 2, 0, 1])                              # allocation gave 1 the epsilon that 2 and 3 do not have
    ww2 = 0.5 * (0.5 * v ** rank * (1 - u) + 0.5 / 4)
    assert state["ww"][:, 0] == close(ww2, abs=2e-6)
    assert state["L"][:, :, 0] == close(np.outer(ww2, ww) * (1 - np.eye(4)), abs=2e-6)
    assert state["p"][:, 0] == close((1 - ww2.sum()) * ww + ww2, abs=2e-6)


@both
def test_a_machine_that_recites_by_following_its_links(forward):
    """Weights by hand: s, a, b, c are written to free locations in turn; q finds s by content; n reads on, p reads back."""
    alphabet, sizes = "sabcqnp", {"hidden": 8, "locations": 6, "width": 4, "heads": 1}
    s, q, n, p, always = 0, 4, 5, 6, 7                                  # hidden units: one per character, one always on
    params = zero_params(7, **sizes)
    on = 1 / math.tanh(1)                                               # a unit that is on has h = tanh(1): this makes it 1
    params["bh"][:8], params["bh"][8:16], params["bh"][16:24] = 20, 20, -20                 # i = o = 1, f = 0
    params["Wxh"][24:31] = 20 * np.eye(7)                                                   # g: which character it is
    params["bh"][24 + always] = 20
    params["Whgw"][0, always], params["Whgw"][0, :4] = -20 * on, 40 * on                    # write s, a, b, c
    params["Whga"][0, always] = 20 * on                                                     # to a free location,
    params["Whv"][:, :4] = np.eye(4) * on                                                   # as they are
    params["Whf"][0, always] = -20 * on                                                     # reading frees nothing
    params["Whr"][s, always], params["Whbr"][0, always] = on, 50 * on                       # the key is s
    params["Whp"][1, always], params["Whp"][0, p], params["Whp"][2, n] = 20 * on, 40 * on, 40 * on
    params["Wry"][:4] = np.eye(4)                                                           # say what was read

    texts = ["sacbqnnnpppn", "sbbaqnnnpppq", "scqnpsaaqnnn"]            # in the last one q finds two s, half each
    inputs = np.array([[alphabet.index(x) for x in text] for text in texts]).T
    y, state, _ = forward(params, inputs, zero_state(len(texts), **sizes))
    said = ["".join(alphabet[m] for m in y[:, 4:, b].argmax(axis=0)) for b in range(2)]
    assert said == ["sacbcasa", "sbbabbss"]
    assert y.max(axis=0)[4:, :2] == close(1, abs=1e-3)
    at = state["M"][:, [0, 1, 3, 2], 0].argmax(axis=0)                   # where it has written s, a, c, b
    used, links = np.zeros(6), np.zeros((6, 6))
    used[at], links[at[1:], at[:-1]] = 1, 1
    assert state["M"][at, [0, 1, 3, 2], 0] == close(1, abs=1e-3) and state["M"][..., 0].sum() == close(4, abs=1e-3)
    assert state["u"][:, 0] == close(used, abs=1e-3) and used.sum() == 4
    assert state["L"][:, :, 0] == close(links, abs=1e-3)
    assert y[:4, -4:, 2].T == close(np.array([[1, 0, 0, 0], [0, .5, 0, .5], [.5, .5, 0, 0], [0, .5, 0, 0]]), abs=1e-3)


# ---- the script against dnc_paper.py --------------------------------------------------------------------------------

SIZES = {"1 head, N > S": dict(hidden=5, locations=9, width=4, heads=1),
         "3 heads, N > S": dict(hidden=6, locations=11, width=3, heads=3),
         "1 head, N < S": dict(hidden=7, locations=3, width=6, heads=1),
         "3 heads, N < S": dict(hidden=4, locations=4, width=5, heads=3),
         "smallest": dict(hidden=1, locations=1, width=1, heads=1)}
WEIGHTS = {"fresh": (0.01, 1), "0.5": (0.5, 1), "2.0": (2.0, 1), "large strengths": (0.5, 3000)}   # scale, strengths' factor
STARTS = ["zero", "equal usages", "full memory", "in use"]


def weights(rng, scale, strength, **sizes):
    """Random parameters; the rows of the strengths are this much larger still."""
    params = zero_params(M, **sizes)
    params.flat[:] = rng.standard_normal(params.flat.size) * scale
    params["bh"][2 * sizes["hidden"]:3 * sizes["hidden"]] += 1
    params["Whbr"] *= strength
    params["Whbw"] *= strength
    return params


def start(rng, kind, B, **sizes):
    """A state to start from."""
    state, N = zero_state(B, **sizes), sizes["locations"]
    if kind != "zero":
        state["u"][:] = 0.5 if kind == "equal usages" else 1
        state["M"][:] = rng.standard_normal(state["M"].shape)
    if kind == "in use":
        state["u"][:] = rng.random((N, B))
        state["p"][:], state["ww"][:] = rng.dirichlet(np.ones(N + 1), (2, B))[:, :, :N].transpose(0, 2, 1)
        state["wr"][:] = rng.dirichlet(np.ones(N + 1), (sizes["heads"], B))[:, :, :N].transpose(0, 2, 1)
        state["L"][:] = rng.random((N, N, B)) / N * (1 - np.eye(N))[:, :, None]
        for name in ("h", "c", "r"):
            state[name][:] = rng.uniform(-1, 1, state[name].shape)
    return state


def worst_difference(params, state, rng, oracle=paper, lengths=(6, 6, 1, 9, 6)):
    """The largest difference between script and oracle over several windows, each going on from its own state."""
    B = state["u"].shape[-1]
    ours, theirs, window, worst = state, {name: s.copy() for name, s in state.items()}, None, {}
    for number, S in enumerate(lengths):
        for stream in {1: [B - 1], 3: [0]}.get(number, []):             # these start anew, the others go on
            for s in (*ours.values(), *theirs.values()):
                s[..., stream] = 0
        inputs = rng.integers(0, M, (S, B))
        y, ours, window = dnc.forward(params, inputs, ours, window)
        want, theirs, _ = paper_forward(params, inputs, theirs, oracle)
        assert ours.keys() == theirs.keys() and len(ours) == 9
        for name, a, b in [("logits", y, want)] + [(name, ours[name], theirs[name]) for name in theirs]:
            assert a.shape == b.shape and a.dtype == np.float64, name
            assert np.isfinite(a).all(), name
            worst[name] = max(worst.get(name, 0), np.abs(a - b).max())
    return worst


def test_parameters_have_the_agreed_names_and_shapes():
    for sizes in SIZES.values():
        assert dict(dnc.param_shapes(M, **sizes)) == shapes(M, **sizes)


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("scale, strength", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("B", [1, 4])
def test_script_agrees_with_the_paper(B, sizes, scale, strength, kind):
    rng = np.random.default_rng([B, sizes["locations"], STARTS.index(kind)])
    worst = worst_difference(weights(rng, scale, strength, **sizes), start(rng, kind, B, **sizes), rng)
    assert max(worst.values()) < 1e-10, worst


# What was found wrong in public implementations, and what else is easily got wrong. Here it is dnc_paper.py that gets it wrong.
MISTAKES = {
    "read modes softmaxed over heads": ("softmax([modes[3 * r + m] for m in range(3)])",
                                        "[softmax([modes[3 * q + m] for q in range(R)])[r] for m in range(3)]"),
    "read modes in another order": ('read_weighting(xi["pi"][i], b', 'read_weighting(xi["pi"][i][::-1], b'),
    "read keys overlap": ("rows[r * W + j]", "rows[r * (W - 1) + j]"),
    "read vectors not fed back": ('params, x, prev["r"]', 'params, x, [0.0] * len(prev["r"])'),
    "cell not squashed": ("c.append(math.tanh(g * i + f * c_prev[n]))", "c.append(g * i + f * c_prev[n])"),
    "strengths without the 1": ("return 1 + math.log1p(math.exp(z)) if z < 0 else 1 + z",
                                "return math.log1p(math.exp(z)) if z < 0 else z"),
    "epsilon outside the root": ("for j in range(len(v))) + EPSILON)", "for j in range(len(v)))) + EPSILON"),
    "reads from the memory before": ('content_weighting(M, xi["k_r"]', 'content_weighting(prev["M"], xi["k_r"]'),
    "erased after adding": ("M_prev[i][j] * (1 - w_w[i] * e[j]) + w_w[i] * v[j]",
                            "(M_prev[i][j] + w_w[i] * v[j]) * (1 - w_w[i] * e[j])"),
    "free gates forgotten": ("* psi[i]", "* 1"),
    "freed before written": ("(u_prev[i] + w_w_prev[i] - u_prev[i] * w_w_prev[i]) * psi[i]",
                             "u_prev[i] * psi[i] + w_w_prev[i] - u_prev[i] * psi[i] * w_w_prev[i]"),
    "most used first": ("(range(len(u)), key=lambda i: u[i] + i", "(range(len(u)), key=lambda i: -u[i] + i"),
    "allocation gathered with phi": ("a[phi[j]] =", "a[phi.index(j)] ="),
    "allocation without epsilon": ("EPSILON + (1 - EPSILON) * u[i]", "u[i]"),
    "ties the other way": ("u[i] + i * DELTA", "u[i] - i * DELTA"),
    "write gate on allocation only": ("(g_a * a[i] + (1 - g_a) * c_w[i])", "g_a * a[i] + (1 - g_a) * c_w[i]"),
    "precedence before the links": ('w_w, prev["p"])\n    p', 'w_w, precedence_weighting(prev["p"], w_w))\n    p'),
    "links made the other way": ("w_w[i] * p_prev[j] if", "w_w[j] * p_prev[i] if"),
    "links to itself": (" if i != j else 0.0 for j", " for j"),
    "forward and backward swapped": ("b, c_r, f)", "f, c_r, b)"),
}


@pytest.mark.parametrize("right, wrong", MISTAKES.values(), ids=MISTAKES)
def test_the_comparison_sees(right, wrong):
    mistaken = load_changed("tests/dnc_paper.py", right, wrong)
    sizes, rng = SIZES["3 heads, N > S"], np.random.default_rng(1)
    worst = worst_difference(weights(rng, 0.5, 1, **sizes), start(rng, "zero", 2, **sizes), rng, mistaken)
    assert max(worst.values()) > 1e-6, worst
    assert worst["logits"] > 1e-8 or "DELTA" in right                   # which of two equal locations it was, no output tells


# ---- what has to hold for every DNC, after many steps ---------------------------------------------------------------

def long_run(rng, kind, scale, strength, dtype, steps, B=4):
    """Run so many steps and look at the state now and then. No floating-point error but underflow may occur."""
    sizes, rounding = SIZES["3 heads, N > S"], 1e-12 if dtype is np.float64 else 1e-5
    params = dnc.Params(dnc.param_shapes(M, **sizes), dtype)
    params.flat[:] = weights(rng, scale, strength, **sizes).flat
    state, window = {name: s.astype(dtype) for name, s in start(rng, kind, B, **sizes).items()}, None
    for _ in range(steps // 20):
        with np.errstate(all="raise", under="ignore"):
            y, state, window = dnc.forward(params, rng.integers(0, M, (20, B)), state, window)
        assert np.isfinite(y).all() and all(np.isfinite(s).all() and s.dtype == dtype for s in state.values())
        for name in ("ww", "wr", "p", "u", "L"):
            assert state[name].min() >= -rounding and state[name].max() <= 1 + rounding, name
        for name, axis in (("ww", 0), ("wr", 1), ("p", 0), ("L", 0), ("L", 1)):
            assert state[name].sum(axis=axis).max() <= 1 + rounding, name
        assert not np.einsum("iib->ib", state["L"]).any()
        assert np.abs(state["h"]).max() <= 1 and np.abs(state["c"]).max() <= 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["double", "single"])
@pytest.mark.parametrize("scale, strength", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("kind", STARTS)
def test_weightings_usage_and_links_stay_in_their_range(kind, scale, strength, dtype):
    long_run(np.random.default_rng(2), kind, scale, strength, dtype, steps=500)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["double", "single"])
def test_they_still_do_after_10000_steps(dtype):
    long_run(np.random.default_rng(3), "zero", 2.0, 1, dtype, steps=10_000)
