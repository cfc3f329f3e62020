"""The hand-written gradients against the complex step, for whole models and for each mechanism of
the DNC, and against PyTorch's; what training does with them, against literal formulas.

Tests take the model as an argument with a default, so that mutants.py can call them with its own.
"""
import copy
import decimal
import math
import sys
import types
import warnings

import numpy as np
import pytest
from loading import (SIZES, V, agree, complex_step, forward, given, load, numerical, random_case,
                     random_params, settings, wrong_gradients)

RNN, DNC = load("rnn-numpy.py"), load("dnc-numpy.py")
models = pytest.mark.parametrize("name", SIZES)
SHARP = 2, 3, 0.7, (3, 4, 3, 2)                              # B, S, scale, sizes
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@models
@pytest.mark.parametrize("scale, windows, reset, dropout", [
    (None, 0, None, False), (None, 4, None, True), (0.7, 4, None, False), (0.7, 4, 2, True)])
@pytest.mark.parametrize("B, S, sizes", [
    (1, 3, (4, 6, 3, 1)), (1, 5, (4, 3, 3, 3)), (5, 6, (3, 3, 3, 1)), (3, 3, (4, 6, 3, 3)),
    (2, 1, (4, 1, 3, 2)), (1, 1, (1, 1, 1, 1))])
def test_gradients(name, B, S, sizes, scale, windows, reset, dropout):
    """S = 1 tells h[0], the state after it, from h[-1], the one before."""
    assert wrong_gradients(random_case(name, B, S, scale, sizes[:len(SIZES[name])], reset, windows,
                                       dropout=dropout)) == []


def test_the_memory_is_at_work():
    """Else its gradients would be too small to be seen."""
    case = random_case("dnc-numpy.py")
    least = {"u": 0.2, "ww": 0.3, "p": 0.3, "wr": 0.08, "L": 0.2, "M": 2}
    assert {key for key in least if np.ptp(case.state[key]) < least[key]} == set()
    assert all(abs(n).max() > 1e-3 for group in numerical(case) for n in group.values())


def test_sharp_weightings():
    """As in a trained network: each write is nearly all to one location, here or there."""
    case = random_case("dnc-numpy.py", *SHARP, sharp=True)
    state, written = case.state, []
    for inputs in case.inputs:
        state = DNC.forward(case.params, inputs[None], state)[1]
        written.append(state["ww"])
    assert np.max(written) > 0.99 and np.max(written, axis=2).min() > 0.98
    assert len(set(np.argmax(written, axis=2).ravel())) > 1
    assert wrong_gradients(case) == []
    assert all(abs(n).max() > 1e-4 for group in numerical(case) for n in group.values())


