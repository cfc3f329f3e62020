"""data/: the story, and what README.md says of texts; lines of tasks.py are as described, and as
frequent as the floor supposes; errors are one line; parts.py adds up."""
import collections
import hashlib
import io
import itertools
import json
import lzma
import math
import os
import re
import shlex
import signal
import string
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import ROOT, content, load, posix, python

STORY = (ROOT / "data" / "gull-rock.txt").read_bytes()
README = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
ROWS = {name: [cell.strip() for cell in cells.split("|")[:-1]]
        for name, cells in re.findall(r"^\| `(.+?)` \|(.+)$", README, re.MULTILINE)}
SOURCES = load("data/fetch.py").SOURCES
TASKS = ROOT / "data" / "tasks.py"
TINY = {"copy": "--longest 3 --letters 2",
        "repeat": "--shortest 2 --longest 3 --letters 2 --times 3",
        "recall": "--longest 2 --letters 3 --queries 2",
        "recall as many": "--longest 2 --letters 2",
        "recall once": "--longest 2 --letters 2 --once",
        "ring": "--longest 3 --letters 3",
        "path": "--longest 2 --letters 2 --steps 1 --size 600000",
        "path of one label": "--longest 2 --letters 3 --labels 1 --least 1 --steps 3",
        "path, labels lacking": "--longest 2 --letters 2 --labels 2 --edges 1 --least 2 --steps 3",
        "path of one node": "--longest 1 --letters 2 --labels 3 --edges 2 --least 1 --steps 3"}


def test_story():
    """Plain text, without templates: no run of 80 characters stands in it twice."""
    assert len(STORY) >= 150_000
    assert set(STORY) <= {10, *range(32, 127)} and STORY.endswith(b"\n")
    assert 8 * len(lzma.compress(STORY, preset=9 | lzma.PRESET_EXTREME)) / len(STORY) >= 2.3
    for text in STORY, b" ".join(STORY.split()):
        assert len({text[i:i + 80] for i in range(len(text) - 79)}) == len(text) - 79
    assert ROWS.keys() == {"gull-rock.txt", *SOURCES}
    what, size, total = ROWS["gull-rock.txt"]
    assert "The Bell at Gull Rock" in what and "CC0 1.0" in what
    assert (size, total) == (f"{len(STORY):,}", f"sha256 `{hashlib.sha256(STORY).hexdigest()}`")


@pytest.mark.parametrize("name, row", SOURCES.items())
def test_readme_of_the_texts_to_fetch(name, row):
    files, source, size, total, _ = ROWS[name]
    _, url, archive_sum, texts = row
    assert re.findall("`(.+?)`", files) == list(texts) and source == f"<{url}>"
    (known, *_), archive_sum = [known for _, known in texts.values()], archive_sum or ""
    assert total == (f"sha256 `{known}`" if known else
                     f"md5 of the archive `{archive_sum.removeprefix('md5:')}`")


def tasks(*flags, folder=ROOT, status=0, **options):
    """Run it; returns what it has written, and the one line on standard error."""
    done = python(folder, TASKS, *flags, status=status, line=True,
                  says=r"tasks\.py: " if status else r"\w+: ", **options)
    return done.stdout, done.stderr


def all_strings(task, n, letters, times, queries, once):
    """Every line of n letters, pairs or nodes that may come; all are equally likely."""
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
    return drawn


def all_graphs(nodes, labels, edges):
    """Each graph of these nodes: {node and label: node}."""
    for sets in itertools.product(itertools.combinations("123456789"[:labels], edges or labels),
                                  repeat=len(nodes)):
        slots = [node + label for node, labels_of_it in zip(nodes, sets) for label in labels_of_it]
        for targets in itertools.product(nodes, repeat=len(slots)):
            yield dict(zip(slots, targets))


def walks(leads, starts, steps):
    """Every walk of so many steps along the edges of a graph."""
    for _ in range(steps):
        starts = [walk + slot[1] + node for walk in starts for slot, node in leads.items()
                  if slot[0] == walk[-1]]
    return starts


