"""What can go wrong, and what then: one line and a status, no traceback, nothing lost, nothing left behind.

script.run and inside (conftest.py) check the line, and that a refused run (status 2) leaves its folder as it was.
"""
import contextlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from conftest import MODELS, arrays, edit, posix, some_text

try:
    import resource
except ImportError:         # Windows
    resource = None


def at_most(**limits):
    """For preexec_fn: the process gets these limits, as in at_most(FSIZE=1000)."""
    def apply():
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    return apply


# ---- texts

@pytest.mark.parametrize("raw, named", [
    (None, "--data"),
    (b"", ""),
    (b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ""),
    (b"abcdefghij", "too short"),                               # ten characters, and a window takes eleven
    (b"abcdefghij" * 10 + b"caf\xe9 au lait", "103"),           # the offset of the byte
    (b"a\r\n" * 100_000 + b"\xff", "300,?000"),
], ids=["missing", "empty", "one-character", "short", "latin-1", "late"])
def test_text(script, raw, named):
    if raw is not None:
        (script.folder / "bad.txt").write_bytes(raw)
    error = script.train("--iters 1 --val 0 --data bad.txt", status=2).stderr
    assert "bad.txt" in error and re.search(named, error)


def test_folder_or_unknown_encoding_of_the_text(script):
    assert "'.'" in (error := script.train("--iters 1 --data .", status=2).stderr) or " . " in error or ".:" in error
    assert "nonesuch" in script.train("--iters 1 --encoding nonesuch", status=2).stderr


# ---- numbers

KINDS = {"count": "0 -1 nan inf text 1.5 1e30", "natural": "-1 nan inf text 1.5 1e30", "amount": "0 -1 nan inf text",
         "temperature": "-1 nan inf text", "share": "-1 nan inf text 1 1e30"}               # what each kind refuses
GOOD = {"count": "1", "natural": "0", "amount": "1e30 1e-30", "temperature": "0 1e30 1e-300", "share": "0 0.5"}
NUMBERS = {**dict.fromkeys("hidden batchsize seqlength threads print_interval locations width heads".split(), "count"),
           **dict.fromkeys("iters check_interval sample_length seed".split(), "natural"),
           **dict.fromkeys("lr init timelimit".split(), "amount"), **dict.fromkeys("clip temperature".split(), "temperature"), "val": "share"}


def test_every_numeric_flag_is_in_the_table(script):
    flags = vars(script.module.parse([]))
    words = {"data", "encoding", "prime", "save", "load", "fname", "fp64"}
    assert set(flags) - words == set(NUMBERS) - ({"locations", "width", "heads"} if script.model != "dnc" else set())


@pytest.mark.parametrize("name, kind", NUMBERS.items(), ids=NUMBERS)
def test_number(script, inside, name, kind):
    if name in ("locations", "width", "heads") and script.model != "dnc":
        pytest.skip("of the DNC alone")
    for value in KINDS[kind].split():
        assert f"--{name}" in inside("", *script.small, "--iters", 1, f"--{name}", value, status=2).stderr
    for value in GOOD[kind].split():
        done = inside("", *script.small, *"--iters 1 --check_interval 1 --sample_length 3".split(), f"--{name}", value, status=None)
        assert done.returncode == 0 or (name, value, done.returncode) in (("lr", "1e30", 1), ("init", "1e30", 1))


def test_more_threads_than_streams(script, inside):
    for flags in ("", "--save a.npz", "--load a.npz"):
        error = inside("--data text.txt --batchsize 3 --hidden 4 --iters 1 --check_interval 0 --threads 4 " + flags, status=2).stderr
        assert "--threads 4" in error and "3 streams" in error
        inside("--data text.txt --batchsize 3 --hidden 4 --iters 1 --check_interval 0 --threads 3 --save a.npz")


@pytest.mark.parametrize("flags", ["--nonesuch", "--hidden", "--hid 8", "text.txt", "--fp64=1"])
def test_flags_that_there_are_not(script, inside, flags):
    inside(flags, status=2)


