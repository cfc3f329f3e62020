"""Tests of data/fetch.py against a server on 127.0.0.1; nothing here needs the internet.

The table in fetch.py is pointed at small texts that the server has. Most tests run main() in this
process; those about signals, limits and terminals run it in another one, which patches the table in
the same way.
"""
import bz2
import contextlib
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zipfile

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "data" / "fetch.py"
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, limits or terminals")

letters = random.Random(0)


def some_text(length):
    """Text that does not pack to nothing, as bytes."""
    return "".join(letters.choices("abcdefghijklmnopqrstuvwxyz \n", k=length)).encode()


ALICE, PLAYS, WIKI = some_text(20_000), some_text(150_000), some_text(30_000)
PTB = {f"ptb.{part}.txt": some_text(length)
       for part, length in (("train", 9_000), ("valid", 4_000), ("test", 5_000))}
KINDS = ["alice29", "tinyshakespeare", "ptb", "text8", "enwik8"]


# ---- archives, good and bad

def tgz(*members, pack=gzip.compress):
    """A tar.gz of (name, content) or of TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return pack(buffer.getvalue())


def link(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    """A zip of (name, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def ptb_tgz(texts):
    return tgz(("./simple-examples/README", b"hello"),
               *((f"./simple-examples/data/{file}", text) for file, text in texts.items()))


# ---- the server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        answer = server.answers.get(self.path)
        if answer is None:
            self.send_error(404)
            return
        if callable(answer):
            answer(self)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []                      # paths, in the order of asking
        self.begun = threading.Event()          # a slow answer has begun
        self.release = threading.Event()        # and may end
        self.answers = {                        # path -> body, or what to do with the handler
            "/cantrbry.tar.gz": tgz(("./asyoulik.txt", b"other"), ("alice29.txt", ALICE)),
            "/input.txt": PLAYS,
            "/simple-examples.tgz": ptb_tgz(PTB),
            "/text8.zip": zipped(("text8", WIKI)),
            "/enwik8.zip": zipped(("other", b"other"), ("enwik8", WIKI)),
        }

    def address(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request, client_address):
        pass                                    # clients that hang up are part of the tests


def truncated(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(PLAYS)))
    handler.end_headers()
    handler.wfile.write(PLAYS[:-1])


def slow(handler):
    """Half of the text, and then nothing until the test is over."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(PLAYS)))
    handler.end_headers()
    handler.wfile.write(PLAYS[:100_000])
    handler.wfile.flush()
    handler.server.begun.set()
    handler.server.release.wait(60)


def endless(handler):
    """A body without a length; not quite endless, so that a test can fail."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(bytes(1 << 16))


@contextlib.contextmanager
def serving():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        yield server


# ---- fetch.py, with its table pointed at the server

def patches(server):
    """What to change in each row of the table."""
    def sha256(text):
        return hashlib.sha256(text).hexdigest()
    return {
        "alice29": dict(url=server.address("/cantrbry.tar.gz"), size=len(ALICE),
                        text_sha256=sha256(ALICE)),
        "tinyshakespeare": dict(url=server.address("/input.txt"), size=len(PLAYS),
                                text_sha256=sha256(PLAYS)),
        "ptb": dict(url=server.address("/simple-examples.tgz"), size=10_000,
                    archive_md5=hashlib.md5(server.answers["/simple-examples.tgz"]).hexdigest()),
        "text8": dict(url=server.address("/text8.zip"), size=len(WIKI), text_sha256=sha256(WIKI)),
        "enwik8": dict(url=server.address("/enwik8.zip"), size=len(WIKI), text_sha256=sha256(WIKI)),
    }


WRAPPER = """
import importlib.util, json, os, sys
sys.dont_write_bytecode = True
script, patches, before, *arguments = sys.argv[1:]
spec = importlib.util.spec_from_file_location("fetch", script)
fetch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fetch)
for name, patch in json.loads(patches).items():
    fetch.SOURCES[name].update(patch)
exec(before)
sys.exit(fetch.main(arguments))
"""


