"""Texts as the world has them, drawn by hypothesis: whatever bytes come, in whatever encoding, a
run learns them or says in one line why it cannot, and nothing of them steers a terminal.
tests/long.py draws more.
"""
import contextlib
import encodings.aliases
import io
import pathlib
import re
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import CONTROL, MODELS, Script, load

settings.register_profile("suite", max_examples=40, derandomize=True, deadline=None,
                          suppress_health_check=list(HealthCheck))
settings.load_profile("suite")

COMMON = load("rnn-numpy.py")       # the text block is the same in all: test_common.py
ENCODINGS = sorted({*encodings.aliases.aliases.values(), "utf-8-sig", "idna", "punycode",
                    "undefined", "nonesuch", ""})
STEERS = re.compile(f"[{CONTROL}]")
every_character = st.text(st.characters(exclude_categories=()))         # lone surrogates, too
pieces = st.sampled_from(["\r\n", "\r", "\n", "\0", "\x1b[2J", "\x9b", "\ufeff", "\ud800", "\udcff",
                          "\u2028", "\u202e", "\U0010ffff", "é", "e\u0301"])
texts = every_character | st.lists(pieces | every_character).map("".join)
parts = st.sampled_from([b"ab", b"\r", b"\n", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\x93"])
raw_texts = (texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
             | texts.map(lambda text: text.encode("utf-16", "surrogatepass"))
             | st.binary() | st.lists(parts).map(b"".join))


def advice(raw):
    """The encoding that the message advises for bytes that are not UTF-8."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return "cp1252" if re.search(rb"[\x91-\x94]", raw) else "latin-1"


@given(raw=raw_texts)
@example(raw="\ufeff\ufeffa\r\nb\rc\n\ufeff".encode())
@example(raw="häßlich".encode("utf-16-be").join([b"\xfe\xff", b""]))
def test_read_text(raw):
    """The characters of valid UTF-8, newlines as \\n, without a byte order mark; else the place of
    the first wrong byte, and the encoding that fits."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "text.txt"
        path.write_bytes(raw)
        try:
            expected = re.sub("\r\n?", "\n", raw.decode()).removeprefix("\ufeff")
        except UnicodeDecodeError as e:
            with pytest.raises(COMMON.Failure, match=rf"at byte {e.start:,}:.* {advice(raw)}$"):
                COMMON.read_text(path, "utf-8", "--data")
        else:
            assert COMMON.read_text(path, "utf-8", "--data") == expected
        assert COMMON.read_text(path, "latin-1", "--data").encode("latin-1") == raw


@pytest.mark.parametrize("raw, encoding", [(b"\xff\xfea", "utf-16"), (b"\x93\x81", "windows-1252")])
def test_advice_is_another_encoding(tmp_path, raw, encoding):
    (tmp_path / "text.txt").write_bytes(raw)
    with pytest.raises(COMMON.Failure, match="try --encoding latin-1$"):
        COMMON.read_text(tmp_path / "text.txt", encoding, "--data")


@given(text=texts.filter(bool))
def test_encode(text):
    """Numbers and vocabulary give the text again, whatever is in it."""
    vocab = sorted(set(text))
    ids = COMMON.encode(text, vocab, "text")
    assert "".join(vocab[i] for i in ids) == text
    assert ids.dtype == np.min_scalar_type(len(vocab) - 1)


@given(text=texts)
def test_say(text):
    """Nothing but tab and newline of what a terminal obeys; all else is there, and can be read."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        COMMON.say(text)
    shown = out.getvalue().removesuffix("\n")
    assert not STEERS.search(shown)
    back = re.sub(r"\\x(..)|\\(r)", lambda c: chr(int(c[1], 16)) if c[1] else "\r", shown)
    assert back == text or "\\" in text


@given(raw=raw_texts, encoding=st.just("utf-8") | st.sampled_from(ENCODINGS), prime=texts,
       model=st.sampled_from(MODELS), val=st.sampled_from(["0", "0.3"]),
       temperature=st.sampled_from(["0", "1", "1e30"]))
@example(raw=b"+2AAb" * 20, encoding="utf-7", prime="", model="rnn", val="0", temperature="1e30")
@example(raw=b"\x1b[2J\x00\x07\x9b" * 20, encoding="latin-1", prime="\x1b", model="rnn", val="0",
         temperature="1e30")
def test_a_run(raw, encoding, prime, model, val, temperature):
    """Train, check, sample, save, load and sample again; or one line and status 2."""
    with tempfile.TemporaryDirectory() as folder:
        script = Script(model, pathlib.Path(folder))
        script.text.write_bytes(raw)
        flags = ["--encoding", encoding, f"--prime={prime}", "--temperature", temperature, "--val",
                 val, *"--sample_length 20 --seqlength 3".split()]
        done = script.train("--iters 2 --check_interval 1 --save a.npz --fname log.tsv", *flags,
                            status=None)
        assert done.returncode in (0, 2) and not STEERS.search(done.stdout)
        assert (script.folder / "a.npz").exists() == (done.returncode == 0)
        if done.returncode == 0:
            again = script.run("--load a.npz --iters 0", *flags).stdout
            shown = STEERS.sub(lambda c: ascii(c[0])[1:-1], prime)
            assert again.startswith("----\n" + shown) and not STEERS.search(again)
            out = re.sub(r"the best held-out BPC was [^\n]+\n$", "", done.stdout)
            assert out.endswith("----\n" + again[5 + len(shown):])


@pytest.mark.parametrize("size", [256, 257, 65_536, 65_537])
def test_large_vocabulary(rnn, size):
    """The type of the numbers grows with it; beyond 65,536 it has four bytes."""
    vocab = [chr(c) for c in range(0x20, 0x20 + size + 2048) if not 0xd800 <= c < 0xe000][:size]
    rnn.text.write_text("".join(vocab), encoding="utf-8", newline="")
    ids = COMMON.encode("".join(vocab), vocab, "text")
    assert ids.dtype == np.min_scalar_type(size - 1) and (ids == np.arange(size)).all()
    rnn.train("--hidden 2 --batchsize 1 --seqlength 2 --val 0 --iters 1 --save a.npz")
    assert rnn.loaded().vocab == vocab
    rnn.run("--load a.npz --iters 0 --sample_length 3 --temperature 1e30")
