"""The command line: what is printed and written, and when; the scripts as modules. That the figures
are right is tested in test_gradients.py and test_equations.py."""
import importlib
import io
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

from conftest import ROOT, assert_same, names, posix, prepared, python, some_text

LINE = re.compile(r"^0: (\d+\.\d{3}) s, iter (\d+), (\d+\.\d{4}) BPC, (\d+\.\d\d) char/s$", re.M)


def progress(stdout):
    """(seconds, iteration, BPC, char/s) of each line of progress."""
    return [tuple(map(float, figures)) for figures in LINE.findall(stdout)]


def samples(stdout):
    """The samples, which stand between two lines of dashes."""
    return re.findall(r"^----\n(.*?)\n----$", stdout, re.M | re.S)


@pytest.mark.parametrize("level", ["-B", "-OO"])
def test_help(script, level):
    """Groups; for each flag what is to be filled in, a meaning and the default; examples."""
    text, module = python(script.folder, level, script.path, "--help").stdout, script.module
    found = re.findall(r"^(\w+):$|^  --(\w+) ?([A-Z]*)\s+(.*(?:\n   .*)*)", text, re.M)
    assert [" ".join(entry[:3]).strip() for entry in found] == [
        "options", *(entry for title, flags in module.GROUPS.items() for entry in [
            title, *(f"{name} {row[3]}".strip() for name, row in flags.items())])]
    defaults = {name: row[2] for name, row in module.TABLE.items()}
    defaults.update(data="the story", val=0.05, timelimit=45)
    for _, name, _, meaning in found:
        stated, default = " ".join(meaning.split()), defaults.get(name)
        assert default in (None, "", False) or re.search(rf"\(default:? {default}\b", stated), name
        assert not name or len(stated) > 20, name
    examples = re.findall("    python .*", module.__doc__) if level == "-B" else []
    assert text.endswith("\n".join(["", "", *examples, ""])) or not examples


def test_script_in_another_folder(script):
    """Through a link the story is found. Alone, the script and a text are enough; without the
    story, the message says how to name a text. Nothing is written."""
    (script.folder / "link.py").symlink_to(script.path)
    out = python(script.folder, "link.py", *script.small[2:], "--iters", "1").stdout
    shutil.copy(script.path, script.folder)
    python(script.folder, "-I", script.path.name, *script.small, "--iters", "2")
    error = python(script.folder, "-I", script.path.name, status=2).stderr
    assert "gull-rock.txt" in out and re.search(r"gull-rock\.txt.*--data", error)
    assert names(script.folder) == {"text.txt", "link.py", script.path.name}


def test_lines_of_progress(rnn):
    """A heading, then these lines and nothing else: the first iteration of all, and each third. The
    BPC is the mean over the windows since the line before."""
    flags = "--lr 0.3 --dropout 0.3 --init 0 --save"
    each = progress(rnn.train(f"{flags} a.npz --print_interval 1 --iters 10").stdout)
    out = rnn.train(f"{flags} b.npz --print_interval 3 --iters 7").stdout
    assert out.count("\n") == 6 and out.endswith("\nsaved b.npz\n")
    out += rnn.run("--load b.npz --print_interval 3 --iters 3 --check_interval 0").stdout
    assert [i for _, i, _, _ in progress(out)] == [1, 3, 6, 7, 9, 10]
    assert abs(each[0][2] - math.log2(len(set(some_text())))) < 0.02    # fresh weights know nothing
    for begin, (_, end, bpc, speed) in zip([0, 1, 3, 6, 7, 9], progress(out)):
        mean = np.mean([each[i][2] for i in range(begin, int(end))])
        assert abs(bpc - mean) < 1.1e-4 and speed > 0


@pytest.fixture
def clock(rnn, monkeypatch):
    """A clock that only work moves: an iteration takes 1 s, a held-out score or sample 100 s."""
    now, module = [1000.0], rnn.module

    def taking(seconds, function):
        def timed(*args):
            now[0] += seconds
            assert now[0] < 9000, "this run does not end"
            return function(*args)
        return timed
    for name, seconds in (("backward", 1), ("score", 100), ("sample", 100)):
        monkeypatch.setattr(module, name, taking(seconds, getattr(module, name)))
    monkeypatch.setattr(module, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))