def command(server, *arguments, before=""):
    """The command that runs fetch.py's main in another process, after the statements `before`."""
    return [sys.executable, "-c", WRAPPER, str(SCRIPT), json.dumps(patches(server)), before,
            *map(str, arguments)]


def run(*arguments, **options):
    """That command, run to its end."""
    return subprocess.run(command(*arguments, **options), capture_output=True, text=True,
                          timeout=60)


@pytest.fixture
def untouched(monkeypatch):
    """The module, freshly imported by path; no __pycache__ appears among the texts."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("fetch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fetch(untouched, server):
    """The module with its table pointed at the server; signal handlers are put back afterwards."""
    module = untouched
    for name, patch in patches(server).items():
        module.SOURCES[name].update(patch)
    handlers = {number: signal.getsignal(number) for number in module.SIGNALS}
    yield module
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path):
    """An empty folder to fetch to."""
    folder = tmp_path / "texts"
    folder.mkdir()
    return folder


def listing(folder):
    """Everything under a folder: path -> content, None for folders."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")}


def texts_of(name):
    """What a good run leaves in an empty folder."""
    if name != "ptb":
        return {f"{name}.txt": {"alice29": ALICE, "tinyshakespeare": PLAYS}.get(name, WIKI)}
    sums = "".join(f"{hashlib.sha256(text).hexdigest()}  {file}\n" for file, text in PTB.items())
    return {**PTB, "ptb.sums": sums.encode()}


def assert_refused(status, captured, *words):
    """Status 2, nothing on stdout, one line on stderr that has these words."""
    assert status == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and captured.err.endswith("\n")
    assert captured.err.startswith("fetch.py: ")
    for word in words:
        assert word in captured.err


# ---- what comes when all goes well

@pytest.mark.parametrize("name", KINDS)
def test_each_text_arrives(fetch, server, folder, capsys, name):
    assert fetch.main([name, "--out", str(folder)]) == 0
    assert listing(folder) == texts_of(name)
    captured = capsys.readouterr()
    assert f"{name}.t" in captured.out and captured.err == ""
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", KINDS)
def test_what_is_there_is_not_fetched_again(fetch, server, folder, capsys, name):
    assert fetch.main([name, "--out", str(folder)]) == 0
    capsys.readouterr()
    before = listing(folder)
    assert fetch.main([name, "--out", str(folder)]) == 0
    assert "already there" in capsys.readouterr().out
    assert len(server.requests) == 1
    assert listing(folder) == before


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("damage",
                         [lambda text: text[:-1] + b"#", lambda text: text[:-1],
                          lambda text: text + b"#", lambda text: b""],
                         ids=["changed", "shorter", "longer", "empty"])
def test_a_wrong_file_is_replaced(fetch, server, folder, name, damage):
    for file in texts_of(name):
        fetch.main([name, "--out", str(folder)])
        (folder / file).write_bytes(damage((folder / file).read_bytes()))
        server.requests.clear()
        assert fetch.main([name, "--out", str(folder)]) == 0
        assert len(server.requests) == 1
        assert listing(folder) == texts_of(name)


def test_replacing_is_atomic(fetch, folder):
    (folder / "alice29.txt").write_bytes(b"mine")
    os.link(folder / "alice29.txt", folder / "another name")
    assert fetch.main(["alice29", "--out", str(folder)]) == 0
    # not written into: renamed over
    assert listing(folder) == {**texts_of("alice29"), "another name": b"mine"}


def test_a_missing_ptb_file_is_fetched(fetch, server, folder):
    for file in texts_of("ptb"):
        fetch.main(["ptb", "--out", str(folder)])
        (folder / file).unlink()
        assert fetch.main(["ptb", "--out", str(folder)]) == 0
        assert listing(folder) == texts_of("ptb")


def test_what_a_killed_run_left_is_replaced(fetch, folder):
    left = folder / "fetch-alice29.part"
    left.mkdir()
    (left / "alice29.txt").write_bytes(b"half")
    assert fetch.main(["alice29", "--out", str(folder)]) == 0
    assert listing(folder) == texts_of("alice29")


