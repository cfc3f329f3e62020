"""Texts as the world has them, drawn by hypothesis: whatever bytes come, in whatever encoding, a run learns them or says in one
line why it cannot, and nothing of them steers a terminal. tests/long.py draws more.
"""
import encodings.aliases
import hashlib
import pathlib
import re
import tempfile
import warnings

import numpy as np
import pytest
from conftest import MODELS, ROOT, Script, arrays, load_module
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

settings.register_profile("suite", max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("suite")

COMMON = load_module(ROOT / f"{MODELS[0]}-numpy.py")        # the text block is the same in all: test_shared.py
ENCODINGS = sorted({*encodings.aliases.aliases.values(), "utf-8-sig", "idna", "punycode", "undefined", "unicode_escape", "nonesuch", ""})
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
every_character = st.text(st.characters(exclude_categories=()))          # lone surrogates, too
pieces = st.sampled_from(["\r\n", "\r", "\n", "\0", "\x1b[2J", "\x9b", "\ufeff", "\ud800", "\udcff", "\u2028", "\u202e", "\U0010ffff",
                          "é", "e\u0301"])
texts = every_character | st.lists(pieces | every_character).map("".join)
raw_texts = (texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | texts.map(lambda text: text.encode("utf-16", "surrogatepass"))
             | st.binary() | st.lists(st.sampled_from([b"ab", b"\r", b"\n", b"\xef\xbb\xbf", b"\xff", b"\xc3"])).map(b"".join))


@given(raw=raw_texts)
@example(raw=b"\xef\xbb\xbfa\r\nb\rc\n")
def test_read_text(raw):
    """The characters of valid UTF-8, newlines as \\n, without a byte order mark; else the place of the first wrong byte."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "text.txt"
        path.write_bytes(raw)
        try:
            expected = raw.decode().replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
        except UnicodeDecodeError as e:
            with pytest.raises(COMMON.Failure, match=rf"at byte {e.start:,} "):
                COMMON.read_text(path, "utf-8")
        else:
            assert COMMON.read_text(path, "utf-8") == expected
        assert COMMON.read_text(path, "latin-1").encode("latin-1") == raw


@given(text=texts.filter(bool))
def test_encode(text):
    """Numbers and vocabulary give the text again, whatever is in it."""
    vocab = sorted(set(text))
    ids, digest = COMMON.encode(text, vocab, "text")
    assert "".join(vocab[i] for i in ids) == text and ids.dtype == np.min_scalar_type(len(vocab) - 1)
    assert digest == hashlib.sha256(text.encode("utf-32-le", "surrogatepass")).digest()


@given(text=texts)
def test_printable(text):
    """Nothing but tab and newline of what a terminal obeys; all else is there, and can be read back."""
    shown = COMMON.printable(text)
    assert not STEERS.search(shown)
    assert re.sub(r"\\x(..)|\\(r)", lambda c: chr(int(c[1], 16)) if c[1] else "\r", shown) == text or "\\" in text
    message = str(COMMON.Failure(text))
    assert message.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f]", message)


@given(raw=raw_texts, encoding=st.just("utf-8") | st.sampled_from(ENCODINGS), prime=texts, model=st.sampled_from(MODELS),
       val=st.sampled_from(["0", "0.3"]), temperature=st.sampled_from(["0", "1", "1e30"]))
@example(raw=b"+2AAb" * 20, encoding="utf-7", prime="", model=MODELS[0], val="0", temperature="1e30")      # lone surrogates
@example(raw=b"\x1b[2J\x00\x07\x9b" * 20, encoding="latin-1", prime="\x1b", model=MODELS[0], val="0", temperature="1e30")
def test_a_run(raw, encoding, prime, model, val, temperature):
    """Train, check, sample, save, load and sample again; or one line and status 2 (as_promised looks at it)."""
    with tempfile.TemporaryDirectory() as folder:
        script = Script(model, pathlib.Path(folder))
        (script.folder / "text.txt").write_bytes(raw)
        flags = ["--encoding", encoding, f"--prime={prime}", "--temperature", temperature, "--val", val,
                 *"--sample_length 20 --seqlength 3".split()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)     # of the codec unicode_escape
            done = script.main("", *script.small, *"--iters 2 --check_interval 1 --save a.npz --fname log.tsv".split(), *flags,
                               status=None)
            assert done.returncode in (0, 2) and not STEERS.search(done.stdout)
            assert (script.folder / "a.npz").exists() == (done.returncode == 0)
            if done.returncode == 0:
                again = script.main("--load a.npz --iters 0", *flags)
                assert done.stdout.endswith(again.stdout) and not STEERS.search(again.stdout)


def vocabulary(size):
    """Characters that UTF-8 has, in order."""
    return [chr(c) for c in range(0x20, 0x20 + size + 2048) if not 0xd800 <= c < 0xe000][:size]


@pytest.mark.parametrize("size", [256, 257, 65_536, 65_537])
def test_numbers_of_large_vocabularies(size):
    """Their type grows with the vocabulary; beyond 65,536 it has four bytes."""
    vocab = vocabulary(size)
    ids, _ = COMMON.encode("".join(vocab), vocab, "text")
    assert ids.dtype == np.min_scalar_type(size - 1) and (ids == np.arange(size)).all()


def test_a_large_vocabulary(script):
    (script.folder / "text.txt").write_text("".join(vocabulary(65_600)), encoding="utf-8", newline="")
    script.main("", *script.small, *"--hidden 2 --batchsize 1 --seqlength 2 --val 0 --iters 1 --save a.npz".split())
    assert list(map(chr, arrays(script.folder / "a.npz")["vocabulary"])) == vocabulary(65_600)
    script.main("--load a.npz --iters 0 --sample_length 3 --temperature 1e30")


def test_a_name_that_steers_a_terminal(script):
    """Names of files come from elsewhere, too."""
    name = "\x1b[2J\x9b31m.txt"
    (script.folder / "text.txt").rename(script.folder / name)
    done = script.main("", *script.small, "--iters", 1, "--data", name)
    assert r"\x1b[2J\x9b31m.txt" in done.stdout and not STEERS.search(done.stdout)
    assert r"\x1b[2J" in script.main("", *script.small, "--iters", 1, "--data", name + "\x07", status=2).stderr