@models
@pytest.mark.parametrize("reset, dropout", [(None, False), (1, True)])
def test_loss_and_gradients_of_a_window(name, reset, dropout, model=None):
    """Sums over its characters. Later calls do not change what one has returned."""
    case = random_case(name, 5, 6, reset=reset, dropout=dropout)
    model = model or case.model
    nats, *results = model.gradients(
        case.params, case.inputs, case.targets, case.state, **given(case))
    kept = copy.deepcopy(results)
    y, after, cache = forward(case)
    model.gradients(case.params, case.targets, case.inputs, case.state, **given(case))
    np.testing.assert_equal(results, kept)
    losses, dy = RNN.cross_entropy(y, case.targets)
    zero = {key: np.zeros_like(value) for key, value in after.items()}
    grads = case.model.backward(case.params, cache, dy, zero)[0]
    assert type(nats) is float and nats == pytest.approx(losses.sum(), rel=1e-12)
    for found, group in zip(results, (grads, after)):
        assert found.keys() == group.keys()
        for key in group:
            np.testing.assert_allclose(found[key], group[key], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("scale, windows", [(None, 0), (0.1, 4), (0.7, 4), (1.5, 4)])
@pytest.mark.parametrize("B, S, H", [(1, 1, 5), (4, 9, 6), (3, 7, 1)])
def test_those_of_pytorch(B, S, H, scale, windows):
    """nn.RNN, whose second bias stays at 0."""
    torch = pytest.importorskip("torch")
    case = random_case("rnn-numpy.py", B, S, scale, (H,), windows=windows, dropout=True)
    y, after, cache = forward(case)
    nats, dy = RNN.cross_entropy(y, case.targets)
    grads, before = RNN.backward(case.params, cache, dy, case.dstate)

    t = {key: torch.tensor(value, requires_grad=True)
         for key, value in {**case.params, **case.state}.items()}
    h, last = torch.func.functional_call(
        torch.nn.RNN(V, H), {"weight_ih_l0": t["Wxh"], "weight_hh_l0": t["Whh"],
                             "bias_ih_l0": t["bh"][:, 0], "bias_hh_l0": 0 * t["bh"][:, 0]},
        (torch.eye(V, dtype=torch.float64)[case.inputs.copy()], t["h"][None]))
    y_t = torch.tensor(case.mask) * h @ t["Why"].T + t["by"][:, 0]
    loss = torch.nn.functional.cross_entropy(
        y_t.flatten(0, 1), torch.tensor(case.targets).flatten(), reduction="sum")
    (loss + (last[0] * torch.tensor(case.dstate["h"])).sum()).backward()
    for a, b in [(y, y_t), (nats.sum(), loss), (after["h"], last[0]),
                 *((d, t[key].grad) for key, d in {**grads, **before}.items())]:
        b = b.detach().numpy()
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * max(abs(b).max(), 1e-5))


