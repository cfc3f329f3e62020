"""What can go wrong, and what then: one line and a status, no traceback, nothing lost.
Script.run in conftest.py asks that of each run."""
import io
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from conftest import MODELS, checked, load, names, posix, some_text

try:
    import resource
except ImportError:                                         # Windows
    resource = None


def at_most(**limits):
    """For preexec_fn: the process gets these limits, as in at_most(FSIZE=1000)."""
    def apply():
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    return apply


# A BLAS thread has a buffer, which counts
GIBIBYTE = {"preexec_fn": at_most(AS=1 << 30), "env": {"OPENBLAS_NUM_THREADS": "1"}}


NUMBERS = {name: values for flags, *values in (             # flag: refused, taken
    ("hidden batchsize seqlength print_interval", "0 -1 nan inf text 1.5 1e30", "1"),
    ("locations width heads", "0 -1 nan inf text 1.5 1e30", "1"),
    ("iters check_interval sample_length seed", "-1 nan inf text 1.5 1e30", "0"),
    ("lr timelimit", "0 -1 nan inf text", "1e30 1e-30"),
    ("clip temperature init", "-1 nan inf text", "0 1e30 1e-300"),
    ("val", "-1 nan inf text 1 1.5 1e30", "0 0.5"),
    ("forget_bias", "-101 nan inf text", "-3 0 1")) for name in flags.split()}


@pytest.mark.parametrize("script, name", [
    (model, name) for model in MODELS
    for name, (kind, *_) in load(f"{model}-numpy.py").FLAGS.items() if kind is not str],
    indirect=["script"])
def test_number(script, name):
    refused, taken = map(str.split, NUMBERS[name])
    for value in refused:
        assert f"--{name}" in script.train("--iters 1", f"--{name}", value, status=2).stderr
    for value in taken:
        flags = f"--iters 1 --check_interval 1 --sample_length 3 --{name} {value}"
        done = script.train(flags, status=None)
        assert done.returncode == 0 or value == "1e30" and "finite" in done.stderr


BYTES = r"\d{1,3}(,\d{3}){3,} bytes"
REFUSED = {         # flags, raw text ("": that of the tests), what the line names
    "missing": ("--data nowhere.txt", "", r"nowhere\.txt.*--data"),
    "a name that steers a terminal": ("--data \x1b[2J\x9b.txt", "", r"\\x1b\[2J\\x9b\.txt"),
    "a folder": ("--data .", "", r"\. *:|read \."),
    "empty": ("", b"", r"text\.txt"),
    "empty, only sampled": ("--iters 0", b"", r"text\.txt"),
    "one character": ("", b"a" * 30, r"text\.txt"),
    "short": ("", b"abcdefghij", "too short"),              # a window takes eleven characters
    "short but for the tail": ("--val 0.5", b"abcdefghij" * 2, "too short"),
    "late": ("", b"a\r\n" * 100_000 + b"\xff", "300,000.*latin-1"),
    "cp1252 that is none": ("--encoding cp1252", b"\x93abcdefghij\x81\x94" * 9, "latin-1"),
    "encoding": ("--encoding nonesuch", "", "nonesuch"),
    "encoding that is none of text": ("--encoding hex", "", "hex"),
    "prime": ("--prime @nofile", "", "nofile.*--prime"),
    "prime that is not in the text": ("--prime a#é", "", r"--prime.*\b2\b.*'#'.*'\\xe9'"),
    "a text without --data": ("mytext.txt", "", r"mytext\.txt.*--data"),
    "--hid": ("--hid 8", "", "--hid"),
    "--nonesuch": ("--nonesuch", "", "--nonesuch"),
    "no checkpoint": ("--load nowhere.npz --iters 0", "", r"nowhere\.npz"),
    "a folder as checkpoint": ("--load . --iters 0", "", r"\. "),
    "a text as checkpoint": ("--load text.txt --iters 0", "", r"text\.txt"),
    "all held out of nothing": ("--val 1 --iters 0", "", "--val.*--load FILE --iters 0")}