SIZES = [(model, f"--{name} {size}") for model in MODELS for name in
         "hidden batchsize locations width heads".split()[:5 if model == "dnc" else 2] for size in (10**7, 10**12, 10**30)
         if (name, size) in (("hidden", 10**7), ("locations", 10**7)) or size > 10**7]


@posix
@pytest.mark.parametrize("script, flags", SIZES, indirect=["script"])
def test_sizes_that_do_not_fit_are_not_allocated(script, inside, flags):
    tracemalloc.start()
    try:
        error = inside("", *script.small, *flags.split(), status=2).stderr
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert re.search(r"\d{1,3}(,\d{3}){4,} bytes", error)


@posix
def test_memory_that_the_system_does_not_give(script):
    """The estimate fits the machine, but not what this process may have."""
    script.train("--seqlength 4000 --batchsize 1000 --iters 1", status=2, preexec_fn=at_most(AS=1 << 30), env={"OPENBLAS_NUM_THREADS": "1"})


# ---- targets

@pytest.mark.parametrize("flag", ["--save", "--fname"])
def test_target(script, flag):
    (script.folder / "folder").mkdir()
    for target in ("folder", "nowhere/file.npz"):
        assert target in script.train(f"--iters 1 {flag} {target}", status=2).stderr
    script.train(f"--iters 1 {flag} folder/file.npz")


# ---- checkpoints from anywhere

