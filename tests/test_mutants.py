"""What the tests have to see of mistakes in the models, which mutants.py makes."""
import functools
import signal
import warnings

import numpy as np
import pytest
import test_common
import test_equations as equations
import test_gradients as gradients
from loading import SIZES, forward, load, numerical, random_case, wrong_gradients

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")
EQUIVALENT = [                      # what may survive: functions, what their line has now, and why
    ("param_shapes", ["hidden", "interface_shapes(H"], "H is hidden"),
    ("starts", ["inputs]\n", "inputs in inputs"], "it only takes longer"),
    ("forward gradients", ["reset=-2"], "no character has this number"),
    ("backward", ["Whxi.dtype", "weights.dtype"], "both have one type"),
    ("one_hot_product", [f"astype({x}" for x in ("x", "used", "inputs", "product")],
     "the product is stored in d's type"),
    ("oneplus", ["81", "79"], "from 37 on, log(1 + e^z) is z to all digits"),
    ("interface", ["1, R]", "1, 3]", "4 * R]", "2 * R]", "3 * W]", "3 / R]"],
     "the last part is the rest"),
    ("interface", ["len(part)"], "as many rows as in xi"),
    ("allocation", ["like(da)", "like(v)", "like(da_phi)", "dtype=a_phi", "dtype=da_phi"],
     "of one shape and type"),
    ("read_weighting", ["2:4"], "there are three modes"),
    ("backward lstm_cell rows one_hot_product interface", ["reshape(-2", ", -2)"],
     "NumPy takes any negative for -1")]


@functools.cache
def cases(name):
    """What each mutant is run on first, and what it has to return."""
    shapes = [(2, 4, 0.7, (3, 4, 3, 2), None, 4), (2, 3, 0.7, (2, 3, 2, 3), 2, 4),
              (2, 3, None, (3, 4, 3, 2), None, 0), (2, 1, 0.7, (2, 1, 3, 2), None, 4)]
    found = [random_case(name, B, S, scale, sizes[:len(SIZES[name])], reset, windows,
                         dropout=bool(reset)) for B, S, scale, sizes, reset, windows in shapes]
    return [(case, numerical(case), equations.literal(case)) for case in found]


def check(name, function, model):
    """Fails where the tests see a mistake. The cheapest of them come first."""
    for case, _, expected in cases(name):
        equations.assert_same(forward(case, model), expected)
        assert wrong_gradients(case, model) == []
    test_common.test_parameters_and_state(name, model)
    gradients.test_adagrad(model)
    gradients.test_averaged(model)
    gradients.test_one_hot_product(7, model)
    for dtype in np.float32, np.float64:
        gradients.test_cross_entropy(dtype, model)
        gradients.test_norm(dtype, model)
        gradients.test_the_type_of_the_parameters_is_the_type_of_everything(name, dtype, model)
    for reset, dropout in (None, False), (1, True):
        gradients.test_loss_and_gradients_of_a_window(name, reset, dropout, model)
    if function in gradients.MECHANISMS and name == "dnc-numpy.py":
        gradients.test_mechanism(function, 2, 5, model)
    for tie in equations.TIES if function == "allocation" else []:
        equations.test_rounding_does_not_choose_between_equal_usages(0.5, *tie, model)


def fate(script, function, line, changed, model, seconds=10):
    """What becomes of a mutant. It is caught if a check fails, or raises, or takes so long."""
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.alarm(seconds)                               # 0: as long as it takes
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(script, function, model)
    except Exception:
        return "caught"
    finally:
        signal.alarm(0)
    return "equivalent" if any(
        function in functions.split() and f"{changed}\n".count(piece) > f"{line}\n".count(piece)
        for functions, pieces, _ in EQUIVALENT for piece in pieces) else "unseen"


def test_each_third_mutant():
    """All of them: python tests/mutants.py"""
    import mutants                                      # which imports this file
    for script in SIZES:                                # the right model is not caught
        assert fate(script, "", "", "", load(script), seconds=0) == "unseen"
    assert mutants.main(["3"]) == 0
