"""The hand-written gradients against the complex step, for whole models and for each mechanism of
the DNC, and against PyTorch's; what training does with them, against literal formulas.

Tests take the model as an argument with a default, so that mutants.py can call them with its own.
"""
import copy
import decimal
import functools
import math
import sys
import types
import warnings

import numpy as np
import pytest
from loading import SIZES, M, agree, complex_step, load, numerical, random_case, wrong_gradients

RNN, DNC = load("rnn-numpy.py"), load("dnc-numpy.py")
models = pytest.mark.parametrize("name", SIZES)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
cached_case = functools.cache(random_case)


@models
@pytest.mark.parametrize("scale, windows, reset", [(None, 0, None), (None, 4, None), (0.7, 4, None),
                                                   (0.7, 4, 2)])
@pytest.mark.parametrize("B, S, sizes", [
    (1, 3, (4, 6, 3, 1)), (1, 5, (4, 3, 3, 3)), (5, 6, (3, 3, 3, 1)), (3, 3, (4, 6, 3, 3)),
    (2, 1, (4, 1, 3, 2)), (1, 1, (1, 1, 1, 1))])
def test_gradients(name, B, S, sizes, scale, windows, reset, model=None):
    case = cached_case(name, B, S, scale, sizes[:len(SIZES[name])], reset, windows)
    assert wrong_gradients(case, model) == []


def test_the_memory_is_at_work():
    """Else its gradients would be too small to be seen."""
    case = random_case("dnc-numpy.py")
    least = {"u": 0.2, "ww": 0.3, "p": 0.3, "wr": 0.08, "L": 0.2, "M": 2}
    assert {key for key in least if np.ptp(case.state[key]) < least[key]} == set()
    assert all(abs(n).max() > 1e-3 for group in numerical(case) for n in group.values())


@models
@pytest.mark.parametrize("reset", [None, 1])
def test_loss_and_gradients_of_a_window(name, reset, model=None):
    """Sums over its characters. Later calls do not change what one has returned."""
    case = cached_case(name, 5, 6)
    model = model or case.model
    nats, *results = model.gradients(case.params, case.inputs, case.targets, case.state, reset)
    kept = copy.deepcopy(results)
    logits, after, cache = case.model.forward(case.params, case.inputs, case.state, reset)
    model.gradients(case.params, case.targets, case.inputs, case.state, reset)
    np.testing.assert_equal(results, kept)
    losses, dlogits = RNN.cross_entropy(logits, case.targets)
    zero = {key: np.zeros_like(value) for key, value in after.items()}
    grads = case.model.backward(case.params, cache, dlogits, zero)[0]
    assert type(nats) is float and nats == pytest.approx(losses.sum(), rel=1e-12)
    for found, group in zip(results, (grads, after)):
        assert found.keys() == group.keys()
        for key in group:
            np.testing.assert_allclose(found[key], group[key], rtol=1e-11, atol=1e-13)


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name, order", [("rnn", ["h"]), ("dnc", "h c M u p L wr ww r".split())])
@pytest.mark.parametrize("scale, windows", [(None, 0), (0.1, 4), (0.7, 4), (1.5, 4)])
@pytest.mark.parametrize("B, S, sizes", [(1, 1, (5, 9, 4, 1)), (4, 9, (6, 11, 3, 3)),
                                         (3, 7, (4, 3, 6, 2))])
def test_those_of_pytorch(name, order, B, S, sizes, scale, windows, torch):
    """Its models are bench/'s. The DNC there is the paper's equations once more, by other means,
    and its gradients are not those of our own forward."""
    case = random_case(f"{name}-numpy.py", B, S, scale, sizes if name == "dnc" else sizes[:1],
                       windows=windows)
    logits, after, cache = case.model.forward(case.params, case.inputs, case.state)
    nats, dlogits = case.model.cross_entropy(logits, case.targets)
    grads, before = case.model.backward(case.params, cache, dlogits, case.dstate)

    def network(params):
        """The peer with these for its parameters, or with gradients, and a list of them."""
        run = types.SimpleNamespace(sizes=sizes, hidden=sizes[0], batchsize=B)
        peer = getattr(load("bench/peers_torch.py"), name.upper())(run)
        peer.build({key: torch.tensor(value) for key, value in params.items()})
        peer.delta = 1e-9 * torch.arange(sizes[1])      # in single precision it is more
        return peer, [p for p in peer.parameters() if p.requires_grad]
    peer, params = network(case.params)

    def tensors(state):
        return [torch.tensor(state[key]).reshape(like.shape)
                for key, like in zip(order, peer.zero_state())]
    state = [value.requires_grad_() for value in tensors(case.state)]
    y, after_t = peer(torch.tensor(case.inputs), state)
    loss = torch.nn.functional.cross_entropy(
        y.reshape(S * B, M), torch.tensor(case.targets).reshape(S * B), reduction="sum")
    (loss + sum((x * d).sum() for x, d in zip(after_t, tensors(case.dstate)))).backward()

    ours = logits.transpose(1, 2, 0), nats.sum(), *tensors(after), *tensors(before)
    theirs = y, loss, *after_t, *(x.grad for x in (*state, *params))
    for a, b in zip((*ours, *network(grads)[1]), theirs, strict=True):
        a, b = (torch.as_tensor(x).detach().numpy() for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * max(abs(b).max(), 1e-5))


