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
MANY = "".join(chr(c) for c in range(0x20, 0x12000) if not 0xd800 <= c < 0xe000)
ENCODINGS = sorted({*encodings.aliases.aliases.values(), "utf-8-sig", "idna", "punycode",
                    "undefined", "nonesuch", ""})
ADVICE = "name its encoding, as in .*, cp1252 or .*; latin-1 takes bytes as they are$"
STEERS = re.compile(f"[{CONTROL}]")
every_character = st.text(st.characters(exclude_categories=()))         # lone surrogates, too
pieces = st.sampled_from(["\r\n", "\r", "\n", "\0", "\x1b[2J", "\x9b", "\ufeff", "\ud800", "\udcff",
                          "\u2028", "\u202e", "\U0010ffff", "é", "e\u0301"])
texts = every_character | st.lists(pieces | every_character).map("".join)
parts = st.sampled_from([b"ab", b"\r", b"\n", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\x93"])
raw_texts = (texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
             | texts.map(lambda text: text.encode("utf-16", "surrogatepass"))
             | st.binary() | st.lists(parts).map(b"".join))


@given(raw=raw_texts)
@example(raw="\ufeff\ufeffa\r\nb\rc\n\ufeff".encode())
@example(raw="häßlich".encode("utf-16"))
@example(raw="漢字かな".encode("gbk"))
@example(raw="it’s\r\n".encode("cp1252"))
def test_read_text(raw):
    """The characters of valid UTF-8, newlines as \\n, without a byte order mark; else the place of
    the first wrong byte, and what to do about it, the same for all."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "text.txt"
        path.write_bytes(raw)
        try:
            expected = re.sub("\r\n?", "\n", raw.decode()).removeprefix("\ufeff")
        except UnicodeDecodeError as e:
            with pytest.raises(COMMON.Failure, match=rf"at byte {e.start:,}: {ADVICE}"):
                COMMON.read_text(path, "utf-8")
        else:
            assert COMMON.read_text(path, "utf-8") == expected
        assert COMMON.read_text(path, "latin-1").encode("latin-1") == raw


def test_an_encoding_that_is_named(tmp_path):
    for encoding in "gb18030 gbk shift-jis euc-jp utf-16 utf-32".split():
        (tmp_path / "text.txt").write_bytes("漢字\r\nかな".encode(encoding))
        assert COMMON.read_text(tmp_path / "text.txt", encoding) == "漢字\nかな"
        with pytest.raises(COMMON.Failure, match=rf"is not ascii at byte \d: {ADVICE}"):
            COMMON.read_text(tmp_path / "text.txt", "ascii")


@given(text=texts.filter(bool))
@example(text=MANY[:256])
@example(text=MANY[:257])
@example(text=MANY[:65_536])
@example(text=MANY[:65_537])
def test_encode(text):
    """Numbers and vocabulary give the text again, whatever is in it."""
    vocab = "".join(sorted(set(text), reverse=True))        # in whatever order it is
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
       temperature=st.sampled_from(["0", "1", "1e9"]))
@example(raw=MANY[:70_000].encode(), encoding="utf-8", prime="", model="rnn", val="0",
         temperature="1e9")
@example(raw=b"+2AAb" * 20, encoding="utf-7", prime="", model="rnn", val="0", temperature="1e9")
@example(raw=b"\x1b[2J\x00\x07\x9b" * 20, encoding="latin-1", prime="\x1b", model="rnn", val="0",
         temperature="1e9")
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
            assert again.partition("\n")[2].startswith("----\n" + shown)
            assert not STEERS.search(again)


@pytest.mark.parametrize("name", ["latin-1", "LATIN1", "iso-8859-1", "latin_1", "L1"])
def test_latin_1_by_any_name(name, tmp_path):
    (tmp_path / "text.txt").write_bytes(b"a\r\nb\r")
    assert COMMON.read_text(tmp_path / "text.txt", name) == "a\r\nb\r"
