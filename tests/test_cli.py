"""The command line: flags, the log, held-out figures, samples, texts. Figures are computed again, not compared with themselves."""
import math
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from conftest import ROOT, arrays, edit, some_text

LINE = re.compile(r"0: (\d+\.\d{3}) s, iter (\d+), (\d+\.\d{4}) BPC, (\d+\.\d{2}) char/s")
COMMON_FLAGS = ("batchsize hidden seqlength timelimit check_interval sample_length fname fp64 data encoding lr clip init seed iters "
                "print_interval val temperature prime save load").split()
UNITS = {"batchsize": "streams", "seqlength": "steps", "hidden": "units", "timelimit": "seconds", "iters": "iterations",
         "check_interval": "iterations", "print_interval": "iterations", "sample_length": "characters", "val": "share"}


def progress(stdout):
    """(seconds, iteration, BPC, char/s) of each line of progress."""
    return [tuple(map(float, found.groups())) for found in map(LINE.fullmatch, stdout.splitlines()) if found]


def samples(stdout):
    """The samples, which stand between two lines of dashes."""
    return re.findall(r"^----\n(.*?)\n----$", stdout, re.M | re.S)


def numbers(text, vocab):
    return np.array([vocab.index(c) for c in text])


def literal(script, path, dtype=np.float64):
    """One step of B streams by the equations alone: step(characters, state) -> logits (M, B), state. And its arrays.

    The DNC's equations have tests of their own: here its forward is called with one step.
    """
    p = {name: a.astype(dtype) if a.dtype.kind == "f" else a for name, a in arrays(path).items()}

    def step(x, state):
        if script.model == "dnc":
            params = {name: p[name] for name in script.module.param_shapes(len(p["by"]), **{size: int(p[size]) for size in script.module.SIZES})}
            logits, state, _ = script.module.forward(params, x[None], state)
            return logits[:, 0], state
        a = p["Wxh"][:, x] + p["Whh"] @ state["h"] + p["bh"]
        if script.model == "rnn":
            state = {"h": np.tanh(a)}
        else:
            i, o, f = 1 / (1 + np.exp(-a.reshape(4, -1, len(x))[:3]))
            g = np.tanh(a.reshape(4, -1, len(x))[3])
            c = np.tanh(g * i + f * state["c"])
            state = {"h": o * c, "c": c}
        return p["Why"] @ state["h"] + p["by"], state
    return step, p


def fresh_state(p, B):
    return {name[6:]: np.zeros((*a.shape[:-1], B)) for name, a in p.items() if name.startswith("state_")}


def bits(logits, targets):
    """-log2 softmax(logits)[target] of each stream."""
    p = np.exp(logits - logits.max(axis=0))
    return -np.log2((p / p.sum(axis=0))[targets, np.arange(len(targets))])


# ---- flags

def test_help_gives_meaning_unit_and_default_of_each_flag(script):
    text = script.run("--help").stdout
    entries = {name: " ".join(entry.split()) for name, entry in re.findall(r"^  --(\w+)((?:.*\n)(?:   .*\n)*)", text, re.M)}
    assert set(entries) >= {*COMMON_FLAGS, *script.module.SIZES}
    args = vars(script.module.parse([]))
    defaults = {**args, **script.module.DEFAULTS, **{name: default for name, (default, _) in script.module.SIZES.items()}}
    for name in defaults:
        entry = entries[name]
        assert len(entry) > 20, name
        assert UNITS.get(name, "") in entry, name
        if type(defaults[name]) in (int, float):
            stated = re.search(r"\(default ([\d.]+)\)", entry)
            assert stated and float(stated[1]) == defaults[name], name
    for name in ("data", "encoding", "seed", "val", "iters", "prime"):
        assert "(default" in entries[name], name
    if script.model == "dnc":
        assert set(script.module.SIZES) == {"hidden", "locations", "width", "heads"}


def test_default_text_is_found_from_any_folder_and_nothing_is_written(script):
    script.run("--hidden 4 --batchsize 2 --iters 1 --check_interval 0", *script.small[-6:] if script.model == "dnc" else [])
    assert [path.name for path in script.folder.iterdir()] == ["text.txt"]


def test_script_alone_in_a_folder(script):
    alone = script.folder / "alone"
    alone.mkdir()
    shutil.copy(script.path, alone)

    def run(*flags):
        return subprocess.run([sys.executable, "-I", script.path.name, *flags], cwd=alone, capture_output=True, encoding="utf-8")
    (script.folder / "text.txt").rename(alone / "mine.txt")
    done = run(*script.small, "--data", "mine.txt", "--iters", "2")
    assert (done.returncode, done.stderr) == (0, "")
    done = run("--iters", "2")
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"[^\n]*gull-rock\.txt[^\n]*--data[^\n]*\n", done.stderr)
    assert sorted(path.name for path in alone.iterdir()) == sorted(["mine.txt", script.path.name])


