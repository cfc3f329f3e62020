"""What the tests share: one way to run Python, the scripts, and a small text. What meets a model is
tested with the fixture script, blocks that are common to all (test_common.py) with rnn."""
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import types
import unittest.mock
import warnings

import numpy as np
import pytest

from loading import ROOT, load

MODELS = ["rnn", "lstm", "dnc"]
os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp(prefix="mpl-"))
with contextlib.suppress(ImportError):      # it makes its cache of fonts here, and may say so
    import matplotlib.font_manager          # noqa: F401
# As it was before a test imports a script, which sets BLAS threads; a user's output is buffered
ENVIRONMENT = {name: x for name, x in os.environ.items()
               if name not in ("PYTHONUNBUFFERED", "FORCE_COLOR", "PYTHON_COLORS")}
SMALL = "--hidden 8 --batchsize 4 --seqlength 10 --sample_length 0 --check_interval 0".split()
SMALL_MEMORY = "--locations 5 --width 4 --heads 2".split()
CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f"    # what steers a terminal, but tab and newline

# A job in the background ignores Ctrl-C, one of nohup a hangup, too; and so would all processes
# that the tests start and interrupt. They do not inherit handlers.
for name in ("SIGINT", "SIGHUP", "SIGTERM", "SIGUSR1"):
    if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_IGN:
        signal.signal(getattr(signal, name), lambda *_: None)

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, limits or devices")


def some_text(length=5000):
    """Words, sentences and lines of ASCII that were not written by anybody."""
    rng = random.Random(1)
    words = ["".join(rng.choice(["an", "be", "co", "du", "el", "fi", "go"])
                     for _ in range(rng.randint(1, 3))) for _ in range(50)]
    text = ""
    while len(text) < length:
        text += " ".join(rng.choices(words, k=rng.randint(3, 9))).capitalize()
        text += rng.choice(".?!") + rng.choice(" \n")
    return text[:length]


