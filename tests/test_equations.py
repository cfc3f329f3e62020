"""The models, what feeds them, scores them and samples from them, against the same things number by
number. The DNC's equations are in dnc_paper.py."""
import itertools
import math
import types

import dnc_paper
import numpy as np
import pytest
from loading import (INTERFACE, SIZES, V, forward, load, random_case, random_params, settings,
                     zero_state)

RNN, DNC = load("rnn-numpy.py"), load("dnc-numpy.py")
models = pytest.mark.parametrize("name", SIZES)


def output(p, h):
    """Why h + by: the DNC's output, with nothing read."""
    return dnc_paper.output({**p, "Wry": [[]] * len(p["Why"])}, h, [])


def rnn_step(p, k, state, mask):
    a = zip(p["Wxh"], dnc_paper.times(p["Whh"], state["h"]), p["bh"], strict=True)
    h = [math.tanh(row[k] + recurrent + bias) for row, recurrent, [bias] in a]
    return output(p, [m * n for m, n in zip(mask, h)]), {"h": h}


def lstm_step(p, k, state, mask):
    """The DNC's controller, with nothing read."""
    x, params = np.eye(len(p["Why"]))[k].tolist(), {**p, "Wrh": [[]] * len(p["bh"])}
    h, c = dnc_paper.controller(params, x, [], state["h"], state["c"])
    return output(p, [m * n for m, n in zip(mask, h)]), {"h": h, "c": c}


STEPS = {"rnn-numpy.py": rnn_step, "lstm-numpy.py": lstm_step, "dnc-numpy.py": dnc_paper.step}


def literal(case):
    """As forward: the logits and the state after, stream by stream and step by step."""
    p = {key: value.tolist() for key, value in case.params.items()}
    mask = np.ones((*case.inputs.shape, case.state["h"].shape[1]))
    mask = mask if case.mask is None else case.mask
    y, afters = [], []
    for b in range(case.inputs.shape[1]):
        current, y_b = {key: value[b].tolist() for key, value in case.state.items()}, []
        for k, m in zip(case.inputs[:, b].tolist(), mask[:, b].tolist()):
            if k == case.reset:
                current = {key: np.zeros(x.shape[1:]).tolist() for key, x in case.state.items()}
            y_t, current = STEPS[case.name](p, k, current, m)
            y_b.append(y_t)
        y.append(y_b)
        afters.append(current)
    after = {key: np.array([current[key] for current in afters]) for key in case.state}
    return np.array(y).swapaxes(0, 1), after


def assert_same(found, expected):
    """(y, the state after, ...) are equal."""
    assert list(found[1]) == list(expected[1])
    for a, b in zip([found[0], *found[1].values()], [expected[0], *expected[1].values()]):
        assert a.shape == b.shape and a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def assert_follows(case, rng, lengths):
    """Script and literal equations agree over windows, each going on from its own state."""
    ours = theirs = case.state
    for number, S in enumerate(lengths):
        case.inputs = rng.integers(V, size=(S, len(ours["h"])))
        if case.mask is not None:
            case.mask = 2 * rng.random((S, *ours["h"].shape))
        case.state = theirs
        expected = literal(case)
        assert_same(forward(case, state=ours), expected)
        ours, theirs = forward(case, state=ours)[1], expected[1]
        for x in (*ours.values(), *theirs.values()):
            x[number % len(x)] = 0                          # this stream starts anew


@models
@pytest.mark.parametrize("scale", [0.5, 5])
@pytest.mark.parametrize("reset, dropout", [(None, False), (3, True)])
def test_forward(name, scale, reset, dropout):
    scale *= 0.1 if name == "dnc-numpy.py" else 1
    case = random_case(name, 3, 5, scale, reset=reset, dropout=dropout)
    assert_follows(case, np.random.default_rng(1), (5, 1, 4, 6))


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
def test_dnc_is_the_papers(sizes, weights, kind):
    rng, case = np.random.default_rng([*sizes, STARTS.index(kind)]), random_case("dnc-numpy.py")
    case.params, case.state = dnc_params(rng, weights, sizes), dnc_start(rng, kind, 3, sizes)
    assert_follows(case, rng, (6, 1, 8))


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


