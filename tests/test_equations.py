"""The models and what is around them, against the same things written out number by number."""
import math
import types

import numpy as np
import pytest
from loading import M, SIZES, load, random_case, random_params

rnn = load("rnn-numpy.py")                                  # stands for all in tests of common code, see test_shared.py
models = pytest.mark.parametrize("name", SIZES)
GO = types.SimpleNamespace(signal=0)                        # nobody asks to stop


# Forward --------------------------------------------------------------------------------------------------------------

def affine(W, x, b):
    """W x + b for a matrix, a list and a column."""
    return [sum(W[j][k] * x[k] for k in range(len(x))) + b[j][0] for j in range(len(W))]


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def hidden_input(p, x, h):
    """Wxh x_t + Whh h_{t-1} + bh"""
    return [a + b for a, b in zip(affine(p["Wxh"], x, p["bh"]), affine(p["Whh"], h, [[0]] * len(p["bh"])))]


def rnn_step(p, x, state):
    return {"h": [math.tanh(z) for z in hidden_input(p, x, state["h"])]}


def lstm_step(p, x, state):
    z, H, h, c = hidden_input(p, x, state["h"]), len(state["h"]), [], []
    for j in range(H):
        i, o, f, g = sigmoid(z[j]), sigmoid(z[H + j]), sigmoid(z[2 * H + j]), math.tanh(z[3 * H + j])
        c.append(math.tanh(g * i + f * state["c"][j]))
        h.append(o * c[j])
    return {"h": h, "c": c}


@pytest.mark.parametrize("name, step", [("rnn-numpy.py", rnn_step), ("lstm-numpy.py", lstm_step)])
@pytest.mark.parametrize("scale", [0.5, 5], ids=["large", "saturated"])
def test_forward(name, step, scale):
    B, S = 3, 5
    case = random_case(name, B, S, scale)
    model, p, state, window = case.model, {key: value.tolist() for key, value in case.params.items()}, case.state, None
    expected = [{key: value[:, b].tolist() for key, value in state.items()} for b in range(B)]
    for inputs in np.random.default_rng(1).integers(M, size=(4, S, B)):
        logits, state, window = model.forward(case.params, inputs, state, window)
        for b in range(B):
            for t in range(S):
                expected[b] = step(p, [float(k == inputs[t, b]) for k in range(M)], expected[b])
                np.testing.assert_allclose(logits[:, t, b], affine(p["Why"], expected[b]["h"], p["by"]), rtol=1e-12, atol=1e-12)
            for key in state:
                np.testing.assert_allclose(state[key][:, b], expected[b][key], rtol=1e-12, atol=1e-12)
        for key in state:                                   # the middle stream jumps
            state[key][:, 1] = 0
            expected[1][key] = [0.0] * len(expected[1][key])


def test_gather_and_scatter_are_products_with_one_hot_vectors():
    S, n, B = 4, 5, 3
    rng = np.random.default_rng(2)
    ids = rng.integers(M - 1, size=(S, B))                  # the last character does not occur
    one_hot = (np.arange(M)[:, None, None] == ids).astype(float)                                                # (M, S, B)
    W, d = rng.standard_normal((n, M)), rng.standard_normal((S * B, n))
    out, dW = np.full((S, B, n), np.nan), np.full((n, M), np.nan)
    rnn.gather_rows(W, ids, out=out)
    rnn.scatter_rows(d, ids, room=np.full((S * B, n), np.nan), out=dW)
    assert np.array_equal(out, np.stack([(W @ one_hot[:, t]).T for t in range(S)]))
    np.testing.assert_allclose(dW, d.T @ one_hot.reshape(M, S * B).T, rtol=1e-14, atol=1e-14)
    assert not dW[:, -1].any()


# Streams --------------------------------------------------------------------------------------------------------------

def streams(B, length, seed=4):
    """A run that has not begun, over a text in which every character is its own position."""
    return np.arange(length), types.SimpleNamespace(position=np.full(B, length), jumps=np.zeros(B, int), seed=seed, state={})


def test_streams_read_in_order_and_jump_alone():
    (ids, run), S, B, last, jumps, seen = streams(4, 103), 10, 4, [None] * 4, [0] * 4, set()
    for _ in range(400):
        run.state = {"h": np.ones((6, B)), "links": np.ones((3, 2, B))}
        inputs, targets = rnn.next_window(ids, run, S)
        assert inputs.shape == (S, B) and np.array_equal(inputs, inputs[0] + np.arange(S)[:, None]) and np.array_equal(targets, inputs + 1)
        for b in range(B):
            follows = last[b] is not None and last[b] + S < len(ids)    # the text had another whole window for it
            if follows:
                assert inputs[0, b] == last[b]
            else:                                           # the place depends on seed, stream and jump, and on nothing else
                key = np.random.SeedSequence(4, spawn_key=(1, b, jumps[b]))
                assert inputs[0, b] == np.random.default_rng(key).integers(len(ids) - S)
                jumps[b] += 1
            for value in run.state.values():
                assert (value[..., b] == follows).all()
            last[b] = targets[-1, b]
        seen.update(targets.ravel().tolist())
    assert seen == set(range(1, len(ids))) and min(jumps) > 20 and run.jumps.tolist() == jumps


