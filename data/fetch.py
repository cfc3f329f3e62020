"""Fetch a text to train on:   python data/fetch.py NAME      (without NAME: which texts there are)

Everything happens in memory until the text is known to be right: download, unpack, compare with
the sum in the table below. Only then is it written, in a folder fetch-NAME.part, and renamed. So a
text is there whole or not at all, and a run that is stopped or fails leaves the folder as it was.
The price is memory: some 300 MB for text8 and enwik8.

Exit status: 0 the text is there and right, 2 it could not be fetched (one line says why), 130
Ctrl-C, 143 SIGTERM."""
import argparse
import gzip
import hashlib
import http.client
import io
import os
import shutil
import signal
import sys
import tarfile
import urllib.request
import zipfile

# texts         file to write -> member of the archive; None: what is downloaded is the text
# size          bytes of the text, or for ptb of its three texts at most; no more is unpacked
# download      bytes that may come over the network at most: the true size, rounded up
# text_sha256   sum of the text. ptb has a sum of its archive alone, archive_md5: what comes out of
#               the right archive is right. The texts' own sums are then kept in `record`
SOURCES = {
    "alice29": dict(
        what="Alice in Wonderland: first runs, quick checks",
        url="https://corpus.canterbury.ac.nz/resources/cantrbry.tar.gz", download=2_000_000,
        texts={"alice29.txt": "alice29.txt"}, size=152_089,
        text_sha256="7467306ee0feed4971260f3c87421154a05be571d944e9cb021a5713700c38f0"),
    "tinyshakespeare": dict(
        what="40,000 lines of plays: samples that are fun to read",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
            "input.txt",
        download=1_200_000, texts={"tinyshakespeare.txt": None}, size=1_115_394,
        text_sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
    "ptb": dict(
        what="Penn Treebank, in three files: a small benchmark",
        url="http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz", download=35_000_000,
        texts={"ptb.train.txt": "simple-examples/data/ptb.train.txt",
               "ptb.valid.txt": "simple-examples/data/ptb.valid.txt",
               "ptb.test.txt": "simple-examples/data/ptb.test.txt"}, size=6_000_000,
        archive_md5="30177ea32e27c525793142b6bf2c8e2d", record="ptb.sums"),
    "text8": dict(
        what="Wikipedia in a-z and space: a benchmark",
        url="http://mattmahoney.net/dc/text8.zip", download=32_000_000,
        texts={"text8.txt": "text8"}, size=100_000_000,
        text_sha256="6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7"),
    "enwik8": dict(
        what="Wikipedia as it is, markup and all: a benchmark by byte",
        url="http://mattmahoney.net/dc/enwik8.zip", download=37_000_000,
        texts={"enwik8.txt": "enwik8"}, size=100_000_000,
        text_sha256="2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"),
}
TIMEOUT = 30            # seconds of silence after which a server counts as gone
CHUNK = 1 << 16         # bytes between two looks at the progress line
# a tar may unpack to this many times `download`: text packs to a third, a bomb to a thousandth
RATIO = 8
SIGNALS = signal.SIGINT, signal.SIGTERM


class Failure(Exception):
    """The text cannot be had; the message says why."""


def fetch(name, folder):
    """Bring a text to a folder and return a line that says so. Failure or OSError: the folder is as
    it was before."""
    row = SOURCES[name]
    done = ", ".join(row["texts"])
    if is_there(row, folder):
        return f"{done}: already there and right, nothing fetched"
    # a folder, so that ptb's files come all or none
    part = os.path.join(folder, f"fetch-{name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)     # what a killed run left
        os.mkdir(part)
        # may we write here? Better asked before a long download
        os.rmdir(part)
        body = download(name, row)
        if "archive_md5" in row:
            check("the archive", body, "md5", row["archive_md5"])
        files = unpack(row, body)
        if "text_sha256" in row:
            check(done, *files.values(), "sha256", row["text_sha256"])
        else:
            files[row["record"]] = sums(files)
        os.mkdir(part)
        for file, content in files.items():
            with open(os.path.join(part, file), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())           # some disks say only here that they are full
        ignore_signals()                            # the renames, too, are all or none
        for file in files:
            os.replace(os.path.join(part, file), os.path.join(folder, file))
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return f"{done}: fetched and checked"


def is_there(row, folder):
    """Whether all texts of a row are in the folder, with the sum of the table or those of the
    record."""
    def read(file, size):
        path = os.path.join(folder, file)
        if not os.path.exists(path):
            return b""                              # which is never right
        with open(path, "rb") as stream:            # OSError if it is a folder
            # the byte too many shows a file that is too long
            return stream.read(size + 1)
    texts = {file: read(file, row["size"]) for file in row["texts"]}
    if "record" in row:
        return read(row["record"], CHUNK) == sums(texts)
    return [digest(text, "sha256") for text in texts.values()] == [row["text_sha256"]]


def digest(data, kind):
    """Sum of bytes, in hexadecimal. (usedforsecurity: without it, some systems have no md5.)"""
    return hashlib.new(kind, data, usedforsecurity=False).hexdigest()


def sums(texts):
    """The record of some texts (file -> bytes): lines, as bytes, that `sha256sum -c` understands
    too."""
    return "".join(f"{digest(text, 'sha256')}  {file}\n" for file, text in texts.items()).encode()


def check(what, data, kind, expected):
    """Failure if bytes do not have the expected sum."""
    found = digest(data, kind)
    if found != expected:
        raise Failure(f"{what} is not the known one, nothing kept: {len(data):,} bytes, "
                      f"{kind} {found}")


def download(name, row):
    """The bytes at the row's address. Failure if the network or the server fails, or the body is
    cut or too large."""
    url, most, body, total = row["url"], row["download"], bytearray(), None
    progress = sys.stderr.isatty()
    # some hosts turn urllib's own away
    request = urllib.request.Request(url, headers={"User-Agent": "fetch.py"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            total = response.length                 # bytes; None if the server does not say
            while chunk := response.read(CHUNK):
                body += chunk
                if max(len(body), total or 0) > most:
                    raise Failure(f"{url}: more than the {most:,} bytes expected at most")
                if progress:
                    share = " bytes"
                    if total:
                        share = f" of {total:,} bytes, {100 * len(body) // total} %"
                    print(f"\r{name}: {len(body):,}{share}", end="", file=sys.stderr, flush=True)
    # ValueError: a redirection to nonsense
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failure(f"{url}: {error}")
    finally:
        if progress and body:
            print(file=sys.stderr)                  # what comes next has a line of its own
    if len(body) < (total or 0):
        raise Failure(f"{url}: cut off after {len(body):,} of {total:,} bytes")
    return bytes(body)


def unpack(row, body):
    """The row's texts, file -> bytes, from the bytes of a download. Failure if the archive is not
    as expected.

    Members are looked up by their exact names and read into memory: no path or link in an archive
    is ever followed.
    """
    if list(row["texts"].values()) == [None]:
        return dict.fromkeys(row["texts"], body)
    texts = {}
    try:
        if row["url"].endswith(".zip"):
            archive = zipfile.ZipFile(io.BytesIO(body))
            reader = archive.open
            members = {member.filename.removeprefix("./"): (member, member.file_size)
                       for member in archive.infolist()
                       # others: no bound
                       if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)}
        else:
            most = RATIO * row["download"]
            tar = gzip.GzipFile(fileobj=io.BytesIO(body)).read(most + 1)
            if len(tar) > most:
                raise Failure(f"the archive unpacks to more than {most:,} bytes")
            archive = tarfile.open(fileobj=io.BytesIO(tar), mode="r:")
            reader = archive.extractfile
            members = {member.name.removeprefix("./"): (member, member.size)
                       for member in archive if member.isreg()}
        for file, name in row["texts"].items():
            if name not in members:
                raise Failure(f"the archive has no plain file {name}")
            member, size = members[name]
            if size > row["size"]:
                raise Failure(f"{name} in the archive has {size:,} bytes, "
                              f"expected at most {row['size']:,}")
            # no more: a deflated member may hold more than it says
            texts[file] = reader(member).read(size)
    except Failure:
        raise
    except Exception as error:                      # a damaged archive raises a dozen kinds
        raise Failure(f"the archive is damaged: {error}")
    return texts


def ignore_signals():
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def stop(number, frame):
    """Signal handler: leave by way of every `finally`, with the shell's status for the signal."""
    # a second Ctrl-C would interrupt the cleaning up
    ignore_signals()
    sys.exit(128 + number)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """Without a name, or with a wrong one, the list of texts is what helps."""
        self.exit(2, f"{self.format_help()}\n{self.prog}: error: {message}\n")


def main(argv=None):
    """Run the command line (default: sys.argv's) and return the exit status."""
    for number in SIGNALS:
        signal.signal(number, stop)
    parser = Parser(
        prog="fetch.py", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Fetch a text to train on, and check that it is the right one.",
        epilog="texts:\n" + "\n".join(f"  {name:15} {row['size'] / 1e6:5.1f} MB  {row['what']}"
                                      for name, row in SOURCES.items()))
    parser.add_argument("name", metavar="NAME", choices=SOURCES, help="which text, see below")
    parser.add_argument("--out", metavar="DIR", default=os.path.dirname(os.path.abspath(__file__)),
                        help="folder to put it in (default: where fetch.py is)")
    args = parser.parse_args(argv)
    try:
        print(fetch(args.name, args.out))
        return 0
    except (Failure, OSError) as error:
        line = f"fetch.py: {args.name}: {error}"    # one line, whatever a server has put into it
        print("".join(c if c.isprintable() else " " for c in line), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