@pytest.mark.parametrize("flags, raw, named", REFUSED.values(), ids=REFUSED)
def test_refused(rnn, flags, raw, named):
    if raw != "":
        rnn.text.write_bytes(raw)
    assert re.search(named, rnn.train("--iters 1 --val 0 " + flags, status=2).stderr)


@posix
@pytest.mark.parametrize("script, flags", [
    (model, f"--{name} {size}") for model in MODELS
    for name in "hidden batchsize locations width heads".split()[:5 if model == "dnc" else 2]
    for size in (10**8, 10**12)], indirect=["script"])
def test_sizes_that_do_not_fit_are_not_allocated(script, flags):
    tracemalloc.start()
    try:
        error = script.train(flags, status=2).stderr
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert re.search(BYTES, error)


@posix
def test_memory_that_the_system_does_not_give(rnn):
    """The estimate fits the machine, but not what this process may have."""
    rnn.train("--seqlength 4000 --batchsize 1000 --iters 1", status=2, **GIBIBYTE)


def packed(members, compression=zipfile.ZIP_STORED, directory=list):
    """An .npz of (name, bytes) pairs; directory may change the list of them that it ends with."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
        directory(archive.filelist)
    return buffer.getvalue()


def npy(array):
    """An array as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array))
    return buffer.getvalue()


def npy_header(text, data=b""):
    """An .npy file with this text as its header."""
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def declared(shape, data=bytes(100)):
    """An .npy file that declares this shape."""
    return npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}", data)


class Evil:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def but(function, **packing):
    """A checkpoint whose list of (name, .npy bytes) went through a function."""
    return lambda held: packed(
        function([(f"{key}.npy", npy(held[key])) for key in held]), **packing)


def changed(name, value):
    """A checkpoint with one other array (or .npy bytes), or a function of what was there."""
    def change(held):
        new = value(held[name].copy()) if callable(value) else value
        new = new if isinstance(new, bytes) else npy(new)
        return packed((f"{key}.npy", new if key == name else npy(held[key])) for key in held)
    return change


def spoilt(name, array):
    """Ways to spoil an array of a checkpoint: what -> another array, or the bytes of an .npy."""
    flat = array.reshape(-1)
    ways = {"one more": np.append(flat, flat[:1]), "one axis more": array[None], "empty": flat[:0],
            "object": np.array([Evil()], object), "text": np.array("\x1b[2J"),
            "complex": np.ones(array.shape, complex),
            "bytes swapped": array.astype(array.dtype.newbyteorder()),
            "structured": np.zeros(array.shape, [("\x1b", "f4")]),
            "10^9 numbers declared": declared((10**9,)), "negative shape": declared((-1,))}
    values = [np.nan, np.inf, -np.inf] if array.dtype.kind == "f" else []
    for value in values if re.match("W|bh|by|state_|model", name) else [-1, *values]:
        ways[f"one {value}"] = array.copy()
        ways[f"one {value}"].flat[array.size // 2] = value
    if array.T.shape != array.shape:
        ways["transposed"] = array.T.copy()
    return ways


def mutations(held):
    """Ways to make a checkpoint with one array missing, or spoilt: (what, function)."""
    for name in held.keys() - {"reset"}:                    # any text is one, for load
        yield f"{name} missing", but(lambda members, name=f"{name}.npy": [
            member for member in members if member[0] != name])
        for what, value in spoilt(name, held[name]).items():
            yield f"{name}: {what}", changed(name, value)


def flipped(data, place, bit):
    """These bytes with one bit changed."""
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1:]


