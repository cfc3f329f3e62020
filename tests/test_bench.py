"""bench/: arguments are checked before anything is measured, sides compute the script's losses, and
tables come out. No figure is looked at."""
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from conftest import ENVIRONMENT, ROOT, load, posix, python

sys.path.append(str(ROOT / "bench"))        # benches import from their folder
KERNEL = os.environ.get("OPENBLAS_CORETYPE") or "Haswell" * ("OPENBLAS_L2_SIZE" in os.environ)
KERNEL = ["--kernel", KERNEL] if KERNEL else []
SHORT = "--turns 1 --seconds 0.01".split()


def bench(folder, name, *flags, status=0, **options):
    """Run a bench with the kernel that the environment has; returns stdout and stderr."""
    done = python(folder, ROOT / "bench" / name, *KERNEL, *flags, status=status,
                  **options) if status else subprocess.run(
        list(map(str, [sys.executable, ROOT / "bench" / name, *KERNEL, *flags])), cwd=folder,
        env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=900)
    assert done.returncode == status, done.stderr
    assert status or re.fullmatch(r"(\w+: same losses, to \S+\n)*", done.stderr), done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("name, flags, words", [
    ("speed.py", "--turns 0", "--turns"), ("speed.py", "--seconds 0", "--seconds"),
    ("speed.py", "--seconds nan", "--seconds"), ("speed.py", "--sizes 64/128", "no size"),
    ("speed.py", "--sizes 64/0/25", "no size"), ("speed.py", "--sizes 4/8/5/3/3", "no size"),
    ("speed.py", "--models dnc --sizes 64/128/25", "64/128/25 is no size of dnc"),
    ("speed.py", "--models rnn lstm --sizes 4/8/5/3/3/2", "no size of rnn or lstm"),
    ("speed.py", "--models gru", "'gru'"), ("speed.py", "--peers numpy", "'numpy'"),
    ("speed.py", "--turn 3", "--turn"), ("scaling.py", "--values 0", "--values"),
    ("scaling.py", "--models rnn --axes N", "only dnc"), ("scaling.py", "--turns 0", "--turns"),
    ("scaling.py", "--png no/x.png", "its folder"), ("scaling.py", "--png x.tune", "ends in"),
    ("learning.py", "--png no/x.png", "its folder"), ("learning.py", "--png .", "regular file"),
    ("learning.py", "--png x.png --seconds 0", "--seconds"),
    ("learning.py", "--png= --data none.txt", "cannot read none.txt"),
    ("learning.py", "--png= --data short.txt", "held out"),
    ("learning.py", "--png= --val 0", "held out"), ("learning.py", "--png= --seeds -1", "--seeds"),
    ("learning.py", "--png= --core 999", "no such core"),
    ("learning.py", "--png= --nanogpt none", "is not the text"),
    ("versions.py", "none", "no rnn-numpy.py in none"), ("versions.py", "", "required: other"),
    ("versions.py", f"{shlex.quote(str(ROOT))} --seconds -1", "--seconds"),
    ("versions.py", f"{shlex.quote(str(ROOT))} --core 999", "no such core")])
def test_arguments_are_checked_first(tmp_path, name, flags, words):
    if "core" in words and not hasattr(os, "sched_setaffinity"):
        pytest.skip("processes cannot be kept on a core")
    if ".png" in flags or "tune" in flags:
        pytest.importorskip("matplotlib")
    if "nanogpt" in flags:
        pytest.importorskip("torch")
    (tmp_path / "short.txt").write_text("It rang.\n" * 300)
    out, said = bench(tmp_path, name, *shlex.split(flags), status=2)
    assert out == "" and words in said


@pytest.mark.parametrize("name", ["speed.py", "scaling.py", "learning.py", "versions.py"])
def test_no_kernel_by_chance(tmp_path, name):
    """A kernel that the environment has chosen changes NumPy's speed alone."""
    flags = {"versions.py": [ROOT], "learning.py": ["--png=", "--sides", "lstm"],
             "scaling.py": ["--png="]}
    done = python(tmp_path, ROOT / "bench" / name, *flags.get(name, []), status=2, timeout=60,
                  env={"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": ""})
    assert done.stdout == "" and "OPENBLAS_CORETYPE is set" in done.stderr


