"""dnc-debug.py: what it prints, the mistakes it finds in copies of the scripts, how it names them;
flags and failures. It runs in the test's process, unless a test needs what only a process has."""
import contextlib
import io
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

from conftest import ROOT, checked, load, posix, python

DEBUG = load("dnc-debug.py")
SMALL = "--gradcheck 5 --batchsize 2 --hidden 4 --seqlength 4 --check_interval 3".split()
SMALL_MEMORY = "--locations 4 --width 3 --heads 2".split()
RNN = ["--script", str(ROOT / "rnn-numpy.py"), *SMALL]
SAYS = r"dnc-debug\.py: "


def run(*flags, status=0, line=None):
    """Run to the end, in this process; what is printed, and the line of a failure."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = DEBUG.main([*map(str, flags)])
    done = subprocess.CompletedProcess((), found, out.getvalue(), err.getvalue())
    checked(done, status, status == 2 if line is None else line, SAYS)
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What it prints -----------------------------------------------------------------------------------

N, E = r"(-?\d\.\d{6}e[+-]\d\d)", r"(\d\.\d{6}e[+-]\d\d|nan)"
BLOCK = (rf"(\w+): n = \[{N}, {N}\] min {E}, max {E}\n a = \[{N}, {N}\] mean {E} # (\d+)/(\d+)"
         r"( \(no entry stands out of rounding\))?\n")
ROW = r"((?:state )?\w+): +(\d+) entries  max \|a\| (\d\.\d{3}e...)  error (\d\.\d{3}e...)\n"
CHECK = (r"\n(fresh weights|after \d+ iterations), loss \d+\.\d{3}\n\nGRAD CHECK\n\n"
         rf"({BLOCK})+\n")
ROWS = rf"\n\nCOMPLEX STEP\n\n({ROW})+"
OUTPUT = (rf"\w+: .* held out\n(more parameters .*\n)?\nMECHANISMS(\n\n({ROW})+|: this script has "
          rf"none\n)\nfresh weights{ROWS}\nlarge weights{ROWS}\n"
          rf"large weights, no resets, no dropout{ROWS}\nn: .*\na: .*\n# checked/valid: .*\n{CHECK}"
          rf"(((0: .* char/s\n)*held-out: .*\n(----\n(.|\n)*\n----\n)?{CHECK})*"
          r"(the best held-out .*\n)?all gradients agree: (\d+) mechanisms, \d+ parameters "
          r"and the incoming state \(.*\)\n)")


def check_agreement(output, name, *iterations):
    """All that holds for an output without a mistake. Returns how many entries were valid."""
    assert re.fullmatch(OUTPUT, output), output
    script, table, rows = load(name), re.findall(BLOCK, output), re.findall(ROW, output)
    assert re.findall(r"(\S.*), loss", output) == ["fresh weights"] + [
        f"after {i} iterations" for i in iterations]
    sizes = [4] * len(script.sizes(script.settle({}, None)))
    params, state = ([*shapes(5, *sizes)] for shapes in (script.param_shapes, script.state_shapes))
    order = sorted(params, key=lambda name: [*DEBUG.KROCKI, name].index(name))
    assert [block[0] for block in table] == order * (1 + len(iterations))
    for *_, low, high, a_low, a_high, mean, count, valid, words in table:
        assert (low == mean == high == "nan" and words) if valid == "0" else not words and (
            float(low) <= float(mean) <= float(high) < 1e-4 and int(valid) <= int(count))
    names = params + ["state " + name for name in state]
    assert [row[0] for row in rows][-3 * len(names):] == 3 * names
    assert all(float(error) <= 1e-10 for *_, error in rows)
    assert all(float(largest) > 0 for _, _, largest, _ in rows[-len(names):])   # nothing is unseen
    assert f" {len(params)} parameters and the incoming state ({', '.join(state)})\n" in output
    return [int(block[-2]) for block in table]


MECHANISMS = ("lstm_cell oneplus softmax interface usage allocation content write_weighting write "
              "link precedence read_weighting read memory").split()


def test_dnc(folder):
    """By default dnc-numpy.py, on the text beside it, from any folder; without docstrings."""
    done = python(folder, "-OO", ROOT / "dnc-debug.py", *SMALL, *SMALL_MEMORY)
    check_agreement(done.stdout, "dnc-numpy.py", 3)
    found = re.findall(ROW, done.stdout.partition("fresh weights")[0])
    assert list(dict.fromkeys(row[0] for row in found)) == MECHANISMS       # the inner ones first
    assert [row[0] for row in found].count("content") == 2                  # one head, and R
    assert not os.listdir(folder)


@pytest.mark.parametrize("name, mechanisms", [("rnn-numpy.py", 0), ("lstm-numpy.py", 1)])
def test_siblings(name, mechanisms, folder):
    """Copies elsewhere, under another name. After training nearly all entries are valid."""
    shutil.copy(ROOT / name, folder / "copy.txt")
    output = run("--script", "copy.txt")
    assert sum(check_agreement(output, name, 200)[-4:]) >= 38       # of 40: all but Wxh's
    assert f"agree: {mechanisms} mech" in output and os.listdir(folder) == ["copy.txt"]


# The mistakes it finds ----------------------------------------------------------------------------

def changed(model, function, *changes):
    """A copy of a script in which lines of a function are replaced; its path."""
    source = (ROOT / f"{model}-numpy.py").read_text(encoding="utf-8")
    start = source.index(f"\ndef {function}(")
    end = source.index("\n\n\n", start)
    body = source[start:end]
    for old, new in zip(changes[::2], changes[1::2]):
        assert body.count(old) == 1, (old, body.count(old))
        body = body.replace(old, new)
    with open("changed.py", "w", encoding="utf-8") as file:
        file.write(source[:start] + body + source[end:])
    return "changed.py"


def wrong_mechanisms(path, seed=1):
    """What the first check says of a script, and its table."""
    script, rng, out = DEBUG.load(path), np.random.default_rng([seed, 5]), io.StringIO()
    with contextlib.redirect_stdout(out), np.errstate(all="ignore"):
        _, calls, uses = DEBUG.small_windows(script, script.settle({}, None), rng)
        return DEBUG.check_mechanisms(script, calls, uses, rng), out.getvalue()


PLANTED = [     # mechanism, the argument whose gradient is wrong, a piece of it, what stands there
    ("softmax", "dz", "return p * (dp - dot(p, dp))", "return p * dp"),
    ("softmax", "dz", "dot(p, dp))", "(1 + 1e-6) * dot(p, dp))"),
    ("oneplus", "dz", "-np.expm1(-log) * dx", "-np.expm1(-np.where(z > 8, 0.9, 1) * log) * dx"),
    ("oneplus", "dz", "-np.expm1(-log) * dx", "np.minimum(-np.expm1(-log), 0.9997) * dx"),
    ("interface", "dxi", "de * e * (1 - e)", "de * (1 - e)"),
    ("interface", "dxi", "dga * ga * (1 - ga), dgw * gw * (1 - gw)",
     "dgw * ga * (1 - ga), dga * gw * (1 - gw)"),
    ("interface", "dxi", "pi_back(dpi)", "dpi"),
    ("content", "dk", "- dot(dcos, cos) / k_norm", "+ dot(dcos, cos) / k_norm"),
    ("content", "dbeta", "dot(dz, cos)[:, :, 0]", "dot(dz, cos)[:, :, 0] * (1 + 1e-9)"),
    ("content", "dM", 'np.einsum("bki,bki->bi", dcos, cos)', "(dcos[:, 0] * cos[:, 0])"),
    ("usage", "du_", "dused * (1 - ww_), dused * (1 - u_)", "dused * (1 - u_), dused * (1 - ww_)"),
    ("usage", "df", "kept[:r] + kept[r + 1:]", "kept[:r]"),
    ("usage", "df", "dpsi * math.prod(kept[:r] + kept[r + 1:])", "dpsi * psi / (kept[r] + 1e-9)"),
    ("allocation", "du", "k=-1", "k=0"),
    ("allocation", "du", "da_phi * before)", "da_phi * before) * (1 if N <= 5 else 1 + 1e-5)"),
    ("allocation", "du", "du[phi] = ", "du[:] = "),
    ("write_weighting", "dc", "(1 - ga) * dmix ", "ga * dmix "),
    ("write_weighting", "dgw", "dot(dww, mix)", "0 * dot(dww, mix)"),
    ("write", "de", "-ww[:, None] @ dfade", "ww[:, None] @ dfade"),
    ("write", "dww", "dM * fade, dww, ", "dM * fade, np.where(ww > 0.9, 0, dww), "),
    ("link", "dww", '+ np.einsum("bij->bj", dfade)', '- np.einsum("bij->bj", dfade)'),
    ("link", "dL_", "dL[:, i, i] = 0", "pass"),
    ("link", "dp_", "(ww[:, None] @ dL)[:, 0]", "0 * p_"),
    ("precedence", "dww", "dp - dot(dp, p_)", "dp + dot(dp, p_)"),
    ("precedence", "dp_", "kept * dp, dp", "dp, dp"),
    ("read_weighting", "dpi", "dot(dwr, b), dot(dwr, c), dot(dwr, f)",
     "dot(dwr, f), dot(dwr, c), dot(dwr, b)"),
    ("read_weighting", "dwr_", "db @ LT + df @ L", "db @ L + df @ LT"),
    ("read", "dM", "return wr.", "return 0.5 * wr."),
    ("read", "dwr", "dr @ M.swapaxes(1, 2)", "dr @ M.swapaxes(1, 2) * (wr < 0.9)"),
    ("lstm_cell", "da", "ds * c_ * f * (1 - f)", "ds * c_ * f"),
    ("lstm_cell", "dc_", "ds * f", "dc * f"),
    ("memory", "dxi", "dww + dww_from_p + dww_from_L", "dww + dww_from_L"),
    ("memory", "dp_", "dp_ + dp_from_L", "dp_"),
    ("memory", "dM_", "dM_ + dM_from_cw", "dM_"),
    ("memory", "dxi", "read_back(dr)", "read_back(0 * dr)")]


@pytest.mark.parametrize("name, argument, old, new", PLANTED)
def test_a_mistake_is_named(name, argument, old, new):
    """Mechanism, argument, first wrong entry. Those that use it are not blamed."""
    mistakes, table = wrong_mechanisms(changed("dnc", name, old, new))
    number = r"-?\d[\d.e+-]*"
    assert len(mistakes) == 1 and re.fullmatch(
        rf"{name}: {argument}\[\d+(, \d+)*\] is {number}, should be {number}", mistakes[0])
    marked = {line.split()[1] for line in table.splitlines() if line.startswith("WRONG ")}
    assert marked == {f"{name}:"} and (name == "memory" or name == "lstm_cell" or re.search(
        rf"\nmemory: +not checked, it uses .*{name}", table))


@pytest.mark.parametrize("returned, says", [
    ("dr @ M.swapaxes(1, 2), wr.swapaxes(1, 2) @ dr",
     "dM has shape (2, 3, 7), should have (2, 7, 4)"),
    ("wr.swapaxes(1, 2) @ dr, None", "back returns 1 gradients of 2 arrays")])
def test_gradients_that_do_not_fit(returned, says):
    """The mechanism is named, though its callers cannot even be run."""
    path = changed("dnc", "read", "wr.swapaxes(1, 2) @ dr, dr @ M.swapaxes(1, 2)", returned)
    output = run("--script", path, *SMALL, *SMALL_MEMORY, status=1)
    assert output.endswith(f"\nGRADIENTS THAT DO NOT AGREE: read: {says}\n")


def test_each_mechanism_is_planted_twice():
    names = [name for name, *_ in PLANTED]
    assert set(names) == set(MECHANISMS) and all(names.count(name) >= 2 for name in MECHANISMS)


@pytest.mark.parametrize("model", ["lstm", "dnc"])
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_no_false_alarm(model, seed):
    assert wrong_mechanisms(ROOT / f"{model}-numpy.py", seed)[0] == []


OWN = """
def squash(a, scale, parts):
    h = np.tanh(scale * a)

    def back(dh, dtwice):
        da = (dh + 2 * dtwice) * (1 - h ** 2) * scale
        return RETURNED
    return h, (2 * h,), back