HOSTILE = {
    "empty": lambda held: b"",
    "an .npy file": lambda held: npy(held["Wxh"]),
    "an empty archive": lambda held: packed([]),
    "foreign": lambda held: packed([("a.npy", npy(1))]),
    "another model": changed("model", "lstm"),
    "deflated bomb": lambda held: packed([("by.npy", bytes(10**8))], zipfile.ZIP_DEFLATED),
    "bomb of 10 bytes": lambda held: packed([("by.npy", bytes(10**8))], zipfile.ZIP_BZIP2,
                                            lambda files: setattr(files[0], "file_size", 10)),
    "each member twice": but(list, directory=lambda files: files.extend(files[:])),
    "pickle": changed("by", npy(np.array([Evil()], object))),
    "pickle as a member": but(lambda m: [*m, ("by.pkl", b"cos\nmkdir\n(S'executed'\ntR.")]),
    "10^12 numbers declared": changed("by", declared((10**12, 1))),
    "10^9 numbers of a stranger": but(lambda m: [*m, ("stranger.npy", declared((10**9, 1)))]),
    "deep header": changed("by", npy_header("(" * 5000)),
    "long header": changed("by", npy_header("{'shape': (1,)}" + " " * 60000)),
    "header of Python 2": changed("by", lambda by: declared(f"({len(by)}L, 1L)", by.tobytes())),
    "header of code": changed("by", npy_header("__import__('os').mkdir('executed')")),
    "name that steers a terminal": lambda held: packed([("\x1b[2J\x1b]0;x\x07.npy", npy(1))]),
    "model that is a list": changed("model", MODELS),
    "other sizes": changed("hidden", 9),
    "size 0": changed("hidden", 0),
    "size of 10^12": changed("hidden", 10**12),
    "size that is a fraction": changed("hidden", 8.0),
    "size that is a flag": changed("hidden", "--help"),
    "batch of 10^12": changed("batchsize", 10**12),
    "window of 10^15": changed("seqlength", 10**15),
    "share above 1": changed("val", 1.5),
    "reset of another text": changed("reset", "#"),
    "vocabulary with a double": changed("vocabulary", lambda v: v[[0, 0, *range(2, len(v))]]),
    "vocabulary beyond Unicode": changed("vocabulary", lambda v: v + 0x110000)}
HARMLESS = {"the same": but(list), "a member more": but(lambda m: [*m, ("more.npy", npy(1))]),
            "columns first": changed("Wxh", np.asfortranarray), "in another order": but(reversed)}
STRANGERS = "foreign", "another model", "an empty archive"
IN_A_PROCESS = "pickle", "deflated bomb", "10^12 numbers declared", "header of Python 2"


@pytest.fixture
def saved(request):
    """A good checkpoint a.npz, on text.txt, in the folder of the test's script."""
    script = request.getfixturevalue("script" if "script" in request.fixturenames else "rnn")
    script.train("--iters 3 --save a.npz")
    return script.folder / "a.npz"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoint(rnn, saved, name):
    """Some of them also as a user runs it, and under a limit of memory."""
    (rnn.folder / "b.npz").write_bytes(HOSTILE[name](rnn.saved()))
    tracemalloc.start()
    try:
        for flags in "--iters 0 --sample_length 5", "--data text.txt --iters 1 --check_interval 0":
            error = rnn.run("--load b.npz " + flags, status=2).stderr
            assert re.search(rf"b\.npz|{BYTES}|too short|--reset|--val", error)
            assert "rnn-numpy.py did not save it" in error or name not in STRANGERS
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    if resource and name in IN_A_PROCESS:
        rnn.run("--load b.npz --iters 0", status=2, **GIBIBYTE)
    assert names(rnn.folder) == {"a.npz", "b.npz", "text.txt"}, "code was run"


def test_header_that_numpy_mends(rnn, saved):
    """load makes an error of the warning by itself."""
    saved.write_bytes(HOSTILE["header of Python 2"](rnn.saved()))
    with warnings.catch_warnings(), pytest.raises(rnn.module.Failure):
        warnings.simplefilter("ignore")
        rnn.loaded()


def everything(run):
    """All that a loaded run has, as something that can be compared."""
    def comparable(value):
        if isinstance(value, dict):
            return {name: comparable(x) for name, x in value.items()}
        return value.tobytes() if isinstance(value, np.ndarray) else value
    return comparable(vars(run))


@pytest.mark.parametrize("make", HARMLESS.values(), ids=HARMLESS)
def test_harmless_checkpoint(script, saved, make):
    """The ways to damage one above do not themselves make one that is refused."""
    expected = everything(script.loaded())
    saved.write_bytes(make(script.saved()))
    script.run("--load a.npz --iters 0 --sample_length 5")
    assert everything(script.loaded()) == expected
    script.edit(smooth=1e99, best=1e200)                    # absurd, but the work is not lost
    script.run("--load a.npz --iters 0")