def python(folder, *command, status=0, line=None, says=r"[\w-]+\.py: ", env=(), **options):
    """Run Python to the end in a process of its own, warnings being errors. See checked."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 900, **options}
    done = subprocess.run([sys.executable, "-W", "error", *map(str, command)], cwd=folder,
                          env={**ENVIRONMENT, **dict(env)}, encoding="utf-8", **options)
    return checked(done, status, line, says)


def checked(done, status=0, line=None, says=r"[\w-]+\.py: "):
    """What came of a run, if it has this status (None: any), and on standard error one line, that
    begins so, or nothing: by default there is one if the status is 1 or 2."""
    assert status in (None, done.returncode), f"{done.returncode}: {done.stdout}{done.stderr}"
    line = done.returncode in (1, 2) if line is None else line
    assert re.fullmatch(rf"(?:{says})[^\n\t{CONTROL}]+\n" if line else "", done.stderr), done.stderr
    return done


class Stream(io.StringIO):
    """As IPython's, for %run in a notebook: without reconfigure, and without a file."""
    fileno = property()
    seekable = bool


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
        return load(self.path.name)

    @property
    def text(self):
        return self.folder / "text.txt"

    @property
    def small(self):
        """Flags of a small model on text.txt that neither checks nor samples; later flags win."""
        return ["--data", "text.txt", *SMALL, *(SMALL_MEMORY if self.model == "dnc" else [])]

    def saved(self, name="a.npz"):
        """All that a checkpoint holds: its settings, and its arrays."""
        with np.load(self.folder / name) as file:
            arrays = dict(file)
        return {**json.loads(str(arrays.pop("settings"))), **arrays}

    def edit(self, name="a.npz", **changes):
        """Replace some settings and arrays of a checkpoint."""
        held = {**self.saved(name), **changes}
        arrays = {key: x for key, x in held.items() if isinstance(x, (np.ndarray, np.generic))}
        settings = {key: x for key, x in held.items() if key not in arrays}
        np.savez(self.folder / name, settings=json.dumps(settings), **arrays)

    def loaded(self, name="a.npz"):
        """The run of a checkpoint."""
        return self.module.load(str(self.folder / name))

    def run(self, flags="", *more, status=0, **options):
        """Run to the end: flags, split at spaces, then more as it is; with options for subprocess
        in a process of its own. What every run promises is checked: see checked; a refusal (status
        2) changes nothing; no temporary file stays."""
        flags, before = [*flags.split(), *map(str, more)], content(self.folder)
        if options:
            done = python(self.folder, self.path, *flags, status=status, **options)
        else:
            done = checked(self.main(flags), status)
        assert done.returncode in (0, 1, 2), done
        assert done.returncode != 2 or content(self.folder) == before, "a refusal changed something"
        assert not list(self.folder.glob("*.tmp"))
        return done

    def main(self, flags):
        """Call main() in this process: warnings are errors, and handlers of signals come back."""
        out, err, before = Stream(), Stream(), os.getcwd()
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        os.chdir(self.folder)
        try:
            with (unittest.mock.patch.object(sys, "argv", [str(self.path)]),
                  contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
                  warnings.catch_warnings()):
                warnings.simplefilter("error")
                status = self.module.main(flags)
        finally:
            os.chdir(before)
        assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return types.SimpleNamespace(returncode=status, stdout=out.getvalue(),
                                     stderr=err.getvalue())

    def train(self, flags="", *more, **options):
        """Run with the flags of a small model."""
        return self.run("", *self.small, *flags.split(), *more, **options)

    @contextlib.contextmanager
    def start(self, flags="", stdout=None, **options):
        """Train in a process; yields it after its first line of progress, unless stdout is given.
        process.said() is all that it has printed. What still runs in the end is killed."""
        flags = f"--iters 1000000000 --print_interval 1 {flags}".split()
        with (tempfile.TemporaryFile() as out, subprocess.Popen(
                [sys.executable, "-W", "error", self.path, *self.small, *flags], cwd=self.folder,
                env=ENVIRONMENT, stdout=stdout or out, stderr=subprocess.PIPE,
                encoding="utf-8", **options) as process):
            def said():
                return os.pread(out.fileno(), os.fstat(out.fileno()).st_size, 0).decode()
            process.said = said
            try:
                while not (stdout or "\n0: " in said()):
                    assert process.poll() is None, process.stderr.read()
                    time.sleep(0.001)
                yield process
            finally:
                process.kill()


def device(path, major, minor):
    """A device of the test's own, like the machine's of these numbers: only root can make one."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
    except OSError as e:
        pytest.skip(str(e))


def content(folder):
    """All files of a folder: path -> bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder):
    """What there is in a folder."""
    return {path.name for path in folder.iterdir()}


def without_times(stdout):
    """What a run prints, without seconds and char/s."""
    return re.sub(r"^0: \S+ s|\S+ char/s$", "", stdout, flags=re.M)


def assert_same(one, other, but=("seconds",)):
    """Two checkpoints hold the same, bit for bit, but for times."""
    assert one.keys() == other.keys()
    for name in one.keys() - set(but):
        assert type(one[name]) is type(other[name]), name
        if isinstance(one[name], np.ndarray):
            assert one[name].dtype == other[name].dtype, name
            assert one[name].tobytes() == other[name].tobytes(), name
        else:
            assert one[name] == other[name], name


def prepared(model, folder):
    """A script in a folder with the text."""
    (folder / "text.txt").write_text(some_text(), newline="\n")
    return Script(model, folder)


@pytest.fixture(params=MODELS)
def script(request, tmp_path):
    """Each of the scripts, in a folder of its own."""
    return prepared(request.param, tmp_path)


@pytest.fixture
def rnn(tmp_path):
    """The first script: what is common to all is tested with it."""
    return prepared("rnn", tmp_path)


@pytest.fixture
def saved(request):
    """A good checkpoint a.npz, on text.txt, in the folder of the test's script."""
    script = request.getfixturevalue("script" if "script" in request.fixturenames else "rnn")
    script.train("--iters 3 --save a.npz")
    return script.folder / "a.npz"