@models
@dtypes
def test_the_type_of_the_parameters_is_the_type_of_everything(name, dtype, model=None):
    """Of what is returned, and of all local variables on the way, those of each back included."""
    case = random_case(name, 2, 3, reset=2, dtype=dtype)
    model, found, visited = model or case.model, set(), set()

    def collect(owner, key, value):
        if isinstance(value, (dict, tuple, list)):
            for item in value.values() if isinstance(value, dict) else value:
                collect(owner, key, item)
        elif isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind not in "iub":
            found.add((owner, key, value.dtype))

    def trace(frame, event, arg):
        if frame.f_globals is vars(model):
            visited.add(frame.f_code.co_name)
            if event == "return":
                for key, value in [*frame.f_locals.items(), ("result", arg)]:
                    collect(frame.f_code.co_name, key, value)
            return trace
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        cache = model.forward(case.params, case.inputs, case.state, 2)[2]
        model.backward(case.params, cache, case.dlogits, case.dstate)
        grads = model.gradients(case.params, case.inputs, case.targets, case.state)[1]
        for key, p in case.params.items():
            model.adagrad(p.copy(), grads[key], np.zeros_like(p), 0.1)
    finally:
        sys.settrace(before)
    assert {"forward", "backward", "cross_entropy", "one_hot_product", "adagrad"} <= visited
    assert {entry for entry in found if entry[2] != dtype} == set()


def mechanisms(R, N, rng):
    """Arguments of each function that returns its own backward pass."""
    B, H, W = 2, 4, 3

    def x(*shape):
        return 2 * rng.standard_normal(shape)

    def u(*shape):
        return rng.uniform(0, 1, shape)

    def w(*shape):                              # weightings, their sums below 1
        return rng.dirichlet(np.ones(shape[-1] + 1), shape[:-1])[..., :-1]
    used, L = rng.choice([0, 1e-9, 1e-7, 0.3, 0.3, 0.7, 1], (B, N)), w(B, N, N)
    return {"lstm_cell": (x(B, 4 * H), x(B, H)),
            "softmax": (x(B, R, N) + 1000 * (rng.random((B, 1, N)) < 0.2),),    # e^1000 is inf
            "oneplus": (np.append(20 * x(B, R), [[-1000, 85], [90, 1000]], axis=1),),
            "interface": (x(B, (R + 3) * W + 5 * R + 3), R, W),
            "scale_keys": (x(B, R + 1, W), 1 + u(B, R + 1)),
            "content": (x(B, N, W), x(B, R, W)),
            "usage": (u(B, R), w(B, R, N), u(B, N), w(B, N)),
            "allocation": (used,),
            "write_weighting": (u(B, 1), u(B, 1), w(B, N), w(B, N)),
            "write": (x(B, N, W), w(B, N), u(B, W), x(B, W)),
            "link": (L, w(B, N), w(B, N)),
            "precedence": (w(B, N), w(B, N)),
            "read_weighting": (u(B, R, 3), L, w(B, R, N), w(B, R, N)),
            "read": (x(B, N, W), w(B, R, N))}