def test_damaged_checkpoint(script, saved):
    """Arrays missing or spoilt (the RNN: all), flipped bits, cuts: refused, or harmless."""
    good, held, rng = saved.read_bytes(), script.saved(), random.Random(script.model)
    expected = everything(script.loaded())
    cases = [*mutations(held)][::1 if script.model == "rnn" else 7]
    for n in range(100):
        place = rng.randrange(len(good))
        bad = flipped(good, place, rng.randrange(8)) if n % 3 else good[:place]
        cases.append((f"bit or cut at {place}", lambda held, bad=bad: bad))
    for what, make in cases:
        saved.write_bytes(make(held))
        try:
            assert everything(script.loaded()) == expected, what
        except script.module.Failure as e:
            assert "a.npz is not a usable checkpoint: " in str(e)
    assert names(script.folder) == {"a.npz", "text.txt"}, "code was run"


RUNAWAY = {         # changes of a checkpoint, flags
    "logits": (lambda p: {"Why": (big := np.resize([3e38, -3e38], p["Why"].shape)),
                          "by": np.abs(big[:, :1]), "state_h": np.ones_like(p["state_h"])}, ""),
    # A gradient of 1e25 has a finite loss, but an infinite square, which would freeze the weights
    "accumulator": (lambda p: {"Why": np.where(np.arange(len(p["by"])) % 2, 0, 1e25)[:, None]
                               * np.ones_like(p["Why"])}, "--clip 0"),
    "weights": (lambda p: {}, "--lr 1e39")}     # infinite after the first step, unlike the loss


@pytest.mark.parametrize("change, flags", RUNAWAY.values(), ids=RUNAWAY)
def test_numbers_that_are_not_finite_end_the_run(script, saved, change, flags):
    """With a message; what was saved stays."""
    changes = change(script.saved())
    script.edit(**{name: value.astype("f4") for name, value in changes.items()})
    before = saved.read_bytes()
    error = script.train(f"--load a.npz --save a.npz --iters 5 --check_interval 2 {flags}",
                         status=1).stderr
    assert re.search("finite in iteration 4.*--lr.*--init", error) and saved.read_bytes() == before


def test_initial_weights_that_overflow(script):
    assert "--init" in script.train("--iters 9 --init 1e300", status=1).stderr


def test_sample_of_weights_that_overflow(rnn, saved):
    p = rnn.saved()
    rnn.edit(Why=np.full_like(p["Why"], 3e38), Wxh=np.ones_like(p["Wxh"]))
    for temperature in (0, 1):
        flags = f"--load a.npz --iters 0 --sample_length 9 --temperature {temperature}"
        assert "finite" in rnn.run(flags, status=1).stderr


TAKEN = {
    "a text": lambda path: path.write_text("my work"),
    "another model's checkpoint": lambda path: np.savez(path, model="lstm"),
    "a device": lambda path: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3)),   # /dev/null
    "a FIFO": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nothing")}


@posix
@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("target", ["b.npz", "b.best.npz"])
def test_save_over_something_else(rnn, saved, target, make):
    """Refused at the start, with what to do, whether or not the run continues something."""
    try:
        make(rnn.folder / target)
    except OSError as e:                                    # only root can make a device
        pytest.skip(str(e))
    before = os.lstat(rnn.folder / target)
    saved.rename(own := rnn.folder / ("b.best.npz" if target == "b.npz" else "b.npz"))
    for loading in ["--load", own.name], []:
        error = rnn.train("--iters 1 --save b.npz", *loading, status=2).stderr
        assert target in error or not loading
        assert re.search(r"--load|--save", error)
        assert os.lstat(rnn.folder / target) == before


