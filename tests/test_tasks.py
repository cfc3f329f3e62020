"""data/tasks.py: lines are as described, as frequent as the floor supposes; errors are one line.
And data/parts.py."""
import collections
import hashlib
import itertools
import math
import os
import pathlib
import re
import string
import subprocess
import sys

import pytest
from conftest import load_module

TASKS = pathlib.Path(__file__).resolve().parents[1] / "data" / "tasks.py"
LINES = {"copy": r"(?P<one>[a-z]+)>(?P=one)",
         "repeat": r"(?P<one>[a-z]+)(?P<times>[1-9])>(?P<more>[a-z]+)",
         "recall": r"(?P<pairs>([a-z][A-Z])+)\?(?P<answers>([a-z][A-Z])+)",
         "ring": r"(?P<steps>([a-z][a-z])+)\?(?P<start>[a-z])[a-z]*(?P=start)"}
TINY = {"copy": "--longest 3 --letters 2",
        "repeat": "--shortest 2 --longest 3 --letters 2 --times 3",
        "recall": "--longest 2 --letters 3 --queries 2",
        "recall as many": "--longest 2 --letters 2",
        "recall once": "--longest 2 --letters 2 --once",
        "ring": "--longest 3 --letters 3"}


def tasks(*flags, status=0, python=(), **options):
    """Run it; returns what it has written, and the one line on standard error."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **options}
    done = subprocess.run([sys.executable, "-W", "error", *python, str(TASKS), *map(str, flags)],
                          check=False, encoding="utf-8", **options)
    assert done.returncode == status and done.stderr.count("\n") == 1, done.stderr
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
    options = {flag: int(value or True)
               for flag, value in re.findall(r"--(\w+) ?(\d*)", TINY[name])}
    expected = dict(all_lines(task, **options))
    assert sum(expected.values()) == pytest.approx(1)
    bits = -sum(p * math.log2(p) for p in expected.values())
    characters = sum(p * (len(line) + 1) for line, p in expected.items())
    assert stated_floor(message) == pytest.approx(bits / characters, abs=1e-4)
    lines = text.splitlines()
    counts = collections.Counter(lines)
    assert counts.keys() == expected.keys()
    for line, p in expected.items():
        assert abs(counts[line] - len(lines) * p) < 6 * math.sqrt(len(lines) * p)


@pytest.mark.parametrize("flags, bits, characters", [
    ("copy --shortest 5 --longest 5", 5 * math.log2(26), 12),
    ("copy --letters 8", math.log2(8) + 4.5 * 3, 11),
    ("copy --letters 1 --longest 1", 0, 4),
    ("repeat --longest 1 --times 2", math.log2(26) + 1, 5.5),
    ("recall --shortest 2 --longest 2 --queries 5", math.log2(26 * 25 * 26 * 26 * 2**5), 16),
    ("recall --shortest 3 --longest 3 --letters 3 --once", math.log2(6 * 27 * 6), 14)])
def test_floor_by_hand(flags, bits, characters):
    floor = stated_floor(tasks(*flags.split(), "--size", 10)[1])
    assert floor == pytest.approx(bits / characters, abs=1e-4)


@pytest.mark.parametrize("task", LINES)
def test_a_perfect_predictor_pays_the_floor(task):
    """Price each character by what is still open at that point: the mean is about the floor."""
    text, message = tasks(task, "--longest", 12, "--size", 400_000)
    bits = 0.0
    for line in text.splitlines():
        paired = task in ("recall", "ring")
        first = line.split("?" if paired else ">")[0]
        if task == "repeat":
            first, bits = first[:-1], bits + math.log2(3)   # the number of copies
        n = len(first) // 2 if paired else len(first)
        for k in range(n):                                  # does it go on? what with?
            bits += -math.log2((12 - k) / (13 - k)) if k else 0
            bits += math.log2(26 - k if paired else 26) + math.log2(26) * (task == "recall")
        bits += math.log2(13 - n)                           # it ends here
        bits += {"recall": n * math.log2(n), "ring": math.log2(math.factorial(n))}.get(task, 0)
    assert bits / len(text) == pytest.approx(stated_floor(message), rel=0.01)


@pytest.mark.parametrize("task", LINES)
def test_format(task):
    text, message = tasks(task, "--shortest=2", "--longest=9", "--letters=11", "--size=30000")
    assert text.endswith("\n") and 30_000 <= len(text) < 30_000 + 100
    lines = text.splitlines()
    assert message.startswith(f"{task}: {len(lines):,} lines, {len(text):,} characters; floor ")
    lengths = collections.Counter()
    for line in lines:
        match = re.fullmatch(LINES[task], line)
        assert match, line
        if task == "repeat":
            assert int(match["times"]) <= 3
            assert match["more"] == match["one"] * int(match["times"])
        if task == "recall":
            pairs, answers = re.findall("..", match["pairs"]), re.findall("..", match["answers"])
            assert len({pair[0] for pair in pairs}) == len(pairs) and set(answers) <= set(pairs)
            assert len(answers) == len(pairs)
        if task == "ring":
            pairs, way = re.findall("..", match["steps"]), line.partition("?")[2]
            assert sorted(pairs) == sorted(map("".join, zip(way, way[1:])))
            assert len(set(way)) == len(pairs)
        lengths[len(pairs if task in ("recall", "ring") else match["one"])] += 1
        assert set(line.lower()) <= set("abcdefghijk123>?")
    assert set(lengths) == set(range(2, 10))


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
    out, message = tasks(*flags.split(), status=2, cwd=tmp_path)
    assert out == "" and message.startswith("tasks.py: ") and words in message
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("flags", ["--out /dev/full", ""])
def test_full_disk(flags):
    with open("/dev/full", "w") as full:
        _, message = tasks("copy", "--size", 100, *flags.split(), status=2, stdout=full)
    assert message.startswith("tasks.py: cannot write ")


def test_closed_pipe_is_quiet():
    command = [sys.executable, str(TASKS), "copy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          encoding="utf-8") as process:
        assert re.fullmatch(LINES["copy"] + "\n", process.stdout.readline())
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(60) == 141


@pytest.mark.skipif(os.name != "posix", reason="needs file descriptors")
@pytest.mark.parametrize("flags, status", [("", 2), ("--out a.txt", 0)])
def test_closed_standard_output(tmp_path, flags, status):
    _, message = tasks("copy", "--size", 100, *flags.split(), status=status, cwd=tmp_path,
                       preexec_fn=lambda: os.close(1))
    assert ("standard output is closed" in message) == (status == 2)


@pytest.mark.parametrize("python", [(), ("-OO",)])
def test_help(python):
    done = subprocess.run([sys.executable, *python, str(TASKS), "--help"], capture_output=True,
                          check=False, encoding="utf-8", timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    assert all(word in done.stdout for word in (*LINES, "--size", "--seed", "--out"))


PARTS = {"ab>ab\n": "string 2, end of string 1, copy 2, end of line 1",
         "ab2>abab\n": "string 2, number 1, end of string 1, copy 4, end of line 1",
         "aBcD?cDaB\n": "pairs 4, end of pairs 1, key asked for, its value, "
                        "key asked for, its value, end of line 1",
         "abba?aba\n": "steps 4, end of steps 1, start 1, way round 2, end of line 1"}


@pytest.mark.parametrize("line, parts", PARTS.items())
def test_parts_of_a_line(line, parts):
    names = [re.fullmatch(r"(.+?) ?(\d*)", part).groups() for part in parts.split(", ")]
    expected = [name for name, count in names for _ in range(int(count or 1))]
    assert load_module(TASKS.with_name("parts.py")).label(line) == expected


def test_parts_add_up_to_the_score_of_the_script(script, capsys):
    """A line costs what it costs in a text of episodes, and the text's first newline nothing."""
    lines, _ = tasks("recall", "--longest", 7, "--letters", 8, "--size", 900)
    (script.folder / "text.txt").write_text(lines)
    (script.folder / "after.txt").write_text("\n" + lines)
    script.train("--iters 3 --reset \\n --save my.npz --val 0 --init 3")
    scored = script.run("--load my.npz --iters 0 --val 1 --sample_length 0 --data after.txt")
    expected = float(re.search(r"held-out: (\S+) BPC", scored.stdout)[1])
    paths = [str(script.folder / name) for name in ("my.npz", "text.txt")]
    assert load_module(TASKS.with_name("parts.py")).main(paths) == 0
    table = capsys.readouterr().out.splitlines()[2:]
    rows = {name.strip(): (int(count.replace(",", "")), float(bits))
            for _, name, count, bits, _ in (row.split("|") for row in table)}
    count, bits = rows.pop("all")
    assert count == len(lines) == sum(count for count, _ in rows.values())
    assert bits == pytest.approx(expected, abs=2e-4)
    assert bits == pytest.approx(sum(n * part for n, part in rows.values()) / count, abs=2e-4)
    assert load_module(TASKS.with_name("parts.py")).main([paths[0], str(TASKS)]) == 2
    assert capsys.readouterr().err.startswith("parts.py: ")