def test_seconds_and_characters_per_second(rnn, clock):
    """Speed counts training alone, seconds count all, those of the loaded run too. A line comes at
    the latest ten seconds after the one before."""
    out = rnn.train("--iters 7 --print_interval 2 --check_interval 4 --sample_length 5 "
                    "--save a.npz").stdout
    assert [(s, i, v) for s, i, _, v in progress(out)] == [
        (1, 1, 40), (2, 2, 40), (4, 4, 40), (205, 5, 40), (206, 6, 40), (207, 7, 40)]
    out = rnn.train("--load a.npz --iters 22 --print_interval 100").stdout
    assert [(s, i, v) for s, i, _, v in progress(out)] == [
        (417, 17, 40), (427, 27, 40), (429, 29, 40)]


@pytest.mark.parametrize("flags, iterations", [
    ("", 45), ("--iters 90", 90), ("--timelimit 30", 30), ("--timelimit 70", 70),
    ("--timelimit 30 --iters 9", 9), ("--timelimit 30 --iters 90", 30),
    ("--timelimit 101 --check_interval 1", 2)])             # to within one check
def test_limits(rnn, clock, flags, iterations):
    """45 seconds if nothing else is said; a loaded run has its limits for itself."""
    for load, total in ([], iterations), (["--load", "a.npz"], 2 * iterations):
        assert progress(rnn.train(flags, "--save", "a.npz", *load).stdout)[-1][1] == total


def test_checks(rnn, monkeypatch):
    """Dense at first, then multiples, and the end; by the iteration's number alone. A signal ends
    the run without one: what was done is saved, or lost in so many words."""
    def checks(flags, status=0):
        done = rnn.main([*rnn.small, *"--hidden 1 --batchsize 1 --seqlength 1".split(),
                         *flags.split()])
        assert (done.returncode, done.stderr) == (status, "")
        found = re.findall(r"iter (\d+),.*\n(?:a guess.*\n)?held-out: ", done.stdout)
        return [*map(int, found), *done.stdout.splitlines()[-1:] * (status > 0)]
    load = "--load a.npz --save a.npz --check_interval"
    assert checks("--save a.npz --check_interval 0 --iters 60") == []
    assert checks(f"{load} 500 --iters 50") == [100, 110]
    assert checks(f"{load} 300 --iters 720") == [200, 300, 600, 830]
    assert checks(f"{load} 3 --iters 7") == [831, 834, 837]

    def interrupted(*args, function=rnn.module.next_window):
        if args[1].iter == 852:
            signal.raise_signal(signal.SIGTERM)
        return function(*args)
    monkeypatch.setattr(rnn.module, "next_window", interrupted)
    assert checks("--load a.npz --check_interval 10 --iters 99", 143) == [
        840, 850, "nothing is saved without --save"]
    assert checks(f"{load} 10 --iters 99", 143) == [840, 850, "saved a.npz"]
    assert rnn.saved()["iter"] == 853


@pytest.mark.parametrize("length, val, reset, edges", [
    (200, "1", [], [1, 200]), (3998, "1", [], [1, 3998]), (4001, "1", [], [1, 2001, 4001]),
    (5000, "0.4", [], [3000, 5000]), (5000, "0.1", [], [4500, 5000]),
    (5000, "1", ["--reset", "e"], [1, 5000]),               # a reset makes many segments one
    (131_201, "1", [], range(1, 131_202, 2050))])
def test_heldout_segments(rnn, length, val, reset, edges):
    """At most 64, of at least 2,000 characters, each read from zero state by itself; each character
    but the first counts once."""
    rnn.train("--fp64 --iters 60 --save a.npz", *reset)
    rnn.text.write_text(some_text(length), newline="\n")
    run, nats = rnn.loaded(), 0
    ids, reset = rnn.module.encode(some_text(length), run.vocab, ""), rnn.module.reset_id(run)
    for a, b in zip(edges, edges[1:]):
        state = rnn.module.zero_state(run, 1)
        y = rnn.module.forward(run.average, ids[a - 1:b - 1, None], state, reset)[0][:, 0]
        nats += (np.log(np.exp(y).sum(axis=1)) - y[np.arange(b - a), ids[a:b]]).sum()
    out = rnn.run("--load a.npz --iters 0 --sample_length 0 --data text.txt --val", val).stdout
    n = edges[-1] - edges[0]
    assert out.endswith(f"\nheld-out: {nats / math.log(2) / n:.4f} BPC over {n:,} characters\n")


