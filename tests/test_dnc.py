"""The DNC: dnc_paper.py against examples worked out by hand, and memories at their limits: empty,
full or worn, gates at 0 and 1, endless runs. There all values and gradients are finite, weightings
are weightings, and NumPy has nothing to warn of. test_pictures.py has a network set by hand."""
import itertools
import math

import dnc_paper as paper
import numpy as np
import pytest
from loading import INTERFACE, V, load, random_params, zero_state
from test_equations import STARTS, WEIGHTS, dnc_params, dnc_start

DNC = load("dnc-numpy.py")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def written(*locations, N=4):
    """Links and precedence after a write with weight 1 to each of these locations in turn."""
    L, p = [[0.0] * N for _ in range(N)], [0.0] * N
    for location in locations:
        w = [float(i == location) for i in range(N)]
        L, p = paper.link_matrix(L, w, p), paper.precedence_weighting(p, w)
    return L, p


A, C, ROOT_HALF = [1.0, 0.0, 0.0], [0.2, 0.3, 0.5], math.sqrt(0.5)
ROWS = [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
SHARES = np.exp([0, 2, 2 * ROOT_HALF, 0]) / np.exp([0, 2, 2 * ROOT_HALF, 0]).sum()
ONE, TWO, LAST, NONE = [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]
W_W, P, L = [0.5, 0.25, 0.0], [0.2, 0.3, 0.4], [[0, 0.1, 0.2], [0.3, 0, 0.4], [0.5, 0.4, 0]]
CHAIN = written(0, 1, 2)[0]
BY_HAND = [                                     # function, arguments, result, tolerance
    *((paper.sigmoid, [z], p, 1e-9) for z, p in [(-1e4, 0), (-math.log(3), 1 / 4), (1e4, 1)]),
    *((paper.oneplus, [z], x, 1e-9) for z, x in [
        (-1e4, 1), (0, 1 + math.log(2)), (math.log(math.e - 1), 2), (1e4, 10001)]),
    (paper.softmax, [[1e4, 1e4 + math.log(3), -1e4]], [0.25, 0.75, 0], 1e-9),
    (paper.times, [[[1, 2, 3], [4, 5, 6]], [1, 0, -1]], [-2, -2], 0),
    # the least used first; [2, 0, 1] is not its own inverse; equal but for rounding; not equal
    (paper.free_list, [[0.5, 0.8, 0.2]], [2, 0, 1], 0),
    (paper.free_list, [[1.0] * 5], [0, 1, 2, 3, 4], 0),
    (paper.free_list, [[0.5 + 1e-15, 0.5, 0.5 - 1e-15, 0.1]], [3, 0, 1, 2], 0),
    (paper.free_list, [[0.5 + 3e-9, 0.5, 0.5]], [1, 2, 0], 0),
    (paper.allocation_weighting, [[0.5, 0.8, 0.2]], [0.1, 0.02, 0.8], 3e-6),
    (paper.allocation_weighting, [[1.0, 0.0, 1.0]], [0, 1, 0], 3e-6),
    (paper.allocation_weighting, [[1.0] * 4], [0] * 4, 1e-15),              # full: nowhere to write
    (paper.allocation_weighting, [[0.0] * 3], [1 - 1e-6, 1e-6 - 1e-12, 1e-12 - 1e-18], 1e-20),
    (paper.usage_vector, [[0, 0.5, 1], [0.3, 0.5, 0.2], [1, 1, 1]], [0.3, 0.75, 1], 1e-9),
    (paper.usage_vector, [[1, 1, 0.5], [0, 0, 0], [0, 0.8, 0.72]], [0, 0.8, 0.36], 1e-9),
    (paper.memory_retention, [[1, 0.5], [[1, 0, 0.2], [0, 0.4, 0.2]]], [0, 0.8, 0.72], 1e-9),
    (paper.write_weighting, [0, 0.7, A, C], [0, 0, 0], 0),
    (paper.write_weighting, [1, 1, A, C], A, 0),
    (paper.write_weighting, [1, 0, A, C], C, 0),
    (paper.write_weighting, [0.5, 0.25, A, C], [0.2, 0.1125, 0.1875], 1e-9),
    # a write erases, then adds
    (paper.write, [[[1, 2], [3, 4]], [0, 1], [1, 1], [7, 8]], [[1, 2], [7, 8]], 0),
    (paper.write, [[[1, 2], [3, 4]], [0, 1], [1, 0], [0, 0]], [[1, 2], [0, 4]], 0),
    (paper.write, [[[1, 2], [3, 4]], [0.5, 0.25], [1, 0.5], [4, 8]], [[2.5, 5.5], [3.25, 5.5]], 0),
    (paper.read_vector, [[[1, 2], [3, 4]], [0.25, 0.5]], [1.75, 2.5], 0),
    # content: by direction, not by length; a row or a key of zeros is similar to nothing
    (paper.content_weighting, [ROWS, [0, 1, 0], 1e4], [0, 1, 0, 0], 1e-9),
    (paper.content_weighting, [ROWS, [5, 5, 0], 1e4], [0, 0, 1, 0], 1e-9),
    (paper.content_weighting, [ROWS, [0, 1, 0], 2], SHARES, 1e-5),
    (paper.content_weighting, [ROWS, [0, 0, 0], 1e4], [0.25] * 4, 1e-9),
    (paper.content_weighting, [[[0, 0]] * 4, [1, 2], 1e4], [0.25] * 4, 1e-9),
    (paper.cosine_similarity, [[3e-3, 0], [1e-3, 0]], 3e-6 / math.sqrt(10e-6 * 2e-6), 1e-9),
    # L[i,j]: i was written after j; a location that is written again loses its links
    (written, [0, 1, 2], ([NONE, ONE, TWO, NONE], LAST), 0),
    (written, [0, 1, 2, 0], ([LAST, NONE, TWO, NONE], ONE), 0),
    (written, [1, 1], ([NONE] * 4, TWO), 0),                                # no link to itself
    *((paper.forward_weighting, (CHAIN, w), f, 0) for w, f in
      ((ONE, TWO), (TWO, LAST), (LAST, NONE))),
    *((paper.backward_weighting, [CHAIN, w], b, 0) for w, b in
      ((LAST, TWO), (TWO, ONE), (ONE, NONE))),
    (paper.link_matrix, [L, W_W, P], [[0, 0.175, 0.3], [0.125, 0, 0.4], [0.25, 0.3, 0]], 1e-9),
    (paper.precedence_weighting, [P, W_W], [0.55, 0.325, 0.1], 1e-9),
    (paper.precedence_weighting, [P, [0, 0, 0]], P, 0),                     # nothing written
    (paper.read_weighting, [[0.5, 0.25, 0.125], [1, 0], [0.5, 0.5], [0, 1]], [0.625, 0.25], 0)]


@pytest.mark.parametrize("function, args, result, tolerance", BY_HAND)
def test_by_hand(function, args, result, tolerance):
    found = function(*args)
    pairs = zip(found, result, strict=True) if isinstance(result, tuple) else [(found, result)]
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def check(state, dtype):
    """The state is finite and of this type, and what has to be a weighting is one."""
    assert all(value.dtype == dtype and np.isfinite(value).all() for value in state.values())
    L, rounding = state["L"], 1e-5 if dtype == np.float32 else 1e-12
    sums = [state[name].sum(axis=-1) for name in ("ww", "p", "wr", "L")] + [state["u"]]
    sums.append(L.sum(axis=1) + state["p"])     # what was written last has no successor yet
    assert max(value.max() for value in sums) <= 1 + rounding
    assert min(state[name].min() for name in ("u", "ww", "p", "wr", "L")) >= -rounding
    assert not np.einsum("bii->bi", L).any()
    assert max(abs(state["h"]).max(), abs(state["c"]).max()) <= 1


def survive(params, state, rng, S=6):
    """S steps, one by one, and as one window with its backward pass, gradients from everywhere."""
    dtype, after = state["h"].dtype, state
    inputs = rng.integers(V, size=(S, len(state["h"])))

    def normal(value):
        return rng.standard_normal(value.shape).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        for t in range(S):
            after = DNC.forward(params, inputs[t:t + 1], after)[1]
            check(after, dtype)
        y, after, cache = DNC.forward(params, inputs, state)
        grads, before = DNC.backward(params, cache, normal(y),
                                     {name: normal(value) for name, value in after.items()})
    check(after, dtype)
    for value in (y, *grads.values(), *before.values()):
        assert value.dtype == dtype and np.isfinite(value).all()
    return after


def start(R, dtype, N=6):
    """Parameters that let each h_t lie between 0.6 and 1, and the zero state."""
    rng, sizes = np.random.default_rng(R), (4, N, 3, R)
    params = random_params(DNC, sizes, rng, 0.7, dtype)
    for name in params:
        params[name] *= 0.05 if name in ("Wxh", "Whh", "Wrh") else 1 / 3 if name in INTERFACE else 1
    params["bh"][:] = 3
    return params, zero_state(DNC, sizes, 2, dtype), rng


def full(state, rng):
    """All is used, each weighting is at one location; written in the order 1, 2, ..., N - 1, 0."""
    state = {name: np.zeros_like(value) for name, value in state.items()}
    N = state["u"].shape[1]
    state["M"][:] = rng.standard_normal(state["M"].shape)
    state["u"][:] = state["ww"][:, 0] = state["p"][:, 0] = state["wr"][:, :, -1] = 1
    state["L"][:, np.arange(2, N), np.arange(1, N - 1)] = state["L"][:, 0, N - 1] = 1
    state["r"][:] = state["M"][:, -1:]
    return state


def drive(params, name, z):
    """Let what this parameter reads out of h_t be at least z; if z is below 0, at most z."""
    params[name][:] = np.reshape(z, (-1, 1)) / (0.6 * 4)


@dtypes
@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("memory", ["zero", "full", "equal rows", "one location"])
@pytest.mark.parametrize("keys", ["zero", "rows", 1, 1e-30, 1e-18, 1e-6, 1e4])
def test_memories_and_keys(memory, keys, R, dtype):
    params, state, rng = start(R, dtype, N=1 if memory == "one location" else 6)
    if memory == "full":
        state = full(state, rng)
    if memory == "equal rows":
        state["M"][:] = rng.standard_normal((2, 1, 3))
    if keys == "rows":                                  # the rows that are written equal all keys
        params["Whr"][:] = np.tile(params["Whw"], (R, 1))
        params["Whv"][:] = params["Whw"]
    else:
        for name in INTERFACE if keys == 1e4 else ("Whr", "Whw", "Whv"):
            params[name] *= 0 if keys == "zero" else keys
        params["Wrh"] *= 1e-4 if keys == 1e4 else 1     # or r would saturate the controller
        state["M"] *= keys if keys != "zero" else 1
    for _ in range(3):
        state = survive(params, state, rng)


@dtypes
@pytest.mark.parametrize("R", [1, 2, 3])
@pytest.mark.parametrize("begin", ["zero", "full", "worn"])
def test_saturated_gates_and_extreme_strengths(begin, R, dtype):
    """All gates at 0 or 1, in all combinations, with each read mode alone; strengths 1e4 and 1."""
    params, zero, rng = start(R, dtype)
    worn = DNC.forward(params, rng.integers(V, size=(20, 2)), zero)[1]
    drive(params, "Whbr", [1e4, -1e4, 1e4][:R])
    drive(params, "Whbw", 1e4)
    gates = "Whe", "Whf", "Whga", "Whgw"
    for *at, mode in itertools.product(*[[-100, 100]] * 4, range(3)):
        for name, z in zip(gates, at):
            drive(params, name, z)
        drive(params, "Whp", np.tile(200 * np.eye(3)[mode], R))
        state = {"zero": zero, "full": full(zero, rng), "worn": worn}[begin]
        after = survive(params, state, rng, S=3)
        assert abs(after["h"] @ np.concatenate([params[name] for name in gates]).T).min() >= 100


@dtypes
@pytest.mark.parametrize("weights, kind, steps", [
    *((weights, kind, 400) for weights in WEIGHTS for kind in STARTS), ("two", "zero", 10_000)])
def test_long_runs(weights, kind, steps, dtype):
    rng, sizes = np.random.default_rng(2), (6, 11, 3, 3)
    params, state = ({name: value.astype(dtype) for name, value in group.items()} for group in
                     (dnc_params(rng, weights, sizes), dnc_start(rng, kind, 4, sizes)))
    for _ in range(steps // 20):
        with np.errstate(all="raise", under="ignore"):
            y, state, _ = DNC.forward(params, rng.integers(V, size=(20, 4)), state)
        assert np.isfinite(y).all()
        check(state, dtype)
    survive(params, state, rng)
