"""dnc-debug.py, run as a user runs it: what it prints, the mistakes it finds, flags and failures.

Mistakes are put into copies of the scripts. Sizes are small: the whole file takes about a minute.
"""
import math
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from loading import ROOT, load

DEBUG = ROOT / "dnc-debug.py"
ARTICLE = ["Wxh", "Whh", "Why", "Whr", "Whv", "Whw", "Whe", "Wrh", "Wry", "bh", "by"]
SMALL = "--gradcheck 5 --batchsize 2 --hidden 4 --seqlength 4 --check_interval 3".split()
SMALL_MEMORY = "--locations 4 --width 3 --heads 2".split()


def run(folder, *flags, status=0, python=(), script=DEBUG):
    """Run to the end without a warning: nothing on standard error, but for status 2 one line."""
    command = [sys.executable, "-W", "error", *python, str(script), *map(str, flags)]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == status, f"status {done.returncode}: {done.stdout}{done.stderr}"
    line = r"dnc-debug\.py: [^\n\x00-\x1f\x7f-\x9f]+\n" if status == 2 else ""
    assert re.fullmatch(line, done.stderr), done.stderr
    return done.stdout + done.stderr


# What it prints -----------------------------------------------------------------------------------

N, E = r"(-?\d\.\d{6}e[+-]\d\d)", r"(\d\.\d{6}e[+-]\d\d|nan)"
BLOCK = rf"(\w+): n = \[{N}, {N}\] min {E}, max {E}\n a = \[{N}, {N}\] mean {E} # (\d+)/(\d+)\n"
ROW = r"((?:state )?\w+): +(\d+) entries  max \|a\| (\d\.\d{3}e[+-]\d\d)  error (\d\.\d{3}e-\d\d)\n"
TABLE = rf"\n(fresh weights|after \d+ iterations), loss \d+\.\d{{3}}\n\nGRAD CHECK\n\n(?:{BLOCK})+"
STEP = rf"\n(fresh weights|large weights|after \d+ iterations)(?:, \w+ \d)+\n\nCOMPLEX STEP\n\n(?:{ROW})+"
SAMPLE = r"----\n(?:.|\n)*\n----\n"
TRAINING = rf"(?:0: .* char/s\n)*held-out: .*\n(?:{SAMPLE})?"
HEADER = r"\w+: [\d,]+ parameters, .* held out\n"
VERDICT = r"all gradients agree: (\d+) parameters and the incoming state \((.+)\)\n"


def check_agreement(output, name, iterations):
    """All that holds for an output without a fault. Returns the blocks of the last table."""
    check = rf"{TABLE}(?:{STEP})+\n"
    assert re.fullmatch(rf"{HEADER}{check}(?:{TRAINING}{check})*{VERDICT}", output), output
    after = [f"after {i} iterations" for i in iterations]
    tables, steps = (list(re.finditer(kind, output)) for kind in (TABLE, STEP))
    assert [table[1] for table in tables] == ["fresh weights", *after]
    assert [step[1] for step in steps] == ["fresh weights", "large weights", *after]

    script = load(name)
    params = list(script.param_shapes(5, *[4] * len(script.SIZES)))
    state = list(script.state_shapes(1, *[4] * len(script.SIZES)))
    for table in tables:
        found = re.findall(BLOCK, table[0])
        names = [block[0] for block in found]
        assert names == ([name for name in ARTICLE if name in params]
                         + [name for name in params if name not in ARTICLE])
        for _, n_low, n_high, low, high, a_low, a_high, mean, checked, valid in found:
            assert float(n_low) <= float(n_high) and float(a_low) <= float(a_high)
            assert int(valid) <= int(checked)
            figures = [float(x) for x in (low, mean, high)]
            assert (all(map(math.isnan, figures)) if valid == "0"
                    else figures == sorted(figures) and figures[2] < 1e-4)
    for step in steps:
        rows = re.findall(ROW, step[0])
        assert [row[0] for row in rows] == params + ["state " + name for name in state]
        assert all(float(error) <= 1e-10 for *_, error in rows)
        if step[1] != "fresh weights":              # no part of the model goes unseen
            assert all(float(largest) > 0 for _, _, largest, _ in rows)
    verdict = re.search(VERDICT, output)
    assert (int(verdict[1]), verdict[2]) == (len(params), ", ".join(state))
    return found