# ---- the log

def test_lines_of_progress(script):
    lines = script.train("--iters 7 --print_interval 3 --lr 1e-30").stdout.splitlines()
    assert len(lines) == 4 and all(map(LINE.fullmatch, lines[1:]))              # a heading, then these and nothing else
    figures = progress("\n".join(lines))
    assert [iteration for _, iteration, _, _ in figures] == [3, 6, 7]
    for _, _, bpc, speed in figures:                                            # fresh weights know nothing: log2 M bits
        assert abs(bpc - math.log2(len(set(some_text())))) < 0.02 and speed > 0


@pytest.mark.parametrize("iters_before", [0, 40])
def test_progress_is_the_running_average_of_the_training_loss(script, iters_before):
    """The next window is computed again from a checkpoint, whose average and iteration are such that a mistake is seen.

    Stream 1 stands at the end of the text: it jumps and starts from zero state, the others do not notice.
    """
    path, stream = script.folder / "a.npz", np.arange(4)
    script.train("--save a.npz --iters 40 --fp64")        # double: the order of the DNC's ties depends on it
    edit(path, iter=np.int64(iters_before), smooth=np.float64(0.25 if iters_before else 0),
         position=np.where(stream == 1, 4745, arrays(path)["position"]))
    (_, iteration, bpc, _), = progress(script.train("--load a.npz --save b.npz --iters 1").stdout)
    (step, p), after = literal(script, path), arrays(script.folder / "b.npz")
    begin = after["position"] - 10
    assert ((begin != p["position"]) == (stream == 1)).all() and 0 <= begin[1] <= 4740
    assert (after["jumps"] - p["jumps"] == (stream == 1)).all()

    ids = numbers(some_text(), "".join(map(chr, p["vocabulary"])))
    state = {name[6:]: np.where(stream == 1, 0, a) for name, a in p.items() if name.startswith("state_")}
    loss = []
    for t in range(10):
        logits, state = step(ids[begin + t], state)
        loss.append(bits(logits, ids[begin + t + 1]))
    smooth = 0.999 * p["smooth"] + 0.001 * np.mean(loss)
    assert iteration == after["iter"] == iters_before + 1
    assert abs(bpc - smooth / (1 - 0.999 ** iteration)) < 1e-4 and np.allclose(after["smooth"], smooth)
    for name, value in state.items():
        assert np.allclose(after["state_" + name], value), name


@pytest.fixture
def clock(script, monkeypatch):
    """A clock for main() that moves only by work: an iteration takes 1 s, a held-out score or a sample 100 s."""
    now, module = [1000.0], script.module

    def taking(seconds, function):
        def timed(*args):
            now[0] += seconds
            assert now[0] < 9000, "this run does not end"
            return function(*args)
        return timed
    for name, seconds in (("backward", 1), ("score", 100), ("sample", 100)):
        monkeypatch.setattr(module, name, taking(seconds, getattr(module, name)))
    monkeypatch.setattr(module, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))


def test_seconds_and_characters_per_second(script, inside, clock):
    """Speed counts training alone, seconds count all, those of the loaded run too."""
    out = inside("", *script.small, *"--iters 7 --print_interval 2 --check_interval 4 --sample_length 5 --save a.npz --timelimit 999".split()).stdout
    assert [(s, i, v) for s, i, _, v in progress(out)] == [(2, 2, 40), (4, 4, 40), (206, 6, 40), (207, 7, 40)]
    out = inside("", *script.small, *"--load a.npz --iters 2 --print_interval 1".split()).stdout
    assert [(s, i, v) for s, i, _, v in progress(out)] == [(408, 8, 40), (409, 9, 40)]


@pytest.mark.parametrize("flags, least, most", [("--timelimit 30", 30, 32), ("--timelimit 30 --iters 9", 9, 9), ("--timelimit 30 --iters 90", 30, 32)])
def test_iters_or_timelimit_whichever_comes_first(script, inside, clock, flags, least, most):
    """The iteration in which the limit is noticed ends (workers agree on it one later). A loaded run has its limits for itself."""
    done = 0
    for load in ([], ["--load", "a.npz"]):
        out = inside("", *script.small, *flags.split(), "--save", "a.npz", *load).stdout
        before, done = done, progress(out)[-1][1]
        assert least <= done - before <= most


def test_checks(script):
    def checks(flags):
        """Iterations at which a check follows the line of progress."""
        lines = script.train("--iters 8 --print_interval 1 --sample_length 4 " + flags).stdout.splitlines()
        return [int(LINE.fullmatch(before)[2]) for before, line in zip(lines, lines[1:]) if line.startswith("held-out: ")]
    assert checks("--check_interval 3") == [3, 6, 8]
    assert checks("--check_interval 0") == []
    out = script.train("--iters 8 --check_interval 4 --sample_length 4 --val 0 --save a.npz").stdout
    assert "held-out:" not in out and len(samples(out)) == 2
    assert {path.name for path in script.folder.iterdir()} == {"text.txt", "a.npz"}         # nothing held out, no best


