"""The backward pass of dnc-numpy.py against automatic differentiation: the paper's equations once more, in torch.

Gradients of random output gradients, with respect to every parameter and every incoming state, in double precision. The
forward pass here is held against dnc_paper.py too: two readings of the paper by different means. Without torch, skipped.
"""
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from loading import M  # noqa: E402
from test_dnc_paper import SIZES, STARTS, WEIGHTS, dnc, paper_forward, start, weights  # noqa: E402

torch.set_num_threads(1)
EPSILON, DELTA = 1e-6, 1e-9


def oneplus(z):
    """1 + log(1 + e^z); above its threshold softplus is z, which is exact here."""
    return 1 + torch.nn.functional.softplus(z, threshold=50)


def content(memory, keys, strengths):
    """Memory (N, W, B), keys (R, W, B), strengths (R, B): the content weighting of each key (R, N, B)."""
    dot = torch.einsum("nwb,rwb->rnb", memory, keys)
    lengths = torch.sqrt((memory ** 2).sum(1) + EPSILON) * torch.sqrt((keys ** 2).sum(1, keepdim=True) + EPSILON)
    return torch.softmax(strengths[:, None] * dot / lengths, dim=1)


def allocate(u):
    """Usage (N, B): the allocation weighting. The permutation is a constant, the sorted values are not."""
    order = torch.argsort(u.detach() + DELTA * torch.arange(len(u), dtype=u.dtype)[:, None], dim=0, stable=True)
    free = torch.gather(EPSILON + (1 - EPSILON) * u, 0, order)
    before = torch.cat([torch.ones_like(free[:1]), torch.cumprod(free, 0)[:-1]])
    return torch.zeros_like(u).scatter(0, order, (1 - free) * before)


def forward(P, inputs, state):
    """As the script's forward: logits (M, S, B) and the state after."""
    h, c, memory, u, p, L, wr, ww, r = (state[name] for name in ("h", "c", "M", "u", "p", "L", "wr", "ww", "r"))
    (R, N, B), W = wr.shape, memory.shape[1]
    off_diagonal = (1 - torch.eye(N, dtype=u.dtype))[:, :, None]
    logits = []
    for x in torch.as_tensor(inputs):
        a = P["Wxh"][:, x] + P["Whh"] @ h + P["Wrh"] @ r + P["bh"]
        i, o, f, g = a.chunk(4)
        c = torch.tanh(torch.tanh(g) * torch.sigmoid(i) + torch.sigmoid(f) * c)
        h = torch.sigmoid(o) * c

        free, erase, allocation_gate, write_gate = (torch.sigmoid(P[name] @ h) for name in ("Whf", "Whe", "Whga", "Whgw"))
        modes = torch.softmax((P["Whp"] @ h).reshape(R, 3, 1, B), dim=1)

        u = (u + ww - u * ww) * torch.prod(1 - free[:, None] * wr, dim=0)
        by_content = content(memory, (P["Whw"] @ h)[None], oneplus(P["Whbw"] @ h))[0]
        ww = write_gate * (allocation_gate * allocate(u) + (1 - allocation_gate) * by_content)
        memory = memory * (1 - ww[:, None] * erase) + ww[:, None] * (P["Whv"] @ h)
        L = ((1 - ww[:, None] - ww) * L + ww[:, None] * p) * off_diagonal
        p = (1 - ww.sum(0)) * p + ww

        after, before = torch.einsum("ijb,rjb->rib", L, wr), torch.einsum("jib,rjb->rib", L, wr)
        by_content = content(memory, (P["Whr"] @ h).reshape(R, W, B), oneplus(P["Whbr"] @ h))
        wr = modes[:, 0] * before + modes[:, 1] * by_content + modes[:, 2] * after
        r = torch.einsum("nwb,rnb->rwb", memory, wr).reshape(R * W, B)
        logits.append(P["Why"] @ h + P["by"] + P["Wry"] @ r)
    return torch.stack(logits, dim=1), {"h": h, "c": c, "M": memory, "u": u, "p": p, "L": L, "wr": wr, "ww": ww, "r": r}


def tensors(arrays):
    """Copies that collect gradients."""
    return {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}


def case(B, sizes, scale, strength, kind, S):
    """Parameters, inputs, state to start from, gradients of the outputs."""
    rng = np.random.default_rng([B, sizes["locations"], STARTS.index(kind), 1])
    params, state = weights(rng, scale, strength, **sizes), start(rng, kind, B, **sizes)
    dstate = {name: rng.standard_normal(s.shape) for name, s in state.items()}
    return params, rng.integers(0, M, (S, B)), state, rng.standard_normal((M, S, B)), dstate


CASES = [pytest.mark.parametrize("kind", STARTS),
         pytest.mark.parametrize("scale, strength", WEIGHTS.values(), ids=WEIGHTS),
         pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES),
         pytest.mark.parametrize("B", [1, 4])]


def over_all_cases(test):
    """The test for every start, weights, sizes and batch."""
    for mark in CASES:
        test = mark(test)
    return test


@over_all_cases
def test_torch_agrees_with_the_paper(B, sizes, scale, strength, kind):
    params, inputs, state, _, _ = case(B, sizes, scale, strength, kind, S=7)
    y, after = forward(tensors(params), inputs, tensors(state))
    want, want_after, _ = paper_forward(params, inputs, state)
    np.testing.assert_allclose(y.detach(), want, rtol=0, atol=1e-10)
    for name in after:
        np.testing.assert_allclose(after[name].detach(), want_after[name], rtol=0, atol=1e-10, err_msg=name)


@over_all_cases
def test_gradients_agree_with_torch(B, sizes, scale, strength, kind):
    params, inputs, state, dlogits, dstate = case(B, sizes, scale, strength, kind, S=7)
    P, before = tensors(params), tensors(state)
    y, after = forward(P, inputs, before)
    loss = (torch.tensor(dlogits) * y).sum() + sum((torch.tensor(dstate[name]) * after[name]).sum() for name in dstate)
    loss.backward()

    _, _, window = dnc.forward(params, inputs, state)
    grads, dstate_in = dnc.backward(params, window, dlogits, dstate)
    assert grads.keys() == P.keys() and dstate_in.keys() == before.keys()
    # Where a large strength saturates a softmax, its gradient w (d - sum w d) is what rounding leaves of a difference.
    rounding = 1e-13 if strength > 1 else 1e-18
    for all_ours, all_theirs in ((grads, P), (dstate_in, before)):
        for name, theirs in all_theirs.items():
            ours, want = all_ours[name], theirs.grad.numpy()
            assert ours.shape == want.shape and np.isfinite(ours).all(), name
            assert np.abs(ours - want).max() <= 1e-9 * np.abs(want).max() + rounding, name
