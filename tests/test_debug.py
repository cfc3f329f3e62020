"""dnc-debug.py, run as a user runs it: what it prints, the mistakes it finds in copies of the
scripts, flags and failures."""
import math
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT, load, posix, python

DEBUG = ROOT / "dnc-debug.py"
ARTICLE = ["Wxh", "Whh", "Why", "Whr", "Whv", "Whw", "Whe", "Wrh", "Wry", "bh", "by"]
SMALL = "--gradcheck 5 --batchsize 2 --hidden 4 --seqlength 4 --check_interval 3".split()
SMALL_MEMORY = "--locations 4 --width 3 --heads 2".split()
RNN = ["--script", ROOT / "rnn-numpy.py", *SMALL]


def run(folder, *flags, status=0, line=None, level="-B"):
    """Run to the end; what is printed, and the one line of a status of 2."""
    line = status == 2 if line is None else line
    done = python(folder, level, DEBUG, *flags, status=status, line=line, says=r"dnc-debug\.py: ")
    return done.stdout + done.stderr


N, E = r"(-?\d\.\d{6}e[+-]\d\d)", r"(\d\.\d{6}e[+-]\d\d|nan)"
BLOCK = rf"(\w+): n = \[{N}, {N}\] min {E}, max {E}\n a = \[{N}, {N}\] mean {E} # (\d+)/(\d+)\n"
ROW = r"((?:state )?\w+): +\d+ entries  max \|a\| (\d\.\d{3}e...)  error (\d\.\d{3}e...)\n"
WHEN = r"\n(fresh weights|large weights|after \d+ iterations)"
CHECK = rf"{WHEN}, loss \d+\.\d{{3}}\n\nGRAD CHECK\n\n({BLOCK})+"
CHECK += rf"({WHEN}(, \w+ \d)+\n\nCOMPLEX STEP\n\n({ROW})+)+\n"
TRAINING = r"(0: .* char/s\n)*held-out: .*\n(----\n(.|\n)*\n----\n)?"
VERDICT = r"all gradients agree: \d+ parameters and the incoming state \(.*\)\n"


def check_agreement(output, name, *iterations):
    """All that holds for an output without a fault. Returns how many entries were valid."""
    assert re.fullmatch(rf"\w+: .* held out\n{CHECK}({TRAINING}{CHECK})*{VERDICT}", output)
    trained = [f"after {i} iterations" for i in iterations for _ in range(2)]
    assert re.findall(WHEN, output) == ["fresh weights"] * 2 + ["large weights"] + trained
    script, table, rows = load(name), re.findall(BLOCK, output), re.findall(ROW, output)
    params, state = ([*shapes(5, *[4] * len(script.SIZES))]
                     for shapes in (script.param_shapes, script.state_shapes))
    order = sorted(params, key=lambda name: [*ARTICLE, name].index(name))
    assert [block[0] for block in table] == order * (1 + len(iterations))
    for *_, low, high, a_low, a_high, mean, checked, valid in table:
        assert (low == mean == high == "nan") if valid == "0" else (
            float(low) <= float(mean) <= float(high) < 1e-4 and int(valid) <= int(checked))
    names = params + ["state " + name for name in state]
    assert [row[0] for row in rows] == names * (2 + len(iterations))
    assert all(float(error) <= 1e-10 for _, _, error in rows)
    assert all(float(largest) > 0 for _, largest, _ in rows[len(names):])   # nothing goes unseen
    assert f" {len(params)} parameters and the incoming state ({', '.join(state)})\n" in output
    return [int(block[-1]) for block in table]


def test_dnc(tmp_path):
    """By default dnc-numpy.py, on the text beside it, from any folder; without docstrings."""
    output = run(tmp_path, *SMALL, *SMALL_MEMORY, level="-OO")
    check_agreement(output, "dnc-numpy.py", 3)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["rnn-numpy.py", "lstm-numpy.py"])
def test_siblings(name, tmp_path):
    """Copies elsewhere, under another name. After training nearly all entries are valid."""
    shutil.copy(ROOT / name, tmp_path / "copy.txt")
    valid = check_agreement(run(tmp_path, "--script", "copy.txt"), name, 200)
    assert sum(valid[-4:]) >= 38                    # of 40: all but Wxh, many characters are absent
    assert os.listdir(tmp_path) == ["copy.txt"]