def rows("""


@pytest.mark.parametrize("returned, says", [
    ("da, (dh + 2 * dtwice) * (1 - h ** 2) * a", None),
    ("da, (dh + dtwice) * (1 - h ** 2) * a", r"dscale\[0, 0\] is \S+, should be \S+"),
    ("da[:, :-1], (dh + 2 * dtwice) * (1 - h ** 2) * a",
     r"da has shape \(2, 4\), should have \(2, 5\)"),
    ("da", "back returns 1 gradients of 2 arrays")])
def test_own_mechanism(returned, says):
    """Found by its form: it returns nested arrays, and takes something that is no array."""
    path = changed("rnn", "forward", "h[t] = np.tanh(Wx[inputs[t]] + h_[t] @ WhhT)",
                   "h[t] = squash(Wx[inputs[t]] + h_[t] @ WhhT, np.ones((B, H)), 3)[0]")
    with open(path, encoding="utf-8") as file:
        source = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(source.replace("\ndef rows(", OWN.replace("RETURNED", returned), 1))
    if says is None:
        assert "all gradients agree: 1 mechanisms" in run("--script", path, *SMALL)
    else:
        output = run("--script", path, *SMALL, status=1)
        assert re.search(rf"\nWRONG squash: .*  {says}\n", output), output
        assert re.fullmatch(rf"GRADIENTS THAT DO NOT AGREE: squash: {says}", output.split("\n")[-2])


WRONG = """
def {0}(*args, right={0}):
    {1} = right(*args)
    {2}
    return {1}


if __name__"""
RESULTS = {"backward": "grads, state", "gradients": "nats, grads, state",
           "cross_entropy": "nats, dy"}
MISTAKES = {    # script, function, what becomes of its results, verdict
    "missing": ("rnn", "backward", 'del grads["bh"]', "bh"),
    "not a number": ("rnn", "backward", 'grads["by"][:] = state["h"][:] = np.nan', "by, state h"),
    "only in training": ("rnn", "gradients", 'grads["Why"][:] = np.nan', "Why"),
    "loss": ("rnn", "cross_entropy", "dy *= 0.9", "Wxh, Whh, Why, bh, by, state h"),
    "later windows": ("rnn", "backward", 'grads, state = right(*args[:3], {"h": 0 * args[3]["h"]})',
                      "Wxh, Whh, bh, state h"),
    "transposed": ("lstm", "backward", 'grads["Whh"] = grads["Whh"].T', "Whh"),
    "a billionth": ("lstm", "backward", 'grads["by"] *= 1 + 1e-9', "by"),
    "no state": ("lstm", "backward", 'state["c"] = 0 * state["c"]', "state c"),
    "heads swapped": ("dnc", "backward", 'grads["Whbr"] = grads["Whbr"][::-1]', "Whbr"),
    "wrong state": ("dnc", "backward", 'state["p"] = state["u"]', "state p")}


@pytest.mark.parametrize("model, function, change, verdict", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_around_the_mechanisms(model, function, change, verdict, folder):
    wrong = WRONG.format(function, RESULTS[function], change)
    source = (ROOT / f"{model}-numpy.py").read_text(encoding="utf-8")
    (folder / "changed.py").write_text(source.replace("\nif __name__", wrong), encoding="utf-8")
    flags = [*SMALL, *(SMALL_MEMORY if model == "dnc" else [])]
    output = run(*flags, "--script", "changed.py", status=1)
    assert output.splitlines()[-1] == f"GRADIENTS THAT DO NOT AGREE: {verdict}"
    marked = set(re.findall(r"(?m)^WRONG ((?:state )?\w+): ", output))
    assert marked == set(verdict.split(", "))


SHOWN_BY_RESETS_OR_DROPOUT = [          # a line of backward, what stands there
    ("rnn", "restart(da[t] @ Whh, fresh[t])", "da[t] @ Whh"),
    ("rnn", "rows(h_)", "rows(np.concatenate([h_[:1], h[:-1]]))"),
    ("dnc", "restart(dx, fresh[t]) for dx in",
     "restart(dx, fresh[t] if dx.shape[1:] != (7, 7) else ()) for dx in"),      # not the links
    ("rnn", "rows(dy).T @ rows(mh)", "rows(dy).T @ rows(h)")]


@pytest.mark.parametrize("model, old, new", SHOWN_BY_RESETS_OR_DROPOUT)
def test_what_only_resets_or_dropout_show(model, old, new):
    script, rng = DEBUG.load(changed(model, "backward", old, new)), np.random.default_rng(1)
    windows, _, _ = DEBUG.small_windows(script, script.settle({}, None), rng)
    with contextlib.redirect_stdout(io.StringIO()):
        assert [bool(DEBUG.check_window(script, *w, rng)) for w in windows[1:]] == [True, False]
    if model == "rnn":
        output = run("--script", "changed.py", *SMALL, status=1)
        assert "\nGRADIENTS THAT DO NOT AGREE: only with resets or dropout: W" in output


def test_mistake_in_the_table():
    """An error of 2e-3 is one of 1e-3 by the article's measure, in its own block alone."""
    path = changed("rnn", "gradients", "backward(params, cache, dy, dstate)[0]",
                   "{k: d * (1 + 0.002 * (k == 'by')) for k, d in "
                   "backward(params, cache, dy, dstate)[0].items()}")
    output = run(*SMALL, "--script", path, status=1)
    worst = {block[0]: float(block[4]) for block in re.findall(BLOCK, output)}
    assert abs(worst["by"] - 1e-3) < 2e-6 and sum(value > 1e-4 for value in worst.values()) == 1
    assert "\nWRONG by: n = [" in output and output.endswith("\nGRADIENTS THAT DO NOT AGREE: by\n")


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

    def numerical(a):
        return DEBUG.numerical(lambda: function(x[1]), function(1.0), x, (1,), a)
    n, valid = numerical(derivative)
    assert valid == seen and (not seen or abs(n - derivative) < 1e-4 * derivative)
    for wrong in (1 + 2 * derivative, math.inf, math.nan):  # does not hide by being wrong
        assert numerical(wrong)[1] == (name != "a jump here") and x.tolist() == [5, 1]


# Flags and failures -------------------------------------------------------------------------------

def test_seed_and_gradcheck_choose_the_entries():
    two, again, four, other = (
        [(float(b[5]), float(b[6]), b[8]) for b in re.findall(BLOCK, run(
            *RNN, "--gradcheck", count, "--seed", seed))]
        for count, seed in [(2, 3), (2, 3), (4, 3), (2, 4)])
    assert two == again != other
    for (low, high, few), (lowest, highest, many) in zip(two, four):    # the first 2 of 4
        assert lowest <= low <= high <= highest and (few, many) == ("2", "4")


@pytest.mark.parametrize("flags, iterations", [
    ("--iters 5 --check_interval 2 --sample_length 9", [2, 4, 5]), ("--timelimit 1e-9", [1]),
    ("--iters 1 --fp64 --seqlength 1", [1]), ("--data two.txt --val 0.1 --reset a", [3]),
    ("--data many.txt --val 0.1 --dropout 0.5", [3])])
def test_flags(flags, iterations, folder):
    """A check at each interval and at the end, however short the time; odd texts."""
    (folder / "two.txt").write_text("ab" * 10)
    (folder / "many.txt").write_text("".join(map(chr, range(0x4e00, 0x5000))), encoding="utf-8")
    output = run(*RNN, *flags.split())
    check_agreement(output, "rnn-numpy.py", *iterations)
    assert output.count("\n----\n") == ("sample" in flags) * 2 * len(iterations)


def test_its_own_training_has_no_dropout(folder):
    run(*RNN, "--save", "a.npz")
    assert load("rnn-numpy.py").load("a.npz").settings.dropout == 0


FILES = {"broken.py": "def", "none.py": "x = 1", "leaves.py": "raise SystemExit", "fails.py": "1/0"}
FAILURES = {                                    # flags: what the line names
    "--script nowhere.py": "nowhere.py", "--script .": "regular file",
    "--script broken.py": "syntax", "--script none.py": "GROUPS",
    "--script leaves.py": "SystemExit",
    "--script fails.py": "division", "--script \x1b[2J\x9bx.py": r"\x1b[2J\x9bx.py",
    "--script": "--script", "--gradcheck 0": "--gradcheck", "--iters 0": "--iters",
    "--check_interval 0": "--check_interval", "--data none.py": "none.py is too short"}


@pytest.mark.parametrize("flags", FAILURES)
def test_failure(flags, folder):
    for name, content in FILES.items():
        (folder / name).write_text(content)
    assert FAILURES[flags] in run(*flags.split(" "), status=2)
    assert set(os.listdir(folder)) == set(FILES)


@pytest.mark.parametrize("function, old, new, says", [
    ("forward", "np.empty((2, S, B, H), Whh.dtype)", "np.empty((2, S, B, H))", "ComplexWarning"),
    ("forward", "+ by.T\n", "+ by.T\n    y = y.real\n", "loses the imaginary part of"),
    ("forward", "+ by.T\n", "+ by.T\n    sys.exit()\n", "SystemExit"),
    ("forward", "+ by.T\n", "+ by.T\n    raise ValueError(9999 * 'long ')\n", "ValueError: long"),
    ("init_params", "(rng, V, args)", "(rng, V)", "TypeError: init_params()"),
    ("state_shapes", "(B, hidden):", "(B, hidden, depth):", "TypeError: state_shapes()")])
def test_a_script_that_cannot_be_checked(function, old, new, says):
    said = run(*SMALL, "--script", changed("rnn", function, old, new), status=2)
    assert says in said and len(said) < 1500


def test_help_says_what_the_limit_does_not_cover(folder):
    said = " ".join(python(folder, ROOT / "dnc-debug.py", "--help").stdout.split())
    assert "--timelimit SECONDS of training; two checks come on top" in said


@posix
def test_a_script_that_is_no_regular_file(folder):
    os.mkfifo("pipe")
    assert "regular file" in run("--script", "pipe", status=2)


def test_other_flags(folder):
    """A model whose flags have other names is checked, too."""
    source = (ROOT / "rnn-numpy.py").read_text(encoding="utf-8")
    source = source.replace('"hidden":', '"units":').replace("args.hidden", "args.units")
    (folder / "changed.py").write_text(source, encoding="utf-8")
    flags = [flag.replace("hidden", "units") for flag in SMALL]
    assert "all gradients agree" in run("--script", "changed.py", *flags)
    assert "--hidden" in run("--script", "changed.py", "--hidden", "3", status=2)


def test_not_finite_after_training():
    path = changed("rnn", "iterate", "return nats / characters", "run.params['Why'][:] = np.inf\n"
                   "    return nats / characters")
    assert "not finite" in run("--script", path, *SMALL, status=1, line=True)


@posix
@pytest.mark.parametrize("line, status", [("COMPLEX", 130), ("char/s", 130), ("COMPLEX", 141)])
def test_ends_quietly(line, status, folder):
    """Ctrl-C (130) in a check and in training; a closed pipe (141), as in | head."""
    command = [sys.executable, "-W", "error", ROOT / "dnc-debug.py", *RNN, "--timelimit", "1000",
               "--check_interval", "1000000"]
    with subprocess.Popen(
            command, cwd=folder, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        while line not in process.stdout.readline():
            assert process.poll() is None
        if status == 130:
            process.send_signal(signal.SIGINT)
            assert "agree" not in process.stdout.read()
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (status, "")
