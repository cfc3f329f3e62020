"""The hand-written gradients against the complex step, and the check itself against gradients that are wrong.

f'(x) = Im f(x + ih) / h has no cancellation, so h can be 1e-20 and the quotient is as exact as f. Since forward takes its type
from the parameters, it can be asked for every entry of every parameter and of the incoming state.
"""
import decimal
import math
import types
import warnings

import numpy as np
import pytest
from loading import M, SIZES, agree, complex_step, load, load_changed, random_case

models = pytest.mark.parametrize("name", SIZES)


def wrong_gradients(case):
    """Names of the parameters and states whose gradient from backward is wrong, under random gradients from outside."""
    model, inputs = case.model, case.inputs
    window = model.forward(case.params, inputs, case.state)[2]
    grads, dstate = model.backward(case.params, window, case.dlogits.copy(), case.dstate)
    assert np.array_equal(np.concatenate([g.ravel() for g in grads.values()]), grads.flat)     # what Adagrad uses

    params = model.Params({name: p.shape for name, p in case.params.items()}, complex)
    params.flat[:] = case.params.flat
    state = {name: s.astype(complex) for name, s in case.state.items()}
    window = None

    def objective():
        nonlocal window
        logits, after, window = model.forward(params, inputs, state, window)
        return (logits * case.dlogits).sum() + sum((after[name] * case.dstate[name]).sum() for name in after)
    assert grads.keys() == params.keys() and dstate.keys() == state.keys()
    return [name for x, analytical in ((params, grads), (state, dstate)) for name in x
            if not agree(complex_step(objective, x[name]), analytical[name])]


@models
@pytest.mark.parametrize("scale", [None, 0.5], ids=["fresh", "large"])
@pytest.mark.parametrize("S", [1, 5])
@pytest.mark.parametrize("B", [1, 5])
def test_gradients(name, B, S, scale):
    assert wrong_gradients(random_case(name, B, S, scale)) == []


# Wrong gradients ------------------------------------------------------------------------------------------------------

BOTH = [
    ('np.dot(dy, w.h[1:]', 'np.dot(dy, w.h[:S]'),
    ('np.sum(dy, axis=1, keepdims=True, out=grads["by"])', 'np.mean(dy, axis=1, keepdims=True, out=grads["by"])'),
    ('np.dot(dy.T, Why, out=w.dh.reshape(S * B, H))', 'w.dh[:] = 0'),
    ('np.subtract(1, w.dtanh, out=w.dtanh)', 'pass'),
    ('w.dhnext[:] = dstate["h"].T', 'w.dhnext[:] = 0'),
    ('dh += w.dhnext', 'pass'),
    ('np.dot(da.T, w.h[:S]', 'np.dot(da.T, w.h[1:]'),
    ('scatter_rows(da, w.inputs, ', 'scatter_rows(da, np.roll(w.inputs, 1), '),
    ('np.take(d, ids.argsort(axis=None, kind="stable"), axis=0', 'np.take(d, np.arange(ids.size), axis=0'),
    ('np.dot(ones[:count], room[start:end], out=row)', 'np.copyto(row, room[start])'),
    ('np.sum(da, axis=0, out=grads["bh"][:, 0])', 'pass'),
    ('{"h": w.dhnext.T.copy()', '{"h": w.dh[0].T.copy()')]

WRONG = {
    "rnn-numpy.py": BOTH + [
        ('w.dtanh, w.da))[::-1]', 'w.dtanh, w.da))'),
        ('np.multiply(w.h[1:], w.h[1:], out=w.dtanh)', 'np.multiply(w.h[:-1], w.h[:-1], out=w.dtanh)'),
        ('np.multiply(dh, dtanh, out=da)', 'np.copyto(da, dh)'),
        ('np.dot(da, Whh, out=w.dhnext)', 'np.dot(da, Whh.T, out=w.dhnext)'),
        ('np.dot(da, Whh, out=w.dhnext)', 'w.dhnext[:] = 0')],
    "lstm-numpy.py": BOTH + [
        ('da[:, 1], w.x))[::-1]', 'da[:, 1], w.x))'),
        ('reshape(S, B, 4, H).swapaxes(1, 2) ', 'reshape(S, B, H, 4).transpose(0, 3, 1, 2) '),
        ('w.s_a[:, 0], w.s_a[:, 2], w.s_a[:, 3]', 'w.s_a[:, 2], w.s_a[:, 0], w.s_a[:, 3]'),
        ('np.multiply(c, c, out=w.dtanh)', 'np.multiply(cprev, cprev, out=w.dtanh)'),
        ('np.multiply(o, w.dtanh, out=w.h_s)', 'np.multiply(i, w.dtanh, out=w.h_s)'),
        ('sigmoid_slope(o, c, out=w.h_o)', 'sigmoid_slope(o, cprev, out=w.h_o)'),
        ('sigmoid_slope(i, g, out=s_i)', 'sigmoid_slope(i, f, out=s_i)'),
        ('sigmoid_slope(f, cprev, out=s_f)', 'sigmoid_slope(f, c, out=s_f)'),
        ('np.multiply(g, g, out=s_g)', 's_g[:] = 0'),
        ('s_g *= i', 's_g *= f'),
        ('w.s_s[0] = f[0]', 'w.s_s[0] = f[0] * (1 - cprev[0] ** 2)'),
        ('np.multiply(f[1:], w.dtanh[:-1], out=w.s_s[1:])', 'w.s_s[1:] = f[1:]'),
        ('np.multiply(dstate["c"].T, w.dtanh[-1], out=w.dsnext)', 'w.dsnext[:] = 0'),
        ('np.multiply(dstate["c"].T, w.dtanh[-1], out=w.dsnext)', 'w.dsnext[:] = dstate["c"].T'),
        ('np.multiply(dh, h_s, out=w.ig)', 'w.ig[:] = 0'),
        ('w.ig += w.dsnext', 'pass'),
        ('np.multiply(w.ig, s_a, out=da)', 'np.multiply(dh, s_a, out=da)'),
        ('np.multiply(dh, h_o, out=da_o)', 'pass'),
        ('np.multiply(dh, h_o, out=da_o)', 'np.multiply(w.ig, h_o, out=da_o)'),
        ('np.multiply(w.ig, s_s, out=w.dsnext)', 'w.dsnext[:] = 0'),
        ('np.dot(da_all, Whh, out=w.dhnext)', 'w.dhnext[:] = 0'),
        ('"c": w.dsnext.T.copy()', '"c": w.dhnext.T.copy()'),
        ('np.subtract(1, s, out=out)', 'np.copyto(out, s)'),
        ('    out *= s\n', ''),
        ('    out *= factor\n', '')]}


