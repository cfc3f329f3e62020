"""What the commands in data/, pictures/, bench/ and exercises/ share: how they load a script, how
they end.

Python looks for modules in a command's own folder alone, so above the import stands

    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
"""
import argparse
import contextlib
import importlib.util
import io
import os
import re
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = "rnn", "lstm", "dnc"


class Failure(Exception):
    """What the user reads instead of a traceback, in one line."""


class Parser(argparse.ArgumentParser):
    """Like its base, but an error is a Failure, and flags are not abbreviated."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message):
        raise Failure(f"{message} (see --help)")


def number(kind, low, high):
    """The type of a flag: a number of this kind, low to high."""
    def read(text):
        if not low <= kind(text) <= high:
            raise ValueError                            # nan, too
        return kind(text)
    read.__name__ = f"{'whole ' * (kind is int)}number from {low} to {high:,}"
    return read


def load_script(path):
    """The script at path as a module, whose Failure is the one above."""
    if not os.path.isfile(path):                        # a pipe would let us wait for ever
        raise Failure(f"{path} is not a regular file")
    spec = importlib.util.spec_from_file_location("script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.Failure = Failure
    return script


def load_model(model):
    """One of the three scripts as a module."""
    return load_script(os.path.join(ROOT, f"{model}-numpy.py"))


def load_run(path, *flags):
    """The script that saved a checkpoint, and the run, with its best weights, as --iters 0 has it.
    What the file says of itself decides between the three scripts, and nothing more."""
    script = load_model(MODELS[0])
    try:
        script.load(path)
    except Failure as e:
        other = re.search(r": (\w+)-numpy\.py saved it$", str(e))
        if not other or other[1] not in MODELS:
            raise
        script = load_model(other[1])
    with contextlib.redirect_stdout(io.StringIO()):     # what it says is for its own users
        return script, script.begin([f"--load={path}", "--iters=0", *flags])[1]


def read_text(path, encoding="utf-8"):
    """The characters of a regular file."""
    try:
        if not os.path.isfile(path):
            raise ValueError("there is no regular file of this name")
        with open(path, encoding=encoding) as file:
            return file.read()
    except (OSError, ValueError, LookupError) as e:
        raise Failure(f"cannot read {path}: {getattr(e, 'strerror', None) or e}")


def check_target(path):
    """Whether a file can be written here, before the work that makes it."""
    path = os.path.realpath(path)                       # a link stays one
    if os.path.exists(path) and not os.path.isfile(path):
        raise Failure(f"cannot write {path}: it is no regular file")
    if not os.access(os.path.dirname(path), os.W_OK):
        raise Failure(f"cannot write {path}: its folder is not there, or not to be written to")


@contextlib.contextmanager
def whole_file(path):
    """A name to write to; what stands there in the end is renamed to path. After an error the file
    that was at path is still there."""
    check_target(path)
    path = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(path), os.urandom(8).hex() + os.path.splitext(path)[1])
    try:
        yield temporary
        if os.path.exists(path):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


def say(text, file=None, end="\n"):
    """Print; what could steer a terminal is spelt out."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    print(line, file=file or sys.stdout, end=end, flush=True)


def one_line(text):
    """A message without line breaks, cut if it is long."""
    line = " ".join(text.split())
    return line if len(line) < 500 else line[:500] + " ..."


def run(name, work, argv=None):
    """The exit status of work(argv): its own, 2 after one line on standard error, 130 after Ctrl-C,
    141 if standard output is a closed pipe. A mistake in the code stays a traceback."""
    try:
        if not getattr(sys.stdout, "closed", True) and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")   # what the terminal's encoding lacks
        try:
            status = work(argv) or 0
        except SystemExit as e:                         # of --help
            status = e.code or 0
        if not getattr(sys.stdout, "closed", True):
            sys.stdout.flush()                          # or else it fails at exit
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:                             # as in | head
        return 141
    except Failure as e:
        message = str(e)
    except MemoryError:
        message = "there is not enough memory for this"
    except OSError as e:
        message = f"cannot write {e.filename or 'the output'}: {e.strerror or e}"
    if sys.stderr:
        say(one_line(f"{name}: {message}"), file=sys.stderr)
    return 2


def leave(status):
    """End the process. What an output that has failed still holds is lost without a word."""
    if status and sys.stdout:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)