def all_lines(task, shortest=1, longest=8, letters=26, times=3, queries=0, once=False, labels=2,
              edges=0, least=0, steps=6):
    """Every line that may come, with its probability, by going through all that can be drawn:
    groups of lines are as likely, and the lines of a group."""
    for n in range(shortest, longest + 1):
        if task == "path":
            graphs = [(nodes, leads, ["".join(order) + "?" for order in itertools.permutations(
                          map("".join, leads.items()))])
                      for nodes in itertools.combinations(string.ascii_lowercase[:letters], n)
                      for leads in all_graphs(nodes, labels, edges)]
            groups = [[text + walk for nodes, leads, texts in graphs for text in texts
                       for walk in walks(leads, nodes, length)]
                      for length in range(least or steps, steps + 1)]
        else:
            groups = [all_strings(task, n, letters, times, queries, once)]
        for drawn in groups:
            for line in drawn:
                yield line, 1 / (longest + 1 - shortest) / len(groups) / len(drawn)


@pytest.mark.parametrize("name", TINY)
def test_floor_and_frequencies(name):
    """The floor is the entropy of all possible lines, and each is as frequent as it should be."""
    task, flags = re.match(r"\w+", name)[0], TINY[name].split()
    text, message = tasks(task, "--size", 300_000, *flags)
    options = {flag: int(value or True)
               for flag, value in re.findall(r"--(\w+) ?(\d*)", TINY[name])}
    size = options.pop("size", 300_000)
    assert text.endswith("\n") and size <= len(text) < size + 30
    expected = dict(all_lines(task, **options))
    assert sum(expected.values()) == pytest.approx(1)
    bits = -sum(p * math.log2(p) for p in expected.values())
    characters = sum(p * (len(line) + 1) for line, p in expected.items())
    lines = text.splitlines()
    said = re.fullmatch(rf"{task}: {len(lines):,} lines, {len(text):,} characters; "
                        r"floor (\d+\.\d{4}) bits per character\n", message)
    assert float(said[1]) == pytest.approx(bits / characters, abs=1e-4)
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
    ("path --letters 7", "--longest 8 pairs or nodes need as many"),
    ("path --labels 10", "whole number from 1 to 9"), ("path --steps 0", "--steps"),
    ("path --edges 3", "--edges 3 is more than --labels 2"),
    ("path --least 7", "--least 7 is more than --steps 6"),
    ("copy --out none/a.txt", "cannot write none/a.txt: No such file"),
    ("copy --out .", "cannot write .: ")])
def test_errors(tmp_path, flags, words):
    out, message = tasks(*flags.split(), status=2, folder=tmp_path)
    assert out == "" and words in message and not list(tmp_path.iterdir())


@posix
@pytest.mark.parametrize("where, status, said", [
    ("> /dev/full", 2, "tasks.py: cannot write .*\n"), ("| head -1", 141, ""),
    ("--help > /dev/full", 2, "tasks.py: cannot write .*\n"), ("--help | true", 141, ""),
    ("--out stdout | head -1", 141, ""),
    ("--out full", 2, "tasks.py: cannot write .*\n"), (">&- --out a.txt", 0, "copy: .*\n"),
    (">&-", 2, "tasks.py: standard output is closed.*\n")])
def test_outputs(where, status, said, tmp_path):
    """A device is written to, not removed; links stand for them, so that no device can be lost."""
    if "full" in where and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    for name in ("full", "stdout"):
        (tmp_path / name).symlink_to(f"/dev/{name}")
    command = f"{shlex.join([sys.executable, '-Werror', str(TASKS)])} copy --size 1000000 {where}"
    buffered = {name: x for name, x in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, env=buffered,
                          capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == status and re.fullmatch(said, done.stderr), done
    assert all((tmp_path / name).is_symlink() for name in ("full", "stdout"))
    assert re.fullmatch(r"(([a-z]+)>\2\n)?", done.stdout)


def test_a_text_that_exists_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    out, message = tasks("copy", "--out", "mine.txt", folder=tmp_path, status=2)
    assert out == "" and message.startswith("tasks.py: mine.txt exists")
    assert content(tmp_path) == {tmp_path / "mine.txt": b"mine"}


@posix
def test_what_was_begun_goes_with_ctrl_c_and_on_a_full_disk(tmp_path):
    command = [sys.executable, "-Werror", str(TASKS), *"copy --size 9000000000 --out a.txt".split()]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        while not content(tmp_path).get(tmp_path / "a.txt"):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr.read()) == (130, b"")
    limit = f"trap '' XFSZ; ulimit -f 100; {shlex.join(command)}"
    done = subprocess.run(["bash", "-c", limit], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(rb"tasks\.py: cannot write .*\n", done.stderr), done
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error, status", [
    (OSError(28, "No space left on device"), 2), (BrokenPipeError(), 141),
    (KeyboardInterrupt(), 130), (None, 2)])