@pytest.mark.parametrize("name, old, new", [(name, *change) for name, changes in WRONG.items() for change in changes])
def test_wrong_gradient_is_seen(name, old, new):
    assert wrong_gradients(random_case(name, B=2, S=4, model=load_changed(name, old, new)))


def wrong_loss(model):
    """Whether the gradient of cross_entropy differs from the complex step."""
    rng = np.random.default_rng(3)
    logits, targets = 3 * rng.standard_normal((M, 4, 3)), rng.integers(M, size=(4, 3))
    x = logits.astype(complex)
    return not agree(complex_step(lambda: model.cross_entropy(x, targets)[0].sum(), x), model.cross_entropy(logits, targets)[1])


def test_gradient_of_the_loss():
    assert not wrong_loss(load("rnn-numpy.py"))


@pytest.mark.parametrize("old, new", [("z[at_target] -= 1", "pass"), ("z /= total", "pass"), ("z[at_target] -= 1", "z[0] -= 1"),
                                      ("nats += np.log(total)", "pass")])
def test_wrong_gradient_of_the_loss_is_seen(old, new):
    assert wrong_loss(load_changed("rnn-numpy.py", old, new))


# Windows --------------------------------------------------------------------------------------------------------------

@models
@pytest.mark.parametrize("cut", [1, 4])
def test_two_windows_are_one_long_window(name, cut):
    case = random_case(name, B=3, S=7)
    model, params = case.model, case.params
    logits, after, window = model.forward(params, case.inputs, case.state)
    grads, before = model.backward(params, window, case.dlogits, case.dstate)

    logits1, state, window1 = model.forward(params, case.inputs[:cut], case.state)
    logits2, state, window2 = model.forward(params, case.inputs[cut:], state)
    grads2, dstate = model.backward(params, window2, case.dlogits[:, cut:], case.dstate)
    grads1, dstate = model.backward(params, window1, case.dlogits[:, :cut], dstate)

    for long, short in [(logits, np.concatenate([logits1, logits2], axis=1)), (grads.flat, grads1.flat + grads2.flat),
                        *((after[key], state[key]) for key in after), *((before[key], dstate[key]) for key in before)]:
        np.testing.assert_allclose(short, long, rtol=1e-11, atol=1e-13)


@models
def test_windows_are_used_again_without_a_trace(name):
    case, others = random_case(name, B=3, S=5), [random_case(name, B, S, scale=None) for B, S in ((3, 5), (2, 5), (3, 4))]

    def run(case, window):
        logits, after, window = case.model.forward(case.params, case.inputs, case.state, window)
        grads, before = case.model.backward(case.params, window, case.dlogits.copy(), case.dstate)
        return [logits, grads.flat, *after.values(), *before.values()], window
    inputs = [case.params.flat, case.inputs, *case.state.values(), *case.dstate.values()]
    given = [value.copy() for value in inputs]
    results, window = run(case, None)
    kept = [value.copy() for value in results]
    for other in [*others, random_case(name, B=3, S=5, scale=None, dtype=np.float32)]:
        expected = run(other, None)[0]
        found, used = run(other, window)
        assert (used is window) == (other is others[0])     # other sizes or another type: a new one
        assert all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(found, expected, strict=True))
        assert all(map(np.array_equal, results, kept))      # nothing that was returned is a view of the window
    assert all(map(np.array_equal, run(case, window)[0], kept))
    assert all(map(np.array_equal, inputs, given))