def packed(members, compression=zipfile.ZIP_STORED):
    """An .npz of (name, bytes) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **options)
    return buffer.getvalue()


def npy_header(text, data=b""):
    """An .npy file whose header is this text."""
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def changed(name, value):
    """Replace one array (or raw .npy file) of a checkpoint; value may be a function of what is there."""
    def change(held, raw):
        new = value(held[name].copy()) if callable(value) else value
        return packed([(f"{key}.npy", new if isinstance(new, bytes) and key == name else npy(new if key == name else held[key])) for key in held])
    return change


def but(function):
    """Apply a function to the list of (name, .npy bytes)."""
    return lambda held, raw: packed(function([(f"{key}.npy", npy(held[key])) for key in held]))


def at(index, value):
    def set_one(array):
        array.flat[index] = value
        return array
    return set_one


HOSTILE = {
    "empty": lambda held, raw: b"",
    "random bytes": lambda held, raw: random.Random(0).randbytes(5000),
    "text": lambda held, raw: some_text().encode(),
    "an .npy file": lambda held, raw: npy(held["Wxh"]),
    "an empty archive": lambda held, raw: packed([]),
    "cut in half": lambda held, raw: raw[:len(raw) // 2],
    "cut at the end": lambda held, raw: raw[:-1],
    "one bit flipped": lambda held, raw: raw[:len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1:],
    "deflated": lambda held, raw: packed([(f"{key}.npy", npy(held[key])) for key in held], zipfile.ZIP_DEFLATED),
    "deflated bomb": lambda held, raw: packed([("by.npy", bytes(300_000_000))], zipfile.ZIP_DEFLATED),
    "pickle": changed("by", npy(np.array([Evil()], object))),
    "pickle as a member": but(lambda members: [*members, ("by.pkl", b"cos\nsystem\n(S'mkdir executed'\ntR.")]),
    "10^12 numbers declared": changed("by", npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1)}", bytes(100))),
    "negative shape": changed("by", npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 1)}", bytes(100))),
    "deep header": changed("by", npy_header("(" * 5000)),
    "long header": changed("by", npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" + " " * 60000, bytes(4))),
    "header of Python 2": changed("by", lambda by: npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(by)}L, 1L)}}", by.tobytes())),
    "header of code": changed("by", npy_header("__import__('os').mkdir('executed')")),
    "structured type": changed("by", np.zeros(3, [("\x1b[2J", "f4")])),
    "missing member": but(lambda members: members[1:]),
    "extra member": but(lambda members: [*members, ("more.npy", npy(1))]),
    "name that steers a terminal": lambda held, raw: packed([("\x1b[2J\x1b]0;gotcha\x07.npy", npy(1))], zipfile.ZIP_DEFLATED),
    "model of another name": changed("model", "\x1b[2J"),
    "model that is a number": changed("model", 5),
    "model that is a list": changed("model", ["rnn", "lstm", "dnc"]),
    "other sizes": changed("hidden", 9),
    "size 0": changed("hidden", 0),
    "size of 10^12": changed("hidden", 10**12),
    "size that is a fraction": changed("hidden", 8.0),
    "size that is text": changed("hidden", "8"),
    "size that is many": changed("hidden", [8, 8]),
    "batch of 10^12": changed("batchsize", 10**12),
    "window of 10^15": changed("seqlength", 10**15),
    "wrong shape": changed("Wxh", lambda Wxh: Wxh.T),
    "wrong type": changed("Wxh", lambda Wxh: Wxh.astype(np.float64)),
    "wrong order of bytes": changed("Wxh", lambda Wxh: Wxh.astype(">f4")),
    "columns first": changed("Wxh", np.asfortranarray),
    "half precision": lambda held, raw: packed([(f"{key}.npy", npy(a.astype(np.float16) if a.dtype == np.float32 else a)) for key, a in held.items()]),
    "NaN in the weights": changed("Whh", at(3, np.nan)),
    "infinity in the accumulator": changed("adagrad_by", at(0, np.inf)),
    "NaN in the state": changed("state_h", at(0, np.nan)),
    "NaN as average": changed("smooth", np.nan),
    "negative accumulator": changed("adagrad_by", at(0, -1)),
    "negative position": changed("position", at(1, -5)),
    "negative jumps": changed("jumps", at(1, -5)),
    "negative iteration": changed("iter", -1),
    "negative seed": changed("seed", -1),
    "rate of 0": changed("lr", 0.0),
    "negative norm": changed("clip", -0.5),
    "share above 1": changed("val", 1.5),
    "negative share": changed("val", -0.5),
    "vocabulary not sorted": changed("vocabulary", lambda v: v[::-1].copy()),
    "vocabulary with a double": changed("vocabulary", lambda v: v[[0, 0, *range(2, len(v))]]),
    "vocabulary beyond Unicode": changed("vocabulary", at(-1, 0x110000)),
    "short digest": changed("digest", np.zeros(3, np.uint8)),
}


@pytest.fixture(scope="module")
def checkpoints():
    """One checkpoint of each model, as bytes, made when it is first asked for."""
    return {}


@pytest.fixture
def saved(script, checkpoints):
    """A good checkpoint a.npz, on text.txt, that stands in the script's folder."""
    path = script.folder / "a.npz"
    if script.model not in checkpoints:
        script.train("--iters 3 --save a.npz")
        checkpoints[script.model] = path.read_bytes()
    path.write_bytes(checkpoints[script.model])
    return path


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_hostile_checkpoint(script, inside, saved, make):
    (script.folder / "b.npz").write_bytes(make(arrays(saved), saved.read_bytes()))
    tracemalloc.start()
    try:
        for flags in ("--iters 0 --sample_length 5", "--data text.txt --iters 1 --check_interval 0"):
            error = inside("--load b.npz " + flags, status=2).stderr
            assert "b.npz" in error or "bytes of memory" in error or "too short" in error
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    assert sorted(path.name for path in script.folder.iterdir()) == ["a.npz", "b.npz", "text.txt"]


def test_repacked_checkpoint_loads(script, inside, saved):
    """The ways to damage a checkpoint above do not themselves make one that is refused."""
    for make in (but(lambda members: members), changed("lr", 0.5), changed("Whh", at(3, 1.0))):
        saved.write_bytes(make(arrays(saved), b""))
        inside("--load a.npz --iters 0 --sample_length 5")