def test_heldout_figure(script):
    """Every character of the tail counts, in 64 segments from zero state, each predicted from the one before it."""
    out = script.train("--iters 60 --check_interval 60 --val 0.4 --save a.npz").stdout
    found = re.search(r"^held-out: (\d+\.\d{4}) BPC over 2,000 characters$", out, re.M)
    step, p = literal(script, script.folder / "a.npz")
    ids = numbers(some_text(), "".join(map(chr, p["vocabulary"])))
    edges = np.array([3000 + k * 2000 // 64 for k in range(65)])
    state, total = fresh_state(p, 64), 0
    for t in range(max(np.diff(edges))):
        at = edges[:-1] + t
        logits, state = step(ids[at - 1], state)
        total += bits(logits, ids[np.minimum(at, 4999)])[at < edges[1:]].sum()
    assert abs(float(found[1]) - total / 2000) < 1e-3
    assert abs(p["best"] - total / 2000) < 1e-3


def test_heldout_tail_is_never_trained_on(script):
    """# stands in the tail alone: as a character that is read it has no gradient."""
    (script.folder / "text.txt").write_text("ab\nc" * 100 + "#" * 100)
    for val, trained in ((0.2, False), (0, True)):
        script.train(f"--iters 60 --val {val} --save a.npz")
        p = arrays(script.folder / "a.npz")
        assert p["jumps"].max() > 1
        assert p["adagrad_Wxh"][:, list(p["vocabulary"]).index(ord("#"))].any() == trained


def test_fname(script):
    script.train("--iters 6 --print_interval 2 --check_interval 3 --fname log.tsv --lr 0.05")
    script.train("--iters 2 --check_interval 0 --fname log.tsv")
    lines = (script.folder / "log.tsv").read_text().splitlines()
    assert [line[0] for line in lines] == list("#2346#2")
    assert lines[0].endswith("iter seconds train_bpc heldout_bpc chars_per_s") and "lr=0.05" in lines[0]
    rows = np.genfromtxt(script.folder / "log.tsv", delimiter="\t")
    assert rows[:, 0].tolist() == [2, 3, 4, 6, 2] and (rows[:, 1] >= 0).all()
    assert (np.abs(rows[:, 2] - 4.5) < 1).all()
    assert np.isnan(rows[:, 3]).tolist() == [True, False, True, False, True]
    assert np.isnan(rows[:, 4]).tolist() == [False, True, False, False, False]


def test_fname_has_the_figures_of_the_log(script):
    out = script.train("--iters 4 --print_interval 2 --check_interval 2 --fname log.tsv").stdout
    rows = [line.split("\t") for line in (script.folder / "log.tsv").read_text().splitlines()[1:]]
    assert [(i, s, bpc, speed) for i, s, bpc, _, speed in rows] == [(i, s, bpc, speed) for s, i, bpc, speed in LINE.findall(out)]
    assert [row[3] for row in rows] == re.findall(r"held-out: (\S+)", out)


# ---- samples

def test_samples_are_reproducible_and_have_their_length(script):
    """At such a heat all characters are alike, so that seed and iteration alone make the samples differ."""
    length_and_heat = "--sample_length 90 --temperature 1e30"
    first, again, other = (
        script.train(f"--iters 2 --check_interval 1 {length_and_heat} --save a.npz --seed", seed).stdout for seed in (1, 1, 2))
    assert samples(first) == samples(again) != samples(other)
    assert samples(first)[0] != samples(first)[1] and [len(text) for text in samples(first)] == [90, 90]
    assert set("".join(samples(first))) <= set(some_text())
    load = script.run(f"--load a.npz --iters 0 {length_and_heat}").stdout
    assert samples(load) == samples(other)[1:]              # the sample of the last check, once more
    assert samples(script.run(f"--load a.npz --iters 0 {length_and_heat} --sample_length 1").stdout) == [samples(other)[1][:1]]
    assert samples(script.train("--iters 2 --check_interval 1").stdout) == []


def test_temperature_0_takes_the_likeliest_after_the_prime(script):
    script.train("--iters 300 --save a.npz")
    (script.folder / "prime.txt").write_bytes(b"Go\r\nbe")       # newlines of a text file are \n, as in the text
    step, p = literal(script, script.folder / "a.npz")
    vocab = "".join(map(chr, p["vocabulary"]))
    for prime, flags in (("Go\nbe", ["--prime", "Go\nbe"]), ("Go\nbe", ["--prime", "@prime.txt"]), ("\n", [])):
        state, expected = fresh_state(p, 1), prime
        for t in range(len(prime) + 39):
            logits, state = step(numbers(expected[t], vocab), state)
            if t + 1 == len(expected):
                expected += vocab[logits[:, 0].argmax()]
        out = script.run("--load a.npz --iters 0 --temperature 0 --sample_length 40", *flags).stdout
        assert samples(out) == [expected[len(prime):]]


def test_default_prime_without_a_newline_is_the_first_character(script):
    (script.folder / "text.txt").write_text("banana" * 20)
    script.train("--iters 20 --save a.npz")
    default, first, other = (samples(script.run("--load a.npz --iters 0 --temperature 0", *prime).stdout)
                             for prime in ([], ["--prime", "a"], ["--prime", "b"]))
    assert default == first != other


def test_temperature_is_that_of_the_softmax(script, monkeypatch):
    z = np.array([1.0, 0.0, -1.0])
    monkeypatch.setattr(script.module, "forward", lambda params, inputs, state, window=None: (z.reshape(3, 1, 1), state, window))
    run = types.SimpleNamespace(seed=1, iter=0, vocab=list("abc"), params=None, dtype=np.dtype(float),
                                sizes={name: 2 for name in script.module.SIZES})
    for temperature in (0.5, 1, 4):
        text = script.module.sample(run, "a", 20_000, temperature, types.SimpleNamespace(signal=0))
        p = np.exp(z / temperature) / np.exp(z / temperature).sum()
        for character, probability in zip("abc", p):
            assert abs(text.count(character) / 20_000 - probability) < 0.02


def test_control_characters_are_spelt_out(script):
    (script.folder / "text.txt").write_bytes(bytes(range(256)) * 2)
    out = script.train("--encoding latin-1 --val 0 --iters 1 --check_interval 1 --temperature 1e30 --sample_length 4000").stdout
    text, = samples(out)
    assert set(re.findall(r"[\x00-\x1f\x7f-\x9f]", text)) == {"\t", "\n"}
    assert {r"\x1b", r"\x9b", r"\x00", r"\r", r"\x7f"} <= set(re.findall(r"\\r|\\x..", text))


def test_one_step_gives_the_same_logits_as_a_window(script):
    """Training and sampling use one function; and a stream does not notice the others."""
    module, rng = script.module, np.random.default_rng(0)
    sizes = {name: 6 - n for n, name in enumerate(module.SIZES)}
    params = module.Params(module.param_shapes(7, **sizes), np.float64)
    params.flat[:] = rng.standard_normal(params.flat.size)
    ids = rng.integers(7, size=(9, 3))
    whole, end, _ = module.forward(params, ids, module.zeros(module.state_shapes(3, **sizes), np.float64))
    for b in range(3):
        state, window = module.zeros(module.state_shapes(1, **sizes), np.float64), None
        for t in range(9):
            logits, state, window = module.forward(params, ids[t:t + 1, b:b + 1], state, window)
            assert np.allclose(logits[:, 0, 0], whole[:, t, b], rtol=1e-9, atol=1e-9)
        for name in state:
            assert np.allclose(state[name][..., 0], end[name][..., b], rtol=1e-9, atol=1e-9), name


# ---- texts

@pytest.mark.parametrize("raw, flags, characters", [
    (b"one\r\ntwo\rthree\n" * 20, "", "\nehnortw"),                             # universal newlines
    (b"one\r\ntwo\rthree\n" * 20, "--encoding latin-1", "\n\rehnortw"),         # bytes one to one
    (bytes(range(256)) * 2, "--encoding latin-1", "".join(map(chr, range(256)))),
    (b"\xef\xbb\xbf" + "aé漢😀".encode() * 60, "", "aé漢😀"),                    # a byte order mark is no character
    (b"\xef\xbb\xbfab" * 60, "--encoding latin-1", "ab»¿ï"),
], ids=["utf-8", "latin-1", "all-bytes", "bom", "bom-latin-1"])
def test_encoding(script, raw, flags, characters):
    (script.folder / "text.txt").write_bytes(raw)
    script.train("--iters 1 --save a.npz " + flags)
    assert "".join(map(chr, arrays(script.folder / "a.npz")["vocabulary"])) == characters


def test_smallest_text(script):
    """One window and the character after it; one character less is refused (test_failures)."""
    (script.folder / "text.txt").write_text("abcdefghijk")
    script.train("--val 0 --iters 3")


def test_a_long_load_and_a_long_score_say_what_they_do(script):
    (script.folder / "long.txt").write_text("abcde fghi\n" * 1_000_000, encoding="utf-8")
    lines = script.train("--data long.txt --val 0.1 --iters 1 --check_interval 1 --hidden 2").stdout.splitlines()
    assert lines[0] == "reading long.txt: 11,000,000 bytes" and "scoring 1,100,000 held-out characters" in lines
