"""data/tasks.py: lines are as described, as frequent as the floor supposes; errors are one line.
And data/parts.py."""
import collections
import hashlib
import itertools
import math
import os
import re
import string
import subprocess
import sys

import pytest

from conftest import ROOT, load, posix, python

TASKS = ROOT / "data" / "tasks.py"
TINY = {"copy": "--longest 3 --letters 2",
        "repeat": "--shortest 2 --longest 3 --letters 2 --times 3",
        "recall": "--longest 2 --letters 3 --queries 2",
        "recall as many": "--longest 2 --letters 2",
        "recall once": "--longest 2 --letters 2 --once",
        "ring": "--longest 3 --letters 3"}


def tasks(*flags, folder=ROOT, status=0, **options):
    """Run it; returns what it has written, and the one line on standard error."""
    done = python(folder, TASKS, *flags, status=status, line=True,
                  says=r"tasks\.py: " if status else r"\w+: ", **options)
    return done.stdout, done.stderr


def stated_floor(message):
    return float(re.fullmatch(r"\w+: [\d,]+ lines, [\d,]+ characters; "
                              r"floor (\d+\.\d{4}) bits per character\n", message)[1])


def all_lines(task, shortest=1, longest=8, letters=26, times=3, queries=0, once=False):
    """Every line that may come, with its probability, by going through all that can be drawn."""
    for n in range(shortest, longest + 1):
        words = list(map("".join, itertools.product(string.ascii_lowercase[:letters], repeat=n)))
        if task == "copy":
            drawn = [f"{word}>{word}" for word in words]
        elif task == "repeat":
            drawn = [f"{word}{k}>{word * k}" for word in words for k in range(1, times + 1)]
        elif task == "ring":
            rings = [nodes for nodes in words if len(set(nodes)) == n and nodes[0] == min(nodes)]
            steps = {nodes: map("".join, zip(nodes, nodes[1:] + nodes)) for nodes in rings}
            drawn = ["".join(order) + "?" + nodes[k:] + nodes[:k + 1] for nodes in rings
                     for order in itertools.permutations(steps[nodes]) for k in range(n)]
        else:
            sets = [[k + v for k, v in zip(keys, values.upper())]
                    for keys in words if len(set(keys)) == n for values in words]
            drawn = ["".join(pairs) + "?" + "".join(asked) for pairs in sets for asked in (
                itertools.permutations(pairs) if once else
                itertools.product(pairs, repeat=queries or n))]
        for line in drawn:
            yield line, 1 / (longest + 1 - shortest) / len(drawn)


@pytest.mark.parametrize("name", TINY)
def test_floor_and_frequencies(name):
    """The floor is the entropy of all possible lines, and each is as frequent as it should be."""
    task, flags = name.split()[0], TINY[name].split()
    text, message = tasks(task, *flags, "--size", 300_000)
    assert text.endswith("\n") and 300_000 <= len(text) < 300_000 + 20
    options = {flag: int(value or True)
               for flag, value in re.findall(r"--(\w+) ?(\d*)", TINY[name])}
    expected = dict(all_lines(task, **options))
    assert sum(expected.values()) == pytest.approx(1)
    bits = -sum(p * math.log2(p) for p in expected.values())
    characters = sum(p * (len(line) + 1) for line, p in expected.items())
    assert stated_floor(message) == pytest.approx(bits / characters, abs=1e-4)
    lines = text.splitlines()
    assert message.startswith(f"{task}: {len(lines):,} lines, {len(text):,} characters; floor ")
    counts = collections.Counter(lines)
    assert counts.keys() == expected.keys()
    for line, p in expected.items():
        assert abs(counts[line] - len(lines) * p) < 6 * math.sqrt(len(lines) * p)


def test_a_text_comes_again_with_its_seed(tmp_path):
    texts = {seed: tasks("recall", "--size", 5_000, "--seed", seed)[0] for seed in (1, 2, 3)}
    assert len(set(texts.values())) == 3
    out, message = tasks("recall", "--size", 5_000, "--seed", 1, "--out", tmp_path / "a.txt")
    assert out == "" and message.startswith("recall: ")
    assert (tmp_path / "a.txt").read_bytes() == texts[1].encode()
    longer, _ = tasks("recall", "--size", 10_000, "--seed", 1)
    assert longer.startswith(texts[1])
    text, _ = tasks("recall", "--size", 1_000_000)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest[:16] == "eb46f18465af9e1c"                # whatever the version of Python


