"""pictures/: the pictures are drawn and are not empty, what memory.py sees is what the memory did, and errors are one line.

What needs no matplotlib is tested without it. The DNC that copies is set by hand: what its memory does is known exactly.
"""
import importlib.util
import os
import pathlib
import random
import struct
import subprocess
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = "The bell rang twice, and then\nnobody spoke for a while. "
COPIES = "\nhgfadc>hgfadc\nbead>bead\nc>c\n"
LOG = "# lstm hidden=8 batchsize={} seqlength={} lr=0.1 val=0.05 seed=1: iter seconds train_bpc heldout_bpc chars_per_s\n"


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "pictures" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(path, *flags, **env):
    return subprocess.run([sys.executable, str(ROOT / path), *map(str, flags)], capture_output=True, encoding="utf-8",
                          env={**os.environ, "PYTHONWARNINGS": "error", **env}, timeout=120)


def refused(done, words):
    """Status 2, and one line on standard error."""
    name = pathlib.Path(done.args[1]).name
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{name}: ") and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr


def size(path):
    """Width and height of a PNG, in dots."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 20_000
    return struct.unpack(">II", data[16:24])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with checkpoints and logs of a DNC and an RNN after five iterations."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "text.txt").write_text(TEXT * 20, encoding="utf-8")
    flags = "--iters 5 --hidden 8 --batchsize 2 --seqlength 10 --sample_length 0 --print_interval 1 --check_interval 2".split()
    for model, more in ("dnc", "--locations 6 --width 4 --heads 2".split()), ("rnn", []):
        done = run(f"{model}-numpy.py", *flags, *more, "--data", folder / "text.txt",
                   "--save", folder / f"{model}.npz", "--fname", folder / f"{model}.tsv")
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def copier():
    """A DNC that copies lines like bead>bead, its weights set by hand: (memory.py, the script, a run).

    Cells hold the character (one each, -1 or 1), a constant, and whether > or a newline came last. Until > each character
    goes to the freest location, with the head on that of the newline, found by content; from then on it reads forward
    along the links and frees what it has read.
    """
    memory = script("memory")
    model = memory.load_script()
    np, vocab, big = model.np, sorted("\n>abcdefgh"), 50
    M, newline, greater = len(vocab), 0, 1
    H, constant, reading, every = M + 2, M, M + 1, range(M)
    p = model.Params(model.param_shapes(M, hidden=H, locations=16, width=M, heads=1), np.dtype(np.float32))
    i, o, f, g = (slice(k * H, k * H + H) for k in range(4))
    p["bh"][i], p["bh"][o], p["bh"][f] = big, big, -big
    cells = p["Wxh"][g]
    cells[:M], cells[every, every], cells[constant] = -big, big, big
    cells[reading, greater], cells[reading, newline] = big, -big
    p["Wxh"][i][reading, 2:], p["Wxh"][f][reading, 2:] = -2 * big, 2 * big      # letters leave this cell as it is
    p["Whgw"][0, reading], p["Whga"][0, constant], p["Whf"][0, reading], p["Whe"][:, constant] = -big, big, big, big
    p["Whv"][every, every], p["Whv"][:, constant] = 0.66, 0.66
    p["Whr"][newline, constant], p["Whbr"][0, constant], p["Whw"][0, constant] = 1, big, 1
    p["Whp"][0, constant], p["Whp"][1, reading], p["Whp"][2, reading] = -2 * big, -big, big
    p["Wry"][every, every], p["Wry"][:, newline], p["Wry"][newline, newline], p["by"][newline] = 20, 10, -10, 5
    sizes = {"hidden": H, "locations": 16, "width": M, "heads": 1}
    return memory, model, types.SimpleNamespace(params=p, sizes=sizes, vocab=vocab, dtype=np.dtype(np.float32))


@pytest.mark.parametrize("prime", ["", "\nab>ab"])
def test_memory_sees_a_copy(copier, prime):
    memory, model, copy = copier
    seen = memory.look(model, copy, COPIES, prime)
    assert seen.write.shape == seen.usage.shape == seen.allocation.shape == (len(COPIES), 16)
    assert seen.read.shape == (len(COPIES), 1, 16) and seen.bits.shape == (len(COPIES) - 1,)
    written, reading = memory.written(seen.write), False
    for t, character in enumerate(COPIES):
        reading = character == ">" or reading and character != "\n"
        found = seen.read[t, 0].argmax()
        assert seen.gates[t] == pytest.approx([int(reading), 1, int(not reading)], abs=1e-3)     # free, allocation, write
        assert seen.modes[t, 0] == pytest.approx([0, int(not reading), int(reading)], abs=1e-3)   # backward, content, forward
        assert seen.write[t].sum() == pytest.approx(int(not reading), abs=1e-3)
        if not reading:
            assert (place := seen.write[t].argmax()) == seen.allocation[t].argmax() and seen.usage[t, place] < 1e-4
            assert (seen.usage[t + 1:t + 2, place] > 0.99).all()        # usage counts a write from the next step on
            assert COPIES[written[t][place]] == character and COPIES[written[t][found]] == "\n"
        elif COPIES[t + 1] != "\n":
            assert seen.read[t, 0, found] > 0.99 and COPIES[written[t][found]] == COPIES[t + 1] and seen.bits[t] < 0.2


def test_shipped_copier_is_this_one(copier, tmp_path):
    """data/copy.npz holds the weights that are set above, copies strings longer than any that a minute teaches, and can be drawn."""
    _, model, copy = copier
    shipped, path = model.load(str(ROOT / "data" / "copy.npz")), ROOT / "data" / "copy.npz"
    assert path.stat().st_size < 200_000 and shipped.iter == 0
    assert shipped.vocab == copy.vocab and shipped.sizes == copy.sizes and (shipped.params.flat == copy.params.flat).all()
    for word in "hgfa", "a", "abcdabcdhhhhefg":
        done = run("dnc-numpy.py", "--load", path, "--iters", 0, "--prime", f"\n{word}>", "--temperature", 0,
                   "--sample_length", len(word) + 1)
        assert done.stdout == f"----\n{word}\n\n----\n" and done.stderr == ""
    pytest.importorskip("matplotlib")
    done = run("pictures/memory.py", "--load", path, "--text", "\nhgfa>hgfa\n", "--out", tmp_path / "a.png", PYTHONWARNINGS="")
    assert done.returncode == 0, done.stderr
    assert size(tmp_path / "a.png")


def read_line_by_line(path, lines):
    """The likeliest character after each one of the lines, line by line, as a trained network has them that starts at zero state."""
    model = script("memory").load_script()
    shipped = model.load(str(path))
    assert path.stat().st_size < 200_000 and shipped.iter > 0
    state, likeliest = model.zeros(model.state_shapes(1, **shipped.sizes), shipped.dtype), []
    for line in lines:
        logits, state, _ = model.forward(shipped.params, model.encode(line, shipped.vocab, "a line")[0].astype(int)[:, None], state)
        likeliest.append("".join(shipped.vocab[k] for k in logits[:, :, 0].argmax(axis=0)))
    return likeliest


def test_shipped_trained_network_copies():
    """data/copy-trained.npz copies new strings of 1 to 14 letters, when it has read some lines: at least 18 of 20."""
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 14))) for _ in range(60)]
    likeliest = read_line_by_line(ROOT / "data" / "copy-trained.npz", [f"{word}>{word}\n" for word in words])
    copies = [found[len(word):-1] for word, found in zip(words, likeliest)]
    assert sum(copy == word + "\n" for word, copy in list(zip(words, copies))[40:]) >= 18


def test_shipped_trained_network_recalls():
    """data/recall-trained.npz knows the value of each key, when it has read some lines: at least 9 of 10."""
    rng, lines = random.Random(4), []
    for _ in range(80):
        pairs = list(map("".join, zip(rng.sample("abcdefgh", 4), rng.choices("ABCDEFGH", k=4))))
        lines.append("".join(pairs) + "?" + "".join(rng.sample(pairs, 4)) + "\n")
    likeliest = read_line_by_line(ROOT / "data" / "recall-trained.npz", lines)
    right = [found[k] == line[k + 1] for line, found in list(zip(lines, likeliest))[40:] for k in (9, 11, 13, 15)]
    assert sum(right) >= 0.9 * len(right)


@pytest.mark.parametrize("name, line", [("copy-trained", "hgfa>hgfa\n"), ("recall-trained", "aBcD?cDaB\n")])
def test_shipped_trained_networks_can_be_drawn(name, line, tmp_path):
    pytest.importorskip("matplotlib")
    done = run("pictures/memory.py", "--load", ROOT / "data" / f"{name}.npz", "--prime", line * 5, "--text", line,
               "--out", tmp_path / "a.png", PYTHONWARNINGS="")
    assert done.returncode == 0, done.stderr
    assert size(tmp_path / "a.png")


@pytest.mark.parametrize("text, flags", [(TEXT, []), ((TEXT * 3)[:120], ["--prime", "The bell"]), ("Th", [])], ids=["57", "120", "2"])
def test_picture_of_the_memory(folder, text, flags):
    pytest.importorskip("matplotlib")
    done = run("pictures/memory.py", "--load", folder / "dnc.npz", "--text", text, "--out", folder / "memory.png", *flags,
               PYTHONWARNINGS="")
    assert done.returncode == 0 and done.stdout == "" and "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    width, height = size(folder / "memory.png")
    assert 1200 < width < 4000 and 1000 < height < 3000
    assert width >= 19 * len(text)                          # so many dots for a character can be read


def test_text_from_a_file(folder):
    pytest.importorskip("matplotlib")
    done = run("pictures/memory.py", "--load", folder / "dnc.npz", "--text", f"@{folder / 'short.txt'}", "--out", folder / "file.png")
    refused(done, "short.txt")
    (folder / "short.txt").write_text("then\nnobody ", encoding="utf-8")
    assert run("pictures/memory.py", "--load", folder / "dnc.npz", "--text", f"@{folder / 'short.txt'}", "--out", folder / "file.png",
               PYTHONWARNINGS="").returncode == 0
    assert size(folder / "file.png")


def test_every_character_has_a_name():
    pytest.importorskip("matplotlib")
    from matplotlib.font_manager import findfont, get_font
    font, memory = get_font(findfont("DejaVu Sans Mono")), script("memory")
    assert [memory.visible(c, font) for c in "a$\n \t\x07\u6f22"] == ["a", "$", "\u21b5", "\u2423", "\u21e5", "7", "6f22"]


@pytest.mark.parametrize("change, words", [
    ({"load": "none.npz"}, "no checkpoint at"), ({"load": "rnn.npz"}, "not a usable dnc checkpoint: it holds the model"),
    ({"load": "text.txt"}, "not a usable dnc checkpoint"),
    ({"text": "Thé Bell!"}, "--text: 3 different characters are not in the vocabulary: '!' 'B' '\\xe9'"), ({"prime": "Z"}, "--prime: 1 "),
    ({"text": "T"}, "has 1 characters"), ({"text": TEXT * 10}, "2 to 500"), ({"text": "@none.txt"}, "no file none.txt"),
    ({"out": "none/a.png"}, "its folder is not there"), ({"out": "."}, "it is a folder"), ({"colour": "red"}, "--help")])
def test_errors_of_memory(folder, change, words):
    flags = {"load": "dnc.npz", "text": TEXT, "out": "a.png", **change}
    for name in ("load", "out"):
        flags[name] = folder / flags[name]
    refused(run("pictures/memory.py", *(part for name, value in flags.items() for part in (f"--{name}", value))), words)
    assert not (folder / "a.png").exists()


def test_picture_of_curves(folder):
    pytest.importorskip("matplotlib")
    done = run("pictures/curves.py", folder / "rnn.tsv", folder / "dnc.tsv", "--out", folder / "curves.png", PYTHONWARNINGS="")
    assert done.returncode == 0 and done.stdout == "" and "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    assert size(folder / "curves.png") == (1650, 720)


def test_log_of_several_starts(tmp_path):
    """Two iterations, two more with another window, then the last one again, and then a new run."""
    rows = [LOG.format(2, 10), "1\t1\t5\tnan\t9\n", "2\t2\t4\t4.5\t9\n", LOG.format(2, 30), "3\t3\t3\tnan\t9\n", "4\t4\t2\tnan\t9\n",
            LOG.format(2, 30), "4\t4\t2\tnan\t9\n", LOG.format(1, 5), "1\t1\t5\tnan\t9\n"]
    (tmp_path / "a.tsv").write_text("".join(rows), encoding="utf-8")
    characters, seconds, _, heldout = script("curves").read_log(tmp_path / "a.tsv")
    assert characters == pytest.approx([20, 40, 100, 160, float("nan"), 160, float("nan"), 5], nan_ok=True)
    assert seconds == pytest.approx([1, 2, 3, 4, float("nan"), 4, float("nan"), 1], nan_ok=True)
    assert heldout[1] == 4.5


@pytest.mark.parametrize("content, words", [
    (None, "cannot read"), ("", "no rows"), (LOG.format(2, 10), "no rows"), ("1\t1\t5\tnan\t9\n", "line 1"),
    (LOG.format(2, 10) + "1\t1\t5\n", "line 2"), ("# a note\n1\t1\t5\tnan\t9\n", "line 1"), ("\xff", "line 1")])
def test_errors_of_curves(tmp_path, content, words):
    if content is not None:
        (tmp_path / "a.tsv").write_text(content, encoding="latin-1")
    refused(run("pictures/curves.py", tmp_path / "a.tsv", "--out", tmp_path / "a.png"), words)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("out, words", [("none/a.png", "its folder is not there"), (".", "it is a folder"), ("a.tune", "a.tune")])
def test_targets(folder, out, words):
    if out == "a.tune":
        pytest.importorskip("matplotlib")
    for command in (["curves.py", folder / "rnn.tsv"], ["memory.py", "--load", folder / "dnc.npz", "--text", TEXT]):
        refused(run(f"pictures/{command[0]}", *command[1:], "--out", folder / out, PYTHONWARNINGS=""), words)


def test_without_matplotlib(folder, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('none here')", encoding="utf-8")
    for command in (["curves.py", folder / "rnn.tsv"], ["memory.py", "--load", folder / "dnc.npz", "--text", TEXT]):
        done = run(f"pictures/{command[0]}", *command[1:], "--out", tmp_path / "a.png", PYTHONPATH=str(tmp_path))
        refused(done, "needs matplotlib: pip install -r pictures/requirements.txt")
        assert run(f"pictures/{command[0]}", "--help", PYTHONPATH=str(tmp_path)).returncode == 0
    assert not (tmp_path / "a.png").exists()
