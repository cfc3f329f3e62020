"""The command line: what is printed and written, and when. That the figures are right is tested in
test_gradients.py and test_equations.py."""
import math
import re
import shutil
import types

import numpy as np
import pytest

from conftest import names, prepared, python, some_text

LINE = re.compile(r"0: (\d+\.\d{3}) s, iter (\d+), (\d+\.\d{4}) BPC, (\d+\.\d{2}) char/s")
FLAGS = ("batchsize hidden seqlength timelimit check_interval sample_length fname fp64 data "
         "encoding lr clip init seed iters print_interval val temperature prime reset save "
         "load").split()
UNITS = {"batchsize": "streams", "seqlength": "steps", "hidden": "units", "timelimit": "seconds",
         "iters": "iterations", "check_interval": "iterations", "print_interval": "iterations",
         "sample_length": "characters", "val": "share", "locations": "locations"}


def progress(stdout):
    """(seconds, iteration, BPC, char/s) of each line of progress."""
    found = map(LINE.fullmatch, stdout.splitlines())
    return [tuple(map(float, line.groups())) for line in found if line]


def samples(stdout):
    """The samples, which stand between two lines of dashes."""
    return re.findall(r"^----\n(.*?)\n----$", stdout, re.M | re.S)


def as_loaded(script, flags, name="a.npz"):
    """The run that a command line with --load --iters 0 begins."""
    return script.module.begin(script.module.parse(
        ["--load", str(script.folder / name), "--iters", "0", *flags]))


GO = types.SimpleNamespace(signal=0)                        # nobody asks to stop


@pytest.mark.parametrize("level", ["-B", "-OO"])
def test_help_gives_meaning_unit_and_default_of_each_flag(script, level):
    text = python(script.folder, level, script.path, "--help").stdout
    entries = re.findall(r"^  --(\w+)((?:.*\n)(?:   .*\n)*)", text, re.M)
    entries = {name: " ".join(entry.split()) for name, entry in entries}
    assert entries.keys() == {*FLAGS, *script.module.SIZES, *script.module.INIT}
    for name, (kind, _, default, _) in script.module.FLAGS.items():
        assert len(entries[name]) > 20 and UNITS.get(name, "") in entries[name], name
        stated = re.search(r"\(default: ([\d.]+)\)", entries[name])
        if kind is not str and default is not None:
            assert stated and float(stated[1]) == default, name
    for name in ("data", "encoding", "iters", "timelimit", "prime"):
        assert "(default: " in entries[name], name
    assert ("locations" in entries) == (script.model == "dnc")


def test_script_in_another_folder(script):
    """Through a link the story is found, and nothing is written. Alone, the script and a text are
    enough; without the story, the message says how to name a text."""
    (script.folder / "link.py").symlink_to(script.path)
    done = python(script.folder, "link.py", *script.small[2:], "--iters", "1")
    assert "gull-rock.txt" in done.stdout and names(script.folder) == {"text.txt", "link.py"}
    shutil.copy(script.path, script.folder)
    alone = "-I", script.path.name, "--iters", "2"
    python(script.folder, *alone, *script.small)
    done = python(script.folder, *alone, status=2)
    assert done.stdout == "" and re.search(r"gull-rock\.txt.*--data", done.stderr)
    assert names(script.folder) == {"text.txt", "link.py", script.path.name}


def test_lines_of_progress(rnn):
    """A heading, then these lines and nothing else: the first iteration of all, and each third."""
    flags = "--print_interval 3 --lr 1e-30 --save a.npz --iters "
    lines = rnn.train(flags + "7 --init 0").stdout.splitlines()
    figures = progress("\n".join(lines))
    assert len(lines) == 5 and [i for _, i, _, _ in figures] == [1, 3, 6, 7]
    for _, _, bpc, speed in figures:                    # fresh weights know nothing: log2 M bits
        assert abs(bpc - math.log2(len(set(some_text())))) < 0.02 and speed > 0
    more = progress(rnn.train(flags + "3", "--load", "a.npz").stdout)
    assert [i for _, i, _, _ in more] == [9, 10]


