"""Checkpoints: what is in them, and that a run continues from one exactly where it stopped."""
import re
import shutil
import unittest.mock

import numpy as np
import pytest

from conftest import assert_same, names, some_text, without_times

CHECKS = "--val 0.3 --check_interval 20 --sample_length 30 --temperature 0.7"
RUNS = {            # length of the text, flags of the first leg and of the second, environment
    "plain": (5000, "", "", {"LC_ALL": "tr_TR.UTF-8", "LANGUAGE": "tr"}),
    "double": (5000, "--fp64", "", {"PYTHONHASHSEED": "0"}),
    "jumps": (300, "--lr 0.03 --seed 5", "", {"PYTHONHASHSEED": "4242"}),
    "clipped": (900, "--clip 0.02 --init 1 --seed 3", "", {}),
    "reset": (900, "--reset e --init 1 --lr 0.03", "", {}),
    "checks": (900, CHECKS, CHECKS, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONHASHSEED": "1",
                                     "PYTHONCOERCECLOCALE": "0"})}


@pytest.mark.parametrize("length, flags, again, env", RUNS.values(), ids=RUNS)
def test_40_and_40_iterations_are_80(script, length, flags, again, env):
    """The 80 in a process of their own, whatever the locale and the order of sets are there. A text
    is the same if its characters are, whatever its file is called, and its newlines."""
    script.text.write_text(some_text(length), newline="\n")
    (script.folder / "crlf.txt").write_text(some_text(length), newline="\r\n")
    flags += " --print_interval 10"
    whole = script.train(f"--iters 80 --save whole.npz --fname whole.tsv {flags}", env=env).stdout
    first = script.train(f"--iters 40 --save part.npz --fname part.tsv {flags}").stdout
    second = script.run("--iters 40 --load part.npz --save part.npz --fname part.tsv --data "
                        "crlf.txt --print_interval 10", *(again or "--check_interval 0").split())
    heading, lines = without_times(second.stdout).replace("crlf", "text").split("\n", 1)
    assert without_times(whole) == without_times(first) + lines and heading in first
    for suffix in [".npz", ".best.npz"] if again else [".npz"]:
        assert_same(*(script.saved(f"{name}{suffix}") for name in ("whole", "part")))
    rows = [[line.split("\t")[::2][:2] for line in (script.folder / name).read_text().splitlines()
             if line[0] != "#"] for name in ("whole.tsv", "part.tsv")]
    assert rows[0] == rows[1]
    after = script.saved("whole.npz")
    assert after["iter"] == 80 and (after["jumps"].max() > 2) == (length < 1000)
    assert after["seconds"] > 0


def test_window_and_rate_anew(rnn):
    """--seqlength, --lr and --clip of a continued run are its own, and the next checkpoint's."""
    new = "--seqlength 7 --lr 0.02 --clip 0.03"
    rnn.train("--iters 30 --save start.npz")
    for flags in (f"start.npz --iters 20 --save one.npz {new}",
                  f"start.npz --iters 8 --save two.npz {new}", "two.npz --iters 12 --save two.npz"):
        rnn.run(f"--data text.txt --check_interval 0 --load {flags}")
    start, one, two = (rnn.saved(f"{name}.npz") for name in ("start", "one", "two"))
    assert_same(one, two)
    assert (one["seqlength"], one["lr"], one["clip"], one["iter"]) == (7, 0.02, 0.03, 50)
    moved = (one["position"] - start["position"])[one["jumps"] == start["jumps"]]
    assert len(moved) > 1 and (moved == 20 * 7).all()