def test_heldout_share(rnn):
    """A twentieth, at most 100,000 characters, if no share is given; with --iters 0 only of a text
    that is named. That there is nothing to score is said, or was asked for."""
    out = rnn.train("--iters 3 --check_interval 3 --save a.npz").stdout
    score = "--load a.npz --iters 0 --sample_length 0"
    out += rnn.run(f"{score} --data text.txt").stdout
    assert re.findall("held-out:.*over (.*) characters\n", out) == ["250", "250"]
    assert "held-out" not in rnn.run(score).stdout
    rnn.text.write_text("a")
    for val in "", "--val 1":
        out = rnn.run(f"{score} --data text.txt {val}").stdout
        assert "there is no character to score" in out
    rnn.text.write_bytes(b"abcdefghijk")                    # a window and the character after it
    out = rnn.train("--iters 8 --check_interval 4 --sample_length 4 --val 0 --save b.npz").stdout
    assert "held-out:" not in out and len(samples(out)) == 2
    rnn.text.write_text(some_text(2_100_000))
    for val, count in ("", "100,000"), ("--val 0.05", "105,000"):
        assert f" {count} held out" in rnn.train(f"--iters 1 {val}").stdout


def test_fname(rnn):
    """A line of # for each start, then rows with the figures of the log. It begins in a new file,
    or in such a log, whose last line may be cut; no other file is touched."""
    flags = "--print_interval 2 --fname log.tsv --lr 0.04 --save a.npz --iters "
    out, log = rnn.train(flags + "6 --check_interval 3").stdout, rnn.folder / "log.tsv"
    log.write_text(log.read_text()[:-1])
    out += rnn.train(flags + "2 --load a.npz").stdout
    lines = log.read_text().splitlines()
    assert [line[0] for line in lines] == list("#12346#8")
    for line in lines[0], lines[6]:
        assert line.endswith("iter seconds train_bpc heldout_bpc chars_per_s") and "lr=0.04" in line
    rows = [line.split("\t") for line in lines if line[0] != "#"]
    assert [(s, i, bpc, v) for i, s, bpc, _, v in rows] == LINE.findall(out)
    scored = [(i, bpc) for i, _, _, bpc, _ in rows if bpc != "nan"]
    assert scored == list(zip("36", re.findall(r"held-out: (\S+)", out)))
    (rnn.folder / "#.tsv").write_text("# rnnotes\n")
    os.link(rnn.folder / "a.npz", rnn.folder / "other.npz")
    for name in "text.txt", "#.tsv", "a.npz", "other.npz", "b.npz", os.devnull, ".":
        error = rnn.train(f"--load a.npz --save b.npz --iters 1 --fname {name}", status=2).stderr
        assert name in error


def test_samples_are_reproducible_and_have_their_length(rnn):
    """At such a heat all characters are alike: seed and iteration alone make samples differ."""
    hot = "--sample_length 90 --temperature 1e9"
    first, again, other = (samples(rnn.train(
        f"--iters 2 --check_interval 1 {hot} --seed {seed} --val 0 --save {n}.npz").stdout)
        for n, seed in enumerate((1, 1, 2)))
    assert first == again != other and first[0] != first[1]
    assert list(map(len, first)) == [90, 90] and set("".join(first)) <= set(some_text())
    rnn.text.unlink()                  # not needed to sample; nothing is written
    load = f"--load 2.npz --iters 0 {hot}"                  # the last check's, once more
    assert rnn.run(load).stdout == (
        f"the averaged weights of 2.npz: iteration 2\n----\n{other[1]}\n----\n")
    assert samples(rnn.run(load + " --sample_length 1").stdout) == [other[1][:1]]
    assert samples(rnn.run(load + " --seed 3").stdout) != [other[1]]
    assert rnn.run(load + " --sample_length 0").stdout.count("\n") == 1
    assert names(rnn.folder) == {"0.npz", "1.npz", "2.npz"}