@pytest.mark.parametrize("iters_before", [0, 40])
def test_progress_is_the_running_average_of_the_training_loss(rnn, iters_before):
    """The next window, computed again. From zero state start stream 1, which stands at the end of
    the text and jumps, and stream 2, at the 80th window; the others do not notice."""
    stream = np.arange(4)
    rnn.train("--save a.npz --iters 40 --fp64")
    place = np.select([stream == 1, stream == 2], [4745, 805], rnn.saved()["position"])
    rnn.edit(iter=np.int64(iters_before), position=place,
             smooth=np.float64(0.25 if iters_before else 0))
    (_, iteration, bpc, _), = progress(rnn.train("--load a.npz --save b.npz --iters 1").stdout)
    p, after, run = rnn.saved(), rnn.saved("b.npz"), as_loaded(rnn, ["--data", str(rnn.text)])
    begin = after["position"] - 10
    assert ((begin != p["position"]) == (stream == 1)).all() and 0 <= begin[1] <= 4740
    assert (after["jumps"] - p["jumps"] == (stream == 1)).all() and (begin[::3] // 10 % 80).all()

    window, fresh = run.ids[begin + np.arange(11)[:, None]], (stream % 3 > 0)[:, None]
    nats, _, state = rnn.module.gradients(run.params, window[:-1], window[1:],
                                          {"h": np.where(fresh, 0, p["state_h"])})
    smooth = 0.999 * p["smooth"] + 0.001 * nats / 40 / math.log(2)
    assert iteration == after["iter"] == iters_before + 1
    assert abs(bpc - smooth / (1 - 0.999 ** iteration)) < 1e-4
    assert np.allclose(after["smooth"], smooth) and np.allclose(after["state_h"], state["h"])


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
    """Speed counts training alone, seconds count all, those of the loaded run too."""
    out = rnn.train("--iters 7 --print_interval 2 --check_interval 4 --sample_length 5 "
                    "--save a.npz").stdout
    assert [(s, i, v) for s, i, _, v in progress(out)] == [
        (1, 1, 40), (2, 2, 40), (4, 4, 40), (206, 6, 40), (207, 7, 40)]
    out = rnn.train("--load a.npz --iters 2 --print_interval 1").stdout
    assert [(s, i, v) for s, i, _, v in progress(out)] == [(408, 8, 40), (409, 9, 40)]


@pytest.mark.parametrize("flags, iterations", [
    ("", 60), ("--iters 90", 90), ("--timelimit 30", 30), ("--timelimit 70", 70),
    ("--timelimit 30 --iters 9", 9), ("--timelimit 30 --iters 90", 30)])
def test_limits(rnn, clock, flags, iterations):
    """60 seconds if nothing else is said; a loaded run has its limits for itself."""
    for load, total in ([], iterations), (["--load", "a.npz"], 2 * iterations):
        out = rnn.train(flags, "--save", "a.npz", *load).stdout
        assert progress(out)[-1][1] == total


@pytest.mark.parametrize("B", [3, 6])
def test_clip_is_per_character(rnn, B):
    """Adagrad's first sums are the squares of the clipped gradient."""
    rnn.train(f"--iters 1 --clip 1e-3 --batchsize {B} --seqlength 5 --save a.npz --fp64")
    squares = [value.sum() for name, value in rnn.saved().items() if name[:8] == "adagrad_"]
    assert math.sqrt(sum(squares)) == pytest.approx(1e-3 * B * 5)


def test_checks(rnn):
    def checks(flags):
        """Iterations at which a check follows the line of progress."""
        lines = rnn.train("--iters 8 --print_interval 1 --sample_length 4 " + flags)
        lines = lines.stdout.splitlines()
        return [int(LINE.fullmatch(before)[2]) for before, line in zip(lines, lines[1:])
                if line.startswith("held-out: ")]
    assert checks("--check_interval 3") == [3, 6, 8]
    assert checks("--check_interval 0") == []
    rnn.text.write_bytes(b"abcdefghijk")                    # a window and the character after it
    out = rnn.train("--iters 8 --check_interval 4 --sample_length 4 --val 0 --save a.npz").stdout
    assert "held-out:" not in out and len(samples(out)) == 2
    assert names(rnn.folder) == {"text.txt", "a.npz"}       # nothing held out, no best


def heldout(stdout):
    """The held-out figures, and the numbers of their characters."""
    found = re.findall(r"^held-out: (\d+\.\d{4}) BPC over ([\d,]+) characters$", stdout, re.M)
    return [(float(bpc), int(count.replace(",", ""))) for bpc, count in found]


def test_heldout_figure(rnn):
    """After the training; and with --iters 0 of a text that is named, of the share asked for."""
    out = rnn.train("--fp64 --iters 60 --check_interval 60 --val 0.4 --save a.npz").stdout
    load, data = "--load a.npz --iters 0 --sample_length 9", ["--data", str(rnn.text)]
    for val, begin in (None, 3000), ([], 3000), (["--val", "0.1"], 4500), (["--val", "1"], 1):
        if val is not None:
            out = rnn.run(load, *data, *val).stdout
            assert len(samples(out)) == 1
        (bpc, count), = heldout(out)
        expected = rnn.module.score(as_loaded(rnn, [*data, *(val or [])]), GO)
        assert count == 5000 - begin and abs(bpc - expected) < 6e-5
        assert begin != 3000 or abs(rnn.saved()["best"] - expected) < 1e-9
    assert heldout(rnn.run(load).stdout) == []


def test_fname(rnn):
    """A line of # for each start, then rows with the figures of the log."""
    flags = "--print_interval 2 --fname log.tsv --lr 0.04 --save a.npz --iters "
    out = rnn.train(flags + "6 --check_interval 3").stdout
    out += rnn.train(flags + "2 --load a.npz").stdout
    lines = (rnn.folder / "log.tsv").read_text().splitlines()
    assert [line[0] for line in lines] == list("#12346#8")
    for line in lines[0], lines[6]:
        assert line.endswith("iter seconds train_bpc heldout_bpc chars_per_s") and "lr=0.04" in line
    rows = [line.split("\t") for line in lines if line[0] != "#"]
    shown = [(i, s, bpc, speed) for i, s, bpc, _, speed in rows if i != "3"]
    assert shown == [(i, s, bpc, speed) for s, i, bpc, speed in LINE.findall(out)]
    assert [row[3] for row in rows if row[3] != "nan"] == re.findall(r"held-out: (\S+)", out)
    assert [row[0] for row in rows if row[3] != "nan"] == ["3", "6"] and rows[2][4] == "nan"


def test_samples_are_reproducible_and_have_their_length(rnn):
    """At such a heat all characters are alike: seed and iteration alone make samples differ."""
    hot = "--sample_length 90 --temperature 1e30"
    first, again, other = (
        rnn.train(f"--iters 2 --check_interval 1 {hot} --seed {seed} --save {n}.npz").stdout
        for n, seed in enumerate((1, 1, 2)))
    assert samples(first) == samples(again) != samples(other)
    assert samples(first)[0] != samples(first)[1]
    assert [len(text) for text in samples(first)] == [90, 90]
    assert set("".join(samples(first))) <= set(some_text())
    rnn.text.unlink()                  # not needed to sample; nothing is written
    before, load = names(rnn.folder), f"--load 2.npz --iters 0 {hot}"
    assert samples(rnn.run(load).stdout) == samples(other)[1:]      # the last check's, once more
    assert samples(rnn.run(load + " --sample_length 1").stdout) == [samples(other)[1][:1]]
    assert samples(rnn.run(load + " --seed 3").stdout) != samples(other)[1:]
    assert rnn.run(load + " --sample_length 0").stdout == ""
    assert names(rnn.folder) == before


def test_what_is_printed_of_a_sample_after_a_prime(rnn):
    """A prime that was given stands before the sample with --iters 0, but not in a check."""
    rnn.train("--iters 300 --save a.npz")
    (rnn.folder / "prime.txt").write_bytes(b"Go\r\nbe")         # newlines are \n, as in the text
    cold = "--load a.npz --temperature 0 --sample_length 40"
    for prime, flags in (("Go\nbe", ["--prime", "Go\nbe"]), ("Go\nbe", ["--prime", "@prime.txt"]),
                         ("", []), ("", ["--prime", ""])):
        run = as_loaded(rnn, [*cold.split()[2:], "--prime", prime or "\n"])
        expected = rnn.module.sample(run, GO)
        assert len(expected) == 40
        assert samples(rnn.run(f"{cold} --iters 0", *flags).stdout) == [prime + expected]
        out = rnn.train(f"{cold} --iters 1 --lr 1e-30 --check_interval 1", *flags).stdout
        assert samples(out) == [expected]


@pytest.mark.parametrize("text, prime", [("banana", "a"), ("\tbanana\n", "\n")])
def test_default_prime_is_a_newline_or_the_first_character(rnn, text, prime):
    rnn.text.write_text(text * 20, newline="\n")
    rnn.train("--iters 20 --save a.npz")
    default, first, other = (
        samples(rnn.run("--load a.npz --iters 0 --temperature 0", *more).stdout)[0]
        for more in ([], ["--prime", prime], ["--prime", "b"]))
    assert prime + default == first and other[1:] != first[1:]


@pytest.mark.parametrize("flag, character", [
    ("a", "a"), (r"\n", "\n"), (r"\t", "\t"), (r"\r", "\r"), (r"\\", "\\"), ("\n", "\n")])
def test_reset_is_one_character_and_is_saved(rnn, flag, character):
    rnn.text.write_bytes(b"ab\tc\rd\\e\n" * 50)
    small = "--iters 2 --encoding latin-1 --save"
    rnn.train(f"{small} a.npz --reset", flag)
    rnn.train(f"{small} b.npz --load a.npz")
    for path in rnn.folder / "a.npz", rnn.folder / "b.npz":
        run = rnn.module.begin({"load": str(path), "iters": 0})
        assert run.vocab[run.reset_id] == character
    assert "--reset" in rnn.train(f"{small} c.npz --load a.npz --reset b", status=2).stderr
    for bad in "xy", "x", r"\x":
        assert "--reset" in rnn.train(f"{small} c.npz --reset", bad, status=2).stderr
    rnn.train(f"{small} c.npz")                         # without: one may be given later
    assert (rnn.saved("c.npz")["Whh"] != rnn.saved()["Whh"]).any()
    rnn.train(f"{small} d.npz --load c.npz --reset", flag)
    assert rnn.saved("d.npz")["reset"] == flag


def test_a_network_can_be_scored_with_another_number_of_locations(tmp_path):
    """Nothing in a DNC's parameters depends on it; with --iters 0 alone, and of a DNC alone."""
    dnc = prepared("dnc", tmp_path)
    dnc.train("--iters 30 --save a.npz --init 1")
    flags, figures = "--load a.npz --data text.txt --val 1 --sample_length 0", []
    for N in 5, 9:
        run = as_loaded(dnc, ["--data", str(dnc.text), "--val", "1"])
        run.sizes = (*run.sizes[:1], N, *run.sizes[2:])
        figures.append(heldout(dnc.run(f"{flags} --iters 0 --locations {N}").stdout)[0][0])
        assert abs(figures[-1] - dnc.module.score(run, GO)) < 1e-4
    assert figures[0] != figures[1]
    dnc.run("--load a.npz --data text.txt --iters 1 --locations 9", status=2)
    dnc.run(f"{flags} --iters 0 --width 9", status=2)