@models
@dtypes
def test_the_type_of_the_parameters_is_the_type_of_everything(name, dtype, model=None):
    """Of what is returned, and of all local variables on the way, those of each back included."""
    case = random_case(name, 2, 3, reset=2, dtype=dtype, dropout=True)
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
        cache = forward(case, model)[2]
        model.backward(case.params, cache, case.dy, case.dstate)
        grads = model.gradients(case.params, case.inputs, case.targets, case.state, 2, case.mask)[1]
        for key, p in case.params.items():
            model.adagrad(p, grads[key], np.zeros_like(p), 0.1)
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

    def w(*shape):                              # weightings, their sums below 1; a stream's sharp
        even = rng.dirichlet(np.ones(shape[-1] + 1), shape[:-1])[..., :-1]
        sharp = 0.95 * np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])] + 0.05 * even
        return np.concatenate([even[:1], sharp[1:]])
    used, L = rng.choice([0, 1e-9, 1e-7, 0.3, 0.3, 0.7, 1], (B, N)), w(B, N, N)
    return {"lstm_cell": (x(B, 4 * H), x(B, H)),
            "softmax": (x(B, R, N) + 1000 * (rng.random((B, 1, N)) < 0.2),),    # e^1000 is inf
            "oneplus": (np.append(20 * x(B, R), [[-1000, 85], [90, 1000]], axis=1),),
            "interface": (x(B, (R + 3) * W + 5 * R + 3), R, W),
            "content": (x(B, N, W), x(B, R, W), 1 + 9 * u(B, R)),
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


@pytest.mark.parametrize("V", [5, 7000])
def test_one_hot_product(V, model=RNN):
    """The last characters do not occur."""
    rng = np.random.default_rng(2)
    inputs, d = rng.integers(V - 2, size=(4, 9)), rng.standard_normal((36, 6))
    product = model.one_hot_product(d, inputs, V)
    expected = np.zeros((6, V))
    for k, row in zip(inputs.ravel(), d):
        expected[:, k] += row
    np.testing.assert_allclose(product, expected, rtol=1e-13, atol=1e-14)


@dtypes
def test_cross_entropy(dtype, model=RNN):
    """Against logarithms of 60 digits; where p rounds to 0 or 1, and where e^y would overflow."""
    rng, relative = np.random.default_rng(3), 1e-13 if dtype is np.float64 else 2e-6
    extreme = [[0, -1e4, 1e4, 3, 0], [1e6, 1e6, 0, -1e6, 0], [800, 0, 799.5, 0, 0],
               [0, 1e-4, 90, 110, 0], [-90, -90, -90.5, -110, -90]]
    cases = np.concatenate([3 * rng.standard_normal((10, V)), extreme]).astype(dtype)
    y, targets = np.repeat(cases[:, None], V, axis=1), np.tile(np.arange(V), (len(cases), 1))
    kept = y.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nats, dy = model.cross_entropy(y, targets)
    assert np.array_equal(kept, y) and nats.shape == targets.shape and dy.shape == y.shape
    with decimal.localcontext(decimal.Context(prec=60)):
        for at, target in np.ndenumerate(targets):
            exact = [decimal.Decimal(float(value)) for value in y[at]]
            p = [1 / sum((other - value).exp() for other in exact) for value in exact]
            assert nats[at] == pytest.approx(float(-p[target].ln()), rel=relative, abs=relative)
            assert dy[at] == pytest.approx([float(q - (j == target)) for j, q in enumerate(p)],
                                           rel=10 * relative, abs=relative)


def test_adagrad(model=RNN):
    """Gradients around 1e-4 too, where the 1e-8 under the root counts."""
    rng = np.random.default_rng(6)
    p, mem = rng.standard_normal(20), np.zeros(20)
    sizes = np.append([0, 0], 10.0 ** rng.integers(-7, 3, 18))
    for _ in range(5):
        d, given = rng.standard_normal(20) * sizes, (p, mem)
        kept = p.copy(), mem.copy(), d.copy()
        p, mem = model.adagrad(p, d, mem, 0.1)
        np.testing.assert_equal((*given, d), kept)
        for k, (p_k, mem_k, d_k) in enumerate(zip(*kept)):
            assert mem[k] == pytest.approx(mem_k + d_k ** 2, rel=1e-14)
            assert p[k] == pytest.approx(p_k - 0.1 * d_k / math.sqrt(mem[k] + 1e-8), rel=1e-13)


def test_averaged(model=RNN):
    """Iteration t weighs t (t + 1) ... (t + 8); where the average started does not matter."""
    rng = np.random.default_rng(3)
    average, steps = rng.standard_normal((2, 3)), rng.standard_normal((30, 2, 3))
    weights = [math.prod(range(t, t + 9)) for t in range(1, 31)]
    for t, p in enumerate(steps, 1):
        before = average.copy(), p.copy()
        after = model.averaged(average, p, t)
        np.testing.assert_array_equal((average, p), before)         # its arguments stay
        average = after
        expected = np.average(steps[:t], axis=0, weights=weights[:t])
        np.testing.assert_allclose(average, expected, rtol=0, atol=1e-14)


@dtypes
def test_norm(dtype, model=RNN):
    """1e20 squared is inf in single precision, and so is the norm: iterate ends the run."""
    rng = np.random.default_rng(7)
    for size in (1, 1e15, 1e-15, 0, 1e20):
        grads = {key: (rng.standard_normal(shape) * size).astype(dtype)
                 for key, shape in {"W": (4, 5), "b": (4, 1)}.items()}
        norm = math.sqrt(math.fsum(float(x) ** 2 for d in grads.values() for x in d.ravel()))
        if size == 1e20 and dtype is np.float32:
            norm = math.inf
        with np.errstate(over="ignore"):
            found = model.norm(grads)
        assert found == pytest.approx(norm, rel=1e-6 if dtype is np.float32 else 1e-14)


@models
@dtypes
@pytest.mark.parametrize("clip, dropout, size", [
    (0, 0, None), (1e9, 0, None), (1e-3, 0.4, None), (1e-3, 0, 1e15), (1e-3, 0, 1e-15), (1, 0, 0)])
def test_iterate(name, dtype, clip, dropout, size, monkeypatch):
    """Gradients that together are longer than clip per character are scaled down to that length.
    If something is not finite, nothing changes; a sum of inf would freeze its weight."""
    model, rng = load(name), np.random.default_rng(5)
    args = settings(model, SIZES[name], batchsize=3, seqlength=4, seed=5, lr=0.1, clip=clip,
                    dropout=dropout)
    text = types.SimpleNamespace(ids=rng.integers(V, size=60), tail=60, begins=None)
    run = types.SimpleNamespace(
        params=random_params(model, SIZES[name], rng, 0.7, dtype), vocab="abcde", iter=7,
        settings=settings(model, SIZES[name], reset="b"), position=np.array([60, 8, 20]))
    run.mem = {key: p * p for key, p in run.params.items()}
    run.average = {key: p / 2 for key, p in run.params.items()}
    run.state = model.zero_state(run, 3)
    inputs, targets, state, position = model.next_window(args, run, text)
    nats, grads, after = model.gradients(
        run.params, inputs, targets, state, 1, model.dropout_mask(args, run))
    if size is not None:
        grads = {key: d * dtype(size) for key, d in grads.items()}
        monkeypatch.setattr(model, "gradients", lambda *given: (nats, grads, after))
    before = copy.deepcopy(vars(run))
    assert model.iterate(args, run, text) == pytest.approx(nats / 12 / math.log(2), rel=1e-6)

    length = math.sqrt(math.fsum(float(x) ** 2 for d in grads.values() for x in d.ravel()))
    scale = 12 * clip / length if clip and length > 12 * clip else 1
    assert (scale < 1) == (clip == 1e-3 and size != 1e-15)
    for key, p in before["params"].items():
        d = scale * grads[key].astype(float)
        mem = before["mem"][key] + d ** 2
        rounding = 1e-13 if dtype is np.float64 else 1e-5
        np.testing.assert_allclose(run.mem[key], mem, rtol=rounding)
        np.testing.assert_allclose(run.params[key], p - 0.1 * d / np.sqrt(mem + 1e-8),
                                   rtol=rounding, atol=rounding)
        np.testing.assert_allclose(run.average[key], 7 / 17 * p / 2 + 10 / 17 * run.params[key],
                                   rtol=rounding, atol=rounding)
        assert run.params[key].dtype == run.mem[key].dtype == run.average[key].dtype == dtype
    np.testing.assert_equal((run.state, run.position, run.iter), (after, position, 8))

    before = copy.deepcopy(vars(run))
    wrongs = [{**grads, key: grads[key] * np.array([np.nan], dtype)} for key in grads]
    if dtype is np.float32 and not clip:
        wrongs.append({**grads, "Why": grads["Why"] * dtype(1e30)})
    for wrong in wrongs:
        monkeypatch.setattr(model, "gradients", lambda *given: (nats, wrong, after))
        with (np.errstate(all="ignore"),
              pytest.raises(model.Failure, match="not finite in iteration 9")):
            model.iterate(args, run, text)
    np.testing.assert_equal(vars(run), before)


@pytest.mark.parametrize("u", [
    np.zeros(7), np.ones(7), np.arange(7) != 2, np.arange(7) // 2 != 1, np.full(7, 0.5),
    np.zeros(1), np.ones(1), np.zeros(512), np.ones(512), np.full(512, 0.5), np.arange(512) != 99],
    ids=lambda u: f"{u.size}, {u.sum():g}")
def test_allocation_at_its_limits(u):
    """All free, all used, one or two free, all alike; NumPy has nothing to warn of."""
    u, rng = np.array(u, float)[None], np.random.default_rng(1)
    d, z = rng.standard_normal(u.shape), u.astype(complex)
    with np.errstate(all="raise", under="ignore"):
        a, back = DNC.allocation(u)
        du = back(d)
    assert np.isfinite(a).all() and a.min() >= 0 and a.sum() <= 1 + 1e-12
    assert agree(complex_step(lambda: (DNC.allocation(z)[0] * d).sum(), z), du)