def test_save_over_what_this_run_does_not_continue(rnn):
    """A rerun destroys nothing; going on from one of the two, the best included, is allowed."""
    train = "--iters 2 --check_interval 1 --save "
    rnn.train(train + "a.npz")
    best, last = (rnn.folder / name for name in ("a.best.npz", "a.npz"))
    rnn.train(train + "b.npz")
    for loading in "", "--load b.npz":
        error = rnn.train(train + "a.npz " + loading, status=2).stderr
        assert "a.best.npz" in error and "--load" in error and "--save" in error
    best.rename(rnn.folder / "kept.npz")                    # one of the two is enough
    assert "--load a.npz" in rnn.train(train + "a.npz", status=2).stderr
    (rnn.folder / "kept.npz").rename(best)
    last.unlink()
    rnn.train(train + "a.npz", status=2)
    rnn.train(train + "a.npz --load a.best.npz")
    rnn.train(train + "a.npz --load ./a.best.npz")
    rnn.train(train + "a.npz", "--load", last)
    assert rnn.loaded().iter > 4
    rnn.text.write_text(some_text()[:-1] + "a")
    error = rnn.train(train + "a.npz --load a.npz", status=2).stderr
    assert "not the text" in error and "--save" in error
    rnn.train(train + "c.npz --load a.npz")
    rnn.run("--load c.npz --save a.npz --iters 0 --sample_length 2")    # which writes nothing


@pytest.mark.parametrize("flag", ["--save", "--fname"])
@pytest.mark.parametrize("target", ["folder", "nowhere/file", "text.txt/file"])
def test_target_that_cannot_be_written(rnn, flag, target):
    """Noticed before the training; a read-only folder is in test_disk.py."""
    (rnn.folder / "folder").mkdir()
    assert target in rnn.train(f"--iters 1 {flag} {target}", status=2).stderr
    rnn.train(f"--iters 1 {flag} folder/file.npz")


@pytest.mark.parametrize("flags", ["--fname text.txt", "--fname ./a.npz --save b.npz",
                                   "--fname b.npz --save b.npz", "--fname b.best.npz --save b.npz"])
def test_log_over_another_file(rnn, saved, flags):
    error = rnn.train(f"--load a.npz --iters 1 {flags}", status=2).stderr
    assert "another file of this run" in error


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_save_that_fails(rnn, saved, monkeypatch, step):
    """The one before stays: a checkpoint must not claim a best figure that stands in no file."""
    def fails_once(*args):
        monkeypatch.undo()
        raise OSError(5, "no such luck")
    before = saved.read_bytes()
    monkeypatch.setattr(os, step, fails_once)
    error = rnn.train("--load a.npz --save a.npz --iters 2 --check_interval 1", status=1).stderr
    assert "a.best.npz: no such luck" in error and saved.read_bytes() == before
    assert names(rnn.folder) == {"a.npz", "text.txt"}


def test_at_each_moment_of_saving_the_checkpoint_is_whole(rnn, saved):
    """What a kill would leave: after each instruction of save it is the old one or the new one."""
    module, before, seen = rnn.module, saved.read_bytes(), []
    run = rnn.loaded()
    run.iter += 1

    def trace(frame, event, arg):
        if frame.f_code is not module.save.__code__:
            return None
        frame.f_trace_opcodes = True
        seen.append(saved.read_bytes())
        return trace
    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        module.save(run, [str(saved)])
    finally:
        sys.settrace(tracing)
    after = saved.read_bytes()
    assert len(seen) > 50 and set(seen) == {before, after}
    assert seen.index(after) > len(seen) / 2 and rnn.loaded().iter == run.iter


SAVING = "--check_interval 1 --val 0.01 --save a.npz"


@posix
def test_two_runs_that_save_to_one_path(rnn):
    """One whole checkpoint remains, and nothing else: neither writes into the other's file."""
    rnn.train(f"--iters 1 {SAVING}")
    start = f"{SAVING} --load a.npz --lr"
    with rnn.start(f"{start} 1e-5") as one, rnn.start(f"{start} 1e-6") as two:
        for _ in range(50):
            assert rnn.loaded().lr in (0.05, 1e-5, 1e-6)
            time.sleep(0.01)
        for process in one, two:
            process.terminate()
            assert process.wait(60) == 143 and process.stderr.read() == ""
    assert rnn.loaded().lr == 1e-6
    assert names(rnn.folder) == {"text.txt", "a.npz", "a.best.npz"}


signals = pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
                                  ids=["SIGINT", "SIGTERM"])


