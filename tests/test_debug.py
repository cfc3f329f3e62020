"""dnc-debug.py, run as a user runs it: what it prints, line by line; that it finds wrong gradients and names them; its flags.

Wrong gradients are those of copies of the scripts in which one piece of the backward pass has been changed. Sizes are small,
so that the whole file takes less than a minute. No test looks at a time.
"""
import collections
import itertools
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

from conftest import ENVIRONMENT, ROOT, load_module, posix, some_text

DEBUG = ROOT / "dnc-debug.py"
MODEL_SIZES = {"rnn": ["hidden"], "lstm": ["hidden"], "dnc": ["hidden", "locations", "width", "heads"]}
ARTICLE = "Wxh Whh Why Whr Whv Whw Whe Wrh Wry bh by".split()
SMALL = "--gradcheck 2 --batchsize 2 --hidden 4 --seqlength 4 --check_interval 3".split()
SMALL_DNC = [*SMALL, *"--locations 4 --width 3 --heads 2".split()]


def run(folder, *flags, status=0, script=DEBUG, python=("-W", "error")):
    """Run to the end; what every run promises is checked here: nothing on standard error, or one line."""
    done = subprocess.run([sys.executable, *python, str(script), *map(str, flags)], cwd=folder, capture_output=True,
                          encoding="utf-8", env=ENVIRONMENT, timeout=300)
    assert done.returncode == status, f"status {done.returncode}: {done.stdout}{done.stderr}"
    assert re.fullmatch(r"dnc-debug\.py: [^\n\x00-\x1f\x7f-\x9f]+\n" if status == 2 else "", done.stderr), done.stderr
    return done


# What it prints -------------------------------------------------------------------------------------------------------

NUMBER, ERROR = r"(-?\d\.\d{6}e[+-]\d\d)", r"(\d\.\d{6}e[+-]\d\d|nan)"
SIZES = r"(hidden \d+(?:, \w+ \d+)*), batchsize (\d+), seqlength (\d+), (\d+) characters"
BLOCK = (rf"(\w+): n = \[{NUMBER}, {NUMBER}\] min {ERROR}, max {ERROR}\n"
         rf" a = \[{NUMBER}, {NUMBER}\] mean {ERROR} # (\d+)/(\d+)\n")
TABLE = rf"\n{SIZES}, (fresh weights|after \d+ iterations), loss (\d+\.\d{{3}})\n\nGRAD CHECK\n\n((?:{BLOCK})+)"
RESULT = r"(\d\.\d{3}e[+-]\d\d|nan)"
ROW = rf"(\w+|state \w+): +(\d+)((?: +{RESULT} +{RESULT})+)\n"
PROOF = rf"\n{SIZES}\n\nCOMPLEX STEP\n\n {{17}}((?: +[a-z0-9 ]+?)+)\n {{10}}entries((?: {{5}}max \|a\|  worst error)+)\n((?:{ROW})+)"
PROGRESS = r"0: \d+\.\d{3} s, iter (\d+), \d+\.\d{4} BPC, \d+\.\d{2} char/s\n"
TRAINING = rf"\nTRAINING\n\n((?:{PROGRESS})+)held-out: \d+\.\d{{4}} BPC over [\d,]+ characters\n(?:----\n(.*?)\n----\n)?"
AGREE = (r"\nall gradients agree: (\d+) parameters \((\d+) entries by differences, all by the complex step\) and the incoming state "
         r"([\w, ]+)\n")
DISAGREE = r"\nGRADIENTS THAT DO NOT AGREE: (.+)\n"
Block = collections.namedtuple("Block", "name n_low n_high min max a_low a_high mean checked valid")


def number(text):
    return int(text) if text.isdigit() else float(text)


def read(output):
    """The parts of an output, one after another; an error if a line is not as it has to be."""
    parts, at = [], 0
    while at < len(output):
        for kind, pattern in (("table", TABLE), ("proof", PROOF), ("training", TRAINING), ("agree", AGREE), ("disagree", DISAGREE)):
            if found := re.compile(pattern, re.DOTALL if kind == "training" else 0).match(output, at):
                break
        else:
            pytest.fail(f"not what was expected: {output[at:at + 300]!r}")
        at, part = found.end(), types.SimpleNamespace(kind=kind, text=found[0], groups=found.groups())
        if kind == "table":
            part.sizes, part.when = found[1], found[5]
            part.blocks = [Block(name, *map(number, values)) for name, *values in re.findall(BLOCK, found[0])]
        elif kind == "proof":
            part.titles = re.split(" {2,}", found[5].strip())
            part.rows = {name: (int(entries), *map(float, results.split())) for name, entries, results, _, _ in re.findall(ROW, found[0])}
        elif kind == "training":
            part.iterations, part.sample = [int(i) for i in re.findall(PROGRESS, found[1])], found[3]
        parts.append(part)
    return parts