@models
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_type_of_the_parameters_is_the_type_of_everything(name, dtype):
    case = random_case(name, B=2, S=3, scale=None, dtype=dtype)
    model, params = case.model, case.params
    logits, after, window = model.forward(params, case.inputs, case.state)
    nats, dlogits = model.cross_entropy(logits, case.targets)
    grads, before = model.backward(params, window, dlogits, case.dstate)
    model.adagrad(params.flat, grads.flat, np.zeros_like(grads.flat), 0.1)
    held = [value for value in vars(window).values() if isinstance(value, np.ndarray) and value.dtype.kind in "fc"]
    assert held
    returned = [logits, nats, dlogits, params.flat, grads.flat, *after.values(), *before.values()]
    assert {x.dtype for x in returned + held} == {np.dtype(dtype)}


# Loss and Adagrad (common code: one script stands for all, see test_shared.py) ----------------------------------------

@pytest.mark.parametrize("dtype, relative", [(np.float64, 1e-15), (np.float32, 5e-7)])
def test_cross_entropy_is_exact(dtype, relative):
    """Against 60 decimal digits; at ordinary logits, and where the target's probability is 0 as a floating-point number."""
    ordinary = np.random.default_rng(5).standard_normal((M, 4)) * 5
    extreme = [[1e4, -1e4, 0, 3, 1e4, 2, -7], [-1e4] * 6 + [1e4], [1e4] * 7, [-1e4, 800, 0, 0, 799.5, 0, 0],
               [0, 1e-4, 90, 110, 0, 0, 0]]
    columns = np.concatenate([ordinary.T, extreme]).astype(dtype)
    cases = [(column, target) for column in columns for target in range(M)]
    logits = np.stack([column for column, _ in cases], axis=1)[:, None]                                   # (M, 1, cases)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nats, d = load("rnn-numpy.py").cross_entropy(logits, np.array([[target for _, target in cases]]))
    with decimal.localcontext(decimal.Context(prec=60)):
        for k, (column, target) in enumerate(cases):
            exact = [decimal.Decimal(float(value)) for value in column]
            p = [1 / sum((other - value).exp() for other in exact) for value in exact]
            assert nats[0, k] == pytest.approx(float(-p[target].ln()), rel=relative, abs=relative)
            assert d[:, 0, k] == pytest.approx([float(q - (j == target)) for j, q in enumerate(p)], rel=10 * relative, abs=relative)


def test_adagrad():
    rng = np.random.default_rng(6)
    p = rng.standard_normal(20)
    mem, expected, sums = np.zeros(20), p.tolist(), [0.0] * 20
    sizes = 10.0 ** rng.integers(-7, 3, 20)                 # around 1e-4, where the 1e-8 under the root counts
    sizes[:3] = 0
    for _ in range(5):
        d = rng.standard_normal(20) * sizes
        load("rnn-numpy.py").adagrad(p, d, mem, 0.1)
        for k in range(20):
            sums[k] += d[k] ** 2
            expected[k] -= 0.1 * d[k] / math.sqrt(sums[k] + 1e-8)
        np.testing.assert_allclose(p, expected, rtol=1e-14)
        np.testing.assert_allclose(mem, sums, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipped_gradient(dtype):
    """Too long: as long as the limit, in the same direction; else as it was, to the bit. In single precision 1e20 squared is infinite."""
    clip, rng = load("rnn-numpy.py").clip, np.random.default_rng(7)
    for size in (1, 1e20, 1e-20):
        d = (rng.standard_normal(50) * size).astype(dtype)
        before, norm = d.copy(), math.sqrt(sum(float(x) ** 2 for x in d))
        clip(d, norm * 1.001)
        assert d.tobytes() == before.tobytes()
        clip(d, norm / 8)
        np.testing.assert_allclose(d, before / 8, rtol=4 * np.finfo(dtype).eps)


def test_clipping_is_per_character():
    """A window of the same streams and steps twice has the gradient twice, and its limit is twice as large."""
    model, steps = load("rnn-numpy.py"), []
    ids = np.tile(np.arange(9, dtype=np.uint8), 50)
    for B in (3, 6):
        run = types.SimpleNamespace(params=model.Params(model.param_shapes(9, hidden=4), np.float64), sizes={"hidden": 4}, seed=1, seqlength=5,
                                    batchsize=B, lr=0.1, clip=1e-3, iter=0, position=np.arange(B) % 3, jumps=np.zeros(B, int))
        run.mem = model.Params(model.param_shapes(9, hidden=4), np.float64)
        model.init_params(run.params, model.generator(1, 0))
        run.state = model.zeros(model.state_shapes(B, **run.sizes), np.float64)
        nothing = model.zeros(model.state_shapes(B, **run.sizes), np.float64)
        model.iterate(run, ids, nothing, [None], types.SimpleNamespace(rank=0, size=1, sum=lambda x: x), lambda: False)
        steps.append(run.mem.flat.copy())       # the squares of the first gradient
    assert math.sqrt(steps[0].sum()) == pytest.approx(1e-3 * 3 * 5)
    np.testing.assert_allclose(steps[1], 4 * steps[0], rtol=1e-9)
