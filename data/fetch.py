#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["pooch>=1.8", "tqdm"]
# ///
"""Fetch a text to train on:   uv run data/fetch.py NAME

or `pip install -r data/requirements.txt`, and `python data/fetch.py NAME`; --help lists the texts.
A text is only put in its place when its sum is right: it is there whole or not at all.
"""
import argparse
import os
import signal
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import command                                                  # noqa: E402

# name: what, address, sum of the archive, {file: (its name in the archive, or download; its sum)}
SOURCES = {
    "alice29": (
        "Alice in Wonderland, 0.2 MB: first runs, quick checks",
        "https://corpus.canterbury.ac.nz/resources/cantrbry.tar.gz", None, {"alice29.txt": (
            "alice29.txt", "7467306ee0feed4971260f3c87421154a05be571d944e9cb021a5713700c38f0")}),
    "tinyshakespeare": (
        "40,000 lines of plays, 1.1 MB: samples that are fun to read",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        None, {"tinyshakespeare.txt": (
            "download", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed")}),
    "ptb": (
        "Penn Treebank, 6 MB in three files: a small benchmark",
        "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
        "md5:30177ea32e27c525793142b6bf2c8e2d",
        {f"ptb.{part}.txt": (f"simple-examples/data/ptb.{part}.txt", None)
         for part in ("train", "valid", "test")}),
    "text8": (
        "Wikipedia in a-z and space, 100 MB: a benchmark",
        "http://mattmahoney.net/dc/text8.zip", None, {"text8.txt": (
            "text8", "6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7")}),
    "enwik8": (
        "Wikipedia as it is, markup and all, 100 MB: a benchmark by byte",
        "http://mattmahoney.net/dc/enwik8.zip", None, {"enwik8.txt": (
            "enwik8", "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8")})}


def fetch(name, folder):
    """Bring a text to a folder; returns a line that says so. An error leaves the folder as it was.
    Of ptb, which has a sum of its archive alone, what is already there counts as right."""
    import pooch
    pooch.get_logger().setLevel("ERROR")
    _, url, archive_sum, files = SOURCES[name]

    def right(path, known):
        return os.path.isfile(path) and known in (None, pooch.file_hash(path))
    there = [file for file in files if os.path.lexists(os.path.join(folder, file))]
    for file in there:
        if not right(os.path.join(folder, file), files[file][1]):
            raise ValueError(f"{file} is there, but it is not the known text: rename or remove it")
    if len(there) == len(files):
        return f"{', '.join(files)}: already there, nothing fetched"
    unpack = {"zip": pooch.Unzip, "gz": pooch.Untar, "tgz": pooch.Untar}.get(url.split(".")[-1])
    with tempfile.TemporaryDirectory(prefix=f"fetch-{name}-", dir=folder) as work:
        unpack = unpack and unpack([member for member, _ in files.values()], ".")
        pooch.retrieve(url, archive_sum, "download", work, unpack, progressbar=sys.stderr.isatty())
        for file, (member, known) in files.items():
            if not right(os.path.join(work, member), known):
                raise ValueError(f"{file} is not the known text; nothing is kept")
        for file, (member, _) in files.items():
            os.replace(os.path.join(work, member), os.path.join(folder, file))
    return f"{', '.join(files)}: fetched and checked"


def work(argv):
    """The command line; fails if the text cannot be had."""
    p = command.Parser(prog="fetch.py", formatter_class=argparse.RawTextHelpFormatter)
    p.epilog = "\n".join(f"  {name:16} {what}" for name, (what, *_) in SOURCES.items())
    p.add_argument("name", metavar="NAME", choices=SOURCES)
    p.add_argument("--out", metavar="DIR", default=os.path.dirname(os.path.abspath(__file__)),
                   help="folder to put it in (default: where fetch.py is)")
    args = p.parse_args(argv)
    try:
        said = fetch(args.name, args.out)
    except ImportError:
        raise command.Failure("this needs pooch and tqdm: pip install -r data/requirements.txt")
    except Exception as e:                              # of the network, an archive, the disk
        raise command.Failure(f"{args.name}: {e}")
    command.say(said)


def main(argv=None):
    """Run the command line; returns the exit status."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))     # cleans up
    return command.run("fetch.py", work, argv)


if __name__ == "__main__":
    command.leave(main())