def check_agreement(output, model, entries, sizes, iterations):
    """All that holds for an output without a fault: its parts, the order in its tables, its figures."""
    script = load_module(ROOT / f"{model}-numpy.py")
    parts = read(output)
    rounds = len(iterations)
    assert [part.kind for part in parts] == ["table", "proof"] + ["training", "table", "proof"] * rounds + ["agree"]

    tables = [part for part in parts if part.kind == "table"]
    assert [table.when for table in tables] == ["fresh weights"] + [f"after {i} iterations" for i in iterations]
    for table in tables:
        assert table.sizes == ", ".join(f"{name} {sizes[name]}" for name in MODEL_SIZES[model])
        shapes = script.param_shapes(int(table.groups[3]), **{name: sizes[name] for name in MODEL_SIZES[model]})
        names = [name for name in ARTICLE if name in shapes]
        assert [block.name for block in table.blocks] == names + [name for name in shapes if name not in ARTICLE]
        for b in table.blocks:
            assert b.checked == min(entries, math.prod(shapes[b.name])) and b.valid <= b.checked
            assert b.n_low <= b.n_high and b.a_low <= b.a_high
            if b.valid:
                assert b.min <= b.mean <= b.max < 1e-4
            else:
                assert all(map(math.isnan, (b.min, b.mean, b.max)))
    assert len(names) == {"rnn": 5, "lstm": 5, "dnc": 11}[model] and "by" in names

    proofs = [part for part in parts if part.kind == "proof"]
    assert [proof.titles for proof in proofs] == [["fresh weights", "large weights"]] + [[f"after {i} iterations"] for i in iterations]
    for proof in proofs:
        M, B = int(proof.groups[3]), int(proof.groups[1])
        small = dict(size.split() for size in proof.groups[0].split(", "))
        small = {name: int(value) for name, value in small.items()}
        shapes = script.param_shapes(M, **small)
        shapes.update((f"state {name}", shape) for name, shape in script.state_shapes(B, **small).items())
        assert {name: row[0] for name, row in proof.rows.items()} == {name: math.prod(shape) for name, shape in shapes.items()}
        assert all(len(row) == 1 + 2 * len(proof.titles) and max(row[2::2]) <= 1e-10 for row in proof.rows.values())
        assert all(row[-2] > 0 for row in proof.rows.values())      # large or trained weights leave no block out

    agree = parts[-1].groups
    valid = sum(b.valid for table in tables for b in table.blocks)
    assert (int(agree[0]), int(agree[1])) == (len(tables[0].blocks), valid)
    assert sorted(agree[2].split(", ")) == sorted(script.state_shapes(1, **small))
    return parts


def test_dnc(tmp_path):
    """No fault is found in dnc-numpy.py, on the text beside it, from another folder; and nothing is left behind."""
    done = run(tmp_path, *SMALL_DNC)
    check_agreement(done.stdout, "dnc", 2, {"hidden": 4, "locations": 4, "width": 3, "heads": 2}, [3])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_siblings(model, tmp_path):
    """With sizes that are not small: most entries are valid after 200 iterations."""
    done = run(tmp_path, "--script", os.path.relpath(ROOT / f"{model}-numpy.py", tmp_path))
    parts = check_agreement(done.stdout, model, 10, {"hidden": 16}, [200])
    assert all(b.valid == b.checked for b in parts[-3].blocks if b.name != "Wxh")
    assert parts[2].iterations == [100, 200] and parts[2].sample is None


# Wrong gradients ------------------------------------------------------------------------------------------------------

