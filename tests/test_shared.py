"""What the scripts share: common blocks that are equal to the byte, how they start, what they import, names and shapes."""
import ast
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from loading import ROOT, load

SCRIPTS = sorted(path.name for path in ROOT.glob("*-numpy.py"))
PYTHON = sorted(path.name for path in ROOT.glob("*.py"))    # dnc-debug.py too
FIRST = "rnn-numpy.py"
scripts, python = pytest.mark.parametrize("name", SCRIPTS), pytest.mark.parametrize("name", PYTHON)


# Common blocks --------------------------------------------------------------------------------------------------------

def blocks(path):
    """The common blocks of a script, name -> bytes with both marker lines, in order."""
    result, name = {}, None
    for line in path.read_bytes().splitlines(keepends=True):
        if begins := re.match(rb"# ---- common: (.+?)(?: \(.*\))? ----\n", line):
            assert name is None and begins[1] not in result, f"{path.name}: {line} inside of {name}, or for the second time"
            name = begins[1]
            result[name] = b""
        if name:
            result[name] += line
        if line.startswith(b"# ---- end of common: "):
            assert name and line == b"# ---- end of common: " + name + b" ----\n", f"{path.name}: {line} ends {name}"
            name = None
    assert name is None, f"{path.name}: {name} does not end"
    return result


BLOCKS = [name.decode() for name in blocks(ROOT / FIRST)]


def differences(folder):
    """What differs between the common blocks of the first script and those of the others."""
    first = blocks(folder / FIRST)
    for path in sorted(folder.glob("*-numpy.py")):
        other = blocks(path)
        if list(other) != list(first):
            yield f"{path.name} has {list(other)}, {FIRST} has {list(first)}"
        yield from (f"{path.name}: {name}" for name in first if other.get(name) != first[name])


def test_common_blocks_are_equal():
    assert len(SCRIPTS) >= 2 and BLOCKS == ["imports", "numbers", "workers", "text", "scoring and sampling", "checkpoints", "training", "command line"]
    assert list(differences(ROOT)) == []


@pytest.fixture
def copies(tmp_path):
    for name in SCRIPTS:
        shutil.copy(ROOT / name, tmp_path)
    assert list(differences(tmp_path)) == []
    return tmp_path


@scripts
@pytest.mark.parametrize("block", BLOCKS)
def test_a_changed_block_is_seen(name, block, copies):
    path = copies / name
    text, whole = path.read_bytes(), blocks(path)[block.encode()]
    lines = whole.splitlines(keepends=True)
    middle = len(lines) // 2
    for changed in (lines[:middle] + [b"#\n"] + lines[middle:], lines[:middle] + lines[middle + 1:],    # a line more, one less
                    lines[:-2] + [lines[-2][:-1] + b" \n"] + lines[-1:], []):                           # a space; no block
        assert text.count(whole) == 1
        path.write_bytes(text.replace(whole, b"".join(changed)))
        assert list(differences(copies))


def test_blocks_in_another_order_or_not_ended_are_seen(copies):
    path = copies / SCRIPTS[0]
    text, (a, b) = path.read_bytes(), (blocks(path)[name] for name in (b"numbers", b"text"))
    path.write_bytes(text.replace(b, b"").replace(a, b + a))
    assert list(differences(copies))
    path.write_bytes(text.replace(b"# ---- end of common: text ----\n", b""))
    with pytest.raises(AssertionError):
        list(differences(copies))


# Each script ----------------------------------------------------------------------------------------------------------

@python
def test_header(name):
    """PEP 723: what `uv run` reads, equal in all."""
    found = re.findall(r"(?m)^# /// script\n(?:#(?: .*)?\n)+?# ///$", (ROOT / name).read_text(encoding="utf-8"))
    assert found == ['# /// script\n# requires-python = ">=3.10"\n# dependencies = ["numpy>=1.26"]\n# ///']


@python
def test_imports_are_numpy_and_the_standard_library(name):
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {"." * node.level + (node.module or "") for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "numpy" in modules or name == "dnc-debug.py"
    modules -= {"mpi4py"}                                   # imported under mpirun alone, inside of class Workers
    assert "mpi4py" not in {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert {module.split(".")[0] for module in modules} <= {"numpy", *sys.stdlib_module_names}


@python
def test_lines_are_at_most_140_characters_long(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [f"{name}:{number}" for number, line in enumerate(lines, 1) if len(line) > 140] == []


LOOK = """
import os, random, runpy, signal, sys, threading, warnings
import numpy as np
def look():
    return (np.geterr(), np.get_printoptions(), [signal.getsignal(s) for s in sorted(signal.valid_signals())], random.getstate(),
            repr(np.random.get_state()), threading.active_count(), os.getcwd(), sys.argv[:], sys.path[:], warnings.filters[:], sys.stdout,
            sys.stderr, {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")})
before = look()
runpy.run_path(sys.argv[1], run_name="not_main")
assert look() == before
"""


@scripts
def test_importing_does_nothing(name, tmp_path):
    shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run([sys.executable, "-B", "-c", LOOK, name], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == [name]


def test_requirements():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()]
    assert [re.match(r"[\w.-]*", line)[0].lower() for line in lines if line] == ["numpy"]


# Parameters -----------------------------------------------------------------------------------------------------------

H, M, R, W = 5, 7, 3, 4
GATED = {"Wxh": (4 * H, M), "Whh": (4 * H, H), "Why": (M, H), "bh": (4 * H, 1), "by": (M, 1)}
ARTICLE = {                                                 # sizes; names and shapes: (to, from), biases are columns
    "rnn-numpy.py": ({"hidden": H}, {"Wxh": (H, M), "Whh": (H, H), "Why": (M, H), "bh": (H, 1), "by": (M, 1)}),
    "lstm-numpy.py": ({"hidden": H}, GATED),
    "dnc-numpy.py": ({"hidden": H, "locations": 6, "width": W, "heads": R},
                     {**GATED, "Wrh": (4 * H, R * W), "Wry": (M, R * W), "Whr": (R * W, H), "Whw": (W, H), "Whv": (W, H), "Whe": (W, H)})}


@scripts
def test_parameters_are_the_articles(name):
    sizes, expected = ARTICLE[name]
    shapes = load(name).param_shapes(M, **sizes)
    assert expected.items() <= shapes.items()
    assert name == "dnc-numpy.py" or list(shapes) == list(expected)         # the whole DNC needs more than the article's


@scripts
def test_fresh_parameters(name):
    sizes, _ = ARTICLE[name]
    model = load(name)
    params = model.Params(model.param_shapes(M, **sizes), float)
    params.flat[:] = 9
    model.init_params(params, model.generator(1, 0))
    for key, p in params.items():
        if key.startswith("W"):
            assert 0 < abs(p).max() < 0.06 and len(set(p.ravel())) == p.size
    small = dict(params)
    params = model.Params(model.param_shapes(M, **sizes), float)
    model.init_params(params, model.generator(1, 0), 2.0)       # --init 2: the same numbers, larger
    for key, p in params.items():
        times = 1 if not key.startswith("W") else 200 if key == "Wxh" else 200 / p.shape[1] ** 0.5
        np.testing.assert_allclose(p, times * small[key], rtol=1e-12)
    forget = [1.0 if name != FIRST and 2 * H <= row < 3 * H else 0.0 for row in range(len(params["bh"]))]      # i, o, f, c
    assert params["bh"][:, 0].tolist() == forget and not params["by"].any()
