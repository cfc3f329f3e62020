"""Where PyTorch is present: forward, loss and gradients against its own, in double.

The DNC is the paper's equations once more, by other means than dnc_paper.py's: here its gradients
are not those of our own forward, which the complex step differentiates.
"""
import numpy as np
import pytest
from loading import SIZES, M, random_case

torch = pytest.importorskip("torch")
functional = torch.nn.functional
torch.set_num_threads(1)


def rnn(p, inputs, state):
    """PyTorch's own RNN. It has two biases where we have one: the second is 0."""
    H = len(p["bh"])
    network = torch.nn.RNN(M, H, nonlinearity="tanh", dtype=torch.float64)
    weights = {"weight_ih_l0": p["Wxh"], "weight_hh_l0": p["Whh"], "bias_ih_l0": p["bh"][:, 0],
               "bias_hh_l0": torch.zeros(H).double()}
    x = functional.one_hot(inputs, M).double()
    h, after = torch.func.functional_call(network, weights, (x, state["h"][None]))
    return h @ p["Why"].T + p["by"][:, 0], {"h": after[0]}


def cell(p, a, c):
    """The article's cell; PyTorch's own LSTM has the usual one."""
    i, o, f, g = (a + p["bh"][:, 0]).chunk(4, dim=1)
    c = torch.tanh(torch.tanh(g) * torch.sigmoid(i) + torch.sigmoid(f) * c)
    return torch.sigmoid(o) * c, c


def lstm(p, inputs, state):
    h, c, y = state["h"], state["c"], []
    for x in inputs:
        h, c = cell(p, p["Wxh"].T[x] + h @ p["Whh"].T, c)
        y.append(h @ p["Why"].T + p["by"][:, 0])
    return torch.stack(y), {"h": h, "c": c}


def content(memory, keys, z):
    """Memory (B, N, W), keys (B, R, W), z (B, R), strengths before oneplus: (B, R, N)."""
    lengths = torch.sqrt((memory ** 2).sum(2) + 1e-6)[:, None]
    cosine = keys @ memory.mT / lengths / torch.sqrt((keys ** 2).sum(2, keepdim=True) + 1e-6)
    return torch.softmax((1 + functional.softplus(z, threshold=50))[:, :, None] * cosine, dim=2)


def allocate(u):
    """The permutation is a constant, the sorted values are not."""
    order = torch.argsort(u.detach() + 1e-9 * torch.arange(u.shape[1]).double(), dim=1, stable=True)
    free = torch.gather(1e-6 + (1 - 1e-6) * u, 1, order)
    before = torch.cat([torch.ones_like(free[:, :1]), torch.cumprod(free, 1)[:, :-1]], dim=1)
    return torch.zeros_like(u).scatter(1, order, (1 - free) * before)


def dnc(p, inputs, state):
    h, c, r, memory, u, prec, L, wr, ww = (state[key] for key in "h c r M u p L wr ww".split())
    (B, R, W), y = r.shape, []
    off_diagonal = 1 - torch.eye(u.shape[1]).double()
    for x in inputs:
        h, c = cell(p, p["Wxh"].T[x] + h @ p["Whh"].T + r.reshape(B, R * W) @ p["Wrh"].T, c)
        f, e, ga, gw = (torch.sigmoid(h @ p[key].T) for key in ("Whf", "Whe", "Whga", "Whgw"))
        u = (u + ww - u * ww) * torch.prod(1 - f[:, :, None] * wr, dim=1)
        cw = content(memory, (h @ p["Whw"].T)[:, None], h @ p["Whbw"].T)[:, 0]
        ww = gw * (ga * allocate(u) + (1 - ga) * cw)
        memory = memory * (1 - torch.einsum("bn,bw->bnw", ww, e)) \
            + torch.einsum("bn,bw->bnw", ww, h @ p["Whv"].T)
        L = (1 - ww[:, :, None] - ww[:, None]) * L + ww[:, :, None] * prec[:, None]
        L, prec = L * off_diagonal, (1 - ww.sum(1, keepdim=True)) * prec + ww
        modes = torch.softmax((h @ p["Whp"].T).reshape(B, R, 3), dim=2)[..., None]
        cr = content(memory, (h @ p["Whr"].T).reshape(B, R, W), h @ p["Whbr"].T)
        wr = modes[:, :, 0] * torch.einsum("bji,brj->bri", L, wr) + modes[:, :, 1] * cr \
            + modes[:, :, 2] * torch.einsum("bij,brj->bri", L, wr)
        r = wr @ memory
        y.append(h @ p["Why"].T + p["by"][:, 0] + r.reshape(B, R * W) @ p["Wry"].T)
    return torch.stack(y), {"h": h, "c": c, "r": r, "M": memory, "u": u, "p": prec, "L": L,
                            "wr": wr, "ww": ww}


@pytest.mark.parametrize("name, network", [*zip(SIZES, (rnn, lstm, dnc))])
@pytest.mark.parametrize("scale, windows", [(None, 0), (0.1, 4), (0.7, 4), (1.5, 4)])
@pytest.mark.parametrize("B, S, sizes", [(1, 1, (5, 9, 4, 1)), (4, 9, (6, 11, 3, 3)),
                                         (3, 7, (4, 3, 6, 2))])
def test_model(name, network, B, S, sizes, scale, windows):
    case = random_case(name, B, S, scale, sizes[:len(SIZES[name])], windows=windows)
    model, params = case.model, case.params
    logits, after, cache = model.forward(params, case.inputs, case.state)
    nats, dlogits = model.cross_entropy(logits, case.targets)
    grads, before = model.backward(params, cache, dlogits, case.dstate)

    p, state = ({key: torch.tensor(value, requires_grad=True) for key, value in group.items()}
                for group in (params, case.state))
    y, after_t = network(p, torch.tensor(case.inputs), state)
    loss = functional.cross_entropy(y.reshape(S * B, M), torch.tensor(case.targets).reshape(S * B),
                                    reduction="sum")
    (loss + sum((after_t[key] * torch.tensor(case.dstate[key])).sum() for key in after)).backward()

    for ours, theirs in [(logits.transpose(1, 2, 0), y), (nats.sum(), loss),
                         *((after[key], after_t[key]) for key in after),
                         *((grads[key], p[key].grad) for key in p),
                         *((before[key], state[key].grad) for key in state)]:
        theirs = theirs.detach().numpy()
        atol = 1e-11 * max(abs(theirs).max(), 1e-5)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=atol)