WRONG = {                                                   # script, right, wrong, names that the verdict has to give
    "bias": ("rnn", 'np.sum(dy, axis=1, keepdims=True, out=grads["by"])', "pass", "by"),
    "a billionth": ("lstm", 'np.sum(dy, axis=1, keepdims=True, out=grads["by"])',
                    'np.sum(dy * (1 + 1e-9), axis=1, keepdims=True, out=grads["by"])', "by"),
    "incoming state": ("lstm", '"c": w.dsnext.T.copy()', '"c": w.dsnext.T * 0', "state c"),
    "diagonal of the links": ("dnc", "w.ddiagonal[:] = 0", "pass", "all but Why, Wry, by"),
    "read keys": ("dnc", 'for name, rows in w.rows.items():\n        grads[name][:] = dWxi[rows]',
               'for name, rows in list(w.rows.items())[1:]:\n        grads[name][:] = dWxi[rows]', "Whr"),
    "nothing from behind": ("rnn", "dh += w.dhnext", "pass", "Wxh, Whh, bh, state h"),
    "not in flat": ("rnn", 'np.sum(da, axis=0, out=grads["bh"][:, 0])', 'grads["bh"] = np.sum(da, axis=0)[:, None]', "bh"),
    "not a number": ("lstm", 'np.sum(dy, axis=1, keepdims=True, out=grads["by"])', 'grads["by"][:] = np.nan', "by"),
    "a state is missing": ("lstm", ', "c": w.dsnext.T.copy()', "", "state c"),
    "a gate": ("lstm", "w.ig += w.dsnext", "pass", "Wxh, Whh, bh, state h, state c"),
    "loss": ("rnn", "z[at_target] -= 1", "pass", "Wxh, Whh, Why, bh, by, state h")}


def changed(folder, model, right, wrong):
    """A copy of a script with one piece changed."""
    source = (ROOT / f"{model}-numpy.py").read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{model}-numpy.py has {source.count(right)} times, not once: {right}"
    path = folder / "changed.txt"                           # not even its name has to be that of a script
    path.write_text(source.replace(right, wrong), encoding="utf-8", newline="\n")
    return path


@pytest.mark.parametrize("model, right, wrong, names", WRONG.values(), ids=WRONG)
def test_wrong_gradient_is_named(model, right, wrong, names, tmp_path):
    path = changed(tmp_path, model, right, wrong)
    flags = "--gradcheck 5 --lr 1e-4".split()               # hardly trained: a wrong gradient must not lead anywhere
    done = subprocess.run([sys.executable, str(DEBUG), *(SMALL_DNC if model == "dnc" else SMALL), *flags, "--script", str(path),
                           "--data", str(ROOT / "data" / "gull-rock.txt")],
                          cwd=tmp_path, capture_output=True, encoding="utf-8", env=ENVIRONMENT, timeout=300)
    verdict = re.search(DISAGREE, done.stdout)
    assert done.returncode == 1 and verdict, done.stdout + done.stderr
    named, expected = set(verdict[1].split(", ")), set(names.removeprefix("all but ").split(", "))
    if names.startswith("all but "):
        expected = {name for part in read(done.stdout) if part.kind == "proof" for name in part.rows} - expected
    assert named == expected
    if wrong != 'grads["by"][:] = np.nan':                  # which ends training
        assert done.stderr == "" and [part.kind for part in read(done.stdout)][-1] == "disagree"
    else:
        assert re.fullmatch(r"dnc-debug\.py: [^\n]+ not finite [^\n]+\n", done.stderr)
    assert os.listdir(tmp_path) == [path.name]


def test_wrong_gradient_in_the_table(tmp_path):
    """An error of 2e-3 is one of 1e-3 by the article's measure, in the column and in the line of the parameter alone."""
    path = changed(tmp_path, "rnn", 'np.sum(dy, axis=1, keepdims=True, out=grads["by"])',
                   'np.sum(dy * 1.002, axis=1, keepdims=True, out=grads["by"])')
    done = run(tmp_path, *SMALL, "--script", path, "--data", ROOT / "data" / "gull-rock.txt", status=1)
    for table in (part for part in read(done.stdout) if part.kind == "table"):
        for b in table.blocks:
            assert math.isnan(b.max) or (abs(b.max - 1e-3) < 2e-6 if b.name == "by" else b.max < 1e-4)


# The two rules for differences ----------------------------------------------------------------------------------------

