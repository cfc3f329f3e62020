"""What the tests share: the scripts, ways to run them, and a small text.

Most tests run a script as a user does, in a process and a folder of its own. Where hundreds of runs or a fake clock are
needed, they call its main() in this process.
"""
import contextlib
import dataclasses
import functools
import importlib.util
import io
import os
import pathlib
import random
import re
import subprocess
import sys
import types
import unittest.mock

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODELS = [model for model in ("rnn", "lstm", "dnc") if (ROOT / f"{model}-numpy.py").exists()]
ENVIRONMENT = dict(os.environ)      # as it was before a test imported a script, which sets the number of BLAS threads
SMALL = "--hidden 8 --batchsize 4 --seqlength 10 --sample_length 0 --check_interval 0".split()
SMALL_MEMORY = "--locations 5 --width 4 --heads 2".split()

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, limits or devices")


def some_text(length=5000):
    """Words, sentences and lines of ASCII that were not written by anybody."""
    rng = random.Random(1)
    words = ["".join(rng.choice(["an", "be", "co", "du", "el", "fi", "go"]) for _ in range(rng.randint(1, 3))) for _ in range(50)]
    text = ""
    while len(text) < length:
        text += " ".join(rng.choices(words, k=rng.randint(3, 9))).capitalize() + rng.choice(".?!") + rng.choice(" \n")
    return text[:length]


@functools.cache
def load_module(path):
    """A script as a module; importing it has no effect but definitions."""
    spec = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclasses.dataclass
class Script:
    """One of the scripts, and the folder in which it runs; text.txt is there."""
    model: str
    folder: pathlib.Path

    @property
    def path(self):
        return ROOT / f"{self.model}-numpy.py"

    @property
    def module(self):
        return load_module(self.path)

    @property
    def small(self):
        """Flags of a small model on text.txt that neither checks nor samples; later flags win."""
        return ["--data", "text.txt", *SMALL, *(SMALL_MEMORY if self.model == "dnc" else [])]

    def command(self, flags, *more, python=()):
        return [sys.executable, *python, str(self.path), *flags.split(), *map(str, more)]

    def run(self, flags="", *more, status=0, python=(), env=(), **options):
        """Run to the end: flags, split at spaces, then more as it is; status None: whatever it is. What each run promises is checked."""
        options = {"cwd": self.folder, "stdout": subprocess.PIPE, **options}
        with unchanged(self.folder) if status == 2 else contextlib.nullcontext():
            done = subprocess.run(self.command(flags, *more, python=python), stderr=subprocess.PIPE, encoding="utf-8",
                                  env={**ENVIRONMENT, **dict(env)}, timeout=120, **options)
        return as_promised(done, done.returncode if status is None else status)

    def train(self, flags="", *more, **options):
        return self.run("", *self.small, *flags.split(), *more, **options)

    def main(self, flags="", *more, status=0):
        """As run, but by calling main() in this process."""
        streams, before = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)], os.getcwd()
        no_handlers = unittest.mock.patch.object(self.module, "Stop", lambda: types.SimpleNamespace(signal=0))
        os.chdir(self.folder)
        try:
            with (no_handlers, unittest.mock.patch.object(sys, "argv", [str(self.path)]),
                  contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1])):
                returncode = self.module.main(flags.split() + list(map(str, more)))
        finally:
            os.chdir(before)
        out, err = (stream.buffer.getvalue().decode() for stream in streams)
        done = types.SimpleNamespace(returncode=returncode, stdout=out, stderr=err)
        return as_promised(done, returncode if status is None else status)

    @contextlib.contextmanager
    def start(self, flags="", python=()):
        """Train without waiting for the end; what still runs when the test is done is killed."""
        command = self.command("", *self.small, *flags.split(), python=python)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, encoding="utf-8", **pipes) as process:
            try:
                yield process
            finally:
                process.kill()


def as_promised(done, status):
    """A run that goes well says nothing on standard error; one that fails says one line, and never a traceback."""
    assert done.returncode == status, f"status {done.returncode}: {done.stderr}"
    assert re.fullmatch(r"\S+-numpy\.py: [^\n\x00-\x1f\x7f]+\n" if status in (1, 2) else "", done.stderr), done.stderr
    return done


@contextlib.contextmanager
def unchanged(folder):
    """What is refused leaves nothing behind."""
    def content():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    before = content()
    yield
    assert content() == before


def arrays(path):
    """All that a checkpoint holds."""
    with np.load(path) as file:
        return dict(file)


def edit(path, **changes):
    """Replace some arrays of a checkpoint."""
    np.savez(path, **{**arrays(path), **changes})


@pytest.fixture(params=MODELS)
def script(request, tmp_path):
    (tmp_path / "text.txt").write_text(some_text(), newline="\n")
    return Script(request.param, tmp_path)


@pytest.fixture
def inside(script):
    """Run the script's main() in this process, as script.run does in another."""
    return script.main