def test_streams_of_the_shortest_text():
    ids, run = streams(2, 11)
    for jump in range(1, 4):
        inputs, targets = rnn.next_window(ids, run, 10)
        assert inputs.T.tolist() == [list(range(10))] * 2 and targets.T.tolist() == [list(range(1, 11))] * 2
        assert run.jumps.tolist() == [jump] * 2


def test_streams_do_not_depend_on_the_batch_but_on_the_seed():
    def read(B, seed):
        ids, run = streams(B, 500, seed)
        return np.stack([rnn.next_window(ids, run, 25)[0] for _ in range(60)])
    five = read(5, 1)
    assert np.array_equal(read(2, 1), five[..., :2]) and not np.array_equal(read(5, 2), five)
    assert len({stream.tobytes() for stream in five.transpose(2, 0, 1)}) == 5


@pytest.mark.parametrize("val", [0.25, 0])
def test_training_never_reads_the_held_out_tail(val, tmp_path, monkeypatch):
    text = tmp_path / "text"
    text.write_text("ab" * 150 + "xy" * 50)
    run, ids, heldout = rnn.begin(rnn.parse(["--data", str(text), "--val", str(val), "--hidden", "4", "--batchsize", "3"]), rnn.Workers())
    read = []
    for function in (rnn.forward, rnn.cross_entropy):       # their second arguments are inputs and targets
        monkeypatch.setattr(rnn, function.__name__, lambda *args, function=function: read.append(args[1]) or function(*args))
    rnn.train(run, ids, heldout, rnn.parse(["--iters", "60", "--check_interval", "0"]), rnn.Workers(), GO)
    assert len(read) == 120 and min(run.jumps) >= 3
    assert {run.vocab[k] for ids in read for k in np.unique(ids)} == set("ab" if val else "abxy")


# Held-out score and samples -------------------------------------------------------------------------------------------

def trained(name, seed=9):
    """A run with large random weights, which have opinions."""
    params = random_params(load(name), SIZES[name], np.random.default_rng(seed), 0.8)
    return types.SimpleNamespace(params=params, sizes=SIZES[name], dtype=np.dtype(float), vocab=list("abcdefg"), seed=seed, iter=40)


def log_softmax(name, params, ids):
    """log p(the next character) after each of ids, read in one window from zero state: (steps, M)."""
    model = load(name)
    logits = model.forward(params, np.array(ids)[:, None], model.zeros(model.state_shapes(1, **SIZES[name]), float))[0][:, :, 0].T
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@models
@pytest.mark.parametrize("held", [1, 63, 64, 1000, 64 * 25, 64 * 25 + 1, 3333])
def test_held_out_score(name, held):
    run, start = trained(name), 50
    ids = np.random.default_rng(held).integers(M, size=start + held).astype(np.uint8)
    nats = characters = 0
    for k in range(64):
        first, last = start + k * held // 64, start + (k + 1) * held // 64
        if first < last:
            p = log_softmax(name, run.params, ids[first - 1:last - 1])
            for t in range(last - first):
                nats -= p[t, ids[first + t]]
                characters += 1
    assert characters == held
    assert load(name).score(run, ids, start, load(name).Workers(), GO) == pytest.approx(nats / math.log(2) / held, rel=1e-12)


@models
@pytest.mark.parametrize("temperature", [0, 0.5, 1, 3])
@pytest.mark.parametrize("prime", ["a", "gfedabc"])
def test_sample(name, temperature, prime):
    """Each character drawn is the one at which the cumulative probability passes the random number drawn for it."""
    run, length = trained(name), 300
    text = load(name).sample(run, prime, length, temperature, GO)
    assert len(text) == length and text == load(name).sample(run, prime, length, temperature, GO)
    ids = [run.vocab.index(c) for c in prime + text]
    rng = np.random.default_rng(np.random.SeedSequence(run.seed, spawn_key=(2, run.iter)))
    for p, drawn in zip(log_softmax(name, run.params, ids[:-1])[len(prime) - 1:], ids[len(prime):], strict=True):
        if temperature == 0:
            assert drawn == p.argmax()
        else:
            p = np.exp(p / temperature)
            edges = np.concatenate([[0], np.cumsum(p / p.sum())])
            assert edges[drawn] <= rng.random() < edges[drawn + 1]
    run.iter += 1                                           # the next sample is another one
    assert temperature == 0 or text != load(name).sample(run, prime, length, temperature, GO)
