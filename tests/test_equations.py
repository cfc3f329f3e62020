"""The models, what feeds them, scores them and samples from them, against the same things number by
number. The DNC's equations are in dnc_paper.py."""
import math
import types

import dnc_paper
import numpy as np
import pytest
from loading import INTERFACE, SIZES, M, load, random_case, random_params, zero_state

RNN, DNC = load("rnn-numpy.py"), load("dnc-numpy.py")
models = pytest.mark.parametrize("name", SIZES)
GO = types.SimpleNamespace(signal=0)                        # nobody asks to stop


def output(p, h):
    """Why h + by: the DNC's output, with nothing read."""
    return dnc_paper.output({**p, "Wry": [[]] * len(p["Why"])}, h, [])


def rnn_step(p, k, state):
    a = zip(p["Wxh"], dnc_paper.times(p["Whh"], state["h"]), p["bh"], strict=True)
    h = [math.tanh(row[k] + recurrent + bias) for row, recurrent, [bias] in a]
    return output(p, h), {"h": h}


def lstm_step(p, k, state):
    """The DNC's controller, with nothing read."""
    x, params = np.eye(len(p["Why"]))[k].tolist(), {**p, "Wrh": [[]] * len(p["bh"])}
    h, c = dnc_paper.controller(params, x, [], state["h"], state["c"])
    return output(p, h), {"h": h, "c": c}


STEPS = {"rnn-numpy.py": rnn_step, "lstm-numpy.py": lstm_step, "dnc-numpy.py": dnc_paper.step}


def literal(name, params, inputs, state, reset=None):
    """As forward: the logits and the state after, stream by stream and step by step."""
    p = {key: value.tolist() for key, value in params.items()}
    logits, afters = [], []
    for b in range(inputs.shape[1]):
        current, y = {key: value[b].tolist() for key, value in state.items()}, []
        for k in inputs[:, b].tolist():
            if k == reset:
                current = {key: np.zeros(value.shape[1:]).tolist() for key, value in state.items()}
            y_t, current = STEPS[name](p, k, current)
            y.append(y_t)
        logits.append(y)
        afters.append(current)
    after = {key: np.array([current[key] for current in afters]) for key in state}
    return np.array(logits).transpose(2, 1, 0), after


def assert_follows(model, name, params, state, rng, lengths, reset=None):
    """Script and literal equations agree over windows, each going on from its own state."""
    ours, theirs, B = state, state, len(state["h"])
    for number, S in enumerate(lengths):
        inputs = rng.integers(M, size=(S, B))
        y, ours, _ = model.forward(params, inputs, ours, reset)
        want, theirs = literal(name, params, inputs, theirs, reset)
        assert list(ours) == list(theirs) == list(model.state_shapes(B, *SIZES[name]))
        for a, b in [(y, want), *((ours[key], theirs[key]) for key in theirs)]:
            assert a.shape == b.shape and a.dtype == np.float64 and np.isfinite(a).all()
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
        for values in (*ours.values(), *theirs.values()):
            values[number % B] = 0                          # this stream starts anew


@models
@pytest.mark.parametrize("scale", [0.5, 5])
@pytest.mark.parametrize("reset", [None, 3])
def test_forward(name, scale, reset, model=None):
    model, rng = model or load(name), np.random.default_rng(1)
    case = random_case(name, 3, 5, scale if name != "dnc-numpy.py" else 0.1 * scale)
    assert_follows(model, name, case.params, case.state, rng, (5, 1, 4, 6), reset)


WEIGHTS = {"fresh": (0.01, 1), "half": (0.5, 1), "two": (2.0, 1), "strong": (0.5, 3000)}
STARTS = ["zero", "equal usages", "nearly unused", "full", "in use"]