FUNCTIONS = {                                               # a function, its derivative at 1, whether that can be seen
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


@pytest.mark.parametrize("function, derivative, seen", FUNCTIONS.values(), ids=FUNCTIONS)
def test_what_differences_can_see(function, derivative, seen):
    debug, x = load_module(DEBUG), np.array([5.0, 1.0])
    point = types.SimpleNamespace(forward=lambda: (function(x[1]), None))
    n, valid = debug.numerical(point, function(1.0), x, 1, derivative)
    assert valid == seen and x.tolist() == [5, 1]
    if seen:
        assert abs(n - derivative) < 0.5e-4 * (abs(n) + abs(derivative))
    for wrong in (1 + 2 * derivative, math.inf, math.nan):  # these stand out, and are not hidden by being wrong
        n, valid = debug.numerical(point, function(1.0), x, 1, wrong)
        assert valid == (function is not FUNCTIONS["a jump here"][0]) and not abs(n - wrong) < 1e-4 * (abs(n) + abs(wrong))


# Flags ----------------------------------------------------------------------------------------------------------------

RNN = ["--script", ROOT / "rnn-numpy.py", *SMALL]


def tables(*flags, folder=ROOT):
    return [part for part in read(run(folder, *RNN, *flags).stdout) if part.kind == "table"]


def test_seed_and_gradcheck_choose_the_entries():
    """The first two of seven entries are the two that --gradcheck 2 takes; another seed takes others."""
    two, again, seven, other = (tables(*flags.split()) for flags in ("--seed 3", "--seed 3", "--seed 3 --gradcheck 7", "--seed 4"))
    assert [table.text for table in two] == [table.text for table in again]
    for few, many, others in zip(two, seven, other):
        for b, c in zip(few.blocks, many.blocks):
            assert (b.checked, c.checked) == (2, min(7, c.checked)) and c.a_low <= b.a_low <= b.a_high <= c.a_high
        assert [b.a_low for b in few.blocks] != [b.a_low for b in others.blocks]
    assert any(c.a_low < b.a_low for b, c in zip(two[1].blocks, seven[1].blocks))


def test_double_precision_is_another_run():
    single, double = tables(), tables("--fp64")
    for a, b in zip(single, double):                        # the same weights, rounded or not, and what comes of them
        assert a.text != b.text
        assert [x.a_high for x in a.blocks] == pytest.approx([x.a_high for x in b.blocks], rel=1e-3, abs=1e-5)


def test_rounds(tmp_path, monkeypatch, capfd):
    """With a time limit it goes on, round after round, until the time is over; figures go to --fname. The clock is ours."""
    debug = load_module(DEBUG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(DEBUG)])
    monkeypatch.setattr(debug, "time", types.SimpleNamespace(perf_counter=itertools.count(0, 100).__next__))
    assert debug.main([*map(str, RNN), *"--timelimit 550 --check_interval 150 --sample_length 40 --fname log.txt".split()]) == 0
    output, error = capfd.readouterr()
    parts = check_agreement(output, "rnn", 2, {"hidden": 4}, [150, 300, 450])
    rounds = [part for part in parts if part.kind == "training"]
    assert [part.iterations for part in rounds] == [[100, 150], [200, 300], [400, 450]] and error == ""
    assert all(len(re.sub(r"\\x..", "x", part.sample)) == 40 for part in rounds)
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines if line[0] != "#"] == ["100", "150", "200", "300", "400", "450"]
    assert all(re.fullmatch(r"\d+\t\d+\.\d{3}\t\d+\.\d{4}\t(\d+\.\d{4}|nan)\t\d+\.\d{2}", line) for line in lines if line[0] != "#")
    assert lines[0].startswith("# rnn hidden=4 ")


def test_time_limit(tmp_path):
    """However short, there is a round, and a sample by default."""
    parts = read(run(tmp_path, *RNN, "--timelimit", "1e-9").stdout)
    assert [part.kind for part in parts] == ["table", "proof", "training", "table", "proof", "agree"]
    assert len(parts[2].iterations) == 1 and len(re.sub(r"\\x..", "x", parts[2].sample)) == 200


def test_data(tmp_path):
    """Another text, with two characters and hardly longer than a window; and one with many characters."""
    for text in ("ab" * 10, some_text(300) + "".join(map(chr, range(0x4e00, 0x5000)))):
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        check_agreement(run(tmp_path, *RNN, "--data", "text.txt").stdout, "rnn", 2, {"hidden": 4}, [3])


