"""The DNC where the article's repository crashed, or might have: empty and full memories, gates that are 0 or 1, endless runs.

Whatever comes, all values and gradients are finite, weightings are weightings, NumPy has nothing to warn of, and a run in
single precision stays in single precision.
"""
import itertools
import sys

import numpy as np
import pytest
from loading import M, load, random_params

MODEL = load("dnc-numpy.py")
B, H, W = 2, 4, 3
dtypes, heads = pytest.mark.parametrize("dtype", [np.float32, np.float64]), pytest.mark.parametrize("R", [1, 2, 3])


def start(R, dtype, scale=0.7, N=6):
    """Random parameters that let each h_t lie between 0.6 and 1, and the zero state."""
    sizes, rng = {"hidden": H, "locations": N, "width": W, "heads": R}, np.random.default_rng(R)
    params = random_params(MODEL, sizes, rng, scale, dtype)
    for name in ("Wxh", "Whh", "Wrh"):
        params[name] *= 0.05
    params["bh"][:] = 3
    return params, MODEL.zeros(MODEL.state_shapes(B, **sizes), dtype), rng


def full(state, rng):
    """A state that is at its limits: all is used, each weighting is at one location; written in the order 1, 2, ..., N - 1, 0."""
    state = {name: np.zeros_like(value) for name, value in state.items()}
    N = len(state["u"])
    state["M"][:] = rng.standard_normal(state["M"].shape)
    state["u"][:] = state["ww"][0] = state["p"][0] = state["wr"][:, -1] = 1
    state["L"][np.arange(2, N), np.arange(1, N - 1)] = state["L"][0, N - 1] = 1
    state["r"][:] = np.tile(state["M"][-1], (len(state["wr"]), 1))
    return state


def excess(state):
    """By how much a weighting, a usage, or a row or column of links is above 1 in sum, or below 0 somewhere, at most."""
    above = [value.sum(axis).max() - 1 for value, axis in ((state["ww"], 0), (state["p"], 0), (state["wr"], 1), (state["L"], 0), (state["L"], 1))]
    above.append((state["L"].sum(axis=0) + state["p"]).max() - 1)           # what was written last has no successor yet
    return float(max(*above, state["u"].max() - 1, *(-state[name].min() for name in ("u", "ww", "p", "wr", "L"))))


def check(state, dtype):
    """The state is finite and of this type, and what has to be a weighting is one."""
    assert all(value.dtype == dtype and np.isfinite(value).all() for value in state.values())
    assert excess(state) <= (1e-5 if dtype == np.float32 else 1e-12)
    assert not np.diagonal(state["L"]).any()


def survive(params, state, rng, S=6):
    """S steps, one by one and as one window with its backward pass, gradients coming from everywhere; the state after them."""
    dtype, inputs, after = params.flat.dtype, rng.integers(M, size=(S, B)), state

    def normal(value):
        return rng.standard_normal(value.shape).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        for t in range(S):
            after = MODEL.forward(params, inputs[t:t + 1], after)[1]
            check(after, dtype)
        logits, after, window = MODEL.forward(params, inputs, state)
        grads, before = MODEL.backward(params, window, normal(logits), {name: normal(value) for name, value in after.items()})
    check(after, dtype)
    for values in (logits, grads.flat, *before.values()):
        assert values.dtype == dtype and np.isfinite(values).all()
    return after


def drive(params, name, z):
    """Let what this parameter reads out of h_t be at least z; if z is below 0, at most z."""
    params[name][:] = np.reshape(z, (-1, 1)) / (0.6 * H)


# Memories and keys ----------------------------------------------------------------------------------------------------

@dtypes
@heads
@pytest.mark.parametrize("memory", ["zero", "full", "equal rows", "one location"])
@pytest.mark.parametrize("keys", ["zero", "equal", "rows", "random"])
def test_memories_and_keys(memory, keys, R, dtype):
    params, state, rng = start(R, dtype, N=1 if memory == "one location" else 6)
    if memory == "full":
        state = full(state, rng)
    if memory == "equal rows":
        state["M"][:] = rng.standard_normal((1, W, B))
    if keys == "zero":
        params["Whr"][:] = params["Whw"][:] = params["Whv"][:] = 0      # and nothing but zeros is written
    if keys in ("equal", "rows"):
        params["Whr"][:] = np.tile(params["Whw"], (R, 1))
    if keys == "rows":
        params["Whv"][:] = params["Whw"]                                # the rows that are written equal the keys
    for _ in range(3):
        state = survive(params, state, rng)