def test_dnc(tmp_path):
    """By default dnc-numpy.py, on the text beside it, from any folder, without docstrings."""
    output = run(tmp_path, *SMALL, *SMALL_MEMORY, python=["-OO"])
    check_agreement(output, "dnc-numpy.py", [3])
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["rnn-numpy.py", "lstm-numpy.py"])
def test_siblings(name, tmp_path):
    """Copies somewhere else, under another name. After training most entries are valid."""
    shutil.copy(ROOT / name, tmp_path / "copy.txt")
    output = run(tmp_path, "--script", "copy.txt", "--gradcheck", 5)
    last = check_agreement(output, name, [200])
    assert all(block[-2:] == ("5", "5") for block in last if block[0] != "Wxh")
    assert os.listdir(tmp_path) == ["copy.txt"]


# Mistakes -----------------------------------------------------------------------------------------

WRONG = """
def changed(back, change):
    return lambda *d: change(back(*d))

def {0}(*args, right={0}):
    {1} = right(*args)
    {2}
    return {1}
"""
RESULTS = {"backward": "grads, state", "gradients": "nats, grads, state",
           "cross_entropy": "nats, dlogits", "forward": "y, after, cache"}
MEMORY = "all but Why, Wry, by"
MISTAKES = {                    # script, function, what becomes of its results (g: those of back), verdict
    "forgotten": ("rnn", "backward", 'grads["by"] *= 0', "by"),
    "missing": ("rnn", "backward", 'del grads["bh"]', "bh"),
    "not a number": ("rnn", "backward", 'grads["by"][:] = np.nan', "by"),
    "only in training": ("rnn", "gradients", 'grads["Why"] *= 1.1', "Why"),
    "loss": ("rnn", "cross_entropy", "dlogits *= 0.9", "Wxh, Whh, Why, bh, by, state h"),
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
        change = f"back = changed(back, lambda g: ({change}))"
    wrong = WRONG.format(function, RESULTS.get(function, "*results, back"), change)
    source = (ROOT / f"{model}-numpy.py").read_text(encoding="utf-8")
    head, main, tail = source.partition('\n\nif __name__ == "__main__":')
    (folder / "changed.py").write_text(head + wrong + main + tail, encoding="utf-8")
    return "changed.py"


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
    script = copy_with(tmp_path, "rnn", "backward", 'grads["by"] *= 1.002')
    output = run(tmp_path, *SMALL, "--script", script, status=1)
    worst = {block[0]: float(block[4]) for block in re.findall(BLOCK, output)}
    assert abs(worst.pop("by") - 1e-3) < 2e-6 and all(not value >= 1e-4 for value in worst.values())


# The two rules for differences --------------------------------------------------------------------

FUNCTIONS = {                                   # a function, its derivative at 1, can that be seen?
    "smooth": (lambda x: 100 + x**3, 3.0, True),
    "small": (lambda x: 100 + 1e-4 * x**3, 3e-4, True),
    "below the noise": (lambda x: 100 + 1e-9 * x, 1e-9, False),
    "constant": (lambda x: 100.0, 0.0, False),
    "a jump near by": (lambda x: 100 + x**3 + (x > 1 + 3e-5), 3.0, True),
    "a jump nearer by": (lambda x: 100 + x**3 - (x > 1 - 3e-7), 3.0, True),
    "a small jump": (lambda x: 100 + x**3 + 3e-8 * (x > 1 + 3e-5), 3.0, True),
    "two jumps": (lambda x: 100 + x**3 + (x > 1 + 3e-5) + (x > 1 - 1e-5), 3.0, True),
    "a jump here": (lambda x: 100 + x**3 + (x > 1), 3.0, False),
    "a jump in the noise": (lambda x: 100 + 1e-9 * x + 1e-7 * (x > 1 + 3e-5), 1e-9, False),
    "too bent at first": (lambda x: 100 + math.sin(1e4 * (x - 1)), 1e4, True)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_differences_can_see(name):
    function, derivative, seen = FUNCTIONS[name]
    x = np.array([5.0, 1.0])
    for a in (derivative, 1 + 2 * derivative, math.inf, math.nan):
        n, valid = load("dnc-debug.py").numerical(lambda: function(x[1]), x, 1, a)
        assert x.tolist() == [5, 1]
        if a == derivative:
            assert valid == seen and (not seen or abs(n - a) < 0.5e-4 * (abs(n) + abs(a)))
        else:                                   # a wrong gradient does not hide by being wrong
            assert valid == (name != "a jump here") and not abs(n - a) < 1e-4 * (abs(n) + abs(a))


# Flags --------------------------------------------------------------------------------------------

RNN = ["--script", ROOT / "rnn-numpy.py", *SMALL]


def test_seed_and_gradcheck_choose_the_entries(tmp_path):
    def tables(*flags):
        output = run(tmp_path, *RNN, *flags)
        return [[float(x) for x in (b[5], b[6], b[8])] for b in re.findall(BLOCK, output)]
    two, seven, other = (tables(*flags.split()) for flags in (
        "--gradcheck 2 --seed 3", "--gradcheck 7 --seed 3", "--gradcheck 2 --seed 4"))
    assert two == tables("--gradcheck", 2, "--seed", 3) != other
    for (low, high, few), (lowest, highest, many) in zip(two, seven):
        assert lowest <= low <= high <= highest and few == 2 < many == min(7, many)
    assert any(b[0] < a[0] for a, b in zip(two, seven))


def test_rounds(tmp_path):
    """A check, and a sample if asked for, at each interval and at the end; figures to --fname."""
    flags = "--iters 5 --check_interval 2 --print_interval 1 --sample_length 40 --fname log.txt"
    output = run(tmp_path, *RNN, *flags.split())
    check_agreement(output, "rnn-numpy.py", [2, 4, 5])
    assert len(re.findall("(?m)^----$", output)) == 6
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("flags", ["--timelimit 1e-9", "--iters 1 --fp64", "--iters 1 --seqlength 1"])
def test_one_iteration(flags, tmp_path):
    """However short the time, there is a check after training."""
    check_agreement(run(tmp_path, *RNN, *flags.split()), "rnn-numpy.py", [1])


@pytest.mark.parametrize("text", ["ab" * 10, "".join(map(chr, range(0x4e00, 0x5000)))])
def test_data(text, tmp_path):
    """Two characters, hardly longer than a window; and many characters."""
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    output = run(tmp_path, *RNN, "--data", "text.txt", "--val", 0.1)
    check_agreement(output, "rnn-numpy.py", [3])


def test_help(tmp_path):
    output = run(tmp_path, "--script", ROOT / "rnn-numpy.py", "--help")
    flags = set(re.findall(r"(?m)^  --(\w+)", output))
    assert flags == {"fp64", "script", "gradcheck", *load("rnn-numpy.py").FLAGS}


# Failures and signals -----------------------------------------------------------------------------

FILES = {"broken.py": "def", "other.py": "x = 1", "leaves.py": "raise SystemExit", "raises.py": "1/0",
         "forward.py": "def forward(): pass", "short.txt": "abc"}
FAILURES = {                                    # flags: what the line names
    "--script nowhere.py": "nowhere.py", "--script .": "directory", "--script broken.py": "syntax",
    "--script other.py": "no forward", "--script leaves.py": "SystemExit",
    "--script raises.py": "division", "--script forward.py": "no backward",
    "--script \x1b[2J\x9bx.py": r"\x1b[2J\x9bx.py", "--script": "--script", "--grad 3": "--grad",
    "--gradcheck 0": "--gradcheck", "--iters 0": "--iters", "--check_interval 0": "--check_interval",
    "--timelimit nan": "--timelimit", "--hidden 0": "--hidden", "--data nowhere.txt": "nowhere.txt",
    "--data short.txt": "short.txt", "--fname .": "."}


@pytest.mark.parametrize("flags", FAILURES)
def test_failure(flags, tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    assert FAILURES[flags] in run(tmp_path, *flags.split(" "), status=2)
    assert set(os.listdir(tmp_path)) == set(FILES)


def test_alone(tmp_path):
    """Without the script beside it, and with a name of its own."""
    shutil.copy(DEBUG, tmp_path)
    assert "dnc-numpy.py" in run(tmp_path, status=2, script=tmp_path / DEBUG.name)


@pytest.mark.parametrize("function, change, flags", [
    ("forward", "y *= np.inf", ""), ("forward", "y = y", "--init 1e300"),
    ("forward", "y = y", "--lr 1e300")])
def test_loss_is_not_finite(function, change, flags, tmp_path):
    """One line that says so, or a verdict: no warning, no traceback."""
    script = copy_with(tmp_path, "rnn", function, change)
    command = [sys.executable, "-W", "error", DEBUG, *SMALL, "--script", script, *flags.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 1
    assert re.fullmatch(r"dnc-debug\.py: .* not finite.*\n", done.stderr)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and pipes")
@pytest.mark.parametrize("end, status", [("ctrl-c", 130), ("head", 141)])
def test_ends_quietly(end, status, tmp_path):
    command = [sys.executable, "-W", "error", DEBUG, *map(str, RNN), "--timelimit", "1000"]
    with subprocess.Popen(
            command, cwd=tmp_path, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        try:
            while "COMPLEX STEP" not in process.stdout.readline():
                assert process.poll() is None
            if end == "ctrl-c":
                process.send_signal(signal.SIGINT)
                process.stdout.read()
            else:
                process.stdout.close()
            assert (process.wait(60), process.stderr.read()) == (status, "")
        finally:
            process.kill()
