"""pictures/: what memory.py sees is what the memory did, pictures are drawn, errors are one line.

What needs no matplotlib is tested without it. The DNC that copies is set by hand: what its memory
does is known exactly.
"""
import ast
import math
import os
import random
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from conftest import ENVIRONMENT, ROOT, load, posix, python

sys.path.append(str(ROOT / "pictures"))     # memory.py and curves.py import from their folder
TEXT = "The bell rang twice, and then\nnobody spoke for a while. "
COPIES = "\nhgfadc>hgfadc\nbead>bead\nc>c\n"
LOG = "# lstm\thidden=8\tbatchsize={}\tseqlength={}\tdata='batchsize=7'\tcolumns: iter seconds\n"
CURVES = [ROOT / "pictures" / "curves.py", "rnn.tsv"]
MEMORY = [ROOT / "pictures" / "memory.py", "--load", "dnc.npz"]
WALK = [ROOT / "pictures" / "walk.py", "--load", ROOT / "data" / "path-trained.npz", "--map",
        ROOT / "data" / "metro.txt"]


def drawn(folder, *command, level="-B"):
    """Run a script that draws a.png; returns the picture's width and height."""
    pytest.importorskip("matplotlib")
    done = subprocess.run([sys.executable, level, *command, "--out", "a.png"], cwd=folder,
                          capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    data = (folder / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 20_000
    return struct.unpack(">II", data[16:24])


def refused(folder, words, *command, **options):
    """Status 2, and one line on standard error."""
    done = python(folder, *command, status=2, says=r"(curves|memory|walk)\.py: ", **options)
    assert done.stdout == "" and words in done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with checkpoints and logs of a DNC and an RNN after five iterations."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "text.txt").write_text(TEXT * 20, encoding="utf-8")
    (folder / "short.txt").write_text("then\nnobody ", encoding="utf-8")
    flags = ("--iters 5 --hidden 8 --batchsize 2 --seqlength 10 --sample_length 0 --data text.txt "
             "--print_interval 1 --check_interval 2 --save {0}.npz --fname {0}.tsv")
    for model, more in ("dnc", "--locations 6 --width 4 --heads 2"), ("rnn", ""):
        python(folder, ROOT / f"{model}-numpy.py", *flags.format(model).split(), *more.split())
    (folder / "long.txt").write_text((TEXT * 20)[:500], encoding="utf-8")
    python(folder, ROOT / "dnc-numpy.py", *"--data text.txt --hidden 4 --heads 16 --iters 1 "
           "--batchsize 1 --sample_length 0 --save many.npz".split())
    if hasattr(os, "mkfifo"):                           # whoever opens it waits for ever
        os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture(scope="module")
def copier():
    """A DNC that copies lines like bead>bead, its weights set by hand; memory.py, the script.

    Cells hold the character (one each, -1 or 1), a constant, and whether > or a newline came last.
    Until > each character goes to the freest location, with the head on that of the newline, found
    by content; from then on it reads forward along the links and frees what it has read.
    """
    memory = load("pictures/memory.py")
    model, vocab, big = memory.command.load_model("dnc"), "\n>abcdefgh", 50
    V, newline, greater = len(vocab), 0, 1
    H, constant, reading, every = V + 2, V, V + 1, range(V)
    sizes = {"hidden": H, "locations": 16, "width": V, "heads": 1}
    shapes = model.param_shapes(V, **sizes)
    p = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    i, o, f, g = (slice(k * H, k * H + H) for k in range(4))
    p["bh"][i], p["bh"][o], p["bh"][f] = big, big, -big
    cells = p["Wxh"][g]
    cells[:V], cells[every, every], cells[constant] = -big, big, big
    cells[reading, greater], cells[reading, newline] = big, -big
    p["Wxh"][i][reading, 2:], p["Wxh"][f][reading, 2:] = -2 * big, 2 * big  # letters keep this cell
    p["Whgw"][0, reading], p["Whga"][0, constant], p["Whf"][0, reading] = -big, big, big
    p["Whe"][:, constant], p["Whv"][every, every], p["Whv"][:, constant] = big, 0.66, 0.66
    p["Whr"][newline, constant], p["Whbr"][0, constant], p["Whw"][0, constant] = 1, big, 1
    p["Whp"][0, constant], p["Whp"][1, reading], p["Whp"][2, reading] = -2 * big, -big, big
    p["Wry"][every, every], p["Wry"][:, newline], p["Wry"][newline, newline] = 20, 10, -10
    p["by"][newline] = 5
    return memory, model, types.SimpleNamespace(
        params=p, vocab=vocab, settings=types.SimpleNamespace(reset=None, **sizes))


@pytest.mark.parametrize("prime, reset", [("", False), ("\nab>a", False), ("\nab", True)])
def test_memory_sees_a_copy(copier, prime, reset):
    """With reset, each line is read from zero state."""
    memory, model, copy = copier
    copy.settings.reset = "\n" if reset else None
    seen = memory.look(model, copy, COPIES, prime)
    assert seen.write.shape == seen.usage.shape == seen.allocation.shape == (len(COPIES), 16)
    assert seen.read.shape == (len(COPIES), 1, 16) and seen.bits.shape == (len(COPIES) - 1,)
    assert (seen.usage[0].max() > 0.5) == (prime != "" and not reset)
    written, reading = memory.written(seen.write), False
    for t, character in enumerate(COPIES):
        reading = character == ">" or reading and character != "\n"
        found, r = seen.read[t, 0].argmax(), int(reading)
        assert seen.gates[t] == pytest.approx([r, 1, 1 - r], abs=1e-3)  # free, allocation, write
        assert seen.modes[t, 0] == pytest.approx([0, 1 - r, r], abs=1e-3)   # the last: forward
        assert seen.write[t].sum() == pytest.approx(1 - r, abs=1e-3)
        if character == "\n" and reset:
            assert seen.usage[t].max() == 0
        if not reading:
            assert (place := seen.write[t].argmax()) == seen.allocation[t].argmax()
            assert seen.usage[t, place] < 1e-4
            if not (reset and COPIES[t + 1:t + 2] == "\n"):     # usage counts a write a step later
                assert (seen.usage[t + 1:t + 2, place] > 0.99).all()
            assert COPIES[written[t][place]] == character and COPIES[written[t][found]] == "\n"
        elif COPIES[t + 1] != "\n":
            assert seen.read[t, 0, found] > 0.99 and seen.bits[t] < 0.2
            assert COPIES[written[t][found]] == COPIES[t + 1]


def right_in_lines(name, lines, **more):
    """Where the task determines a character: how often a shipped network finds it likeliest. Each
    line is an episode: it follows a newline, from zero state."""
    model, path = load("dnc-numpy.py"), ROOT / "data" / f"{name}.npz"
    flags = [f"--{key}={value}" for key, value in more.items()]
    _, shipped, _ = model.begin([f"--load={path}", "--iters=0", *flags])
    assert path.stat().st_size < 1_000_000 and shipped.iter > 0 and shipped.settings.reset == "\n"
    assert shipped.settings.data is None                # there is no such file at the user's
    state, right = model.zero_state(shipped, 1), []
    for line, known in lines:
        ids = model.encode("\n" + line, shipped.vocab, "a line").astype(int)
        y, _, _ = model.forward(shipped.params, ids[:, None], state)
        right += [y[k, 0].argmax() == ids[k + 1] for k in known]
    return np.mean(right)


def test_shipped_networks():
    """copy-trained.npz copies strings of 1 to 20 letters, and of 40, which it has never seen;
    recall-trained.npz knows the value of each key, of 4 pairs and of 6, which it has never seen;
    ring-trained.npz knows the way round; path-trained.npz knows each node of a walk on the map of
    metro.txt, which it has never seen."""
    rng, copies, longer, pairs, more, rings = random.Random(3), [], [], [], [], []
    for k in range(40):
        for n, lines in ((1 + k % 20, copies), (40, longer)):
            word = "".join(rng.choices("abcdefgh", k=n))
            lines.append((f"{word}>{word}\n", range(n + 1, 2 * n + 2)))
        for n, lines in ((4, pairs), (6, more)):
            line = list(map("".join, zip(rng.sample("abcdefgh", n), rng.choices("ABCDEFGH", k=n))))
            lines.append((f"{''.join(line)}?{''.join(rng.sample(line, n))}\n",
                          range(2 * n + 2, 4 * n + 1, 2)))
        nodes = rng.sample("abcdefgh", 5)
        steps = [a + b for a, b in zip(nodes, nodes[1:] + nodes)]
        rings.append((f"{''.join(rng.sample(steps, 5))}?{''.join(nodes)}{nodes[0]}\n",
                      range(12, 18)))
    assert right_in_lines("copy-trained", copies) > 0.99
    assert right_in_lines("copy-trained", longer, locations=96) > 0.99
    assert right_in_lines("recall-trained", pairs) > 0.98
    assert right_in_lines("recall-trained", more, locations=16) > 0.95
    assert right_in_lines("ring-trained", rings) > 0.98
    parts = load("data/parts.py")
    walks = parts.all_walks((ROOT / "data" / "metro.txt").read_text(), 8)
    walks = [(line, parts.nodes(line)) for line in rng.sample(walks, 40)]
    assert right_in_lines("path-trained", walks, locations=48) > 0.98


@pytest.mark.parametrize("text, flags", [
    (TEXT, []), ((TEXT * 3)[:120], ["--prime", "The bell"]), ("Th", []),
    ("@short.txt", ["--prime", "@short.txt"]),
    *((line, ["--load", ROOT / "data" / f"{name}-trained.npz", "--prime", line * 5])
      for name, line in (("copy", "hgfa>hgfa\n"), ("recall", "aBcD?cDaB\n"),
                         ("ring", "abbcca?bcab\n")))])
def test_picture_of_the_memory(folder, text, flags):
    width, height = drawn(folder, *MEMORY, "--text", text, *flags, level="-OO")
    assert 1200 < width < 4000 and 1000 < height < 3000
    assert width >= 19 * len(text)                      # so many dots for a character can be read


def film(folder, *command):
    """Run a script for a film; returns its bytes and its frames as arrays, and their durations."""
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    python(folder, *command, "--out", "a.gif")
    with image.open(folder / "a.gif") as gif:
        frames, durations = [], []
        for k in range(gif.n_frames):
            gif.seek(k)
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
            durations.append(gif.info["duration"])
    return (folder / "a.gif").stat().st_size, frames, durations


def test_film_of_a_copy(folder):
    """A frame for each step; what it shows stays, and more is added from the left to the right."""
    (folder / "line.txt").write_text("\nhgfa>hgfa\n")
    size, frames, durations = film(
        folder, *MEMORY, "--text", "@line.txt", "--load", ROOT / "data" / "copy-trained.npz",
        "--locations", "12", "--panels", "write", "read")
    assert size < 1e6 and len(frames) == len(durations) == 11
    assert durations[-1] > 2000 > 4 * max(durations[:-1])
    height, width, _ = frames[0].shape
    assert width > height
    orange = [abs(image - (0xd5, 0x5e, 0)).max(axis=2) < 60 for image in frames[:-1]]
    right = [np.flatnonzero(part.sum(axis=0) > 100).max() for part in orange]  # edge of the step
    assert np.diff(right).min() > 0.9 * np.diff(right).max() > 20
    rows = orange[0][:, right[0]]                       # of the maps
    dark = [(image[rows].sum(axis=2) < 250).any(axis=0) for image in frames]
    for edge, columns in zip(right[1:], dark[1:]):      # what comes later is pale, what was stays
        assert not columns[edge + 3:right[-1]].any()
        assert (columns[right[0]:edge] == dark[-1][right[0]:edge]).mean() > 0.9
    assert dark[-1][right[0]:right[-1]].mean() > 0.5


@pytest.mark.parametrize("panels", [["read"], ["surprisal"], ["usage", "gates"], ["write", "read"]])
def test_panels(folder, panels):
    width, height = drawn(folder, *MEMORY, "--text", TEXT, "--panels", *panels)
    assert width > height
    assert drawn(folder, *MEMORY, "--text", TEXT)[1] > 1.5 * height


def test_a_walk_reads_the_edges_that_it_needs():
    """On the map, whose edges lead to the north, east, south or west. What each step reads most is
    the location that the edge from there by that label was written to."""
    walk = load("pictures/walk.py")
    model, run = walk.command.load_run(WALK[2], "--locations=48")
    edges, places, asked, nodes = walk.read_map(WALK[4], None)
    for a, label, b in edges:
        step = dict(zip("1234", [(0, 1), (1, 0), (0, -1), (-1, 0)]))[label]
        assert (places[b][0] - places[a][0], places[b][1] - places[a][1]) == step
    done, own = walk.take(model, run, edges, asked), WALK[4].read_text().partition("?")[2]
    assert list(done.nodes) == nodes == list(own[2::2]) and min(done.sure) > 0.5
    assert list(done.edges.values()) == edges
    looked = [done.edges[read.argmax()] for read in done.read]
    assert looked == list(map("".join, zip(asked[0] + done.nodes, asked[1:], done.nodes)))


def test_picture_of_a_walk(folder):
    width, height = drawn(folder, *WALK, *"--locations 48 --lines cdef --names Castle".split(),
                          level="-OO")
    assert width == 1725 and 700 < height < 1000
    size, frames, durations = film(folder, *WALK)
    assert size < 1e6 and len(frames) == 8 and durations[-1] > 3 * max(durations[:-1])
    half = frames[0].shape[1] // 2                      # the memory is on the right
    read = [(image[:, half:, 2] - image[:, half:, 0] > 80).sum() for image in frames]
    asked = [(image.max(axis=2) < 100).sum() for image in frames]       # black
    assert min(np.diff(read)) > 500 and min(np.diff(asked)) > 100       # one step more


@pytest.mark.parametrize("flags, words", [
    ("--load rnn.npz", "has no memory"), ("--load dnc.npz", "not in the vocabulary"),
    ("--map none.txt", "cannot read none.txt"), ("--map text.txt", "no path with labels 1 to 4"),
    ("--map bent.txt", "its graph is no map"), ("--map apart.txt", "its graph is no map"),
    ("--walk a9", "no edge leads from a by 9"), ("--walk a", "1 to 20 steps"),
    ("--out b.tune", "ends in .png, .svg, .pdf or .gif"), ("--hue red", "--help"),
    ("--locations 0", "--locations")])
def test_errors_of_walk(folder, flags, words):
    pytest.importorskip("matplotlib")
    (folder / "bent.txt").write_text("a2bb2a?a2b\n")
    (folder / "apart.txt").write_text("a2bc2d?a2b\n")
    refused(folder, words, *WALK, "--out", "b.png", *flags.split(" "), timeout=60)
    assert not list(folder.glob("b.*"))


def test_every_character_has_a_name():
    pytest.importorskip("matplotlib")
    from matplotlib.font_manager import findfont, get_font
    font, memory = get_font(findfont("DejaVu Sans Mono")), load("pictures/memory.py")
    signs = [memory.visible(c, font) for c in "a$\n \t\x07\u6f22"]
    assert signs == ["a", "$", "\u21b5", "\u2423", "\u21e5", "7", "6f22"]


@pytest.mark.parametrize("flags, words", [
    ("--load none.npz", "no regular file"),
    ("--load rnn.npz", "rnn-numpy.py saved it, which has no memory"),
    ("--load pipe", "no regular file"), ("--text @pipe", "pipe"), ("--prime @pipe", "pipe"),
    ("--locations 0", "--locations"), ("--locations -1", "--locations"), ("--panels", "--panels"),
    ("--panels links", "'links'"), ("--out a.tune", "ends in .png, .svg, .pdf or .gif"),
    ("--out a", "ends in"), (f"--text {'T' * 121} --out b.gif", "2 to 120"),
    ("--load many.npz --text @long.txt", "dots"),
    ("--load text.txt", "not a usable checkpoint"), ("--prime Z", "--prime: 1 "),
    ("--text Thé!", "--text: 2 characters are not in the vocabulary: '!' '\u00e9'"),
    ("--text T", "has 1 characters"), (f"--text {'T' * 501}", "2 to 500"), ("--hue red", "--help"),
    ("--text @none.txt", "cannot read none.txt"), ("--prime @none.txt", "cannot read none.txt")])
def test_errors_of_memory(folder, flags, words):
    pytest.importorskip("matplotlib")
    refused(folder, words, *MEMORY, "--text", TEXT, "--out", "b.png", *flags.split(" "), timeout=60)
    assert not list(folder.glob("b.*"))


@pytest.mark.parametrize("flags", [[], ["--title", "Copy $5", "--floor", "1.5575"]])
def test_picture_of_curves(folder, flags):
    assert drawn(folder, *CURVES, "dnc.tsv", *flags, level="-OO") == (1650, 720)


@pytest.mark.parametrize("name", ["\u6f22\U0001f514", "_run1", "$x^$", "\x1b[31m",
                                  os.fsdecode(b"\xff")])
def test_names_that_a_font_lacks(folder, name):
    """Names of files, and titles. A legend would leave out what begins with _."""
    pytest.importorskip("matplotlib")
    try:
        for like in "rnn.tsv", "dnc.npz":
            shutil.copy(folder / like, folder / (name + like[3:]))
    except (OSError, ValueError):
        pytest.skip("this file system has no such names")
    python(folder, CURVES[0], name + ".tsv", "--title", name, "--out", "c.png")
    python(folder, *MEMORY, "--load", name + ".npz", "--text", TEXT, "--out", "c.png")
    curves = load("pictures/curves.py")
    columns = [[1, 2], [1, 2], [3, 2], [3, 2]]
    figure = curves.draw([(curves.spelt(name), "rnn", columns)], curves.spelt(name))
    label = figure.axes[1].get_legend().get_texts()[0].get_text()
    assert label == figure.get_suptitle() == curves.spelt(name)
    assert label.isascii()


def test_each_model_has_one_colour():
    """In learning curves here and in bench/; no colour twice."""
    source = (ROOT / "bench" / "learning.py").read_text(encoding="utf-8")
    bench = ast.literal_eval(re.search(r"^COLOURS = (\{.*?\})$", source, re.M | re.S)[1])
    curves = load("pictures/curves.py")
    assert {name: bench[name] for name in ("rnn", "lstm", "dnc")} == curves.COLOURS
    assert len(set(bench.values())) == len(bench) and curves.OTHER not in curves.COLOURS.values()


def test_log_of_several_starts(tmp_path):
    """Two iterations, two more with another window, then the last one again, and then a new run."""
    (tmp_path / "a.tsv").write_text("".join([
        LOG.format(2, 10), "1\t1\t5\tnan\t9\n", "2\t2\t4\t4.5\t9\n",
        LOG.format(2, 30), "3\t3\t3\tnan\t9\n", "4\t4\t2\tnan\t9\n",
        LOG.format(2, 30), "4\t4\t2\tnan\t9\n", LOG.format(1, 5), "1\t1\t5\tnan\t9\n"]))
    model, columns, skipped = load("pictures/curves.py").read_log(tmp_path / "a.tsv")
    characters, seconds, _, heldout = columns
    nan = float("nan")
    assert characters == pytest.approx([20, 40, 100, 160, nan, 160, nan, 5], nan_ok=True)
    assert seconds == pytest.approx([1, 2, 3, 4, nan, 4, nan, 1], nan_ok=True)
    assert model == "lstm" and heldout[1] == 4.5 and skipped == 0


def test_log_of_a_script(folder):
    model, (characters, _, training, heldout), skipped = load("pictures/curves.py").read_log(
        folder / "dnc.tsv")
    assert (model, skipped) == ("dnc", 0) and characters == (20, 40, 60, 80, 100)
    assert [k for k, bpc in enumerate(heldout) if bpc == bpc] == [1, 3, 4] and min(training) > 1


def test_what_is_no_row_is_left_out(tmp_path):
    """A line that was cut, and with it a heading; notes; figures that nobody measured."""
    pytest.importorskip("matplotlib")
    row, lines = "{}\t1\t5\tnan\t9\n", [
        "2\t1", "x", "", "# a note", "2.5\t1\t5\tnan\t9", "2\t1\t1e308\tnan\t9",
        "2\t1\tnan\tnan\t9", "2\tnan\t5\tnan\t9", "2\t-1\t5\tnan\t9", "2\t1\t5\tinf\t9",
        "0\t1\t5\tnan\t9", "-2\t1\t5\tnan\t9", "2\t1\t5\t-inf\t9", "2\t1\t5\t-1e308\t9",
        "9" * 400 + "\t1\t5\tnan\t9"]
    good = LOG.format(2, 10) + row.format(1)
    (tmp_path / "a.tsv").write_text(good + "\n".join(lines) + "\n" + row.format(3))
    (tmp_path / "b.tsv").write_text(good + row.format(3))
    curves = load("pictures/curves.py")
    expected = *curves.read_log(tmp_path / "b.tsv")[:2], 15
    assert repr(curves.read_log(tmp_path / "a.tsv")) == repr(expected)      # nan is not nan
    done = python(tmp_path, CURVES[0], "b.tsv", "a.tsv", "--out", "a.png", line=True)
    assert "a.tsv: 15 lines are no rows" in done.stderr and (tmp_path / "a.png").exists()


@posix
def test_a_pipe_is_no_log(tmp_path):
    pytest.importorskip("matplotlib")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path, "no regular file", CURVES[0], "pipe", "--out", "b.png")


def test_running_mean():
    """Rows count by their characters; at the ends, and at gaps, fewer rows are taken."""
    mean, nan = load("pictures/curves.py").running_mean, math.nan
    characters, bpc = [1, 2, 4, 5, nan, 5, 7], [5, 3, 2, 1, nan, 6, 4]
    assert mean(characters, bpc, share=0) == pytest.approx(bpc, nan_ok=True)
    expected = [5, (5 + 3 + 2 * 2) / 4, (3 + 2 * 2 + 1) / 4, 1, nan, 6, 4]
    assert mean(characters, bpc, share=0.3) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("content, words", [
    (None, "cannot read"), ("", "no rows"), (LOG.format(2, 10), "no rows"),
    ("1\t1\t5\tnan\t9\n", "no rows"), ("# a note\n1\t1\t5\tnan\t9\n", "no rows"),
    ("\xff", "cannot read")])
def test_errors_of_curves(tmp_path, content, words):
    pytest.importorskip("matplotlib")
    if content is not None:
        (tmp_path / "a.tsv").write_text(content, encoding="latin-1")
    refused(tmp_path, words, CURVES[0], "a.tsv", "--out", "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("command", [CURVES, [*MEMORY, "--text", TEXT], WALK],
                         ids=["curves", "memory", "walk"])
def test_what_cannot_be_drawn(folder, tmp_path, command):
    refused(folder, "its folder is not there", *command, "--out", "none/a.png")
    refused(folder, "no regular file", *command, "--out", ".")
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('none here')")
    without = {"env": {"PYTHONPATH": str(tmp_path)}}
    refused(folder, "needs matplotlib: pip install -r pictures/requirements.txt", *command,
            "--out", "b.png", **without)
    python(folder, *command, "--help", **without)
    pytest.importorskip("matplotlib")
    refused(folder, "b.tune", "-Wdefault", *command, "--out", "b.tune")
    assert not (folder / "b.png").exists()


@posix
@pytest.mark.parametrize("command", [CURVES, [*MEMORY, "--text", TEXT], WALK],
                         ids=["curves", "memory", "walk"])
def test_a_picture_that_fails_leaves_the_one_before(folder, tmp_path, command):
    """A full disk, here a limit on the size of files; Ctrl-C while it is drawn."""
    pytest.importorskip("matplotlib")
    before = {path for path in folder.iterdir()}
    (folder / "d.png").write_text("before")
    shell = shlex.join(map(str, [sys.executable, "-B", *command, "--out", "d.png"]))
    done = subprocess.run(["bash", "-c", f"trap '' XFSZ; ulimit -f 2; {shell}"], cwd=folder,
                          capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert "cannot write" in done.stderr and (folder / "d.png").read_text() == "before"
    (tmp_path / "matplotlib.py").write_text("import time\nopen('begun', 'w')\ntime.sleep(300)")
    env = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, *command, "--out", "d.png"], cwd=folder, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not (folder / "begun").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr.read()) == (130, b"")
    (folder / "begun").unlink()
    assert (folder / "d.png").read_text() == "before"
    assert set(folder.iterdir()) - before == {folder / "d.png"}
    (folder / "d.png").unlink()