@pytest.mark.parametrize("tail, S, reset", [(103, 10, 0), (104, 10, 7), (11, 10, 0), (11, 10, 2),
                                            (900, 2, 0)])
def test_streams_read_in_order_and_jump_alone(tail, S, reset, monkeypatch):
    """In this text every character is its own position; each reset-th is the reset character.
    Where a stream jumps depends on seed and iteration, and not on who trains it."""
    B, last, seen, jumps = 4, [None] * 4, set(), 0
    args = types.SimpleNamespace(batchsize=B, seqlength=S, seed=4)
    text = types.SimpleNamespace(ids=np.arange(tail + 9), tail=tail, begins=None)
    starts = range(tail - S)
    if reset:
        text.begins = np.append(0, np.arange(reset, tail + 9, reset))
        starts = [place for place in text.begins.tolist() if place < tail - S]
    run = types.SimpleNamespace(position=np.full(B, tail + 9), iter=0, settings=args)
    for run.iter in range(1200):
        run.state = {"h": np.ones((B, 6)), "L": np.ones((B, 3, 2))}
        inputs, targets, state, position = RNN.next_window(args, run, text)
        assert all(value.all() for value in run.state.values())             # stays as it was
        rng = keyed(4, 1, run.iter)
        chance, place = rng.random(B), rng.integers(tail - S, size=B)
        for b in range(B):
            jump = last[b] is None or last[b] + S >= tail or chance[b] < 1 / 80
            jumps += jump and last[b] is not None and last[b] + S < tail
            begin = starts[place[b] % len(starts)] if jump else last[b]
            assert inputs[:, b].tolist() == [*range(begin, begin + S)]
            assert targets[:, b].tolist() == [*range(begin + 1, begin + S + 1)]
            assert all((value[b] == (not jump)).all() for value in state.values())
            last[b] = begin + S
            seen.add(begin)
        assert position.tolist() == last
        with monkeypatch.context() as patch:                # a process that trains streams 1 and 2
            patch.setattr(RNN, "share", lambda B: slice(1, 3))
            part = types.SimpleNamespace(
                position=run.position[1:3], iter=run.iter,
                state={key: value[1:3] for key, value in run.state.items()})
            *arrays, part_state, part_position = RNN.next_window(args, part, text)
        for whole, own in zip((inputs, targets), arrays):
            assert np.array_equal(whole[:, 1:3], own)
        assert part_position.tolist() == last[1:3]
        assert all(np.array_equal(state[key][1:3], own) for key, own in part_state.items())
        run.position = position
    assert seen <= set(range(tail - S)) and (set(starts) <= seen or tail == 900)
    assert tail == 11 or 30 < jumps < 90                    # about one in 80


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dropout, zeros", [(0.001, 0), (0.3, 77 / 256), (0.999, 255 / 256)])
def test_dropout_mask(dropout, zeros, dtype, monkeypatch):
    args = types.SimpleNamespace(batchsize=6, seqlength=40, hidden=50, seed=3, dropout=dropout)
    run = types.SimpleNamespace(iter=8, params={"by": np.zeros((V, 1), dtype)})
    mask = RNN.dropout_mask(args, run)
    assert mask.shape == (40, 6, 50) and mask.dtype == dtype
    assert set(mask.ravel().tolist()) <= {0, float(dtype(1 / (1 - zeros)))}
    assert abs((mask == 0).mean() - zeros) < 4 * (zeros * (1 - zeros) / mask.size) ** 0.5 + 1e-9
    assert np.array_equal(mask, RNN.dropout_mask(args, run))
    monkeypatch.setattr(RNN, "share", lambda B: slice(2, 5))
    assert np.array_equal(mask[:, 2:5], RNN.dropout_mask(args, run))
    monkeypatch.undo()
    for changed in ({"iter": 9}, {"seed": 4}):
        vars(args).update(changed), vars(run).update(changed)
        assert zeros == 0 or not np.array_equal(mask, RNN.dropout_mask(args, run))
    args.dropout = 0.0
    assert RNN.dropout_mask(args, run) is None