WRONG = """
def {0}(*args, right={0}):
    {1} = right(*args)
    {2}
    return {1}
"""
RESULTS = {"backward": "grads, state", "gradients": "nats, grads, state",
           "cross_entropy": "nats, dlogits"}
MEMORY = "all but Why, Wry, by"
MISTAKES = {    # script, function, what becomes of its results (g: those of back), verdict
    "missing": ("rnn", "backward", 'del grads["bh"]', "bh"),
    "not a number": ("rnn", "backward", 'grads["by"][:] = state["h"][:] = np.nan', "by, state h"),
    "only in training": ("rnn", "gradients", 'grads["Why"][:] = np.nan', "Why"),
    "loss": ("rnn", "cross_entropy", "dlogits *= 0.9", "Wxh, Whh, Why, bh, by, state h"),
    "later windows": ("rnn", "backward", 'grads, state = right(*args[:3], {"h": 0 * args[3]["h"]})',
                      "Wxh, Whh, bh, state h"),
    "transposed": ("lstm", "backward", 'grads["Whh"] = grads["Whh"].T', "Whh"),
    "a billionth": ("lstm", "backward", 'grads["by"] *= 1 + 1e-9', "by"),
    "no state": ("lstm", "backward", 'state["c"] = 0 * state["c"]', "state c"),
    "sign": ("lstm", "lstm_cell", "g[0], -g[1]", "Wxh, Whh, bh, state h, state c"),
    "heads swapped": ("dnc", "backward", 'grads["Whbr"] = grads["Whbr"][::-1]', "Whbr"),
    "wrong state": ("dnc", "backward", 'state["p"] = state["u"]', "state p"),
    "allocation detached": ("dnc", "allocation", "0 * g", MEMORY),
    "sign of the free gates": ("dnc", "usage", "-g[0], *g[1:]", MEMORY),
    "content's rows constant": ("dnc", "content", "0 * g[0], g[1]", MEMORY),
    "links without precedence": ("dnc", "link", "g[0], 0 * g[1], g[2]", MEMORY)}


def copy_with(folder, model, function, change):
    """A copy of a script in which a function gives something else."""
    if function not in RESULTS:
        change = f"back = lambda *d, back=back: (lambda g: ({change}))(back(*d))"
    wrong = WRONG.format(function, RESULTS.get(function, "*results, back"), change)
    source = (ROOT / f"{model}-numpy.py").read_text(encoding="utf-8")
    parts = source.partition('\n\nif __name__ == "__main__":')
    (folder / "changed.py").write_text(wrong.join([parts[0], "".join(parts[1:])]), "utf-8")
    return folder / "changed.py"


@pytest.mark.parametrize("model, function, change, verdict", MISTAKES.values(), ids=MISTAKES)
def test_mistake(model, function, change, verdict, tmp_path):
    script = copy_with(tmp_path, model, function, change)
    flags = [*SMALL, *SMALL_MEMORY] if model == "dnc" else SMALL
    output = run(tmp_path, *flags, "--script", script, status=1)
    named = set(output.splitlines()[-1].removeprefix("GRADIENTS THAT DO NOT AGREE: ").split(", "))
    names = set(verdict.removeprefix("all but ").split(", "))
    if verdict is MEMORY:
        names = set(re.findall(r"(?m)^((?:state )?\w+): .* entries", output)) - names
    assert named == names


def test_mistake_in_the_table(tmp_path):
    """An error of 2e-3 is one of 1e-3 by the article's measure, in its own block alone."""
    script = copy_with(tmp_path, "rnn", "gradients", 'grads["by"] *= 1.002')
    output = run(tmp_path, *SMALL, "--script", script, status=1)
    worst = {block[0]: float(block[4]) for block in re.findall(BLOCK, output)}
    assert abs(worst["by"] - 1e-3) < 2e-6 and sum(value > 1e-4 for value in worst.values()) == 1