MECHANISMS = list(mechanisms(1, 1, np.random.default_rng(0)))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("R, N", [(1, 4), (2, 5), (3, 1), (3, 6)])
def test_mechanism(mechanism, R, N, model=DNC):
    rng = np.random.default_rng([R, N])
    function, args = getattr(model, mechanism), mechanisms(R, N, rng)[mechanism]
    *results, back = function(*args)
    d = [rng.standard_normal(np.shape(value)) for value in results]
    given = [*filter(np.ndim, args), *d]
    copies = [value.copy() for value in given]
    found = back(*d)
    found = found if isinstance(found, tuple) else (found,)
    again = back(*d)
    assert all(map(np.array_equal, found, again if isinstance(again, tuple) else (again,)))
    assert all(map(np.array_equal, copies, given))              # arguments stay as they were

    z = [value.astype(complex) if np.ndim(value) else value for value in args]
    def objective():
        return sum((value * dvalue).sum() for value, dvalue in zip(function(*z), d))
    for x, analytical in zip(filter(np.ndim, z), found, strict=True):
        assert agree(complex_step(objective, x), analytical)


def test_one_hot_product(model=RNN):
    rng = np.random.default_rng(2)
    inputs, d = rng.integers(M - 1, size=(4, 3)), rng.standard_normal((12, 6))
    one_hot = np.eye(M)[inputs.ravel()]                         # the last character does not occur
    product = model.one_hot_product(d, inputs, M)
    np.testing.assert_allclose(product, d.T @ one_hot, rtol=1e-14, atol=1e-14)
    assert product.flags.c_contiguous and not product[:, -1].any()


@dtypes
def test_cross_entropy(dtype, model=RNN):
    """Against logarithms of 60 digits; where p rounds to 0 or 1, and where e^y would overflow."""
    rng, relative = np.random.default_rng(3), 1e-13 if dtype is np.float64 else 2e-6
    extreme = [[0, -1e4, 1e4, 3, 0], [1e6, 1e6, 0, -1e6, 0], [800, 0, 799.5, 0, 0],
               [0, 1e-4, 90, 110, 0], [-90, -90, -90.5, -110, -90]]
    columns = np.concatenate([3 * rng.standard_normal((10, M)), extreme]).astype(dtype)
    cases = [(column, target) for column in columns for target in range(M)]
    logits = np.stack([column for column, _ in cases], axis=1).reshape(M, 5, -1)
    targets = np.array([target for _, target in cases]).reshape(5, -1)
    kept = logits.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nats, d = model.cross_entropy(logits, targets)
    assert np.array_equal(kept, logits) and nats.shape == targets.shape and d.shape == logits.shape
    nats, d = nats.ravel(), d.reshape(M, -1)
    with decimal.localcontext(decimal.Context(prec=60)):
        for k, (column, target) in enumerate(cases):
            exact = [decimal.Decimal(float(value)) for value in column]
            p = [1 / sum((other - value).exp() for other in exact) for value in exact]
            assert nats[k] == pytest.approx(float(-p[target].ln()), rel=relative, abs=relative)
            assert d[:, k] == pytest.approx([float(q - (j == target)) for j, q in enumerate(p)],
                                            rel=10 * relative, abs=relative)


def test_adagrad(model=RNN):
    """Gradients around 1e-4 too, where the 1e-8 under the root counts."""
    rng = np.random.default_rng(6)
    p, mem = rng.standard_normal(20), np.zeros(20)
    expected, sums = p.copy(), np.zeros(20)
    sizes = np.append([0, 0], 10.0 ** rng.integers(-7, 3, 18))
    for _ in range(5):
        d = rng.standard_normal(20) * sizes
        kept = d.copy()
        model.adagrad(p, d, mem, 0.1)
        sums += kept ** 2
        expected -= 0.1 * kept / np.sqrt(sums + 1e-8)
        np.testing.assert_allclose(p, expected, rtol=1e-14)
        np.testing.assert_allclose(mem, sums, rtol=1e-14)
        assert np.array_equal(d, kept)


@dtypes
def test_clip(dtype, model=RNN):
    """Too long: as long as the limit; else as it was, to the bit. 1e20 squared is inf in single."""
    rng = np.random.default_rng(7)
    for size in (1, 1e20, 1e-20, 0):
        grads = {key: (rng.standard_normal(shape) * size).astype(dtype)
                 for key, shape in {"W": (4, 5), "b": (4, 1)}.items()}
        kept = {key: d.copy() for key, d in grads.items()}
        norm = math.sqrt(sum(float(x) ** 2 for d in kept.values() for x in d.ravel()))
        model.clip(grads, norm * 1.001 + (size == 0))
        assert all(np.array_equal(grads[key], kept[key]) for key in kept)
        model.clip(grads, norm / 8)
        for key, d in grads.items():
            np.testing.assert_allclose(d, kept[key] / 8, rtol=4 * np.finfo(dtype).eps)
            assert d.dtype == dtype
