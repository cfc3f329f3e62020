"""What the model tests share: scripts as modules, cases drawn at random, the complex step.

f'(x) = Im f(x + ih) / h has no cancellation: with h = 1e-20 the quotient is as exact as f. forward
takes its type from the parameters, so every entry of every parameter and state can be asked.
"""
import functools
import importlib.util
import pathlib
import types

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
V = 5                                           # characters in the tests' vocabulary
STEP = 1e-20                                    # of the complex step
SIZES = {"rnn-numpy.py": (4,), "lstm-numpy.py": (4,), "dnc-numpy.py": (4, 5, 3, 2)}    # H, N, W, R
INTERFACE = "Whr Whw Whv Whe Whf Whga Whgw Whbr Whbw Whp".split()


@functools.cache
def load(name):
    """A script, by its path in the repository, as a module."""
    path = ROOT / name
    spec = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def zero_state(model, sizes, B, dtype=float):
    return {name: np.zeros(shape, dtype) for name, shape in model.state_shapes(B, *sizes).items()}


def settings(model, sizes, **changes):
    """The flags of a model of these sizes; without changes, its weights vary by 0.01."""
    flags = {name: default for name, (_, _, default, *_) in model.FLAGS.items()}
    names = [name for name, (kind, *_) in model.FLAGS.items() if kind is int]
    return types.SimpleNamespace(**{**flags, **dict(zip(names, sizes)), "init": 0, **changes})


def random_params(model, sizes, rng, scale=None, dtype=float):
    """Normal parameters of this scale; None: the initial ones. The DNC's interface has three times
    larger ones: h_t is below 1, and gates, modes and strengths should leave the middle."""
    if scale is None:
        params = model.init_params(rng, V, settings(model, sizes))
    else:
        params = {name: rng.standard_normal(shape) * scale * (3 if name in INTERFACE else 1)
                  for name, shape in model.param_shapes(V, *sizes).items()}
    return {name: p.astype(dtype) for name, p in params.items()}


def sharpen(params, state, rng):
    """Let the DNC write nearly all of a vector to one location, as a trained one does: by content
    that differs, or where it is free. Hidden unit 0 stays near 1, and opens the write gate."""
    H, N = params["Why"].shape[1], state["u"].shape[1]
    for name in ("Wxh", "Whh", "Wrh", "bh"):
        params[name][::H] = 5 if name == "bh" else 0
    for name, z in {"Whgw": 8, "Whbw": 30, "Whf": 2}.items():
        params[name][:, 0], params[name][:, 1:] = z, 0.2 * params[name][:, 1:]
    params["Whga"] *= 4
    state["M"], state["u"] = rng.standard_normal(state["M"].shape), rng.random(state["u"].shape)
    for name in ("p", "ww", "wr"):
        state[name] = rng.dirichlet(np.full(N, 0.05), state[name].shape[:-1])
    state["L"] = rng.dirichlet(np.full(N, 0.05), state["u"].shape) * (1 - np.eye(N))
    state["u"][:, 0] = 1e-3


def random_case(name, B=2, S=4, scale=0.7, sizes=None, reset=None, windows=4, model=None,
                dtype=float, dropout=False, sharp=False):
    """All that forward and backward take, read-only. The state is what so many windows left."""
    model, sizes = model or load(name), sizes or SIZES[name]
    rng = np.random.default_rng([B, S, windows, *sizes])
    params = random_params(model, sizes, rng, scale, dtype)
    state = zero_state(model, sizes, B, dtype)
    for _ in range(windows):
        state = model.forward(params, rng.integers(V, size=(S, B)), state)[1]
    if sharp:
        sharpen(params, state, rng)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)
    mask = np.array([0, 1.6], dtype)[rng.integers(2, size=(S, B, sizes[0]))] if dropout else None
    case = types.SimpleNamespace(
        name=name, model=model, params=params, state=state, reset=reset, mask=mask,
        inputs=rng.integers(V, size=(S, B)), targets=rng.integers(V, size=(S, B)),
        dy=normal(S, B, V), dstate={key: normal(*s.shape) for key, s in state.items()})
    if reset is not None:
        case.inputs[[0, S // 2], [B - 1, 0]] = reset        # the first step is a case of its own
    for key, value in vars(case).items():
        for array in value.values() if isinstance(value, dict) else [value]:
            if isinstance(array, np.ndarray):
                array.setflags(write=False)
        if isinstance(value, dict):
            setattr(case, key, types.MappingProxyType(value))
    return case


def forward(case, model=None, params=None, state=None):
    """What forward returns for the case."""
    return (model or case.model).forward(
        params or case.params, case.inputs, state or case.state, **given(case))


def given(case):
    """The arguments reset and mask, where the case has them: without, the defaults count."""
    return {key: vars(case)[key] for key in ("reset", "mask") if vars(case)[key] is not None}


def complex_step(function, x):
    """The derivatives of function() by every entry of the complex array x, which function reads."""
    result = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        x[at] += STEP * 1j
        result[at] = function().imag / STEP
        x[at] = x[at].real
    return result


def agree(n, a):
    """Whether numerical and analytical gradients are equal, up to rounding, at every entry."""
    if n.shape != a.shape:
        return False
    floor = 1e-13 * max(abs(n).max(), abs(a).max())
    return bool((abs(n - a) <= 1e-10 * (abs(n) + abs(a)) + floor).all())


def numerical(case):
    """The gradients of all parameters and of all incoming state; computed once for a case."""
    if not hasattr(case, "numerical"):
        params, state = ({key: value.astype(complex) for key, value in group.items()}
                         for group in (case.params, case.state))

        def objective():
            y, after, _ = forward(case, None, params, state)
            return (y * case.dy).sum() + sum(
                (after[key] * d).sum() for key, d in case.dstate.items())
        case.numerical = [{key: complex_step(objective, x) for key, x in group.items()}
                          for group in (params, state)]
    return case.numerical


def wrong_gradients(case, model=None):
    """Names of the parameters and the incoming state whose gradient from backward is wrong."""
    model = model or case.model
    found = model.backward(case.params, forward(case, model)[2], case.dy, case.dstate)
    assert [list(group) for group in found] == [list(case.params), list(case.state)]
    return [key for n, a in zip(numerical(case), found) for key in n if not agree(n[key], a[key])]