@dtypes
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e-6, 1e6])
def test_tiny_and_large_memories_and_keys(size, dtype):
    params, state, rng = start(2, dtype)
    for name in ("Whr", "Whw", "Whv"):
        params[name] *= size
    params["Wrh"] *= min(1, 1 / size)
    state["M"][:] = rng.standard_normal(state["M"].shape) * size
    for _ in range(3):
        state = survive(params, state, rng)


# Gates and strengths --------------------------------------------------------------------------------------------------

@dtypes
@heads
@pytest.mark.parametrize("begin", ["zero", "full", "worn"])
def test_saturated_gates_and_extreme_strengths(begin, R, dtype):
    """All gates at 0 or 1 exactly, in all combinations, with each of the read modes alone; strengths of 1e4, and of 1."""
    params, zero, rng = start(R, dtype)
    states = {"zero": zero, "full": full(zero, rng), "worn": MODEL.forward(params, rng.integers(M, size=(20, B)), zero)[1]}
    drive(params, "Whbr", [1e4, -1e4, 1e4][:R])
    drive(params, "Whbw", 1e4)
    for *gates, mode in itertools.product(*[[-100, 100]] * 4, range(3)):
        for name, z in zip(("Whe", "Whf", "Whga", "Whgw"), gates):
            drive(params, name, z)
        drive(params, "Whp", np.tile(200 * np.eye(3)[mode], R))
        after = survive(params, states[begin], rng, S=3)
        pre = np.concatenate([params[name] for name in ("Whe", "Whf", "Whga", "Whgw")]) @ after["h"]
        assert (abs(pre) >= 100).all() and (abs(params["Whbr"] @ after["h"]) >= 1e4).all()


@dtypes
@heads
def test_interface_weights_of_1e4(R, dtype):
    params, state, rng = start(R, dtype)
    for name in MODEL.interface(W, R):
        params[name] *= 1e4
    params["Wrh"] *= 1e-4                                   # or read vectors of 1e4 would saturate the controller
    for state in (state, full(state, rng)):
        for _ in range(4):
            state = survive(params, state, rng)


# Endless runs ---------------------------------------------------------------------------------------------------------

def endless(scale, dtype, windows):
    """The state after each of so many windows of 25 steps, checked, now and then with the backward pass."""
    sizes, rng, S = {"hidden": 8, "locations": 6, "width": W, "heads": 2}, np.random.default_rng(1), 25
    params, window = random_params(MODEL, sizes, rng, scale, dtype), None
    state = MODEL.zeros(MODEL.state_shapes(B, **sizes), dtype)
    for k in range(windows):
        if k % 20 == 0:
            state = survive(params, state, rng, S)
        else:
            with np.errstate(all="raise", under="ignore"):
                _, state, window = MODEL.forward(params, rng.integers(M, size=(S, B)), state, window)
            check(state, dtype)
        yield state


@dtypes
@pytest.mark.parametrize("scale", [None, 8])
def test_ten_thousand_steps(scale, dtype):
    assert sum(1 for _ in endless(scale, dtype, 400)) == 400


# Single precision -----------------------------------------------------------------------------------------------------

@dtypes
def test_the_type_of_the_parameters_is_the_type_of_everything(dtype):
    """Of all that is returned, of all arrays of the window, and of all local variables on the way there."""
    params, state, rng = start(2, dtype)
    found, visited, inputs = set(), set(), rng.integers(M, size=(3, B))

    def collect(owner, values):
        for name, value in values.items():
            if isinstance(value, MODEL.Window):
                collect(name, vars(value))
            elif isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind not in "iub":
                found.add((owner, name, value.dtype))

    def trace(frame, event, arg):
        if frame.f_globals is not vars(MODEL):
            return None
        visited.add(frame.f_code.co_name)
        collect(frame.f_code.co_name, frame.f_locals)
        return trace
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        logits, after, window = MODEL.forward(params, inputs, state)
        nats, dlogits = MODEL.cross_entropy(logits, inputs)
        grads, dstate = MODEL.backward(params, window, dlogits, after)
        mem = np.zeros_like(params.flat)
        MODEL.adagrad(params.flat, grads.flat, mem, 0.1)
    finally:
        sys.settrace(before)
    assert {"forward", "use_memory", "cross_entropy", "backward", "use_memory_backward", "adagrad"} <= visited
    for owner, values in [("window", vars(window)), ("after", after), ("dstate", dstate), ("grads", grads),
                          ("rest", {"logits": logits, "nats": nats, "dlogits": dlogits, "mem": mem})]:
        collect(owner, values)
    assert len(found) > 100 and {entry for entry in found if entry[2] != dtype} == set()