@pytest.mark.parametrize("flags, words", [
    ("", "TASK"), ("sort", "'sort'"), ("recall --once --queries 3", "--queries"),
    ("copy --longest 0", "--longest"), ("copy --letters 27", "whole number from 1 to 26"),
    ("copy --size 1e6", "--size"), ("copy --seed -1", "--seed"), ("repeat --times 10", "--times"),
    ("copy --shortest 9", "--shortest 9 is more than --longest 8"), ("copy --lon 3", "--help"),
    ("recall --letters 7", "--longest 8 pairs or nodes need as many"),
    ("copy --out none/a.txt", "cannot write none/a.txt: No such file"),
    ("copy --out .", "cannot write .: ")])
def test_errors(tmp_path, flags, words):
    out, message = tasks(*flags.split(), status=2, folder=tmp_path)
    assert out == "" and words in message and not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("flags", ["--out /dev/full", ""])
def test_full_disk(flags):
    with open("/dev/full", "w") as full:
        _, message = tasks("copy", "--size", 100, *flags.split(), status=2, stdout=full)
    assert message.startswith("tasks.py: cannot write ")


@posix
def test_closed_pipe_is_quiet():
    command = [sys.executable, str(TASKS), "copy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          encoding="utf-8") as process:
        assert re.fullmatch(r"([a-z]+)>\1\n", process.stdout.readline())
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(60) == 141


@posix
@pytest.mark.parametrize("flags, status", [("", 2), ("--out a.txt", 0)])
def test_closed_standard_output(tmp_path, flags, status):
    _, message = tasks("copy", "--size", 100, *flags.split(), status=status, folder=tmp_path,
                       preexec_fn=lambda: os.close(1))
    assert ("standard output is closed" in message) == (status == 2)


@pytest.mark.parametrize("level", ["-B", "-OO"])
def test_help(level):
    text = python(ROOT, level, TASKS, "--help").stdout
    assert all(word in text for word in "copy repeat recall ring --size --seed --out".split())


PARTS = {"ab>ab\n": "string 2, end of string 1, copy 2, end of line 1",
         "ab2>abab\n": "string 2, number 1, end of string 1, copy 4, end of line 1",
         "aBcD?cDaB\n": "pairs 4, end of pairs 1, key asked for, its value, "
                        "key asked for, its value, end of line 1",
         "abba?aba\n": "steps 4, end of steps 1, start 1, way round 2, end of line 1"}


@pytest.mark.parametrize("line, parts", PARTS.items())
def test_parts_of_a_line(line, parts):
    names = [re.fullmatch(r"(.+?) ?(\d*)", part).groups() for part in parts.split(", ")]
    expected = [name for name, count in names for _ in range(int(count or 1))]
    assert load("data/parts.py").label(line) == expected


def test_parts_add_up_to_the_score_of_the_script(script, capsys):
    """A line costs what it costs in a text of episodes, and the text's first newline nothing."""
    lines, _ = tasks("recall", "--longest", 7, "--letters", 8, "--size", 900)
    script.text.write_text(lines)
    (script.folder / "after.txt").write_text("\n" + lines)
    script.train("--iters 3 --reset \\n --save my.npz --val 0 --init 3")
    scored = script.run("--load my.npz --iters 0 --val 1 --sample_length 0 --data after.txt")
    expected = float(re.search(r"held-out: (\S+) BPC", scored.stdout)[1])
    paths = [str(script.folder / name) for name in ("my.npz", "text.txt")]
    assert load("data/parts.py").main(paths) == 0
    table = capsys.readouterr().out.splitlines()[2:]
    rows = {name.strip(): (int(count.replace(",", "")), float(bits))
            for _, name, count, bits, _ in (row.split("|") for row in table)}
    count, bits = rows.pop("all")
    assert count == len(lines) == sum(count for count, _ in rows.values())
    assert bits == pytest.approx(expected, abs=2e-4)
    assert bits == pytest.approx(sum(n * part for n, part in rows.values()) / count, abs=2e-4)
    assert load("data/parts.py").main([paths[0], str(TASKS)]) == 2
    assert capsys.readouterr().err.startswith("parts.py: ")