def test_a_body_without_a_length(fetch, server, folder):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(PLAYS)
    server.answers["/input.txt"] = answer
    assert fetch.main(["tinyshakespeare", "--out", str(folder)]) == 0
    assert listing(folder) == texts_of("tinyshakespeare")


def test_the_default_folder_is_the_one_of_the_script(fetch, monkeypatch, folder, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "__file__", str(folder / "fetch.py"))
    assert fetch.main(["alice29"]) == 0
    assert listing(folder) == texts_of("alice29")


# ---- what must not pass

TAMPERED = {
    "alice29": ("/cantrbry.tar.gz", tgz(("alice29.txt", ALICE[:-1] + b"#"))),
    "tinyshakespeare": ("/input.txt", PLAYS[:-1] + b"#"),
    "ptb": ("/simple-examples.tgz",
            ptb_tgz({**PTB, "ptb.test.txt": PTB["ptb.test.txt"][:-1] + b"#"})),
    "text8": ("/text8.zip", zipped(("text8", WIKI[:-1] + b"#"))),
    "enwik8": ("/enwik8.zip", zipped(("enwik8", WIKI[:-1]))),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("there", [False, True], ids=["empty", "wrong file there"])
def test_a_tampered_text_leaves_all_as_it_was(fetch, server, folder, capsys, name, there):
    path, body = TAMPERED[name]
    server.answers[path] = body
    if there:
        for file in texts_of(name):
            (folder / file).write_bytes(b"mine")
    before = listing(folder)
    assert_refused(fetch.main([name, "--out", str(folder)]), capsys.readouterr(), name,
                   "not the known one")
    assert listing(folder) == before


def bad_tar(*members):
    return "alice29", "/cantrbry.tar.gz", tgz(*members)


def bad_zip(*members, **options):
    return "text8", "/text8.zip", zipped(*members, **options)


BAD_ARCHIVES = {
    "tar without the member": (*bad_tar(("alice30.txt", ALICE)), "no plain file alice29.txt"),
    "tar, another folder": (*bad_tar(("x/alice29.txt", ALICE)), "no plain file"),
    "tar, path upwards": (*bad_tar(("../alice29.txt", ALICE)), "no plain file"),
    "tar, path up and down": (*bad_tar(("x/../alice29.txt", ALICE)), "no plain file"),
    "tar, absolute path": (*bad_tar(("/alice29.txt", ALICE)), "no plain file"),
    "tar, symlink": (*bad_tar(("good", ALICE), link("alice29.txt", tarfile.SYMTYPE, "good")),
                     "no plain file"),
    "tar, hard link": (*bad_tar(("good", ALICE), link("alice29.txt", tarfile.LNKTYPE, "good")),
                       "no plain file"),
    "tar, folder": (*bad_tar(link("alice29.txt", tarfile.DIRTYPE, "")), "no plain file"),
    "tar, member too large": (*bad_tar(("alice29.txt", ALICE + b"#")),
                              "20,001 bytes, expected at most 20,000"),
    "tar, cut off": ("alice29", "/cantrbry.tar.gz", tgz(("alice29.txt", ALICE))[:-100], "damaged"),
    "tar, not gzip": ("alice29", "/cantrbry.tar.gz", PLAYS, "damaged"),
    "tar, gzip of no tar": ("alice29", "/cantrbry.tar.gz", gzip.compress(PLAYS), "damaged"),
    "tar, bz2": ("alice29", "/cantrbry.tar.gz", tgz(("alice29.txt", ALICE), pack=bz2.compress),
                 "damaged"),
    "zip without the member": (*bad_zip(("text9", WIKI)), "no plain file text8"),
    "zip, path upwards": (*bad_zip(("../text8", WIKI)), "no plain file"),
    "zip, absolute path": (*bad_zip(("/text8", WIKI)), "no plain file"),
    "zip, folder": (*bad_zip(("text8/", b"")), "no plain file"),
    "zip, member too large": (*bad_zip(("text8", WIKI + b"#")),
                              "30,001 bytes, expected at most 30,000"),
    "zip, a method without a bound": (*bad_zip(("text8", WIKI), method=zipfile.ZIP_BZIP2),
                                      "no plain file"),
    "zip, cut off": ("text8", "/text8.zip", zipped(("text8", WIKI))[:-30], "damaged"),
    "zip, a flipped bit": ("text8", "/text8.zip", zipped(("text8", WIKI), method=zipfile.ZIP_STORED)
                           .replace(WIKI, WIKI[:-1] + b"#"), "damaged"),
    "empty": ("text8", "/text8.zip", b"", "damaged"),
}


@pytest.mark.parametrize("name, path, body, word", BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_a_bad_archive_is_refused(fetch, server, folder, capsys, name, path, body, word):
    server.answers[path] = body
    assert_refused(fetch.main([name, "--out", str(folder)]), capsys.readouterr(), name, word)
    assert listing(folder) == {}
    assert listing(folder.parent) == {"texts": None}


def test_a_zip_that_is_a_symlink_is_not_followed(fetch, server, folder, capsys):
    (folder / "secret").write_bytes(WIKI)
    info = zipfile.ZipInfo("text8")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    server.answers["/text8.zip"] = zipped((info, str(folder / "secret")))
    assert_refused(fetch.main(["text8", "--out", str(folder)]), capsys.readouterr(),
                   "not the known one")
    assert listing(folder) == {"secret": WIKI}


def peak(call):
    """Bytes that a call had allocated at once, at most."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_tar_bomb_is_not_unpacked(fetch, server, folder, capsys):
    fetch.SOURCES["alice29"]["download"] = 100_000
    server.answers["/cantrbry.tar.gz"] = tgz(("zeros", bytes(30_000_000)), ("alice29.txt", ALICE))
    assert peak(lambda: fetch.main(["alice29", "--out", str(folder)])) < 10_000_000
    assert_refused(2, capsys.readouterr(), "unpacks to more than")
    assert listing(folder) == {}


def test_a_zip_bomb_that_lies_about_its_size_is_not_unpacked(fetch, server, folder, capsys):
    honest = zipped(("text8", bytes(30_000_000)))
    server.answers["/text8.zip"] = honest.replace((30_000_000).to_bytes(4, "little"),
                                                  (1_000).to_bytes(4, "little"))
    assert peak(lambda: fetch.main(["text8", "--out", str(folder)])) < 10_000_000
    assert_refused(2, capsys.readouterr())
    assert listing(folder) == {}


# ---- the network

def test_a_truncated_body(fetch, server, folder, capsys):
    server.answers["/input.txt"] = truncated
    assert_refused(fetch.main(["tinyshakespeare", "--out", str(folder)]), capsys.readouterr(),
                   "cut off", "149,999")
    assert listing(folder) == {}


@pytest.mark.parametrize("length", [True, False])
def test_a_body_larger_than_expected(fetch, server, folder, capsys, length):
    fetch.SOURCES["tinyshakespeare"]["download"] = len(PLAYS) - 1
    if not length:
        server.answers["/input.txt"] = endless
    assert_refused(fetch.main(["tinyshakespeare", "--out", str(folder)]), capsys.readouterr(),
                   "more than the 149,999")
    assert listing(folder) == {}


def test_a_page_that_is_not_there(fetch, server, folder, capsys):
    del server.answers["/input.txt"]
    assert_refused(fetch.main(["tinyshakespeare", "--out", str(folder)]), capsys.readouterr(),
                   "404", "/input.txt")
    assert listing(folder) == {}


def test_nobody_listens(fetch, folder, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))             # bound, but not listening: a connection is refused
        port = free.getsockname()[1]
        fetch.SOURCES["alice29"]["url"] = f"http://127.0.0.1:{port}/cantrbry.tar.gz"
        assert_refused(fetch.main(["alice29", "--out", str(folder)]), capsys.readouterr(),
                       "127.0.0.1")
    assert listing(folder) == {}


def test_a_server_that_falls_silent(fetch, server, folder, capsys, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.05)
    server.answers["/input.txt"] = slow
    assert_refused(fetch.main(["tinyshakespeare", "--out", str(folder)]), capsys.readouterr(),
                   "timed out")
    assert listing(folder) == {}


@pytest.mark.parametrize("answer", [
    b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"HTTP/1.1 404 \x1b[31mred\x1b[0m\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[nonsense/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"],
    ids=["nothing", "no HTTP", "bad chunks", "control characters", "nonsense redirection",
         "redirection to a file"])
def test_a_server_that_talks_nonsense(fetch, server, folder, capsys, answer):
    def talk(handler):
        handler.wfile.write(answer)
        handler.close_connection = True
    server.answers["/input.txt"] = talk
    status, captured = fetch.main(["tinyshakespeare", "--out", str(folder)]), capsys.readouterr()
    assert_refused(status, captured, "/input.txt")
    assert captured.err[:-1].isprintable()
    assert listing(folder) == {}


# ---- the disk

@pytest.mark.parametrize("name, file",
                         [(name, file) for name in ("alice29", "ptb") for file in texts_of(name)])
def test_a_target_that_is_a_folder(fetch, server, folder, capsys, name, file):
    (folder / file).mkdir()
    before = listing(folder)
    assert_refused(fetch.main([name, "--out", str(folder)]), capsys.readouterr(), file)
    assert listing(folder) == before
    assert server.requests == []


def test_a_folder_that_is_not_there_or_none(fetch, server, folder, capsys):
    (folder / "file").write_bytes(b"mine")
    for out in folder / "nowhere", folder / "file":
        assert_refused(fetch.main(["alice29", "--out", str(out)]), capsys.readouterr(), out.name)
    assert listing(folder) == {"file": b"mine"}
    assert server.requests == []


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(fetch, server, folder, capsys):
    folder.chmod(0o555)
    try:
        assert_refused(fetch.main(["alice29", "--out", str(folder)]), capsys.readouterr(),
                       "ermission denied")
        assert listing(folder) == {}
        assert server.requests == []
    finally:
        folder.chmod(0o755)


def test_a_folder_that_refuses_new_entries(fetch, server, folder, capsys, monkeypatch):
    def refuse(path, *args):
        raise PermissionError(13, "Permission denied", str(path))
    monkeypatch.setattr(fetch.os, "mkdir", refuse)
    assert_refused(fetch.main(["alice29", "--out", str(folder)]), capsys.readouterr(),
                   "Permission denied")
    assert server.requests == []


def test_a_stranger_in_place_of_the_part_folder_is_kept(fetch, folder, capsys):
    (folder / "fetch-alice29.part").write_bytes(b"mine")
    assert_refused(fetch.main(["alice29", "--out", str(folder)]), capsys.readouterr(),
                   "fetch-alice29.part")
    assert listing(folder) == {"fetch-alice29.part": b"mine"}


FULL = """
import resource
# ptb.valid.txt fits, the others do not
resource.setrlimit(resource.RLIMIT_FSIZE, (4_500, resource.RLIM_INFINITY))
"""


@posix
@pytest.mark.parametrize("name", ["alice29", "ptb"])
@pytest.mark.parametrize("there", [False, True], ids=["empty", "wrong file there"])
def test_a_disk_that_is_full(server, folder, name, there):
    # The texts in another order, so that the first one still fits.
    before = FULL + ("texts = fetch.SOURCES['ptb']['texts']\n"
                     "texts['ptb.train.txt'] = texts.pop('ptb.train.txt')\n")
    if there:
        for file in texts_of(name):
            (folder / file).write_bytes(b"mine")
    found = listing(folder)
    done = run(server, name, "--out", folder, before=before)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"fetch.py: {name}: [Errno")
    assert listing(folder) == found
    assert len(server.requests) == 1


# ---- being stopped

@posix
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_download(server, folder, number, status):
    server.answers["/input.txt"] = slow
    (folder / "tinyshakespeare.txt").write_bytes(b"mine")
    process = subprocess.Popen(command(server, "tinyshakespeare", "--out", folder),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.begun.wait(60)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (status, "", "")
    assert listing(folder) == {"tinyshakespeare.txt": b"mine"}


# Signals to itself, from the second call on: while ptb's second file is written, and again while
# that is cleaned up
# (the first call of rmtree sweeps before the download).
SIGNAL_TWICE = """
def signalling(real, first):
    calls = []
    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) >= first:
            os.kill(os.getpid(), %d)
        return real(*args, **kwargs)
    return call
os.fsync = signalling(os.fsync, 2)
fetch.shutil.rmtree = signalling(fetch.shutil.rmtree, 2)
"""


@posix
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_writing_and_again_while_cleaning_up(server, folder, number, status):
    done = run(server, "ptb", "--out", folder, before=SIGNAL_TWICE % number)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
    assert listing(folder) == {}


@posix
def test_a_signal_between_the_renames_comes_too_late(server, folder):
    before = ("replace = os.replace\n"
              "def slowly(*args):\n"
              "    replace(*args); os.kill(os.getpid(), 15); os.kill(os.getpid(), 2)\n"
              "os.replace = slowly\n")
    done = run(server, "ptb", "--out", folder, before=before)
    assert (done.returncode, done.stderr) == (0, "")
    assert listing(folder) == texts_of("ptb")


@posix
def test_a_killed_run_leaves_at_most_one_part(server, folder):
    before = "os.fsync = lambda number: os.kill(os.getpid(), 9)"
    done = run(server, "ptb", "--out", folder, before=before)
    assert done.returncode == -9
    assert [path.name for path in folder.iterdir()] == ["fetch-ptb.part"]
    done = run(server, "ptb", "--out", folder)
    assert done.returncode == 0
    assert listing(folder) == texts_of("ptb")


# ---- what is said

def on_a_terminal(command):
    """Run a command with stderr on a terminal; return the status and what the terminal got."""
    import pty
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 4096):
            seen += piece
    except OSError:                             # how Linux says that the other end is closed
        pass
    os.close(ours)
    return process.wait(), seen.decode()


@posix
def test_progress_on_a_terminal(server, folder):
    status, seen = on_a_terminal(command(server, "tinyshakespeare", "--out", folder))
    assert status == 0
    lines = seen.split("\r")
    assert lines[0] == "" and lines[-1] == "\n"             # one line, rewritten, and ended
    assert seen.count("\n") == 1
    assert lines[1] == "tinyshakespeare: 65,536 of 150,000 bytes, 43 %"
    assert lines[-2] == "tinyshakespeare: 150,000 of 150,000 bytes, 100 %"


@posix
def test_a_failure_on_a_terminal_has_its_own_line(server, folder):
    server.answers["/input.txt"] = truncated
    status, seen = on_a_terminal(command(server, "tinyshakespeare", "--out", folder))
    assert status == 2
    *progress, message, end = seen.split("\r\n")
    assert len(progress) == 1 and "%" in progress[0]
    assert message.startswith("fetch.py: tinyshakespeare: ") and end == ""


def test_quiet_without_a_terminal(server, folder):
    done = run(server, "tinyshakespeare", "--out", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("arguments, stream",
                         [([], "err"), (["alice30"], "err"), (["--help"], "out")])
def test_the_texts_are_listed(fetch, capsys, arguments, stream):
    with pytest.raises(SystemExit) as stopped:
        fetch.main(arguments)
    assert stopped.value.code == (0 if arguments == ["--help"] else 2)
    said = getattr(capsys.readouterr(), stream)
    for name, row in fetch.SOURCES.items():
        line = next(line for line in said.splitlines() if line.split()[:1] == [name])
        assert row["what"] in line and " MB " in line


# ---- the table itself

def test_the_table(untouched):
    assert list(untouched.SOURCES) == KINDS
    for name, row in untouched.SOURCES.items():
        assert row["url"].startswith(("https://", "http://")) and row["what"]
        assert row["download"] > 0 and row["size"] > 0
        sums = {"text_sha256": 64, "archive_md5": 32}
        (kind, length), = [(kind, length) for kind, length in sums.items() if kind in row]
        assert len(row[kind]) == length and set(row[kind]) <= set("0123456789abcdef")
        assert len(row["texts"]) == (3 if name == "ptb" else 1)
        assert all(file.startswith(name + ".") and file.endswith(".txt") for file in row["texts"])
        assert not any(member and member.startswith(("/", "./"))
                       for member in row["texts"].values())