def dnc_start(rng, kind, B, sizes):
    """A state to start from."""
    state, (N, W) = zero_state(DNC, sizes, B), sizes[1:3]
    if kind != "zero":
        state["u"][:] = {"equal usages": 0.5, "nearly unused": 1e-7 * rng.random((B, N)), "full": 1,
                         "in use": rng.random((B, N))}[kind]
        state["M"][:] = rng.standard_normal((B, N, W))
    if kind == "in use":
        for name in ("p", "ww", "wr"):
            shape = state[name].shape
            state[name][:] = rng.dirichlet(np.ones(N + 1), shape[:-1])[..., :N] / 2
        state["L"][:] = rng.random((B, N, N)) / N / 2 * (1 - np.eye(N))
        for name in ("h", "c", "r"):
            state[name][:] = rng.uniform(-1, 1, state[name].shape)
    return state


def dnc_params(rng, weights, sizes):
    """Random parameters, the rows of the strengths this much larger still."""
    scale, strength = WEIGHTS[weights]
    params = random_params(DNC, sizes, rng, scale)
    for name in INTERFACE:
        params[name] *= strength / 3 if name in ("Whbr", "Whbw") else 1 / 3
    params["bh"][2 * sizes[0]:3 * sizes[0]] += 1
    return params


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("sizes", [(5, 9, 4, 1), (6, 11, 3, 3), (7, 3, 6, 1), (1, 1, 1, 1)])
def test_dnc_is_the_papers(sizes, weights, kind, model=DNC):
    rng = np.random.default_rng([*sizes, STARTS.index(kind)])
    params, state = dnc_params(rng, weights, sizes), dnc_start(rng, kind, 3, sizes)
    assert_follows(model, "dnc-numpy.py", params, state, rng, (6, 1, 8))


TIES = [(np.float32, 7e-7, 7e-6), (np.float64, 7e-10, 7e-9)]         # delta is between the two


@pytest.mark.parametrize("dtype, noise, apart", TIES)
@pytest.mark.parametrize("used", [0, 1e-3, 0.5, 1])
def test_rounding_does_not_choose_between_equal_usages(used, dtype, noise, apart, model=DNC):
    """They are sorted by location; what is truly apart is sorted by usage, also below EPS. The
    order shows in a: locations behind one that is used v are v times less free."""
    rng, N = np.random.default_rng(1), 6
    for order in (np.arange(N), rng.permutation(N)):
        usage = np.full((40, N), used) + noise * rng.random((40, N))
        if order[0]:
            usage[:, order] += apart * np.arange(N)
        usage = (usage - (used == 1) * (N * apart + noise)).astype(dtype)
        a = model.allocation(usage)[0]
        expected = np.empty_like(usage, float)
        for row, u in zip(expected, 1e-6 + (1 - 1e-6) * usage.astype(float)):
            row[order] = (1 - u[order]) * np.append(1, np.cumprod(u[order])[:-1])
        np.testing.assert_allclose(a, expected, rtol=1e-4 if dtype == np.float32 else 1e-12,
                                   atol=1e-12 if dtype == np.float32 else 1e-30)


def keyed(seed, *key):
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@pytest.mark.parametrize("length, tail, S", [(103, 103, 10), (130, 104, 10), (11, 11, 10),
                                             (900, 900, 2)])
def test_streams_read_in_order_and_jump_alone(length, tail, S):
    """The place of a jump depends on seed, stream and jump, and on nothing else. In this text every
    character is its own position."""
    last, jumps, seen = [None] * 4, [0] * 4, set()
    run = types.SimpleNamespace(ids=np.arange(length), tail=tail, seqlength=S, seed=4,
                                stream=np.arange(4), position=np.full(4, length),
                                jumps=np.zeros(4, int))
    for _ in range(1200):
        run.state = {"h": np.ones((4, 6)), "L": np.ones((4, 3, 2))}
        inputs, targets = RNN.next_window(run)
        assert inputs.shape == (S, 4) and np.array_equal(targets, inputs + 1)
        assert np.array_equal(inputs, inputs[0] + np.arange(S)[:, None])
        for b in range(4):
            follows = last[b] is not None and last[b] + S < tail    # there was another whole window
            if follows:
                assert inputs[0, b] == last[b]
            else:
                assert inputs[0, b] == keyed(4, 1, b, jumps[b]).integers(tail - S)
                jumps[b] += 1
            starts = not follows or inputs[0, b] // S % 80 == 0
            assert all((value[b] == (not starts)).all() for value in run.state.values())
            last[b] = targets[-1, b]
        seen.update(targets.ravel().tolist())
    assert run.jumps.tolist() == jumps and min(jumps) > 2
    assert seen == set(range(1, tail)) or tail == 900


