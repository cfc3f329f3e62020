"""Checkpoints: what is in them, and that a run continues from one exactly where it stopped."""
import re
import threading

import numpy as np
import pytest

from conftest import arrays, some_text

# Texts and flags under which 40 iterations, saved, and 40 more must equal 80. In 300 characters streams jump every few windows.
RUNS = {
    "plain": (5000, "", ""),
    "double": (5000, "--fp64", ""),
    "jumps": (300, "--lr 0.03 --seed 5", ""),
    "threads": (300, "--threads 3 --seed 5", "--threads 3 --check_interval 0"),
    "clipped": (900, "--clip 0.02 --init 1 --seed 3", ""),
    "checks": (900, "--val 0.3 --check_interval 20 --sample_length 30 --temperature 0.7", "--val 0.3 --check_interval 20 --sample_length 30 --temperature 0.7"),
}


def without_times(stdout):
    """All lines of a run but the heading, without seconds and char/s."""
    return re.sub(r"^0: \S+ s|\S+ char/s$", "", stdout.split("\n", 1)[1], flags=re.M)


def assert_same(one, other, but=("seconds",)):
    """Two checkpoints hold the same, bit for bit, but for times."""
    assert one.keys() == other.keys()
    for name in one.keys() - set(but):
        assert one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("length, flags, again", RUNS.values(), ids=RUNS)
def test_40_and_40_iterations_are_80(script, length, flags, again):
    (script.folder / "text.txt").write_text(some_text(length))
    flags += " --print_interval 10"
    whole = script.train("--iters 80 --save whole.npz --fname whole.tsv " + flags).stdout
    first = script.train("--iters 40 --save part.npz --fname part.tsv " + flags).stdout
    second = script.run(f"--iters 40 --load part.npz --save part.npz --fname part.tsv --data text.txt --print_interval 10 {again or '--check_interval 0'}").stdout
    assert without_times(whole) == without_times(first) + without_times(second)
    for suffix in (".npz", ".best.npz") if "--val" in flags else (".npz",):
        assert_same(arrays(script.folder / f"whole{suffix}"), arrays(script.folder / f"part{suffix}"))
    rows = [[line.split("\t")[::2] for line in (script.folder / name).read_text().splitlines() if line[0] != "#"] for name in ("whole.tsv", "part.tsv")]
    assert [row[:2] for row in rows[0]] == [row[:2] for row in rows[1]]
    after = arrays(script.folder / "whole.npz")
    assert after["iter"] == 80 and (after["jumps"].max() > 2) == (length < 1000)
    assert after["seconds"] > 0


def test_the_same_seed_gives_the_same_run(script, tmp_path_factory):
    """In another process and another folder, whatever the locale and the order of sets are; NumPy 1.26 and 2 have suites of their own."""
    circumstances = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONHASHSEED": "4242"}
    flags = "--iters 60 --check_interval 20 --print_interval 10 --sample_length 20 --val 0.1 --save a.npz"
    other = type(script)(script.model, tmp_path_factory.mktemp("other"))
    (other.folder / "text.txt").write_bytes((script.folder / "text.txt").read_bytes())
    assert without_times(script.train(flags).stdout) == without_times(other.train(flags, env=circumstances).stdout)
    for name in ("a.npz", "a.best.npz"):
        assert_same(arrays(script.folder / name), arrays(other.folder / name))


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_share_the_streams(script, threads):
    """They learn what one thread learns, but for rounding: loss, weights, and each stream's place and state, also when streams jump."""
    (script.folder / "text.txt").write_text(some_text(400))
    flags = "--fp64 --init 1 --iters 30 --print_interval 1 --lr 0.01"
    one, more = (without_times(script.train(f"{flags} --save {n}.npz --threads {n}").stdout) for n in (1, threads))
    assert one == more
    one, more = (arrays(script.folder / f"{n}.npz") for n in (1, threads))
    for name in one.keys() - {"seconds"}:
        if one[name].dtype.kind == "f":
            np.testing.assert_allclose(more[name], one[name], rtol=1e-6, atol=1e-9, err_msg=name)
        else:
            assert (more[name] == one[name]).all(), name
    assert one["jumps"].max() > 2