@pytest.mark.parametrize("start", range(4))
def test_bit_flips_and_cuts(script, saved, start):
    """Each of some hundred flipped bits and cuts is refused with a Failure, or harmless."""
    good, module, rng = saved.read_bytes(), script.module, random.Random(start)
    expected = module.load(str(saved))
    for n in range(60):
        bad = bytearray(good)
        if n % 3:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        else:
            del bad[rng.randrange(len(bad)):]
        saved.write_bytes(bad)
        with contextlib.suppress(module.Failure):
            run = module.load(str(saved))
            assert (run.params.flat == expected.params.flat).all() and run.position.tolist() == expected.position.tolist()


def test_checkpoint_of_another_kind(script, inside, saved):
    assert "nowhere.npz" in inside("--load nowhere.npz --iters 0", status=2).stderr
    inside("--load . --iters 0", status=2)
    other = {"rnn": "lstm"}.get(script.model, "rnn")
    edit(saved, model=np.array(other))
    assert other in inside("--load a.npz --iters 0", status=2).stderr


@posix
def test_hostile_checkpoint_in_a_process(script, saved):
    """As above, but as a user runs it, and under a limit of memory."""
    for name in ("pickle", "deflated bomb", "10^12 numbers declared", "header of Python 2", "cut in half"):
        (script.folder / "b.npz").write_bytes(HOSTILE[name](arrays(saved), saved.read_bytes()))
        script.run("--load b.npz --iters 0", status=2, preexec_fn=at_most(AS=1 << 30), env={"OPENBLAS_NUM_THREADS": "1"})


def test_prime(script, saved):
    (script.folder / "empty.txt").write_bytes(b"")
    assert "nowhere.txt" in script.run("--load a.npz --iters 0 --prime @nowhere.txt", status=2).stderr
    for nothing in ("", "@empty.txt"):          # nothing to continue: as without the flag
        out = script.run("--load a.npz --iters 0 --sample_length 20 --prime", nothing).stdout
        assert out == script.run("--load a.npz --iters 0 --sample_length 20").stdout


# ---- numbers that run away

def test_loss_that_is_not_finite(script, saved):
    """Logits of 1e38 overflow: the run ends, what was saved stays."""
    Why = np.full_like(arrays(saved)["Why"], 3e38)
    Why[::2] *= -1
    edit(saved, Why=Why, by=np.abs(Why[:, :1]), state_h=np.ones_like(arrays(saved)["state_h"]))
    before = saved.read_bytes()
    error = script.train("--load a.npz --save a.npz --iters 5 --check_interval 1", status=1).stderr
    assert "finite" in error and "--lr" in error and saved.read_bytes() == before
    assert error == script.train("--load a.npz --save a.npz --iters 5 --check_interval 1 --threads 2", status=1).stderr


def test_accumulator_that_is_not_finite(script, saved):
    """A gradient of 1e25 has a finite loss, but its square is infinite in single precision and would freeze the weights."""
    Why = np.zeros_like(arrays(saved)["Why"])
    Why[::2] = 1e25
    edit(saved, Why=Why)
    before = saved.read_bytes()
    assert "finite" in script.train("--load a.npz --save a.npz --iters 5 --check_interval 1", status=1).stderr
    assert saved.read_bytes() == before


def test_weights_that_are_not_finite(script, saved):
    """At such a rate the first step is infinite, though loss and gradient are not: this must not be saved."""
    before = saved.read_bytes()
    assert "finite" in script.train("--load a.npz --save a.npz --iters 1 --lr 1e39", status=1).stderr
    assert saved.read_bytes() == before


def test_sample_of_weights_that_overflow(script, saved):
    edit(saved, Why=np.full_like(arrays(saved)["Why"], 3e38), Wxh=np.ones_like(arrays(saved)["Wxh"]), Whh=np.ones_like(arrays(saved)["Whh"]))
    for temperature in (0, 1):
        done = subprocess.run(script.command(f"--load a.npz --iters 0 --sample_length 9 --temperature {temperature}"),
                              cwd=script.folder, capture_output=True, encoding="utf-8")
        assert done.returncode in (0, 1, 2) and done.stderr.count("\n") == (done.returncode > 0) and "Traceback" not in done.stderr