@posix
def test_table_of_speed(tmp_path):
    """All sides that are installed, with the losses of the script; and the machine above them."""
    sizes = ["--models", "rnn", "lstm", "dnc", "--sizes", "4/8/5", "3/6/4/5/3/2"]
    out, said = bench(tmp_path, "speed.py", *sizes, *SHORT)
    machine, versions, kernel, _, head, line, *rows = out.splitlines()
    assert "cores" in machine and "numpy" in versions and kernel.startswith("BLAS kernel: ")
    peers = [name for name in ("torch", "jax") if importlib.util.find_spec(name)] + ["article"]
    assert re.findall(r"\| (\w+) \| ×", head) == peers
    assert {row.count("|") for row in (head, line, *rows)} == {4 + 2 * len(peers)}
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| rnn", "4/8/5"], ["| lstm", "4/8/5"], ["| dnc", "3/6/4/5/3/2"]]
    assert said.count("same losses") == 3 * len(peers) - 1 and rows[2].endswith("| – | – |")


@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_the_article_way_has_the_losses_of_the_script(model):
    """And a side that computes others, here by another rate, ends the bench."""
    race = load("bench/race.py")
    flags = ["--clip=0", *"--batchsize=3 --hidden=6 --seqlength=7".split()]
    sides = [race.Racer(name, model, flags) for name in ("numpy", "article")]
    expected, found = (side.losses(False) for side in sides)
    race.compare("article", found, expected)
    own = sides[1].peer.learn
    sides[1].peer.learn = lambda x, t, kept: own(x, t, kept * 0)
    with pytest.raises(race.command.Failure, match="other losses"):
        race.compare("article", sides[1].losses(False), expected)
    if model == "lstm":
        with pytest.raises(race.command.Failure, match="other losses"):
            race.compare("article", sides[0].losses(True), expected)


@posix
def test_the_other_benches_measure(tmp_path):
    """Each prints its table and draws."""
    more = ["--png", "a.png"] if importlib.util.find_spec("matplotlib") else ["--png="]
    out, _ = bench(tmp_path, "scaling.py", "--models", "dnc", "--axes", "N", "--values", 3, 5,
                   "--peers", *more, *SHORT)
    assert re.findall(r"^\| (\d+) \| [\d.]+ \| [\d.]+ \| \d+ \|$", out, re.M) == ["3", "5"]
    (tmp_path / "other").mkdir()
    shutil.copytree(ROOT / "data", tmp_path / "other" / "data")
    shutil.copy(ROOT / "rnn-numpy.py", tmp_path / "other")
    out, _ = bench(tmp_path, "versions.py", "other", "--models", "rnn", "--sizes", "4/8/5", *SHORT)
    assert re.search(r"\n\| rnn \| 4/8/5 \| [\d,]+ \| [\d,]+ \| \d+\.\d\d \|\n$", out)
    out, _ = bench(tmp_path, "learning.py", "--sides", "rnn", "article's way", "--seconds", 1,
                   "--seeds", 1, *more[:1], *[name.replace("a.", "b.") for name in more[1:]])
    rows = re.findall(r"^\| (rnn|article's way) \| 1 \|.* (\d+\.\d{3}) \|$", out, re.M)
    assert [name for name, _ in rows] == ["rnn", "article's way"]
    assert len(list(tmp_path.glob("*.png"))) == 2 * (len(more) - 1)


@pytest.mark.parametrize("flags, words", [
    ("--turns 0", "--turns"), ("--seconds 0", "--seconds"), ("--sizes 64/128", "no size"),
    ("--models dnc --sizes 64/128/25", "no size of dnc"), ("--workers 1", "--workers"),
    ("--sizes 1/8/5", "fewer streams")])
def test_arguments_of_the_bench_of_workers(tmp_path, flags, words):
    done = python(tmp_path, ROOT / "parallel" / "bench.py", *flags.split(), status=2,
                  says=r"parallel/bench\.py: ")
    assert done.stdout == "" and words in done.stderr