def test_each_thread_has_its_share(script, monkeypatch):
    """Each stream is in one share; the sizes of shares differ by one at most; each share is worked on by a thread of its own."""
    module, seen = script.module, []

    def looking(params, inputs, state, window=None, forward=module.forward):
        seen.append((inputs.copy(), threading.current_thread().name, {value.shape[-1] for value in state.values()}))
        return forward(params, inputs, state, window)
    monkeypatch.setattr(module, "forward", looking)
    script.main("", *script.small, *"--iters 1 --batchsize 11 --threads 4 --val 0".split())
    assert sorted(share.shape[1] for share, *_ in seen) == [2, 3, 3, 3] and all(sizes == {share.shape[1]} for share, _, sizes in seen)
    assert "MainThread" not in {name for _, name, _ in seen}
    streams = np.concatenate([share for share, *_ in seen], axis=1).T
    del seen[:]
    script.main("", *script.small, *"--iters 1 --batchsize 11 --val 0".split())
    (whole, name, _), = seen
    assert name == "MainThread" and sorted(map(bytes, streams)) == sorted(map(bytes, whole.T))


def test_window_and_rate_anew(script):
    """--seqlength, --lr and --clip of a continued run are its own, and are what the next checkpoint has."""
    script.train("--iters 30 --save start.npz")
    script.run("--data text.txt --load start.npz --iters 20 --seqlength 7 --lr 0.02 --clip 0.03 --save one.npz --check_interval 0")
    script.run("--data text.txt --load start.npz --iters 8 --seqlength 7 --lr 0.02 --clip 0.03 --save two.npz --check_interval 0")
    script.run("--data text.txt --load two.npz --iters 12 --save two.npz --check_interval 0")
    start, one = arrays(script.folder / "start.npz"), arrays(script.folder / "one.npz")
    assert_same(one, arrays(script.folder / "two.npz"))
    assert (one["seqlength"], one["lr"], one["clip"], one["iter"]) == (7, 0.02, 0.03, 50)
    assert (one["position"] - start["position"] == 20 * 7).all()


def test_what_a_checkpoint_holds(script):
    script.train("--iters 3 --lr 0.05 --seed 7 --val 0.1 --save a.npz --check_interval 2")
    p = arrays(script.folder / "a.npz")
    H, M = 8, len(set(some_text()))
    gates = {"rnn": 1}.get(script.model, 4) * H
    shapes = {"Wxh": (gates, M), "Whh": (gates, H), "Why": (M, H), "bh": (gates, 1), "by": (M, 1), "state_h": (H, 4)}
    shapes |= {"adagrad_" + name: shape for name, shape in shapes.items() if not name.startswith("state_")}
    shapes |= {"state_c": (H, 4)} if script.model != "rnn" else {}
    assert {name: p[name].shape for name in shapes} == shapes
    if script.model == "dnc":       # the whole state of section 3: h, c, M, u, p, L, w^r, w^w, r
        assert sum(name.startswith("state_") for name in p) == 9
    assert "".join(map(chr, p["vocabulary"])) == "".join(sorted(set(some_text())))
    expected = dict(hidden=8, batchsize=4, seqlength=10, seed=7, iter=3, lr=0.05, val=0.1, model=script.model)
    assert {name: p[name] for name in expected} == expected
    assert p["smooth"] > 0 and p["seconds"] > 0 and 0 < p["best"] < 10
    assert p["position"].shape == p["jumps"].shape == (4,) and (p["jumps"] == 1).all()
    assert {path.name for path in script.folder.iterdir()} == {"text.txt", "a.npz", "a.best.npz"}


def test_best_is_the_one_with_the_best_heldout_figure(script):
    """At a huge rate the figure rises again: what was best stays in its file, and the checkpoint remembers it."""
    def figures(flags):
        out = script.train("--check_interval 1 --save a.npz " + flags).stdout
        return list(map(float, re.findall(r"held-out: (\S+)", out)))
    found = figures("--iters 6")
    best = arrays(script.folder / "a.best.npz")
    assert best["iter"] == 1 + np.argmin(found) and abs(best["best"] - min(found)) < 1e-4
    again = figures("--iters 2 --lr 30 --load a.npz")
    assert min(again) > min(found)
    assert_same(best, arrays(script.folder / "a.best.npz"), but=())
    assert arrays(script.folder / "a.npz")["best"] == best["best"]


def test_flags_that_contradict_the_checkpoint(script):
    script.train("--iters 1 --save a.npz")
    sizes = {name: script.small[script.small.index(f"--{name}") + 1] for name in script.module.SIZES}
    for name, value in {**sizes, "batchsize": "4", "seed": "1"}.items():
        script.run(f"--data text.txt --load a.npz --iters 1 --check_interval 0 --{name} {value}")
        for flags in ("--iters 1", "--iters 0"):
            error = script.run(f"--data text.txt --load a.npz {flags} --{name} 3", status=2).stderr
            assert f"--{name}" in error and "a.npz" in error and value in error
    assert "--fp64" in script.run("--data text.txt --load a.npz --iters 1 --fp64", status=2).stderr
    assert "--init" in script.run("--data text.txt --load a.npz --iters 1 --init 1", status=2).stderr
    script.train("--fp64 --iters 1 --save b.npz")
    script.run("--data text.txt --load b.npz --iters 1 --save b.npz --check_interval 0")    # double stays double without the flag
    assert arrays(script.folder / "b.npz")["Wxh"].dtype == np.float64


