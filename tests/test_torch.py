"""Where PyTorch is present: forward, loss, gradients and Adagrad against its own."""
import numpy as np
import pytest
from loading import M, load, random_case

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def rnn(p, x, state):
    """PyTorch's own RNN. It has two biases where we have one: the second is 0."""
    H = len(p["bh"])
    network = torch.nn.RNN(M, H, nonlinearity="tanh", dtype=torch.float64)
    weights = {"weight_ih_l0": p["Wxh"], "weight_hh_l0": p["Whh"], "bias_ih_l0": p["bh"][:, 0], "bias_hh_l0": torch.zeros(H).double()}
    h, after = torch.func.functional_call(network, weights, (x, state["h"].T[None]))
    return h, {"h": after[0].T}


def lstm(p, x, state):
    """The article's cell; PyTorch's own LSTM has the usual one."""
    h, c, hs = state["h"], state["c"], []
    for x_t in x:
        i, o, f, g = (p["Wxh"] @ x_t.T + p["Whh"] @ h + p["bh"]).chunk(4)
        c = torch.tanh(torch.tanh(g) * torch.sigmoid(i) + torch.sigmoid(f) * c)
        h = torch.sigmoid(o) * c
        hs.append(h.T)
    return torch.stack(hs), {"h": h, "c": c}


@pytest.mark.parametrize("name, network", [("rnn-numpy.py", rnn), ("lstm-numpy.py", lstm)])
@pytest.mark.parametrize("B, S", [(1, 1), (4, 9)])
def test_model(name, network, B, S):
    case = random_case(name, B, S)
    model, params = case.model, case.params
    logits, after, window = model.forward(params, case.inputs, case.state)
    nats, dlogits = model.cross_entropy(logits, case.targets)
    grads, before = model.backward(params, window, dlogits, case.dstate)

    p, state = ({key: torch.tensor(value, requires_grad=True) for key, value in d.items()} for d in (params, case.state))
    h, after_t = network(p, functional.one_hot(torch.tensor(case.inputs), M).double(), state)
    logits_t = h @ p["Why"].T + p["by"][:, 0]
    loss = functional.cross_entropy(logits_t.reshape(S * B, M), torch.tensor(case.targets).reshape(S * B), reduction="sum")
    (loss + sum((after_t[key] * torch.tensor(case.dstate[key])).sum() for key in after_t)).backward()

    pairs = [(logits.transpose(1, 2, 0), logits_t), (nats.sum(), loss), *((after[key], after_t[key]) for key in after),
             *((grads[key], p[key].grad) for key in grads), *((before[key], state[key].grad) for key in before)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-11, atol=1e-13)


def test_adagrad():
    """Ours divides by sqrt(sum + 1e-8), PyTorch's by sqrt(sum) + eps. A sum that starts at 1e-8, with eps 0, makes them equal;
    PyTorch's own form with eps = 1e-8 differs where gradients are small, and takes larger steps there."""
    rng = np.random.default_rng(7)
    start = rng.standard_normal(30)
    p, mem, same, other = start.copy(), np.zeros(30), torch.tensor(start), torch.tensor(start)
    optimisers = [torch.optim.Adagrad([same], lr=0.1, eps=0, initial_accumulator_value=1e-8),
                  torch.optim.Adagrad([other], lr=0.1, eps=1e-8)]
    for _ in range(10):
        d = rng.standard_normal(30) * np.repeat([1e-5, 1e-4, 1], 10)
        load("rnn-numpy.py").adagrad(p, d, mem, 0.1)
        same.grad, other.grad = torch.tensor(d), torch.tensor(d)
        for optimiser in optimisers:
            optimiser.step()
    np.testing.assert_allclose(p, same, rtol=1e-13)
    np.testing.assert_allclose(p[20:], other[20:], rtol=1e-6)
    assert (abs(p - other.numpy())[:10] > 0.01).all()