def test_what_a_checkpoint_holds(script):
    script.train("--iters 3 --lr 0.05 --seed 7 --val 0.1 --save a.npz --check_interval 2")
    p, module, text, B = script.saved(), script.module, sorted(set(some_text())), 4
    sizes = [8, 5, 4, 2][:len(module.SIZES)]
    shapes = module.param_shapes(len(text), *sizes)             # and state_shapes: test_common.py
    shapes |= {"adagrad_" + name: shape for name, shape in shapes.items()}
    shapes |= {"state_" + name: shape for name, shape in module.state_shapes(B, *sizes).items()}
    shapes |= {"position": (B,), "jumps": (B,), "vocabulary": (len(text),)}
    assert {name: value.shape for name, value in p.items() if value.ndim} == shapes
    assert list(map(chr, p["vocabulary"])) == text
    expected = dict(zip(module.SIZES, sizes), batchsize=B, seqlength=10, seed=7, iter=3, lr=0.05,
                    best_iter=3, val=0.1, clip=0.01, model=script.model, reset="")
    assert {name: p[name] for name in expected} == expected
    assert p["smooth"] > 0 and p["seconds"] > 0 and 0 < p["best"] < 10 and (p["jumps"] == 1).all()
    assert names(script.folder) == {"text.txt", "a.npz", "a.best.npz"}
    run = script.loaded()
    run.iter = np.int32(run.iter)                               # as NumPy 1 has it on Windows
    module.save(run, [script.folder / "a.npz"])
    assert script.loaded().iter == 3


def test_best_is_the_one_with_the_best_heldout_figure(rnn):
    """At a huge rate the figure rises again: what was best stays in its file. So it does if a
    figure is the same: only a better one replaces it."""
    def figures(flags):
        out = rnn.train("--check_interval 1 --save a.npz " + flags).stdout
        said = re.findall(r"best held-out BPC was (\S+), after iteration (\d+): (\S+)\n", out)
        assert not said or said == [(f"{min(found):.4f}", str(best["iter"]), "a.best.npz")]
        assert bool(said) == ("--lr 30" in flags)
        return list(map(float, re.findall(r"held-out: (\S+)", out)))
    found = figures("--iters 6")
    best = rnn.saved("a.best.npz")
    assert best["iter"] == best["best_iter"] == 1 + np.argmin(found)
    assert abs(best["best"] - min(found)) < 1e-4
    assert min(figures("--iters 2 --lr 30 --load a.npz")) > min(found)
    tie = figures("--iters 2 --lr 1e-30 --load a.best.npz")
    assert tie == [min(found)] * 2
    assert_same(best, rnn.saved("a.best.npz"), but=())
    assert rnn.saved()["best"] == best["best"]


def test_flags_that_contradict_the_checkpoint(script):
    """Sizes, seed, init and precision; --iters 0 may have another seed (test_cli.py)."""
    script.train("--iters 1 --save a.npz")
    load = "--data text.txt --load a.npz --check_interval 0"
    held = {name: value for name, value in zip(script.small[::2], script.small[1::2])
            if name[2:] in script.module.SIZES}
    for name, value in {**held, "--seed": "1"}.items():
        script.run(f"{load} --iters 1 {name} {value}")
        for iters in [1] if name in ("--seed", "--locations") else [0, 1]:
            error = script.run(f"{load} --iters {iters} {name} 3", status=2).stderr
            assert name in error and "a.npz" in error
    for flag in "--fp64", "--init 2", *["--forget_bias 2"] * (script.model != "rnn"):
        assert flag in script.run(f"{load} --iters 1 {flag}", status=2).stderr
    script.train("--fp64 --iters 1 --save b.npz")           # double stays double without the flag
    script.run("--data text.txt --load b.npz --iters 1 --save b.npz --check_interval 0")
    assert script.saved("b.npz")["Wxh"].dtype == np.float64