def trained(name, **changes):
    """A run with large random weights, which have opinions."""
    params = random_params(load(name), SIZES[name], np.random.default_rng(9), 0.8)
    return types.SimpleNamespace(**{
        "params": params, "sizes": SIZES[name], "dtype": np.dtype(float), "vocab": list("abcde"),
        "seed": 9, "iter": 40, "reset_id": None, **changes})


def log_softmax(name, run, ids):
    """log p(the next character) after each of ids, read from zero state: (steps, M)."""
    logits = load(name).forward(run.params, np.array(ids)[:, None],
                                zero_state(load(name), run.sizes, 1), run.reset_id)[0][:, :, 0].T
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@models
@pytest.mark.parametrize("held", [1, 63, 64, 1000, 64 * 25, 64 * 25 + 1, 3333])
@pytest.mark.parametrize("reset", [None, 2])
def test_held_out_score(name, held, reset):
    """Each character of the tail counts once, in 64 segments; a text's first has none before it.
    With a reset, a segment begins behind the next reset character, which it reads first."""
    start = 50 if held % 2 else 0
    run = trained(name, tail=start, reset_id=reset)
    run.ids = np.random.default_rng(held).integers(M, size=start + held).astype(np.uint8)
    begin = max(start, 1)
    edges = [int(begin + k * (len(run.ids) - begin) / 64) for k in range(65)]
    for k in range(1, 64):
        while reset is not None and edges[k] < len(run.ids) and run.ids[edges[k] - 1] != reset:
            edges[k] += 1
    nats = characters = 0
    for first, last in zip(edges, edges[1:]):
        if first < last:
            p = log_softmax(name, run, run.ids[first - 1:last - 1])
            nats -= p[np.arange(last - first), run.ids[first:last]].sum()
            characters += last - first
    assert characters == len(run.ids) - begin
    if characters:
        bpc = nats / math.log(2) / characters
        assert load(name).score(run, GO) == pytest.approx(bpc, rel=1e-12)


@models
@pytest.mark.parametrize("temperature", [0, 0.5, 1, 3])
@pytest.mark.parametrize("prime, reset", [("a", None), ("edabc", None), ("edabc", 1)])
def test_sample(name, temperature, prime, reset):
    """Each character is the one at which the cumulative probability passes the random number."""
    run, sample = trained(name, prime=prime, sample_length=150, reset_id=reset), load(name).sample
    run.temperature = temperature
    text = sample(run, GO)
    assert len(text) == 150 and text == sample(run, GO)
    ids, rng = [run.vocab.index(c) for c in prime + text], keyed(9, 2, 40)
    logs = log_softmax(name, run, ids[:-1])[len(prime) - 1:]
    for log_p, drawn in zip(logs, ids[len(prime):], strict=True):
        if temperature == 0:
            assert drawn == log_p.argmax()
            continue
        p = np.exp(log_p / temperature)
        edges = np.append(0, np.cumsum(p / p.sum()))
        assert edges[drawn] <= rng.random() < edges[drawn + 1]
    for changed in ({"iter": 41}, {"seed": 10}):            # other samples
        vars(run).update(changed)
        assert temperature == 0 or text != sample(run, GO)