def test_another_text(script):
    """The vocabulary stays; streams start afresh in the new text; weights, accumulator, iteration and average go on."""
    script.train("--iters 40 --save a.npz")
    (script.folder / "other.txt").write_text(some_text()[:-1] + "a")
    out = script.train("--load a.npz --data other.txt --iters 1 --lr 1e-30 --save b.npz").stdout
    assert "other.txt" in out.splitlines()[0] and "a.npz" in out.splitlines()[0]
    a, b = arrays(script.folder / "a.npz"), arrays(script.folder / "b.npz")
    assert (b["jumps"] == a["jumps"] + 1).all() and b["iter"] == 41 and (b["digest"] != a["digest"]).any()
    assert_same({name: a[name] for name in ("Wxh", "Why", "vocabulary")}, {name: b[name] for name in ("Wxh", "Why", "vocabulary")})
    assert (b["adagrad_Why"] >= a["adagrad_Why"]).all() and b["adagrad_Why"].sum() < 1.5 * a["adagrad_Why"].sum()


def test_the_same_text_under_another_name(script):
    """A text is the same if its characters are, whatever its file is called and its newlines are."""
    script.train("--iters 5 --save a.npz")
    (script.folder / "crlf.txt").write_bytes(some_text().replace("\n", "\r\n").encode())
    for data, save in (("text.txt", "b.npz"), ("crlf.txt", "c.npz")):
        assert "not the text" not in script.train(f"--load a.npz --data {data} --iters 5 --save {save}").stdout
    assert_same(arrays(script.folder / "b.npz"), arrays(script.folder / "c.npz"))


def test_characters_that_the_vocabulary_lacks(script):
    script.train("--iters 1 --save a.npz")
    (script.folder / "other.txt").write_text(some_text() + "Ω#\x1b#", encoding="utf-8")
    error = script.train("--load a.npz --data other.txt --iters 1", status=2).stderr
    assert "other.txt" in error and re.search(r"\b3\b", error) and all(name in error for name in (r"'\u03a9'", "'#'", r"'\x1b'"))
    for command in ("--load a.npz --iters 0", "--iters 1"):
        error = script.train(command, "--prime", "a#é", status=2).stderr
        assert "--prime" in error and re.search(r"\b2\b", error) and "'#'" in error and r"'\xe9'" in error


def test_sampling_needs_no_text(script):
    script.train("--iters 5 --save a.npz --seed 3")
    (script.folder / "text.txt").unlink()
    before = (script.folder / "a.npz").read_bytes()
    first, second = (script.run("--load a.npz --iters 0 --data nowhere.txt --sample_length 50").stdout for _ in range(2))
    assert first == second and re.fullmatch(r"----\n(.|\n){50}\n----\n", first)
    assert [path.name for path in script.folder.iterdir()] == ["a.npz"] and (script.folder / "a.npz").read_bytes() == before


@pytest.mark.parametrize("flags, dtype", [("", np.float32), ("--fp64", np.float64)], ids=["single", "double"])
def test_precision_stays(script, flags, dtype, inside, monkeypatch):
    """One stray double constant would turn all that follows it: look at everything that training and sampling compute."""
    seen = {}

    def look(name, value):
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            seen.setdefault(name, set()).add(value.dtype)
        elif isinstance(value, script.module.Window):
            look(name, vars(value))
        elif isinstance(value, dict):
            for key in value:
                look(f"{name}.{key}", value[key])
        elif isinstance(value, (tuple, list)):
            for n, each in enumerate(value):
                look(f"{name}.{n}", each)

    for name in ("forward", "backward", "cross_entropy", "adagrad"):
        def looking(*args, name=name, function=getattr(script.module, name), **kwargs):
            result = function(*args, **kwargs)
            look(name, (args, result))
            return result
        monkeypatch.setattr(script.module, name, looking)
    inside("", *script.small, *f"--iters 3 --check_interval 2 --sample_length 3 --save a.npz {flags}".split())
    assert len(seen) > 30 and {name: found for name, found in seen.items() if found != {np.dtype(dtype)}} == {}
    held = arrays(script.folder / "a.npz")
    real = {name for name in held if held[name].dtype.kind == "f" and held[name].ndim}
    assert real == {name for name in held if name.startswith(("W", "b", "adagrad_", "state_"))} - {"best", "batchsize"}
    assert {held[name].dtype for name in real} == {np.dtype(dtype)}