def test_another_text(rnn):
    """Streams and the best figure start afresh; weights, accumulator, iteration, average go on."""
    checks = "--check_interval 1 --lr 1e-30"
    rnn.train("--iters 40 --save a.npz --check_interval 20")
    rnn.edit(best=0.5)
    (rnn.folder / "other.txt").write_text(some_text()[:-1] + "a")
    out = rnn.train(f"--load a.npz --data other.txt --iters 1 --save b.npz {checks}").stdout
    assert "other.txt" in out.splitlines()[0] and "a.npz" in out.splitlines()[0]
    a, b = rnn.saved(), rnn.saved("b.npz")
    assert (b["jumps"] == 41).all() and b["iter"] == 41 and b["digest"] != a["digest"]
    assert b["best"] > 1 and (rnn.folder / "b.best.npz").exists()
    kept = "Wxh", "Why", "vocabulary"
    assert_same({name: a[name] for name in kept}, {name: b[name] for name in kept})
    old, new = a["adagrad_Why"], b["adagrad_Why"]
    assert (new >= old).all() and new.sum() < 1.5 * old.sum()
    assert "not the text" not in rnn.train("--load b.npz --data other.txt --iters 1").stdout
    rnn.text.write_text(some_text() + "Ω#\x1b#", encoding="utf-8")      # not in the vocabulary
    for iters in 0, 1:
        error = rnn.train(f"--load a.npz --iters {iters}", status=2).stderr
        assert re.search(r"text\.txt.*\b3\b.*'#'.*'\\u03a9'", error) and r"'\x1b'" in error
    assert "'#'" in rnn.run("--load a.npz --iters 0 --prime a#", status=2).stderr


def test_best_of_another_file_or_share(rnn):
    """A best stays if its file does, and is forgotten with another held-out text."""
    rnn.train("--iters 10 --check_interval 10 --save a.npz")
    rnn.edit(best=0.5)
    run = "--iters 10 --check_interval 10 --load a.npz --save"
    assert "the best" not in rnn.train(run.removesuffix(" --save")).stdout
    rnn.train(f"{run} b.npz")
    assert rnn.saved("b.npz")["best"] == rnn.saved("b.best.npz")["best"] > 0.5
    rnn.train(f"{run} a.npz")
    assert rnn.saved()["best"] == 0.5
    rnn.train(f"{run} a.npz --val 0.2")
    assert rnn.saved()["best"] == rnn.saved("a.best.npz")["best"] > 0.5


def test_another_batch(script):
    """Streams start afresh, at places of their own; all else goes on, and then exactly."""
    script.train("--iters 20 --check_interval 10 --save a.npz")
    script.edit(best=0.5)
    shutil.copy(script.folder / "a.npz", script.folder / "whole.npz")
    run = "--lr 1e-30 --check_interval 10 --load"
    script.train(f"{run} whole.npz --batchsize 6 --iters 20 --save whole.npz")
    script.train(f"{run} a.npz --batchsize 6 --iters 10 --save a.npz")
    script.train(f"{run} a.npz --batchsize 6 --iters 10 --save a.npz")
    a, whole = script.saved(), script.saved("whole.npz")
    assert_same(a, whole)
    assert a["batchsize"] == len(a["position"]) == 6 and a["best"] == 0.5 and a["iter"] == 40
    places = [script.module.generator(1, 1, b, 20).integers(4750 - 10) for b in range(6)]
    moved = a["position"] - places
    assert (a["jumps"] == 21 + (moved != 200)).all() and (moved == 200).sum() > 3
    assert names(script.folder) == {"text.txt", "a.npz", "a.best.npz", "whole.npz"}


@pytest.mark.parametrize("flags, dtype", [("--clip 0.01", np.float32), ("--fp64", np.float64)])
def test_precision_stays(script, flags, dtype, monkeypatch):
    """One stray double constant would turn all that follows it: what training, scoring and sampling
    hand to these functions, and what is saved, has one type."""
    spies = {name: unittest.mock.Mock(wraps=getattr(script.module, name))
             for name in ("forward", "backward", "cross_entropy", "adagrad")}
    for name, spy in spies.items():
        monkeypatch.setattr(script.module, name, spy)
    script.train(f"--iters 3 --check_interval 2 --sample_length 3 --save a.npz {flags}")
    seen = [value for value in script.saved().values() if value.ndim]
    for call in (call for spy in spies.values() for call in spy.call_args_list):
        for value in call.args:
            seen += value.values() if isinstance(value, dict) else [value]
    types = {value.dtype for value in seen if isinstance(value, np.ndarray)}
    assert {kind for kind in types if kind.kind == "f"} == {np.dtype(dtype)}
