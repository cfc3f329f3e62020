"""What the tests share: the scripts as modules, whole or with a line changed, random numbers of a model's shapes, the complex step."""
import functools
import importlib.util
import pathlib
import types

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
M = 7                                                       # characters in the tests' vocabulary
STEP = 1e-20                                                # of the complex step
SIZES = {"rnn-numpy.py": {"hidden": 6},                     # the models that the tests of all models run on
         "lstm-numpy.py": {"hidden": 6},
         "dnc-numpy.py": {"hidden": 6, "locations": 5, "width": 3, "heads": 2}}


@functools.cache
def load(name):
    """A script, given by its path in the repository, as a module."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(name).stem.replace("-", "_"), ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_changed(name, old, new):
    """A script as a module, with one piece of its source changed in memory; an error if that piece is not there once."""
    source = (ROOT / name).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{name} has {source.count(old)} times, not once: {old}"
    module = types.ModuleType("changed")
    exec(compile(source.replace(old, new), f"changed {name}", "exec"), vars(module))
    return module


def random_params(model, sizes, rng, scale=None, dtype=np.float64):
    """Parameters: normal with a standard deviation of scale, or those that the script starts with."""
    params = model.Params(model.param_shapes(M, **sizes), dtype)
    if scale is None:
        model.init_params(params, rng)
    else:
        params.flat[:] = rng.standard_normal(params.flat.size) * scale
    return params


def random_state(model, sizes, rng, B, dtype=np.float64):
    """A state that random weights have reached in a few steps, so that it is a possible one in any model."""
    params = random_params(model, sizes, rng, 0.5, dtype)
    zero = model.zeros(model.state_shapes(B, **sizes), dtype)
    return model.forward(params, rng.integers(M, size=(4, B)), zero)[1]


def random_case(name, B, S, scale=0.5, model=None, dtype=np.float64):
    """A model with all that forward and backward take, drawn at random."""
    model, sizes, rng = model or load(name), SIZES[name], np.random.default_rng(B + 10 * S)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)
    return types.SimpleNamespace(
        model=model, sizes=sizes, params=random_params(model, sizes, rng, scale, dtype), inputs=rng.integers(M, size=(S, B)),
        targets=rng.integers(M, size=(S, B)), state=random_state(model, sizes, rng, B, dtype), dlogits=normal(M, S, B),
        dstate={key: normal(*shape) for key, shape in model.state_shapes(B, **sizes).items()})


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
    floor = 1e-13 * max(abs(n).max(), abs(a).max())
    return n.shape == a.shape and (abs(n - a) <= 1e-10 * (abs(n) + abs(a)) + floor).all()
