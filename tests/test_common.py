"""What the scripts share: blocks that are equal to the byte, how they start, names and shapes."""
import ast
import os
import re
import shutil
import sys

import common
import numpy as np
import pytest
from conftest import ROOT, load, python as run
from loading import settings

SCRIPTS = common.SCRIPTS
PYTHON = sorted(path.name for path in ROOT.glob("*.py"))    # dnc-debug.py too
ALL = ["learning", "text", "scoring and sampling", "checkpoints", "training", "command line"]
BLOCKS = {name: ["imports", *["LSTM cell"] * (name != "rnn-numpy.py"), *ALL] for name in SCRIPTS}
scripts, python = (pytest.mark.parametrize("name", names) for names in (SCRIPTS, PYTHON))


def read(name, folder=ROOT):
    return (folder / name).read_bytes().decode()


def differences(folder=ROOT):
    """Which blocks of the scripts differ, are not in their order, or have lost a marker."""
    found = {name: common.blocks(read(name, folder)) for name in SCRIPTS}
    for name, blocks in found.items():
        ends = len(BLOCKS[name]) - len(ALL) + 1     # of ALL, each but the last ends with the next
        if list(blocks) != BLOCKS[name] or (
                read(name, folder).count("# ---- ") != len(blocks) + ends):
            yield f"{name} has {list(blocks)}"
        for block, text in blocks.items():
            yield from (f"{name}, {other}: {block}" for other in SCRIPTS
                        if found[other].get(block, text) != text)


def test_common_blocks_are_equal():
    assert list(differences()) == []


@pytest.mark.parametrize("name, block", [(key, block) for key in SCRIPTS for block in BLOCKS[key]])
def test_a_changed_block_is_seen_and_copied(name, block, tmp_path, monkeypatch):
    for script in SCRIPTS:
        shutil.copy(ROOT / script, tmp_path)
    text = common.blocks(read(name))[block]
    first, *middle, last = text.splitlines(keepends=True)
    for changed in ([first, "#\n", *middle, last], [first, *middle[1:], last],
                    [first, *middle[:-1], middle[-1][:-1] + " \n", last], [first, *middle], []):
        (tmp_path / name).write_bytes(read(name).replace(text, "".join(changed)).encode())
        assert list(differences(tmp_path))
        if changed[-1:] == [last]:
            monkeypatch.setattr(common, "ROOT", tmp_path)
            common.main(name)
            assert list(differences(tmp_path)) == []
            for script in SCRIPTS:                          # and nothing else
                assert read(script, tmp_path).replace("".join(changed), text) == read(script)


@python
def test_source(name):
    """PEP 723's header, which `uv run` reads; NumPy and the standard library; 100 columns."""
    source = read(name)
    header = '# /// script\n# requires-python = ">=3.10"\n# dependencies = ["numpy>=2.0"]\n# ///\n'
    assert source.count("# /// script") == source.count(header) == 1
    nodes = [*ast.walk(ast.parse(source))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= {"numpy", *sys.stdlib_module_names}
    assert re.findall(r"(?m)^[\w.-]+", read("requirements.txt")) == ["numpy"]
    assert [line for line in source.split("\n") if len(line) > 100] == []


LOOK = """
import os, random, runpy, signal, sys, threading, warnings
import numpy as np
def look():
    signals = [signal.getsignal(s) for s in sorted(signal.valid_signals())]
    environment = {key: os.environ[key] for key in os.environ if not key.endswith("_THREADS")}
    return (np.geterr(), np.get_printoptions(), signals, random.getstate(), os.getcwd(),
            sys.argv[:], repr(np.random.get_state()), threading.active_count(), sys.path[:],
            warnings.filters[:], sys.stdout, sys.stderr, environment)
before = look()
runpy.run_path(sys.argv[1], run_name="not_main")
assert look() == before
"""


@scripts
def test_importing_does_nothing(name, tmp_path):
    shutil.copy(ROOT / name, tmp_path)
    assert run(tmp_path, "-B", "-c", LOOK, name).stdout == ""
    assert os.listdir(tmp_path) == [name]


H, V, N, W, R, B = 5, 7, 6, 4, 3, 2
GATED = {"Wxh": (4 * H, V), "Whh": (4 * H, H), "Why": (V, H), "bh": (4 * H, 1), "by": (V, 1)}
SHAPES = {                      # sizes; the article's names, shapes (to, from); biases are columns
    "rnn-numpy.py": ((H,), {**GATED, "Wxh": (H, V), "Whh": (H, H), "bh": (H, 1)}, {"h": (B, H)}),
    "lstm-numpy.py": ((H,), GATED, {"h": (B, H), "c": (B, H)}),
    "dnc-numpy.py": (
        (H, N, W, R),
        {"Wxh": (4 * H, V), "Whh": (4 * H, H), "Wrh": (4 * H, R * W), "Why": (V, H),
         "Wry": (V, R * W), "Whr": (R * W, H), "Whw": (W, H), "Whv": (W, H), "Whe": (W, H),
         "Whf": (R, H), "Whga": (1, H), "Whgw": (1, H), "Whbr": (R, H), "Whbw": (1, H),
         "Whp": (3 * R, H), "bh": (4 * H, 1), "by": (V, 1)},
        {"h": (B, H), "c": (B, H), "r": (B, R, W), "M": (B, N, W), "u": (B, N), "p": (B, N),
         "L": (B, N, N), "wr": (B, R, N), "ww": (B, N)})}


@scripts
def test_parameters_and_state(name, model=None):
    """The order counts: forward unpacks them. Weights: 0.01 times normal numbers; with init, the
    same times init over the root of the number of inputs. Biases: 0, but the forget gate's."""
    sizes, shapes, state = SHAPES[name]
    model = model or load(name)
    assert [*model.param_shapes(V, *sizes).items()] == [*shapes.items()]
    assert [*model.state_shapes(B, *sizes).items()] == [*state.items()]
    params, larger, other = (
        model.init_params(np.random.default_rng(1), V, settings(model, sizes, **changes))
        for changes in ({}, {"init": 2.0}, {"forget_bias": -3.0}))
    weights = np.concatenate([p.ravel() for key, p in params.items() if key[0] == "W"])
    assert 0.008 < weights.std() < 0.012 and abs(weights.mean()) < 0.003
    assert len(set(weights)) == weights.size and [*params] == [*larger] == [*shapes]
    for key, p in params.items():
        assert p.shape == shapes[key] and p.dtype == np.float64
        times = 1 if key[0] == "b" else 200 if key == "Wxh" else 200 / p.shape[1] ** 0.5
        np.testing.assert_allclose(larger[key], times * p, rtol=1e-12)
    forget = [float(name != "rnn-numpy.py" and 2 * H <= row < 3 * H)
              for row in range(len(params["bh"]))]
    assert params["bh"][:, 0].tolist() == forget and not params["by"].any()
    assert other["bh"][:, 0].tolist() == [-3 * bias for bias in forget]
