"""Where PyTorch is present: forward, loss and gradients against those of bench/'s models in double.

The DNC there is the paper's equations once more, by other means than dnc_paper.py's; its gradients
are not those of our own forward, which the complex step differentiates. PyTorch's LSTM is the usual
one: see test_exercises.py.
"""
import types

import numpy as np
import pytest
from loading import M, load, random_case

torch = pytest.importorskip("torch")
load("rnn-numpy.py")                            # sets the number of threads, which the peers read
PEERS = load("bench/peers_torch.py")
STATE = {"rnn": ["h"], "dnc": "h c M u p L wr ww r".split()}    # in the order of the peers


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", STATE)
@pytest.mark.parametrize("scale, windows", [(None, 0), (0.1, 4), (0.7, 4), (1.5, 4)])
@pytest.mark.parametrize("B, S, sizes", [(1, 1, (5, 9, 4, 1)), (4, 9, (6, 11, 3, 3)),
                                         (3, 7, (4, 3, 6, 2))])
def test_model(name, B, S, sizes, scale, windows):
    run = types.SimpleNamespace(sizes=sizes, hidden=sizes[0], batchsize=B)
    case = random_case(f"{name}-numpy.py", B, S, scale, sizes if name == "dnc" else sizes[:1],
                       windows=windows)
    logits, after, cache = case.model.forward(case.params, case.inputs, case.state)
    nats, dlogits = case.model.cross_entropy(logits, case.targets)
    grads, before = case.model.backward(case.params, cache, dlogits, case.dstate)

    def network(params):
        """The peer with these parameters; of gradients: where it has its own."""
        peer = getattr(PEERS, name.upper())(run)
        peer.build({key: torch.tensor(value) for key, value in params.items()})
        peer.delta = 1e-9 * torch.arange(sizes[1])      # in single precision it is more
        return peer, [p for p in peer.parameters() if p.requires_grad]

    def tensors(state):
        like = network(case.params)[0].zero_state()
        return [torch.tensor(state[key]).reshape(x.shape) for key, x in zip(STATE[name], like)]
    (peer, params), state = network(case.params), [x.requires_grad_() for x in tensors(case.state)]
    y, after_t = peer(torch.tensor(case.inputs), state)
    loss = torch.nn.functional.cross_entropy(
        y.reshape(S * B, M), torch.tensor(case.targets).reshape(S * B), reduction="sum")
    (loss + sum((x * d).sum() for x, d in zip(after_t, tensors(case.dstate)))).backward()

    pairs = [(torch.tensor(logits.transpose(1, 2, 0)), y), (torch.tensor(nats.sum()), loss),
             *zip(tensors(after), after_t), *zip(tensors(before), [x.grad for x in state]),
             *zip(network(grads)[1], [p.grad for p in params])]
    for ours, theirs in pairs:
        ours, theirs = ours.detach().numpy(), theirs.detach().numpy()
        atol = 1e-11 * max(abs(theirs).max(), 1e-5)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=atol)