def test_from_python_standard_output_is_not_touched(error, status, capfd, monkeypatch):
    """Whatever the error: what the caller prints later is printed."""
    class Stream(io.StringIO):
        def write(self, text):
            raise error
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Stream())
        assert load("data/tasks.py").main(["copy"] if error else ["sort"]) == status
    print("later", flush=True)
    os.write(1, b"and later")
    out, err = capfd.readouterr()
    assert out == "later\nand later" and err.count("\n") == (status == 2)


@pytest.mark.parametrize("level", ["-B", "-OO"])
def test_help(level):
    text = python(ROOT, level, TASKS, "--help").stdout
    words = "copy repeat recall ring path --size --seed --out"
    assert all(word in text for word in words.split())


PARTS = {"ab>ab\n": "string 2, end of string 1, copy 2, end of line 1",
         "ab2>abab\n": "string 2, number 1, end of string 1, copy 4, end of line 1",
         "aBcD?cDaB\n": "pairs 4, end of pairs 1, key asked for, its value, "
                        "key asked for, its value, end of line 1",
         "abba?aba\n": "steps 4, end of steps 1, start 1, way round 2, end of line 1",
         "a1a?a1a\n": "edges 3, end of edges, start, label, node of the walk, end of line",
         "b2aa1bb1ba4a?b1b2a\n": "edges 12, end of edges, start, label, node of the walk, "
                                 "label, node of the walk, end of line"}


@pytest.mark.parametrize("line, parts", PARTS.items())
def test_parts_of_a_line(line, parts):
    names = [re.fullmatch(r"(.+?) ?(\d*)", part).groups() for part in parts.split(", ")]
    expected = [name for name, count in names for _ in range(int(count or 1))]
    assert load("data/parts.py").label(line) == expected


def test_nodes_follow_from_the_edges():
    """With the lines' own characters all are right; with one wrong, so is one line."""
    parts = load("data/parts.py")
    text, _ = tasks(*"path --least 1 --labels 4 --edges 2 --size 9000".split())
    lines = text.splitlines(keepends=True)
    places = [parts.nodes(line) for line in lines]
    for line, positions in zip(lines, places):
        edges, _, answer = line.partition("?")
        before = [answer[0], *(line[t] for t in positions)]
        for node, t in zip(before, positions):
            assert re.match(f"(...)*{node}{line[t - 1]}{line[t]}", edges)
        assert len(before) > 1 and before[-1] + "\n" == line[-2:]
    count, t = sum(map(len, places)), places[0][-1]
    for missed, first in ((0, lines[0]), (len(places[0]), "?" * len(lines[0])),
                          (1, lines[0][:t] + "?" + lines[0][t + 1:])):
        expected = 1 - missed / count, 1 - (missed > 0) / len(lines)
        assert parts.shares(lines, places, [first, *lines[1:]]) == pytest.approx(expected)


def test_baseline_is_the_commonest_target():
    parts = load("data/parts.py")
    lines = ["b2aa1bb1ba2b?b1b2a1b\n", "c1ad1ca1d?d1c1a\n"]
    assert [set(parts.baseline(line)) for line in lines] == [{"b"}, {"a"}]
    assert parts.shares(lines, list(map(parts.nodes, lines)),
                        list(map(parts.baseline, lines))) == (3 / 5, 0)


def test_all_walks():
    """Each walk along the edges of a graph in which nodes have 0 to 3 edges, once."""
    leads = {"b2": "a", "b1": "c", "a1": "b", "b4": "b", "c3": "a", "a3": "d"}
    text = "".join(map("".join, leads.items()))
    for steps in (1, 2, 5):
        lines = load("data/parts.py").all_walks(text + "?b2a1b\n", steps)
        assert len(set(lines)) == len(lines)
        assert sorted(lines) == sorted(f"{text}?{walk}\n" for walk in walks(leads, "abc", steps))


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
    table = capsys.readouterr().out.splitlines()[4:]
    rows = {name.strip(): (int(count.replace(",", "")), float(bits))
            for _, name, count, bits, _ in (row.split("|") for row in table)}
    count, bits = rows.pop("all")
    assert count == len(lines) == sum(count for count, _ in rows.values())
    assert bits == pytest.approx(expected, abs=2e-4)
    assert bits == pytest.approx(sum(n * part for n, part in rows.values()) / count, abs=2e-4)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A folder with net.npz, a small RNN for lines of all tasks, and some texts."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "text.txt").write_text("".join(
        tasks(task, "--letters", 3, "--longest", 3, "--size", 600)[0] for task in ("copy", "path")))
    for name, text in (("empty", ""), ("cut", "ab>ab"), ("short", "a?a\n"), ("blank", "\nab>ab\n"),
                       ("prose", "It rang.\n"), ("odd", "a1a?a1\n"), ("other", "xy>xy\n"),
                       ("graph", "a1bb1bb2a?a1b\n")):
        (folder / f"{name}.txt").write_text(text)
    python(folder, ROOT / "rnn-numpy.py", *"--data text.txt --hidden 8 --seqlength 10 --iters 1 "
           "--val 0 --init 3 --save net.npz".split())
    return folder


