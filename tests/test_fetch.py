"""Tests of data/fetch.py against a server on 127.0.0.1, which has small texts; no internet."""
import hashlib
import http.server
import io
import pathlib
import runpy
import tarfile
import threading
import zipfile

import pytest

from conftest import ROOT, python

pytest.importorskip("pooch")
SCRIPT = ROOT / "data" / "fetch.py"
TEXT = b"It was the best of tests.\n" * 999
PTB = {f"simple-examples/data/ptb.{part}.txt": part.encode() for part in ("train", "valid", "test")}


def tgz(members):
    """A tar.gz of {name: content}."""
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w:gz") as archive:
        for name, content in members.items():
            (info := tarfile.TarInfo(name)).size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD = {"/cantrbry.tar.gz": tgz({"other.txt": b"no", "alice29.txt": TEXT}), "/input.txt": TEXT,
        "/simple-examples.tgz": tgz({"simple-examples/README": b"no", **PTB}),
        "/text8.zip": zipped({"text8": TEXT}),
        "/enwik8.zip": zipped({"other": b"no", "enwik8": TEXT})}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body, length = self.server.answers.get(self.path), None
        self.server.asked.append(self.path)
        if body is None:
            return self.send_error(404)
        if isinstance(body, tuple):                     # cut off: more is announced than comes
            body, length = body
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers, server.asked = dict(GOOD), []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def fetch(server, tmp_path, capsys, monkeypatch):
    """fetch(NAME, expected status): what it prints, and what is in the folder afterwards."""
    for name in "no_proxy", "NO_PROXY":
        monkeypatch.setenv(name, "127.0.0.1")
    main, total = runpy.run_path(str(SCRIPT))["main"], hashlib.sha256(TEXT).hexdigest()
    sources = main.__globals__["SOURCES"]
    for name, (what, url, known, files) in sources.items():
        url = f"http://127.0.0.1:{server.server_port}/{url.rsplit('/', 1)[1]}"
        known = known and f"md5:{hashlib.md5(GOOD['/simple-examples.tgz']).hexdigest()}"
        files = {file: (member, was and total) for file, (member, was) in files.items()}
        sources[name] = what, url, known, files

    def fetch(name, status=0):
        assert main([name, "--out", str(tmp_path)]) == status
        out, err = capsys.readouterr()
        assert (out + err).count("\n") == 1 and bool(err) == bool(status)
        return out + err, {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    return fetch


@pytest.mark.parametrize("name", ["alice29", "tinyshakespeare", "ptb", "text8", "enwik8"])
def test_each_text_arrives_once(name, fetch, server):
    texts = ({pathlib.PurePath(path).name: text for path, text in PTB.items()} if name == "ptb"
             else {f"{name}.txt": TEXT})
    for expected in "fetched and checked", "nothing fetched":
        said, there = fetch(name)
        assert expected in said and there == texts
    assert len(server.asked) == 1


@pytest.mark.parametrize("name, path, body, word", [
    ("alice29", "/cantrbry.tar.gz", tgz({"alice29.txt": TEXT[1:]}), "not the known text"),
    ("alice29", "/cantrbry.tar.gz", tgz({"../alice29.txt": TEXT}), "alice29"),
    ("alice29", "/cantrbry.tar.gz", b"no archive", "alice29"),
    ("alice29", "/cantrbry.tar.gz", (GOOD["/cantrbry.tar.gz"][:-99], 10**6), "alice29"),
    ("tinyshakespeare", "/input.txt", None, "404"),
    ("tinyshakespeare", "/input.txt", TEXT + b"!", "not the known text"),
    ("ptb", "/simple-examples.tgz", tgz(PTB), "hash"),
    ("enwik8", "/enwik8.zip", zipped({"text8": TEXT}), "not the known text")])
def test_what_is_wrong_leaves_all_as_it_was(name, path, body, word, fetch, server, tmp_path):
    (tmp_path / "mine.txt").write_bytes(b"mine")
    server.answers[path] = body
    said, there = fetch(name, status=2)
    assert word in said and there == {"mine.txt": b"mine"}


def test_an_edited_text_is_not_overwritten(fetch, server, tmp_path):
    (tmp_path / "text8.txt").write_bytes(TEXT + b"my note")
    said, there = fetch("text8", status=2)
    assert "text8.txt is there" in said and there == {"text8.txt": TEXT + b"my note"}
    assert server.asked == []


def test_command_line_lists_the_texts():
    text = python(ROOT, SCRIPT, "--help").stdout
    assert all(f"  {name}" in text for name in ("ptb", "text8"))
