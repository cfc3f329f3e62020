"""Checkpoints: what is in them, and that a run continues from one exactly where it stopped."""
import os
import pathlib
import re
import signal

import numpy as np
import pytest

from conftest import assert_same, names, posix, some_text, without_times

SMALL = "--iters 1 --lr 1e-30 --check_interval 1"
CHECKS = "--check_interval 20 --sample_length 30 --temperature 0.7"
RUNS = {            # length of the text, flags of the first leg and of the second, environment
    "plain": (5000, "", "", {"LC_ALL": "tr_TR.UTF-8", "LANGUAGE": "tr"}),
    "double": (5000, "--fp64 --batchsize 3 --init 0", "", {"PYTHONHASHSEED": "0"}),
    "jumps": (300, "--lr 0.03 --seed 5", "", {"PYTHONHASHSEED": "4242"}),
    "clipped": (900, "--clip 0.02 --init 1 --seed 3 --encoding utf-8-sig", "", {}),
    "dropout": (900, "--reset e --init 2 --dropout 0.4 --seqlength 7 --val 0.1", "", {}),
    "checks": (900, CHECKS + " --val 0.3 --dropout 0.2", CHECKS, {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONHASHSEED": "1", "PYTHONCOERCECLOCALE": "0"})}


@pytest.mark.parametrize("length, flags, again, env", RUNS.values(), ids=RUNS)
def test_40_and_40_iterations_are_80(script, length, flags, again, env):
    """The 80 in a process of their own, whatever the locale and the order of sets are there. The
    second leg is told nothing that the first was, but for limits, intervals and sampling."""
    script.text.write_text(some_text(length), newline="\n")
    flags += " --print_interval 10"
    whole = script.train(f"--iters 80 --save whole.npz --fname whole.tsv {flags}", env=env).stdout
    first = script.train(f"--iters 40 --save part.npz --fname part.tsv {flags}").stdout
    second = script.run("--iters 40 --load part.npz --save part.npz --fname part.tsv "
                        "--print_interval 10", *(again or "--check_interval 0").split()).stdout
    first, second = map(without_times, (first, second))
    learnt = "part.npz has learnt from text.txt\n" + first.partition(", iter 1,")[0]
    assert without_times(whole).replace("whole.npz", "part.npz") == (
        first.removesuffix("saved part.npz\n") + second.removeprefix(learnt))
    assert_same(script.saved("whole.npz"), script.saved("part.npz"))
    rows = [[line.split("\t")[::2][:2] for line in (script.folder / name).read_text().splitlines()
             if line[0] != "#"] for name in ("whole.tsv", "part.tsv")]
    after = script.saved("part.npz")
    assert rows[0] == rows[1] and after["iter"] == 80 and ("best_bh" in after) == bool(again)


def test_what_a_checkpoint_holds(script):
    """The last weights, their average and the best, in the article's names and shapes; settings as
    JSON. All is in single precision: one stray double constant would turn what follows it."""
    script.train("--iters 3 --lr 0.04 --seed 7 --val 0.1 --save a.npz --check_interval 2 "
                 "--dropout 0.3 --reset e")
    p, module, vocab, B = script.saved(), script.module, sorted(set(some_text())), 4
    sizes = [8, 5, 4, 2] if script.model == "dnc" else [8]
    shapes = module.param_shapes(len(vocab), *sizes)            # and state_shapes: test_common.py
    shapes |= {f"{kind}_{name}": shape for name, shape in shapes.items()
               for kind in ("adagrad", "average", "best")}
    shapes |= {"state_" + name: shape for name, shape in module.state_shapes(B, *sizes).items()}
    assert {key: x.shape for key, x in p.items() if isinstance(x, np.ndarray)} == shapes
    assert {p[key].dtype for key in shapes} == {np.dtype("f4")}
    expected = dict(hidden=8, batchsize=B, seqlength=10, seed=7, iter=3, lr=0.04, clip=0.01, init=1,
                    dropout=0.3, fp64=False, reset="e", data="text.txt", encoding="utf-8",
                    heldout=500, best_iter=3, model=script.model, vocab="".join(vocab))
    assert {name: p[name] for name in expected} == expected and len(p["position"]) == B
    assert p.keys() - shapes.keys() - module.FLAGS.keys() == {
        *expected, "position", "seconds", "best", "digest"} - {"hidden", "lr", "dropout"}
    assert p["seconds"] > 0 and 0 < p["best"] < 10 and names(script.folder) == {"text.txt", "a.npz"}


def test_flags_win_over_what_is_saved(script):
    """And are the next checkpoint's. Of another batch the streams start afresh, at places of their
    own; all else goes on, the best too, and then exactly."""
    script.train("--iters 20 --check_interval 10 --save a.npz")
    script.edit(best=0.5)
    new = "--batchsize 6 --seqlength 7 --lr 1e-30 --clip 0.03 --dropout 0.2 --load a.npz"
    script.run(f"--check_interval 10 --sample_length 0 {new} --iters 20 --save whole.npz")
    script.run(f"--check_interval 10 --sample_length 0 {new} --iters 10 --save a.npz")
    script.run("--check_interval 10 --sample_length 0 --load a.npz --iters 10 --save a.npz")
    a = script.saved()
    assert_same(a, script.saved("whole.npz"))
    assert [a[name] for name in "batchsize seqlength lr clip dropout seed iter best".split()] == [
        6, 7, 1e-30, 0.03, 0.2, 1, 40, 0.5]
    rng = script.module.generator(1, 1, 20)
    rng.random(6)
    assert (a["position"] == rng.integers(4750 - 7, size=6) + 140).sum() > 3    # others have jumped


def test_flags_that_contradict_the_checkpoint(script):
    """Sizes, init and precision: both values are named. Nothing in a DNC's parameters depends on
    the number of locations: with --iters 0 it may be another."""
    script.train("--iters 1 --save a.npz --fp64")
    fixed = {"hidden": 8, "init": 1, "forget_bias": 1, "locations": 5, "width": 4, "heads": 2}
    for name, value in {name: fixed[name] for name in fixed if name in script.module.TABLE}.items():
        script.run(f"--load a.npz --check_interval 0 --iters 1 --{name} {value}")
        for iters in [1] if name == "locations" else [0, 1]:
            error = script.run(f"--load a.npz --iters {iters} --{name} 3", status=2).stderr
            assert re.search(rf"--{name} 3.*a\.npz has {value}\b", error)
    if script.model == "dnc":
        score = "--load a.npz --iters 0 --data text.txt --sample_length 0 --locations"
        assert script.run(f"{score} 9").stdout != script.run(f"{score} 5").stdout
    script.run("--load a.npz --iters 1 --save a.npz --check_interval 0")
    assert {p.dtype for p in script.loaded().mem.values()} == {np.dtype("f8")}  # without the flag
    script.train("--iters 1 --save b.npz")
    error = script.run("--load b.npz --iters 1 --fp64", status=2).stderr
    assert "--fp64 True: b.npz has False" in error


def test_best(rnn):
    """At a huge rate the figure rises again: the best stays in the file, and is what --iters 0
    scores and samples. Only a better one replaces it; one of another text or share starts anew."""
    def figures(flags):
        out = rnn.train("--check_interval 1 --save a.npz " + flags).stdout
        found, p = list(map(float, re.findall(r"held-out: (\S+)", out))), rnn.saved()
        said = re.findall(r"best held-out BPC was (\S+), after iteration (\d+)\n", out)
        assert said == [(f"{p['best']:.4f}", str(p["best_iter"]))] * (found[-1] > p["best"] + 0.01)
        return found
    found = figures("--iters 6 --fp64")
    best, weights = rnn.saved(), rnn.loaded().best_params
    assert best["best_iter"] == 1 + np.argmin(found) and abs(best["best"] - min(found)) < 1e-4
    assert min(figures("--iters 2 --lr 30 --load a.npz")) > min(found) + 0.01
    assert_same(weights, rnn.loaded().best_params)
    assert (rnn.loaded().params["Whh"] != weights["Whh"]).all()
    out = rnn.run("--load a.npz --iters 0 --data text.txt --sample_length 0").stdout
    assert out == (f"the best weights of a.npz: iteration {best['best_iter']}, {min(found):.4f} BPC"
                   f"\nheld-out: {min(found):.4f} BPC over 250 characters\n")
    rnn.edit(**weights, **{"average_" + name: p for name, p in weights.items()})
    assert figures(f"{SMALL} --load a.npz") == [min(found)] and rnn.saved()["best_iter"] < 7
    rnn.edit(best=best["best"] - 0.005)                     # within 0.01: nothing is said of a best
    figures(f"{SMALL} --load a.npz")

    assert "--save another name, since" in rnn.train(
        f"{SMALL} --val 0.2 --load a.npz --save a.npz", status=2).stderr
    rnn.train(f"{SMALL} --val 0.2 --load a.npz --save b.npz")
    b = rnn.saved("b.npz")
    assert (b["iter"], b["best_iter"], b["heldout"]) == (11, 11, 1000) and b["best"] > best["best"]
    os.link(rnn.folder / "a.npz", rnn.folder / "same.npz")
    for name in "same.npz", "copy.npz":                     # the same file by another name; a copy
        rnn.train(f"{SMALL} --load a.npz --val 0.05 --save {name}")
        assert rnn.saved(name)["best"] == best["best"] - 0.005


def test_another_text(rnn):
    """Fine-tuning: a new run from the best weights. Adagrad's sums stay, and what the vocabulary
    lacks is appended to it. It needs a name of its own."""
    rnn.train("--iters 40 --save a.npz --check_interval 20 --seed 3")
    rnn.edit(**{"best_" + name: p / 2 for name, p in rnn.loaded().params.items()})
    a, other, tune = rnn.saved(), rnn.folder / "other.txt", f"{SMALL} --load a.npz --data other.txt"
    other.write_text("ö#\x1b" + some_text()[:2000], encoding="utf-8")
    assert "--save another name, since" in rnn.train(f"{tune} --save a.npz", status=2).stderr
    error = rnn.train(f"{tune} --iters 0", status=2).stderr
    assert r"other.txt: 3 characters are not in the vocabulary: '\x1b' '#' 'ö'" in error
    out = rnn.train(f"{tune} --save b.npz").stdout
    assert re.search(r"\nanother text than that of a\.npz: a new run, from its weights\n", out)
    b, old = rnn.saved("b.npz"), rnn.loaded()
    assert b["vocab"] == a["vocab"] + "\x1b#ö" and b["iter"] == b["best_iter"] == 1
    fresh = rnn.module.init_params(rnn.module.generator(3, 0, 0), len(b["vocab"]), old.settings)
    for name, p in fresh.items():
        for prefix, was, new in (("", old.best_params, p),
                                 ("adagrad_", old.mem, 0.0)):
            expected = np.broadcast_to(new, p.shape).copy()
            expected[tuple(map(slice, was[name].shape))] = was[name]
            gained = b[prefix + name] - expected                # the sums: this iteration's squares
            assert gained.min() > -1e-6 and (gained.max() > 1e-6) == bool(prefix)
    (rnn.folder / "again.txt").write_bytes(other.read_bytes().replace(b"\n", b"\r\n"))
    for n, name in enumerate(["other.txt", "again.txt"], 2):    # the same characters are no other
        out = rnn.train(f"{SMALL} --load b.npz --data {name} --save b.npz").stdout
        assert "another" not in out and rnn.saved("b.npz")["iter"] == n


@posix
@pytest.mark.parametrize("kind", [pathlib.Path.unlink, os.mkfifo, os.mkdir])
def test_the_name_of_the_text_is_in_the_checkpoint(rnn, kind):
    """Shown before it is read; not opened to sample; if it is no regular file, it is named."""
    rnn.text.rename(text := rnn.folder / "t\x1b[2J.txt")
    rnn.run(f"{SMALL} --data {text.name} --hidden 4 --save a.npz")
    learnt = "a.npz has learnt from t\\x1b[2J.txt\n"
    assert rnn.run(f"{SMALL} --load a.npz").stdout.startswith(learnt + "rnn: ")
    text.unlink()
    text.touch() if kind is pathlib.Path.unlink else None
    kind(text)
    done = rnn.run(f"{SMALL} --load a.npz", status=2)
    assert done.stdout == learnt
    assert r"t\x1b[2J.txt is not a file: name the text with --data" in done.stderr
    assert "learnt" not in rnn.run("--load a.npz --iters 0 --sample_length 9").stdout


@pytest.mark.parametrize("at", [1, 20, 43])
def test_a_signal_and_the_rest_are_one_run(script, monkeypatch, at):
    """With resets, SIGTERM in any iteration, and 37 more: every array of one run."""
    flags, iterate = "--reset e --dropout 0.4 --save", script.module.iterate
    script.train(f"--iters {at + 37} {flags} whole.npz")

    def interrupted(args, run, text):
        if run.iter + 1 == at:
            signal.raise_signal(signal.SIGTERM)
        return iterate(args, run, text)
    monkeypatch.setattr(script.module, "iterate", interrupted)
    assert script.main([*script.small, *f"--iters 99 {flags} part.npz".split()]).returncode == 143
    assert script.saved("part.npz")["iter"] == at
    script.run("--iters 37 --load part.npz --save part.npz --check_interval 0")
    assert_same(script.saved("whole.npz"), script.saved("part.npz"))