def test_what_is_printed_of_a_sample_after_a_prime(rnn, monkeypatch):
    """A prime that was given stands before the sample with --iters 0, but not in a check. If none
    is, a newline is read, or the vocabulary's first character."""
    rnn.train("--iters 300 --save a.npz --val 0")
    (rnn.folder / "prime.txt").write_bytes(b"Go\r\nbe")         # newlines are \n, as in the text
    cold, module, run = "--load a.npz --temperature 0 --sample_length 40", rnn.module, rnn.loaded()
    run.params = run.average                            # which draws what is printed
    primes = {"--prime=Go\nbe": "Go\nbe", "--prime=@prime.txt": "Go\nbe", "--seed=1": ""}
    for flag, prime in primes.items():
        expected = "".join(module.sample(run, prime, 40, 0))
        assert samples(rnn.run(f"{cold} --iters 0", flag).stdout) == [prime + expected]
        out = rnn.train(f"{cold} --iters 1 --lr 1e-30 --check_interval 1", flag).stdout
        assert samples(out) == [expected]
    run.vocab = run.vocab.replace("\n", "#")
    assert [*module.sample(run, "", 9)] == [*module.sample(run, run.vocab[0], 9)]
    p = run.params
    p["Why"], p["by"] = 0 * p["Why"], np.eye(len(p["by"]), dtype="f4")[:, [5]] * 1e-6
    assert "".join(module.sample(run, "a", 50, 0)) == 50 * run.vocab[5]     # likeliest, by little
    run.params, seen = rnn.loaded().params, []
    monkeypatch.setattr(module, "forward", lambda p, x, *more, forward=module.forward: (
        seen.append(len(x)), forward(p, x, *more))[1])
    next(module.sample(run, "abe" * 3000, 10**12))
    assert sum(seen) == 9000 and max(seen) <= 100 and len(seen) < 900       # a prime, in windows


@posix
def test_a_sample_on_its_way(rnn):
    """A pipe sees a long one growing, may end it, and gets no control characters; a file does."""
    rnn.text.write_bytes(b"ab\x1b\n" * 90)
    rnn.train("--iters 1 --save a.npz")
    hot = "--load a.npz --iters 0 --temperature 1e9 --sample_length"
    with subprocess.Popen([sys.executable, rnn.path, *hot.split(), "100000000"], cwd=rnn.folder,
                          stdout=subprocess.PIPE) as process:
        shown = process.stdout.read(5000)
        process.stdout.close()
        assert process.wait(60) == 141 and b"\\x1b" in shown and b"\x1b" not in shown
    with open(rnn.folder / "out.txt", "w") as file:
        rnn.run(f"{hot} 200", stdout=file)
    assert b"\x1b" in (rnn.folder / "out.txt").read_bytes()


@pytest.mark.parametrize("flag, character", [
    ("a", "a"), (r"\n", "\n"), (r"\t", "\t"), (r"\r", "\r"), (r"\\", "\\"), ("\n", "\n")])
def test_reset_is_one_character_and_is_saved(rnn, flag, character):
    rnn.text.write_bytes(b"ab\tc\rd\\e\n" * 50)
    small = "--iters 2 --encoding latin-1 --save"
    rnn.train(f"{small} 0.npz")                             # one may be given later
    for n, start in enumerate(["--load 0.npz --reset", "--reset"], 1):
        rnn.train(f"{small} {n}.npz {start}", flag)
        rnn.train(f"{small} on{n}.npz --load {n}.npz")
        run = rnn.loaded(f"on{n}.npz")
        assert run.vocab[rnn.module.reset_id(run)] == run.settings.reset == character
    assert (rnn.loaded("0.npz").params["Whh"] != rnn.loaded("2.npz").params["Whh"]).any()
    for bad in "xy", "x", r"\x", "", "x" * 10**6:
        error = rnn.train(f"{small} c.npz --reset", bad, status=2).stderr
        assert "--reset" in error and len(error) < 600


SAYS = {            # flags: what the line says
    "--lr -1e-3": "--flag=VALUE", "--init -1e1": "--flag=VALUE", "--prime -Ida": "--flag=VALUE",
    "--prime aßö": r"--prime: 2 characters .*: 'ß' 'ö'", "--prime \x1b": r"'\\x1b'",
    "--prime @ab": "cannot read ab: .*--prime @FILE", "--load a.npz --hidden 16": "16: a.npz has 8",
    "--load a.npz --fp64": "--fp64 True: a.npz has False", "--load b.npz": "lstm-numpy.py saved it",
    "--save folder": "--save another name$", "--save no/x.npz": r"no/x\.npz: No such",
    "--save a.npz": r"--save another name, or continue it by --load a\.npz$",
    "--load a.npz --save a.npz --val 0.3": "name, since another text is learnt or held out$",
    "--iters 0 --save c.npz": "--iters 0 .*--save", "--val 1": "only --load FILE --iters 0",
    "--load a.npz --val 1": "only --load FILE --iters 0", "--hid 8": "--hid.*--help",
    **{f"--{name}=": f"--{name}" for name in "save load fname data encoding reset".split()}}