def parts(folder, *flags, status=0, **options):
    """Run parts.py in a folder; returns what it prints, as rows of cells, and what it says."""
    done = python(folder, ROOT / "data" / "parts.py", *flags, status=status, says=r"parts\.py: ",
                  **options)
    return [row.strip("| ").split(" | ") for row in done.stdout.splitlines()], done.stderr


def test_batches_change_nothing(network):
    """Lines one by one, in the batches of parts.py, and all at once."""
    module = load("data/parts.py")
    script, run = module.command.load_run(str(network / "net.npz"))
    lines = (network / "text.txt").read_text().splitlines(keepends=True)
    together = module.score(script, run, lines)
    alone = [module.score(script, run, [line]) for line in lines]
    for a, b, line in zip(together[0], alone, lines, strict=True):
        assert a == pytest.approx(b[0][0], abs=1e-4) and len(a) == len(line)
    assert together[1] == [best for _, (best,) in alone]
    assert sum(module.batches(script, run, lines * 9), []) == lines * 9
    run.params["Whh"] = run.params["Whh"] * math.nan
    with pytest.raises(module.command.Failure, match="not finite"):
        module.score(script, run, lines[:1])


def test_walks_that_are_right(network):
    """The second table: as shares says."""
    module, (table, _) = load("data/parts.py"), parts(network, "net.npz", "text.txt")
    script, run = module.command.load_run(str(network / "net.npz"))
    lines = [line for line in (network / "text.txt").read_text().splitlines(keepends=True)
             if "?" in line]
    places, best = list(map(module.nodes, lines)), module.score(script, run, lines)[1]
    expected = [["the network", *map("{:.2%}".format, module.shares(lines, places, best))],
                ["a guess", *map("{:.2%}".format, module.shares(
                    lines, places, list(map(module.baseline, lines))))]]
    assert table[-2:] == expected
    table, _ = parts(network, "net.npz", "graph.txt", "--walks", 2)
    assert table[-8][:2] == ["node of the walk", "10"], table    # of abb, aba, bbb, bba, bab



@pytest.mark.parametrize("flags, words", [
    ("2 text.txt", "no regular file"), ("text.txt text.txt", "text.txt is not a usable checkpoint"),
    ("net.npz none.txt", "cannot read none.txt"), ("net.npz empty.txt", "no whole line"),
    ("net.npz cut.txt", "no whole line"), ("net.npz short.txt", "line 1 is none that"),
    ("net.npz blank.txt", "line 1 is none that"), ("net.npz prose.txt", "line 1 is none that"),
    ("net.npz odd.txt", "line 1 is none that"), ("net.npz other.txt", "not in the vocabulary"),
    ("net.npz net.npz", "cannot read net.npz"), ("net.npz text.txt --lines 0", "--lines"),
    ("net.npz text.txt --lines -1", "--lines"), ("net.npz text.txt --locations 4", "--locations"),
    ("net.npz text.txt --walks 2", "no graph"), ("net.npz graph.txt --walks 99", "fewer --walks"),
    ("net.npz", "required: text")])
def test_errors_of_parts(network, flags, words):
    assert words in parts(network, *flags.split(), status=2)[1]