def test_steps_that_lead_far_out(tmp_path):
    """Whatever the weights are by then, it ends with a verdict or a line, without a warning."""
    done = subprocess.run([sys.executable, "-W", "error", str(DEBUG), *map(str, RNN), "--lr", "1e30"], cwd=tmp_path, capture_output=True,
                          encoding="utf-8", env=ENVIRONMENT, timeout=300)
    assert done.returncode in (0, 1) and re.fullmatch(r"(dnc-debug\.py: [^\n]+\n)?", done.stderr)
    assert done.stderr or "agree" in done.stdout.splitlines()[-1].lower()


def test_help(tmp_path):
    for model, sizes in MODEL_SIZES.items():
        text = run(tmp_path, "--script", ROOT / f"{model}-numpy.py", "--help").stdout
        flags = "script gradcheck batchsize seqlength timelimit check_interval sample_length fname data lr seed fp64".split()
        assert set(re.findall(r"(?m)^  --(\w+)", text)) == {*flags, *sizes}


# Failures: one line, status 2 -----------------------------------------------------------------------------------------

FAILURES = [
    ("--script nowhere.py", "nowhere.py"), ("--script .", "."), ("--script broken.py", "broken.py"), ("--script other.py", "other.py"),
    ("--script leaves.py", "leaves.py"), ("--script", "--script"), ("--script rnn-numpy.py --heads 2", "--heads"),
    ("--script lstm-numpy.py --locations 2", "--locations"), ("--nonesuch", "--nonesuch"), ("--grad 3", "--grad"),
    ("--gradcheck 0", "--gradcheck"),
    ("--hidden 0", "--hidden"), ("--width x", "--width"), ("--batchsize -1", "--batchsize"), ("--seqlength 1.5", "--seqlength"),
    ("--check_interval 0", "--check_interval"), ("--sample_length -1", "--sample_length"), ("--timelimit nan", "--timelimit"),
    ("--timelimit 0", "--timelimit"), ("--lr inf", "--lr"), ("--seed -1", "--seed"), ("--hidden 100000000", "bytes"),
    ("--data nowhere.txt", "nowhere.txt"), ("--data .", "."), ("--data short.txt", "short.txt"), ("--data empty.txt", "empty.txt"),
    ("--fname nowhere/log.txt", "nowhere/log.txt"), ("--fname .", ".")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scripts that are none, texts that are too short."""
    folder = tmp_path_factory.mktemp("failures")
    contents = {"broken.py": "def", "other.py": "x = 1", "leaves.py": "raise SystemExit(0)", "short.txt": "abc", "empty.txt": ""}
    for name, content in contents.items():
        (folder / name).write_text(content)
    for name in ("rnn-numpy.py", "lstm-numpy.py"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.parametrize("flags, named", FAILURES, ids=[flags for flags, _ in FAILURES])
def test_failure(flags, named, folder):
    before = sorted(path.name for path in folder.iterdir())
    done = run(folder, *flags.split(), status=2)
    assert named in done.stderr and done.stdout == ""
    assert sorted(path.name for path in folder.iterdir()) == before


def test_alone_it_says_what_it_needs(tmp_path):
    shutil.copy(DEBUG, tmp_path)
    assert "dnc-numpy.py" in run(tmp_path, status=2, script=tmp_path / DEBUG.name).stderr


def test_a_name_that_steers_a_terminal(tmp_path):
    assert r"\x1b[2J\x9bx.py" in run(tmp_path, "--script", "\x1b[2J\x9bx.py", status=2).stderr      # run looks for what is not printable


@posix
def test_without_an_output(tmp_path):
    """As a job that has been started with its output closed."""
    command = [sys.executable, "-W", "error", str(DEBUG), *SMALL_DNC]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")


@posix
@pytest.mark.parametrize("end", ["ctrl-c", "head"])
def test_ends_quietly(end, tmp_path):
    command = [sys.executable, "-u", str(DEBUG), *map(str, RNN), "--timelimit", "1000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
             "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}     # background jobs of a shell ignore it
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, encoding="utf-8", **pipes) as process:
        try:
            while "TRAINING" not in process.stdout.readline():
                assert process.poll() is None
            if end == "ctrl-c":
                process.send_signal(signal.SIGINT)
                process.stdout.read()
            else:
                process.stdout.close()
            assert process.wait(timeout=60) == {"ctrl-c": 130, "head": 141}[end]
            assert process.stderr.read() == ""
        finally:
            process.kill()