FUNCTIONS = {                                   # a function, its derivative at 1, can that be seen?
    "smooth": (lambda x: 100 + x**3, 3, True),
    "below the noise": (lambda x: 100 + 1e-9 * x, 1e-9, False),
    "a jump near by": (lambda x: 100 + x**3 + (x > 1 + 3e-5), 3, True),
    "a jump nearer by": (lambda x: 100 + x**3 - (x > 1 - 3e-7), 3, True),
    "a small jump": (lambda x: 100 + x**3 + 3e-8 * (x > 1 + 3e-5), 3, True),
    "a jump here": (lambda x: 100 + x**3 + (x > 1), 3, False),
    "a jump in the noise": (lambda x: 100 + 1e-9 * x + 1e-7 * (x > 1 + 3e-5), 1e-9, False),
    "too bent at first": (lambda x: 100 + math.sin(1e4 * (x - 1)), 1e4, True)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_differences_can_see(name):
    function, derivative, seen = FUNCTIONS[name]
    x = np.array([5.0, 1.0])
    n, valid = load("dnc-debug.py").numerical(lambda: function(x[1]), x, 1, derivative)
    assert valid == seen and (not seen or abs(n - derivative) < 1e-4 * derivative)
    for wrong in (1 + 2 * derivative, math.inf, math.nan):  # does not hide by being wrong
        n, valid = load("dnc-debug.py").numerical(lambda: function(x[1]), x, 1, wrong)
        assert valid == (name != "a jump here") and x.tolist() == [5, 1]


def test_seed_and_gradcheck_choose_the_entries(tmp_path):
    two, again, four, other = (
        [(float(b[5]), float(b[6]), b[8]) for b in re.findall(BLOCK, run(
            tmp_path, *RNN, "--gradcheck", count, "--seed", seed))]
        for count, seed in [(2, 3), (2, 3), (4, 3), (2, 4)])
    assert two == again != other
    for (low, high, few), (lowest, highest, many) in zip(two, four):    # the first 2 of 4
        assert lowest <= low <= high <= highest and (few, many) == ("2", "4")


@pytest.mark.parametrize("flags, iterations", [
    ("--iters 5 --check_interval 2 --sample_length 9", [2, 4, 5]), ("--timelimit 1e-9", [1]),
    ("--iters 1 --fp64 --seqlength 1", [1]), ("--data two.txt --val 0.1", [3]),
    ("--data many.txt --val 0.1", [3])])
def test_flags(flags, iterations, tmp_path):
    """A check at each interval and at the end, however short the time; odd texts."""
    (tmp_path / "two.txt").write_text("ab" * 10)
    (tmp_path / "many.txt").write_text("".join(map(chr, range(0x4e00, 0x5000))), encoding="utf-8")
    output = run(tmp_path, *RNN, *flags.split())
    check_agreement(output, "rnn-numpy.py", *iterations)
    assert output.count("\n----\n") == ("sample" in flags) * 2 * len(iterations)


FILES = {"broken.py": "def", "none.py": "x = 1", "leaves.py": "raise SystemExit", "fails.py": "1/0"}
FAILURES = {                                    # flags: what the line names
    "--script nowhere.py": "nowhere.py", "--script .": "directory", "--script broken.py": "syntax",
    "--script none.py": "no forward", "--script leaves.py": "SystemExit",
    "--script fails.py": "division", "--script \x1b[2J\x9bx.py": r"\x1b[2J\x9bx.py",
    "--script": "--script", "--gradcheck 0": "--gradcheck", "--iters 0": "--iters",
    "--check_interval 0": "--check_interval", "--data none.py": "none.py is too short"}


@pytest.mark.parametrize("flags", FAILURES)
def test_failure(flags, tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    assert FAILURES[flags] in run(tmp_path, *flags.split(" "), status=2)
    assert set(os.listdir(tmp_path)) == set(FILES)


@pytest.mark.parametrize("flags", ["--init 1e300", "--lr 1e300"])
def test_not_finite(flags, tmp_path):
    assert "not finite" in run(tmp_path, *RNN, *flags.split(), status=1, line=True)


@posix
@pytest.mark.parametrize("line, status", [("COMPLEX", 130), ("char/s", 130), ("COMPLEX", 141)])
def test_ends_quietly(line, status, tmp_path):
    """Ctrl-C (130) in a check and in training; a closed pipe (141), as in | head."""
    command = [sys.executable, "-W", "error", DEBUG, *map(str, RNN), "--timelimit", "1000",
               "--check_interval", "1000000"]
    with subprocess.Popen(
            command, cwd=tmp_path, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        while line not in process.stdout.readline():
            assert process.poll() is None
        if status == 130:
            process.send_signal(signal.SIGINT)
            assert "agree" not in process.stdout.read()
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (status, "")