def test_a_checkpoint_runs_no_script_but_the_three(network, tmp_path):
    """Whatever it says of itself, and whatever it would unfold to."""
    (tmp_path / "x-numpy.py").write_text("open('ran', 'w')\ndef load(path): pass\n")
    for k, model in enumerate([f"{tmp_path}/x", "../x", "x", "", "gru", 3, None]):
        held = {"settings": json.dumps({"model": model, "vocab": "ab"}), "model": str(model)}
        for held in held, {"settings": held["settings"]}:
            np.savez(tmp_path / "a.npz", **held)
            said = parts(tmp_path, "a.npz", network / "text.txt", status=2)[1]
            assert "a.npz is not a usable checkpoint: " in said
    np.savez_compressed(tmp_path / "a.npz", settings="x" * 10**8)
    done = parts(tmp_path, "a.npz", network / "text.txt", status=2, preexec_fn=limit_memory)
    assert "another program" in done[1] and not (tmp_path / "ran").exists()


def test_batches_are_short():
    """So many lines that their states take 4 MB."""
    for model, flag, most in ("rnn", "--hidden=8", 256), ("dnc", "--locations=256", 13):
        script = load(f"{model}-numpy.py")
        _, run, _ = script.begin(
            ["--data", str(ROOT / "data" / "metro.txt"), "--seqlength=2", flag])
        pieces = load("data/parts.py").batches(script, run, ["ab>ab\n"] * 999)
        assert max(map(len, pieces)) == most


@pytest.mark.parametrize("command", [
    "exercises/check.py cell {}.py", "exercises/solutions.py gru {}/a.py", "data/parts.py {0} {0}",
    "data/tasks.py copy --out {}/a.txt", "pictures/curves.py {}.tsv --out a.png"])
def test_names_that_steer_a_terminal(command, tmp_path):
    if "pictures" in command:
        pytest.importorskip("matplotlib")
    script, *flags = command.format("\x1b[2J\x9b").split(" ")
    assert r"\x1b[2J\x9b" in python(tmp_path, ROOT / script, *flags, status=2).stderr


def test_a_closed_standard_output(monkeypatch):
    (out := io.TextIOWrapper(io.BytesIO())).close()
    monkeypatch.setattr(sys, "stdout", out)
    assert load("tools/command.py").run("a.py", lambda argv: 0) == 0


def limit_memory():
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (5 * 10**8, 5 * 10**8))


@posix
def test_parts_of_a_pipe_and_into_one(network, tmp_path):
    os.mkfifo(tmp_path / "pipe")                        # whoever opened it would wait for ever
    with pytest.raises(load("tools/command.py").Failure, match="regular"):
        load("tools/command.py").load_script(tmp_path / "pipe")
    for files in ("pipe", network / "text.txt"), (network / "net.npz", "pipe"):
        parts(tmp_path, *files, status=2, timeout=60)
    command = shlex.join(map(str, [sys.executable, "-Werror", ROOT / "data" / "parts.py",
                                   network / "net.npz", network / "text.txt"]))
    for where, status, said in (("| true", 141, ""), ("> full", 2, "parts.py: cannot write .*\n")):
        if not os.path.exists("/dev/full"):
            continue
        if not (tmp_path / "full").is_symlink():
            (tmp_path / "full").symlink_to("/dev/full")
        done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{command} {where}"], cwd=tmp_path,
                              capture_output=True, encoding="utf-8", timeout=60)
        assert done.returncode == status and re.fullmatch(said, done.stderr), done


@pytest.mark.parametrize("error, status", [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141),
                                           (MemoryError(), 2)])
def test_how_a_command_ends(error, status, capsys):
    """A mistake in the code stays a traceback."""
    module = load("tools/command.py")

    def work(argv):
        raise argv
    assert module.run("a.py", work, error) == status
    assert capsys.readouterr().err.count("\n") == (status == 2)
    with pytest.raises(ValueError):
        module.run("a.py", work, ValueError())


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    module, path = load("tools/command.py"), tmp_path / "a.png"
    path.write_text("before")
    (tmp_path / "link.png").symlink_to(path)
    with pytest.raises(KeyError), module.whole_file(path) as name:
        with open(name, "w") as file:
            file.write("half")
        raise KeyError
    assert content(tmp_path) == {tmp_path / name: b"before" for name in ("a.png", "link.png")}
    with module.whole_file(tmp_path / "link.png") as name:
        with open(name, "w") as file:
            file.write("after")
    assert path.read_text() == "after" and (tmp_path / "link.png").is_symlink()
    for wrong in tmp_path, tmp_path / "none" / "a.png":
        with pytest.raises(module.Failure), module.whole_file(wrong):
            pass