@pytest.mark.parametrize("rate", ["10", "1000"])
def test_large_rates_end_with_the_message_or_survive(script, inside, rate):
    done = inside("", *script.small, *f"--iters 40 --check_interval 20 --sample_length 5 --lr {rate}".split(), status=None)
    assert done.returncode in (0, 1)


# ---- saving

@posix
def test_save_that_fails(script, saved):
    before = saved.read_bytes()
    error = script.train("--load a.npz --save a.npz --iters 2", status=1, preexec_fn=at_most(FSIZE=2000)).stderr
    assert "a.npz" in error and saved.read_bytes() == before
    assert sorted(path.name for path in script.folder.iterdir()) == ["a.npz", "text.txt"]


def test_best_that_cannot_be_saved(script):
    """A checkpoint must not claim a best figure that stands in no file: after such an end the next run would never write it."""
    (script.folder / "a.best.npz.tmp").mkdir()
    assert "a.best.npz" in script.train("--iters 2 --check_interval 1 --save a.npz", status=1).stderr
    (script.folder / "a.best.npz.tmp").rmdir()
    load = ["--load", "a.npz"] if (script.folder / "a.npz").exists() else []
    script.train("--iters 1 --check_interval 1 --lr 1e-30 --save a.npz", *load)
    assert arrays(script.folder / "a.npz")["best"] == arrays(script.folder / "a.best.npz")["best"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(script, saved):
    """Neither output nor figures can be written: one line, and no message of the interpreter's own after it."""
    with open("/dev/full", "w") as full:
        for flags in ("--iters 3 --print_interval 1", "--load a.npz --iters 0"):
            script.train(flags, status=1, stdout=full)
    script.train("--iters 3 --fname /dev/full", status=1)


# ---- signals and kills

def first_line(process):
    """Wait for the first line of progress, then let the output flow on unseen but for the last line: call it to get that."""
    for line in process.stdout:
        if line.startswith("0: "):
            break
    rest = [line]
    thread = threading.Thread(target=lambda: rest.extend(process.stdout))
    thread.start()

    def last():
        thread.join()
        return rest[-1]
    return last


@posix
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("threads", [1, 2])
def test_signal_finishes_the_iteration_and_saves(script, number, status, threads):
    with script.start(f"--iters 10000000 --timelimit 1000 --print_interval 1 --save a.npz --threads {threads}") as process:
        last = first_line(process)
        process.send_signal(number)
        assert process.wait(60) == status and process.stderr.read() == ""
    assert f"iter {arrays(script.folder / 'a.npz')['iter']}," in last()
    script.train("--load a.npz --iters 1")
    assert sorted(path.name for path in script.folder.iterdir()) == ["a.npz", "text.txt"]


@posix
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_signal_while_numpy_is_imported(script, number, status):
    """A NumPy of our own stands in for the real one and gets the signal; its traceback would be what the user sees."""
    (script.folder / "numpy.py").write_text(f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(60)\n")
    done = subprocess.run(script.command("--iters 1"), cwd=script.folder, env={**os.environ, "PYTHONPATH": str(script.folder)},
                          capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@posix
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_signal_while_the_text_is_read(script, number, status):
    os.mkfifo(script.folder / "pipe.txt")                   # nobody writes to it: reading waits for ever
    with script.start("--data pipe.txt --save a.npz --iters 1") as process:
        with open(script.folder / "pipe.txt", "w") as text:     # this waits until it is opened for reading
            text.write("abcdefghij" * 100)
            text.flush()
            while process.poll() is None:                   # a signal just before the system starts to wait is seen with the next one
                process.send_signal(number)
                time.sleep(0.2)
            assert process.returncode == status and process.stderr.read() == process.stdout.read() == ""
    assert not (script.folder / "a.npz").exists()


@posix
def test_second_signal_ends_at_once(script):
    """Nobody reads the output, so the run waits for ever in the middle of an iteration: the first signal cannot end it."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")

    def waiting():
        return int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), "little")
    with script.start("--iters 10000000 --timelimit 1000 --print_interval 1 --seqlength 1 --batchsize 1 --hidden 2") as process:
        filled = -1
        while waiting() > filled or filled < 4096:
            filled = waiting()
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == ""


def test_at_each_moment_of_saving_the_checkpoint_is_whole(script, saved):
    """What a kill would leave: after each instruction of save the file is the old one or the new one, to the byte."""
    module, before, seen = script.module, saved.read_bytes(), []
    run = module.load(str(saved))
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
        module.save(run, str(saved), module.Workers())
    finally:
        sys.settrace(tracing)
    assert len(seen) > 100 and set(seen) == {before, saved.read_bytes()}
    assert seen.index(saved.read_bytes()) > len(seen) / 2 and module.load(str(saved)).iter == run.iter


@posix
def test_kills_leave_a_checkpoint_that_loads(script):
    """SIGKILL at random moments of runs that do nothing but save: each time the checkpoint is whole and the next run goes on."""
    rng, iteration = random.Random(), 0
    script.train("--iters 1 --save a.npz --check_interval 1")
    for n in range(10):
        before = os.stat(script.folder / "a.npz").st_mtime_ns
        with script.start("--iters 10000000 --timelimit 1000 --check_interval 1 --print_interval 1 --load a.npz --save a.npz --val 0.01") as process:
            last = first_line(process)
            while n % 2 and os.stat(script.folder / "a.npz").st_mtime_ns == before:     # a busy machine may not have come to save
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            last()
        run = script.module.load(str(script.folder / "a.npz"))
        script.module.load(str(script.folder / "a.best.npz"))
        assert run.iter >= iteration
        iteration = run.iter
        assert {path.name for path in script.folder.iterdir()} <= {"text.txt"} | {f"a{best}.npz{tmp}" for best in ("", ".best") for tmp in ("", ".tmp")}
    assert iteration > 1
    script.train("--iters 1 --check_interval 1 --load a.npz --save a.npz --lr 1e-30")
    assert not (script.folder / "a.npz.tmp").exists()


# ---- where the output goes

@posix
@pytest.mark.parametrize("flags", ["--help", "--iters 30 --print_interval 1", "--iters 0"])
def test_output_that_nobody_reads_ends_quietly(script, flags):
    """As behind `| head`, when head has gone."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(script.command("", *script.small, *flags.split()), cwd=script.folder, stdout=closed, stderr=subprocess.PIPE, encoding="utf-8")
    assert done.stderr == "" and done.returncode in (0, 141)


@posix
def test_head(script):
    command = " ".join(script.command("", *script.small, *"--iters 10000000 --timelimit 1000 --print_interval 1".split()))
    done = subprocess.run(f"{command} | head -3", shell=True, cwd=script.folder, capture_output=True, encoding="utf-8", timeout=60)
    assert done.stderr == "" and done.stdout.count("\n") == 3


def test_no_warning_of_any_kind(script, saved):
    """-W error turns each into a traceback; open files that are forgotten are a warning, too."""
    for flags in ("--iters 3 --check_interval 2 --sample_length 5 --save b.npz --fname log.tsv", "--iters 3 --lr 1e39", "--load a.npz --iters 0"):
        done = subprocess.run(script.command("", *script.small, *flags.split(), python=["-W", "error", "-X", "dev"]),
                              cwd=script.folder, capture_output=True, encoding="utf-8")
        assert "Warning" not in done.stderr and "Traceback" not in done.stderr and done.returncode in (0, 1)


def test_terminal_that_cannot_show_the_text(script):
    """In the C locale without Python's UTF-8 mode, what cannot be shown is spelt out, on both streams."""
    (script.folder / "text.txt").write_text("häßlich, 漢字, 😀\n" * 30, encoding="utf-8")
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    out = script.train("--iters 1 --check_interval 1 --sample_length 400 --temperature 1e30", env=env).stdout
    assert out.isascii() and r"\xe4" in out and r"\u6f22" in out
    (script.folder / "é.txt").write_bytes(b"")
    script.train("--iters 1 --data é.txt", env=env, status=2)