def trained(name, reset=-1):
    """A run with large random weights, which have opinions."""
    model, vocab = load(name), "abcde"
    params = random_params(model, SIZES[name], np.random.default_rng(9), 0.8)
    return types.SimpleNamespace(params=params, vocab=vocab, settings=settings(
        model, SIZES[name], reset=vocab[reset] if reset >= 0 else None))


def log_softmax(name, run, ids, reset):
    """log p(the next character) after each of ids, read from zero state: (steps, V)."""
    y = load(name).forward(run.params, np.array(ids)[:, None],
                           zero_state(load(name), SIZES[name], 1), reset)[0][:, 0]
    return y - np.log(np.exp(y).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name, held, reset", [
    *itertools.product(["rnn-numpy.py"], [1, 1999, 4000, 5003, 64 * 2000 + 77], [-1, 2]),
    ("lstm-numpy.py", 3999, -1), ("dnc-numpy.py", 4000, 2)])
def test_held_out_score(name, held, reset, monkeypatch):
    """Each character of the tail counts once; a text's first has none before it. There is a segment
    for each 2,000 characters, at most 64. With a reset, a segment begins behind the next reset
    character, which it reads first."""
    model, run, start = load(name), trained(name, reset), 50 if held % 2 else 0
    text = types.SimpleNamespace(tail=start, begins=None, ids=np.random.default_rng(held).integers(
        V, size=start + held).astype(np.uint8))
    end, begin, nats, characters = start + held, max(start, 1), 0.0, 0
    if reset >= 0:
        text.begins = np.append(0, np.flatnonzero(text.ids == reset) + 1)
    parts = max(1, min(64, (end - begin) // 2000))
    edges = [int(begin + k * ((end - begin) / parts)) for k in range(parts + 1)]
    for k in range(1, parts):
        while reset >= 0 and edges[k] < end and text.ids[edges[k] - 1] != reset:
            edges[k] += 1
    for first, last in zip(edges, edges[1:]):
        p = log_softmax(name, run, text.ids[first - 1:last - 1], reset)
        nats -= p[np.arange(last - first), text.ids[first:last]].sum()
        characters += last - first
    assert characters == end - begin
    bpc = nats / math.log(2) / characters
    assert model.score(run, text) == pytest.approx(bpc, rel=1e-12)
    monkeypatch.setattr(model.stop, "signal", 15)
    assert math.isnan(model.score(run, text))


@models
@pytest.mark.parametrize("temperature", [0, 0.5, 1, 3])
@pytest.mark.parametrize("prime, reset", [("", -1), ("edabc" * 6, -1), ("edabc", 1)])
def test_sample(name, temperature, prime, reset):
    """Each character is the one at which the cumulative probability passes the random number."""
    run, sample = trained(name, reset), load(name).sample
    text = "".join(sample(run, prime, 150, temperature, 9, 40))
    assert len(text) == 150 and text == "".join(sample(run, prime, 150, temperature, 9, 40))
    prime = prime or "a"
    ids, rng = [run.vocab.index(c) for c in prime + text], keyed(9, 2, 40)
    logs = log_softmax(name, run, ids[:-1], reset)[len(prime) - 1:]
    for log_p, drawn in zip(logs, ids[len(prime):], strict=True):
        if temperature == 0:
            assert drawn == log_p.argmax()
            continue
        p = np.exp(log_p / temperature)
        edges = np.append(0, np.cumsum(p / p.sum()))
        assert edges[drawn] <= rng.random() < edges[drawn + 1]
    for key in (9, 41), (10, 40):                           # other samples
        assert temperature == 0 or text != "".join(sample(run, prime, 150, temperature, *key))