@posix
@signals
def test_signal_finishes_the_iteration_and_saves(script, number, status):
    with script.start("--save a.npz") as process:
        process.send_signal(number)
        assert process.wait(60) == status and process.stderr.read() == ""
        last = process.said().splitlines()[-1]
    assert f"iter {script.saved()['iter']}," in last
    script.train("--load a.npz --iters 1")
    assert names(script.folder) == {"a.npz", "text.txt"}


@posix
@signals
def test_a_second_signal_does_not_wait(rnn, number, status):
    os.mkfifo(rnn.folder / "pipe.txt")                      # reading waits for the writer
    with rnn.start("--data pipe.txt --save a.npz", stdout=subprocess.PIPE) as process:
        with open(rnn.folder / "pipe.txt", "w"):            # waits until it is opened to read
            while process.poll() is None:
                time.sleep(0.1)
                process.send_signal(number)
        assert process.returncode == status
        assert process.stderr.read() == process.stdout.read() == ""
    assert names(rnn.folder) == {"text.txt", "pipe.txt"}


@pytest.mark.parametrize("moment, iterations, shown", [
    ("read_text", 0, []), ("score", 3, ["----", "----"]),
    ("sample", 3, ["held-out", "----", "----"])])
def test_signal_outside_an_iteration(rnn, monkeypatch, moment, iterations, shown):
    """No iteration follows the reading of a text. In a check, a figure of half of the tail is not
    shown, a sample ends early; one more iteration follows, which is saved."""
    def interrupted(*args, function=getattr(rnn.module, moment)):
        signal.raise_signal(signal.SIGINT)
        return function(*args)
    monkeypatch.setattr(rnn.module, moment, interrupted)
    done = rnn.main([*rnn.small, *"--iters 9 --check_interval 2 --val 0.5 --sample_length 999 "
                     "--save a.npz".split()])
    assert (done.returncode, done.stderr) == (130, "") and len(done.stdout) < 400
    assert re.findall("held-out|----", done.stdout) == shown
    assert (rnn.saved()["iter"] == 3) if iterations else names(rnn.folder) == {"text.txt"}


@posix
@pytest.mark.parametrize("shell, statuses, lines", [
    ("--iters 100000000 --print_interval 1 | head -3", [141], 3),
    ("--help | :", [0, 141], 0),                            # head has gone already
    ("--iters 30 --print_interval 1 | :", [0, 141], 0), ("--iters 0 | :", [0, 141], 0),
    ("--iters 3 >&-", [0], 0), ("--iters 3 --print_interval 1 2>&-", [0], 4),
    ("--iters 3 >&- 2>&-", [0], 0), ("--data nowhere.txt >&- 2>&-", [2], 0),
    ("--iters 4 > /dev/full", [1], 0), ("--load a.npz --iters 0 > /dev/full", [1], 0),
    ("--iters 4 --fname /dev/full", [1], 1)])
def test_output_that_nobody_reads(rnn, saved, shell, statuses, lines):
    """No message of the interpreter's own; one line if a disk is full."""
    if "/dev/full" in shell and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    command = [sys.executable, "-W", "error", str(rnn.path), *rnn.small,
               *"--sample_length 9 --save b.npz --fname log.tsv".split()]
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{shlex.join(command)} {shell}"],
                          cwd=rnn.folder, capture_output=True, encoding="utf-8", timeout=60)
    assert checked(done, None, statuses == [1]).returncode in statuses
    assert done.stdout.count("\n") == lines and ("/dev/full" in done.stderr) == ("--fname" in shell)
    if "--iters 3 " in shell:
        assert rnn.loaded("b.npz").iter == 3
        assert len((rnn.folder / "log.tsv").read_text().splitlines()) in (3, 4)


def test_terminal_that_cannot_show_the_text(rnn):
    """In the C locale without UTF-8, what cannot be shown is spelt out, on both streams."""
    rnn.text.write_text("häßlich, 漢字, 😀\n" * 30, encoding="utf-8")
    env = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    out = rnn.train("--iters 1 --check_interval 1 --sample_length 400 --temperature 1e30",
                    env=env).stdout
    assert out.isascii() and r"\xe4" in out and r"\u6f22" in out
    assert r"\udcc3\udca9.txt" in rnn.train("--data é.txt", env=env, status=2).stderr