@pytest.mark.parametrize("flags", SAYS)
def test_messages(rnn, flags):
    (rnn.folder / "folder").mkdir()
    prepared("lstm", rnn.folder).train("--iters 1 --save b.npz")
    rnn.train("--iters 1 --save a.npz")
    assert re.search(SAYS[flags], rnn.train(f"--iters 1 {flags}", status=2).stderr)


@pytest.mark.parametrize("flags, hints", [
    ("--iters 102 --lr 100 --print_interval 2", ["--lr"]),      # worse than a guess
    ("--iters 100 --lr 100 --print_interval 2", []),
    ("--iters 110 --hidden 80 --dropout 0", ["memorize"]),
    ("--iters 1 --hidden 80 --dropout 0.5", [])])               # more weights than characters
def test_hints(rnn, flags, hints):
    assert re.findall("memorize|--lr", rnn.train(flags).stdout) == hints


@pytest.mark.parametrize("way", ["module", "thread", "cell", "closed", "none"])
def test_as_a_module(rnn, monkeypatch, way):
    """In a thread, in a notebook's cell, where no __file__ is, without or with a closed stdout."""
    monkeypatch.syspath_prepend(ROOT)
    module, cell, found = importlib.import_module("rnn-numpy"), {"__name__": "cell"}, []
    if way == "cell":
        exec(rnn.path.read_text(encoding="utf-8"), cell)
    monkeypatch.chdir(rnn.folder)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "stdout", out := None if way == "none" else io.StringIO())
    if way == "closed":
        out.close()

    def calls():
        train = "--iters 2 --check_interval 1 --sample_length 3 --save a.npz".split()
        for flags in [*rnn.small, *train], "--load a.npz --iters 0".split(), ["--lr", "x"]:
            found.append(cell.get("main", module.main)(flags))
    thread = threading.Thread(target=calls)
    (thread.start, thread.run)[way != "thread"]()
    (thread.join, list)[way != "thread"]()
    assert found == [0, 0, 2] and module.load("a.npz").iter == 2 and module.parse(None) == {}
    assert way in ("none", "closed") or "\nsaved a.npz\n" in out.getvalue()


def test_a_mistake_in_the_model_is_a_traceback(script):
    """With the line that is wrong; what the last whole iteration left is saved. The shape becomes
    wrong in the second iteration, when by is no longer 0; or in the first."""
    source = script.path.read_text(encoding="utf-8")
    script.train("--iters 1 --fp64 --save good.npz")
    for name, when in ("a.npz", "int(by.any())"), ("b.npz", "1"):
        wrong = source.replace("Wx[inputs[t]] + h_", line := f"Wx[inputs[t]][:, {when}:] + h_")
        (script.folder / "mine.py").write_text(wrong, encoding="utf-8")
        done = python(script.folder, "mine.py", *script.small, *"--iters 9 --fp64 --save".split(),
                      name, status=1, says=r"Traceback[\s\S]*\nValueError: ")
        assert line in done.stderr and (f"saved {name}" in done.stdout) == (name == "a.npz")
    assert_same(script.saved(), script.saved("good.npz"))
    assert names(script.folder) == {"text.txt", "mine.py", "a.npz", "good.npz"}


@pytest.mark.parametrize("length", [26, 30])
def test_all_sizes_at_their_smallest(script, length):
    """One of each; a text hardly longer than its alphabet."""
    script.text.write_text("abcdefghijklmnopqrstuvwxyzabcd"[:length])
    one = [f"--{name}=1" for name in "hidden batchsize seqlength locations width heads".split()
           if name in script.module.TABLE]
    script.train("--iters 60 --check_interval 20 --sample_length 9 --save a.npz", *one)
    script.run("--load a.npz --iters 3 --save a.npz --check_interval 1")
    script.run("--load a.npz --iters 0 --val 1 --data text.txt")
    if script.model == "dnc":
        pytest.importorskip("matplotlib")
        python(script.folder, ROOT / "pictures" / "memory.py", "--load", "a.npz", "--text", "abc",
               "--out", "a.png")
