"""What the tests have to see of mistakes in the models, which mutants.py makes."""
import functools
import signal
import warnings

import numpy as np
import pytest
import test_common
import test_equations as equations
import test_gradients as gradients
from loading import SIZES, load, numerical, random_case, wrong_gradients

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")
EQUIVALENT = [                      # what may survive: functions, what their line has now, and why
    ("param_shapes", ["hidden", "interface_shapes(H"], "H is hidden"),
    ("oneplus", ["81", "79"], "from 37 on, log(1 + e^z) is z to all digits"),
    ("sum_outer", ["return np.matmul", "y.shape", "== 2", "== 0"], "the other product, slower"),
    ("link", ["ones_like(L", "ones_like(dL"], "more columns of ones than are used"),
    ("allocation", ["like(v)", "like(before)", "like(da)"], "all have one shape and type"),
    ("forward", ["keep = (inputs", "None if Whh", "None if inputs"], "all 1 without a reset"),
    ("forward backward", ["keep_rows(keep"], "a product in another order"),
    ("forward", [f"interface_shapes({sizes})" for sizes in (
        "R, W, R", "W, W, R", "params, W, R", "H, H, R", "H, R, R", "H, W, H", "H, W, W")],
     "only the names are used"),
    ("backward", ["interface_shapes(R", "interface_shapes(W"], "only numbers of rows are used"),
    ("backward", ["Whxi.dtype"], "both have one type"),
    ("backward", ["H = (dlogits.shape, Whh.shape[0]"], "Whh of the RNN is square"),
    ("backward lstm_cell", ["reshape(S * B, -2)", "4, -2"], "NumPy takes any negative for -1"),
    ("lstm_cell", ["len(c_)"], "as many rows as in a"),
    ("clip", ["else 2", "else 0"], "the norm is 0, and so are all numbers")]


@functools.cache
def cases(name):
    """What each mutant is run on first, and what it has to return."""
    found = [random_case(name, B, S, scale, sizes[:len(SIZES[name])], reset, windows)
             for B, S, sizes, scale, reset, windows in [
                 (2, 4, (3, 4, 3, 2), 0.7, None, 4), (1, 3, (2, 3, 2, 3), 0.7, 2, 4),
                 (2, 3, (3, 4, 3, 2), None, None, 0), (2, 1, (2, 1, 3, 2), 0.7, None, 4)]]
    return [(case, numerical(case), equations.literal(
        name, case.params, case.inputs, case.state, case.reset)) for case in found]


def check(name, function, model):
    """Fails where the tests see a mistake. The cheapest of them come first."""
    for case, _, (y, after) in cases(name):
        logits, state, _ = model.forward(case.params, case.inputs, case.state, case.reset)
        for a, b in [(logits, y), *((state[key], after[key]) for key in after)]:
            assert a.shape == b.shape and np.allclose(a, b, rtol=1e-10, atol=1e-12)
        assert wrong_gradients(case, model) == []
    test_common.test_parameters_and_state(name, model)
    gradients.test_adagrad(model)
    gradients.test_one_hot_product(model)
    for dtype in np.float32, np.float64:
        gradients.test_cross_entropy(dtype, model)
        gradients.test_clip(dtype, model)
        gradients.test_the_type_of_the_parameters_is_the_type_of_everything(name, dtype, model)
    for reset in None, 1:
        gradients.test_loss_and_gradients_of_a_window(name, reset, model)
    if function in gradients.MECHANISMS and name == "dnc-numpy.py":
        gradients.test_mechanism(function, 2, 5, model)
    for tie in equations.TIES if function == "allocation" else []:
        equations.test_rounding_does_not_choose_between_equal_usages(0.5, *tie, model)


def fate(script, function, line, changed, model):
    """What becomes of a mutant. It is caught if a check fails, or raises, or takes 10 seconds."""
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.alarm(10)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(script, function, model)
    except Exception:
        return "caught"
    finally:
        signal.alarm(0)
    return "equivalent" if any(
        function in functions.split() and changed.count(piece) > line.count(piece)
        for functions, pieces, _ in EQUIVALENT for piece in pieces) else "unseen"


def test_each_third_mutant():
    """All of them: python tests/mutants.py"""
    import mutants                                      # which imports this file
    for script in SIZES:                                # the right model is not caught
        assert fate(script, "", "", "", load(script)) == "unseen"
    assert mutants.main(["3"]) == 0
