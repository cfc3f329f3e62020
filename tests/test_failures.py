"""What can go wrong, and what then: one line and a status, no traceback, nothing lost.
Script.run in conftest.py asks that of each run."""
import contextlib
import io
import itertools
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from conftest import ENVIRONMENT, MODELS, assert_same, checked, device, load, names, posix


def at_most(**limits):
    """For preexec_fn: the process gets these limits, as in at_most(FSIZE=1000)."""
    def apply():
        import resource                                     # which Windows has not
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    return apply


# A BLAS thread has a buffer, which counts
GIBIBYTE = {"preexec_fn": at_most(AS=1 << 30), "env": {"OPENBLAS_NUM_THREADS": "1"}}


NUMBERS = {name: values for flags, *values in (             # flag: refused, taken
    ("hidden batchsize seqlength print_interval", "0 -1 nan inf text 1.5 1e30 9e99", "1"),
    ("locations width heads", "0 -1 nan inf text 1.5 1e30", "1"),
    ("iters check_interval sample_length seed", "-1 nan inf text 1.5 1e30", "0"),
    ("timelimit", "0 -1 nan inf text", "1e30 1e-9"),
    ("lr clip temperature init", "-1 nan inf text", "0 1e30 1e-300"),
    ("dropout", "-1 nan inf text 1 1.5", "0 0.5 0.999"),
    ("val", "-1 nan inf text 1 1.5 1e30", "0 0.5"),
    ("forget_bias", "-101 nan inf text", "-3 0 1")) for name in flags.split()}


@pytest.mark.parametrize("script, name", [
    (model, name) for model in MODELS
    for name, (kind, *_) in load(f"{model}-numpy.py").TABLE.items() if kind in (int, float)],
    indirect=["script"])
def test_number(script, name):
    refused, taken = map(str.split, NUMBERS[name])
    for value in refused:
        assert f"--{name}" in script.train(f"--iters 1 --{name}={value}", status=2).stderr
    for value in taken:
        flags = f"--iters 1 --check_interval 1 --sample_length 3 --{name}={value}"
        done = script.train(flags, status=None)
        assert done.returncode == 0 or value == "1e30" and "finite" in done.stderr


REFUSED = {         # flags, raw text ("": that of the tests), what the line names
    "missing": ("--data nowhere.txt", "", r"nowhere\.txt.*--data"),
    "a name that steers a terminal": ("--data \x1b[2J\x9b.txt", "", r"\\x1b\[2J\\x9b\.txt"),
    "a folder": ("--data .", "", r"read \."),
    "empty": ("", b"", r"text\.txt"),
    "one character": ("", b"a" * 30, r"text\.txt"),
    "short": ("", b"abcdefghij", "too short"),              # a window takes eleven characters
    "short but for the tail": ("--val 0.5", b"abcdefghij" * 2, "too short"),
    "late": ("", b"a\r\n" * 100_000 + b"\xff", "300,000.*latin-1"),
    "cp1252 that is none": ("--encoding cp1252", b"\x93abcdefghij\x81\x94" * 9, "latin-1"),
    "encoding": ("--encoding nonesuch", "", "nonesuch"),
    "encoding that is none of text": ("--encoding hex", "", "hex"),
    "prime": ("--prime @nofile", "", "nofile.*--prime"),
    "prime that is not in the text": ("--prime a#é", "", r"--prime.*\b2\b.*'#'.*'é'"),
    "a text without --data": ("mytext.txt", "", r"mytext\.txt"),
    "--hid": ("--hid 8", "", "--hid"),
    "no checkpoint": ("--load nowhere.npz --iters 0", "", r"nowhere\.npz"),
    "a text as checkpoint": ("--load text.txt --iters 0", "", r"text\.txt"),
    "all held out of nothing": ("--val 1 --iters 0", "", "--val.*--load FILE --iters 0"),
    "an unset variable": ("--save=", "", "--save"),
    "an unset variable, for the log": ("--fname=", "", "--fname"),
    "nothing to save": ("--iters 0 --save a.npz", "", "--save"),
    "nothing to log": ("--iters 0 --fname log.tsv", "", "--fname")}


@pytest.mark.parametrize("flags, raw, named", REFUSED.values(), ids=REFUSED)
def test_refused(rnn, flags, raw, named):
    if raw != "":
        rnn.text.write_bytes(raw)
    assert re.search(named, rnn.train("--iters 1 --val 0 " + flags, status=2).stderr)


@posix
def test_sizes_that_do_not_fit(script):
    flags = "hidden batchsize locations width heads".split()
    for name, size in itertools.product(flags[:5 if script.model == "dnc" else 2], (8, 12, 18)):
        flags = f"--save a.npz --iters 1 --{name} {10**size}"
        assert "memory" in script.train(flags, status=2, **GIBIBYTE).stderr
    flags = "--seqlength 4000 --batchsize 10000 --iters 1 --save a.npz"     # only in the training
    assert "memory" in script.train(flags, status=1, **GIBIBYTE).stderr
    assert names(script.folder) == {"text.txt"}


@posix
def test_as_little_memory_as_can_be(rnn):
    """Below some limit NumPy cannot be imported; the scripts' own 31 MiB never end a run."""
    for mebibytes in range(60, 1000, 8):
        try:
            done = subprocess.run(
                [sys.executable, rnn.path, *rnn.small, "--iters", "1"], cwd=rnn.folder,
                preexec_fn=at_most(AS=mebibytes << 20), env={**ENVIRONMENT, **GIBIBYTE["env"]},
                capture_output=True, encoding="utf-8", timeout=10)
        except subprocess.TimeoutExpired:       # the OpenBLAS of NumPy 2.0 waits for memory
            continue
        assert "np.empty" not in done.stderr
        if done.returncode == 0:
            break
    else:
        raise AssertionError(done.stderr)


def packed(members, compression=zipfile.ZIP_STORED, directory=list):
    """An .npz of (name, bytes) pairs; directory may change the list of them that it ends with."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
        directory(archive.filelist)
    return buffer.getvalue()


def npy(array):
    """An array as the bytes of an .npy file."""
    np.lib.format.write_array(buffer := io.BytesIO(), np.asarray(array))
    return buffer.getvalue()


def declared(shape, data=bytes(100), descr="'<f4'"):
    """An .npy file with this header."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


class Evil:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def held(path):
    """The arrays of a checkpoint by name, its settings being one of them."""
    with np.load(path) as file:
        return dict(file)


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


def setting(name, value):
    """A checkpoint with one other setting, or a function of what was there; None: without it."""
    def change(text):
        saved = json.loads(str(text))
        saved[name] = value(saved.get(name)) if callable(value) else value
        return json.dumps({key: x for key, x in saved.items() if x is not None or key != name})
    return changed("settings", change)


def mutations(held):
    """Ways to make a checkpoint with something missing, or spoilt: (what, function)."""
    for name, array in held.items():
        yield f"{name} missing", but(lambda members, name=f"{name}.npy": [
            member for member in members if member[0] != name])
        flat = array.reshape(-1)
        ways = {"one more": np.append(flat, flat[:1]), "an axis more": array[None],
                "empty": flat[:0], "object": np.array([Evil()], object), "text": "\x1b[2J",
                "bytes swapped": array.astype(array.dtype.newbyteorder()),
                "10^9 numbers declared": declared((10**9,)), "negative": declared((-1,))}
        for value in (np.nan, np.inf, -np.inf, -1)[:4 if name.startswith("adagrad_") else 3]:
            if array.dtype.kind == "f":
                ways[f"one {value}"] = array.copy()
                ways[f"one {value}"].flat[array.size // 2] = value
        if array.T.shape != array.shape:
            ways["transposed"] = array.T.copy()
        for what, value in ways.items():
            yield f"{name}: {what}", changed(name, value)
    for name, old in json.loads(str(held["settings"])).items():
        for value in None, np.nan, -1, 0.5, 10**400, "\x1b[2J", [], {}, [[]] * 4, [[[[5]]]]:
            if type(value) is not type(old) and (name, value) not in (
                    ("forget_bias", -1), ("reset", "\x1b[2J"), ("data", "\x1b[2J")):
                yield f"{name}: {str(value)[:9]}", setting(name, value)


def flipped(data, place, bit):
    """These bytes with one bit changed."""
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1:]


HOSTILE = {
    "empty": lambda held: b"",
    "an empty archive": lambda held: packed([]),
    "foreign": lambda held: packed([("\x1b[2J\x1b]0;x\x07.npy", npy(1))]),
    "an earlier version": but(lambda m: [*m[1:], ("model.npy", npy("rnn")), ("lr.npy", npy(0.1))]),
    "another model": setting("model", lambda model: "lstm" if model == "rnn" else "rnn"),
    "deflated": but(list, compression=zipfile.ZIP_DEFLATED),
    "one deflated bomb": lambda held: packed([("by.npy", bytes(10**8))], zipfile.ZIP_DEFLATED),
    "a bomb of 10 bytes": lambda held: packed([("by.npy", bytes(10**8))], zipfile.ZIP_BZIP2,
                                              lambda files: setattr(files[0], "file_size", 10)),
    "each member twice": but(list, directory=lambda files: files.extend(files[:])),
    "a member more": but(lambda m: [*m, ("more.npy", npy(1))]),
    "a weight of the best, but no best": but(lambda m: [*m, ("best_by.npy", m[1][1])]),
    "pickle": changed("by", npy(np.array([Evil()], object))),
    "pickle as settings": changed("settings", npy(np.array(Evil(), object))),
    "10^12 numbers declared": changed("by", declared((10**12, 1))),
    "10^7 numbers of no width": changed("by", declared((10**7, 0))),
    "3 10^8 strings of no width": changed("by", declared((3 * 10**8,), descr="'<U0'")),
    "settings of 3 10^8 strings": changed("settings", declared((3 * 10**8,), descr="'<U0'")),
    "header of code": changed("by", declared((1,), descr="__import__('os').mkdir('executed')")),
    "columns first": changed("Wxh", np.asfortranarray),
    "deep JSON": changed("settings", "[" * 10**5),
    "a setting more": setting("more", 1),
    "other sizes": setting("hidden", 9),
    "size of 10^12": setting("hidden", 10**12),
    "batch of 10^12": setting("batchsize", 10**12),
    "a stream more": setting("position", lambda position: [*position, 0]),
    "positions that are fractions": setting("position", lambda position: [1.5] * len(position)),
    "iteration of 4,300 digits": setting("iter", int("9" * 4300)),
    "vocabulary of numbers": setting("vocab", lambda vocab: [*range(len(vocab))]),
    "vocabulary with a double": setting("vocab", lambda vocab: vocab[1] + vocab[1:]),
    "vocabulary too small": setting("vocab", lambda vocab: vocab[1:]),
    "reset of another text": setting("reset", "#")}
IN_A_PROCESS = "pickle", "one deflated bomb", "10^12 numbers declared", "settings of 3 10^8 strings"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoint(rnn, saved, name):
    """Some of them also as a user runs it, and under a limit of memory."""
    (rnn.folder / "b.npz").write_bytes(HOSTILE[name](held(saved)))
    tracemalloc.start()
    try:
        for flags in "--iters 0 --sample_length 5", "--data text.txt --iters 1 --save c.npz":
            error = rnn.run("--load b.npz " + flags, status=2).stderr
            assert re.search(r"b\.npz|--reset", error)
            assert "lstm-numpy.py saved it" in error or name != "another model"
            assert "an earlier version" in error or name != "an earlier version"
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    if os.name == "posix" and name in IN_A_PROCESS:
        rnn.run("--load b.npz --iters 0", status=2, **GIBIBYTE)
    assert names(rnn.folder) == {"a.npz", "b.npz", "text.txt"}, "code was run"


def everything(run):
    """All that a loaded run has, as something that can be compared."""
    def comparable(value):
        if isinstance(value, dict):
            return {name: comparable(x) for name, x in value.items()}
        return value.tobytes() if isinstance(value, np.ndarray) else value
    return comparable(vars(run))


def test_harmless_checkpoint(script, saved):
    """The ways to damage one above do not themselves make one that is refused."""
    expected = everything(script.loaded())
    saved.write_bytes(but(reversed)(held(saved)))
    assert everything(script.loaded()) == expected


def test_damaged_checkpoint(script):
    """Members or settings missing or spoilt (the RNN: all), flipped bits, cuts: refused, or
    harmless."""
    script.train("--iters 3 --save a.npz --check_interval 1 --val 0.05")    # has best weights
    path, rng = script.folder / "a.npz", random.Random(script.model)
    good, arrays, expected = path.read_bytes(), held(path), everything(script.loaded())
    cases = [*mutations(arrays)][::1 if script.model == "rnn" else 7]
    for n in range(100):
        place = rng.randrange(len(good))
        bad = flipped(good, place, rng.randrange(8)) if n % 3 else good[:place]
        cases.append((f"bit or cut at {place}", lambda held, bad=bad: bad))
    for what, make in cases:
        path.write_bytes(make(arrays))
        try:
            with np.errstate(invalid="ignore"):             # as main has it
                assert everything(script.loaded()) == expected, what
        except script.module.Failure as e:
            assert "a.npz is not a usable checkpoint: " in str(e)
    assert names(script.folder) == {"a.npz", "text.txt"}, "code was run"


def test_a_vocabulary_in_another_order_is_as_good(rnn, saved):
    flags = "--load a.npz --data text.txt --val 1 --iters 0"
    score, order = rnn.run(flags, "--sample_length", 0).stdout, random.Random(1)
    vocab = rnn.saved()["vocab"]
    places = order.sample(range(len(vocab)), len(vocab))
    rnn.edit(vocab="".join(vocab[k] for k in places), **{
        prefix + name: np.take(rnn.saved()[prefix + name], places, int(name == "Wxh"))
        for prefix in ("", "adagrad_", "average_") for name in ("Wxh", "Why", "by")})
    assert "held-out" in score and rnn.run(flags, "--sample_length", 0).stdout == score


@posix
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: device(path, 1, 5)],
                         ids=["a FIFO", "/dev/zero"])
def test_a_checkpoint_that_would_never_end(rnn, make):
    make(rnn.folder / "b.npz")
    for flags in "--iters 0", "--data text.txt --iters 1 --save b.npz":
        assert "regular file" in rnn.run(f"--load b.npz {flags}", status=2, timeout=60).stderr


ENDS = {            # of gradients, in an iteration: what it does instead, status
    "a gradient that is not finite": (
        lambda nats, grads: (nats, {**grads, "by": grads["by"] * np.inf}), 1),
    "an infinite square, which would freeze the weights": (
        lambda nats, grads: (nats, {**grads, "by": grads["by"] * 1e25}), 1),
    "memory": (lambda nats, grads: np.empty(10**15), 1),
    "a mistake, which stays a traceback": (lambda nats, grads: 1 / 0, None)}


@pytest.mark.parametrize("change, status", ENDS.values(), ids=ENDS)
def test_whatever_ends_the_loop_the_last_whole_iteration_is_saved(
        script, monkeypatch, change, status):
    def gradients(*args):
        nats, grads, state = real(*args)
        return *((nats, grads) if next(calls) < last else change(nats, grads)), state
    flags, real = "--clip 0 --val 0.05 --check_interval 2 --save", script.module.gradients
    script.train(f"{flags} a.npz --iters 3")
    monkeypatch.setattr(script.module, "gradients", gradients)
    for last, left in (4, {"text.txt", "a.npz", "b.npz"}), (1, {"text.txt", "a.npz"}):
        calls, done = itertools.count(1), None
        with contextlib.suppress(ZeroDivisionError):
            done = script.main([*script.small, *flags.split(), "b.npz", "--iters", "9"])
        assert done is None if status is None else checked(done, status)
        assert names(script.folder) == left, "what was claimed for nothing is removed"
        if last == 4:
            assert_same(last_of(script.saved("a.npz")), last_of(script.saved("b.npz")))
            assert script.saved("b.npz")["best_iter"] == 2
            (script.folder / "b.npz").unlink()


def last_of(saved):
    """What a checkpoint has of the last iteration, without what the checks found."""
    return {name: value for name, value in saved.items() if name[:4] != "best"}


def test_a_step_that_overflows(script, saved):
    before = script.saved()
    error = script.train("--load a.npz --save a.npz --iters 5 --lr 1e39", status=1).stderr
    assert re.search("finite in iteration 4.*--lr.*--init", error)
    assert_same(before, script.saved(), but=["lr"])
    script.train("--save b.npz --lr 1e39", status=1)
    script.train("--save c.npz --lr 1e20 --val 0.1 --check_interval 1 --iters 3", status=None)
    assert script.loaded("c.npz").iter                      # absurd, but it is a checkpoint
    script.train("--iters 9 --init 1e300", status=1)        # the initial weights do
    script.train("--save b.npz --init 1e300", status=2)
    assert names(script.folder) == {"text.txt", "a.npz", "c.npz"}


def test_sample_of_one_weight_that_overflows(rnn, saved):
    """And temperature 0 takes the likeliest, however near the next one is."""
    p, flags = rnn.saved(), "--load a.npz --iters 0 --sample_length 30 --temperature"
    likely, V = np.arange(len(p["by"])) < 1, len(p["by"])
    rnn.edit(average_Why=np.where(likely, 3e38, p["Why"].T).T.astype("f4"),
             average_Wxh=10 * np.ones_like(p["Wxh"]))
    for temperature in 0, 1:
        assert rnn.run(flags, temperature, status=2).stderr == (
            "rnn-numpy.py: the network's output is not finite\n")
    rnn.edit(average_Why=0 * p["Why"],
             average_by=np.where(np.arange(V) == 3, 1, 0.999)[:, None].astype("f4"))
    assert p["vocab"][3] * 30 in rnn.run(flags, 0).stdout


SIGNALS = {name: getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)}
signals = pytest.mark.parametrize("number", SIGNALS.values(), ids=SIGNALS)


@posix
@signals
def test_signal_finishes_the_iteration_and_saves(script, number):
    with script.start("--save a.npz") as process:
        process.send_signal(number)
        assert process.wait(60) == 128 + number and process.stderr.read() == ""
        *_, last, end = process.said().splitlines()
    assert f"iter {script.saved()['iter']}," in last and end == "saved a.npz"
    script.train("--load a.npz --iters 1")
    assert names(script.folder) == {"a.npz", "text.txt"}


@posix
@signals
def test_a_second_signal_does_not_wait(rnn, number):
    os.mkfifo(rnn.folder / "pipe.txt")                      # reading waits for the writer
    with rnn.start("--data pipe.txt --save a.npz", stdout=subprocess.PIPE) as process:
        with open(rnn.folder / "pipe.txt", "w"):            # waits until it is opened to read
            while process.poll() is None:
                time.sleep(0.1)
                process.send_signal(number)
        assert process.returncode == 128 + number
        assert process.stderr.read() == process.stdout.read() == ""
    assert names(rnn.folder) == {"text.txt", "pipe.txt"}


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGHUP", None)])
def test_a_signal_that_is_ignored_at_the_start_stays_ignored(rnn, number):
    """As nohup, and a script's background job, ask for."""
    with rnn.start("--save a.npz", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)) as run:
        for _ in range(3):
            before = run.said()
            run.send_signal(number)
            while run.said() == before:
                assert run.poll() is None
        run.terminate()
        assert run.wait(60) == 143 and "saved a.npz" in run.said()


@pytest.mark.parametrize("moment, iterations, shown", [
    ("read_text", 0, []), ("train", 1, []), ("score", 3, []),
    ("sample", 3, ["held-out: ", "----", "----"])])
def test_signal_outside_an_iteration(rnn, monkeypatch, moment, iterations, shown):
    """No iteration follows the reading of a text. In a check, a figure of half of the tail is not
    shown, a sample ends early; one more iteration follows, which is saved."""
    def interrupted(*args, function=getattr(rnn.module, moment)):
        signal.raise_signal(signal.SIGINT)
        return function(*args)
    monkeypatch.setattr(rnn.module, moment, interrupted)
    done = rnn.main([*rnn.small, *"--iters 9 --check_interval 2 --val 0.5 --sample_length 999 "
                     "--save a.npz".split()])
    assert (done.returncode, done.stderr) == (130, "") and len(done.stdout) < 500
    assert re.findall("held-out: |----", done.stdout) == shown
    assert (rnn.saved()["iter"] == iterations) if iterations else (
        names(rnn.folder) == {"text.txt"})


@pytest.mark.parametrize("error, status", [
    (BrokenPipeError(32, "Broken pipe"), 141), (OSError(28, "No space left on device"), 1)],
    ids=["closed", "full"])
def test_output_that_fails_at_any_moment(rnn, monkeypatch, error, status):
    """The last whole iteration is saved; before the first, the name is free again."""
    def fails(*args, file=None, **options):
        if file is None and next(calls) >= moment:          # and for good
            raise error
        print(*args, file=file, **options)
    flags = "--print_interval 1 --check_interval 2 --sample_length 3 --save"
    for count in range(1, 5):
        rnn.train(f"{flags} {count}.npz --iters {count}")
    monkeypatch.setattr(rnn.module, "print", fails, raising=False)
    ends, left = set(), names(rnn.folder)
    for moment in itertools.count():
        calls = itertools.count()
        done = rnn.main([*rnn.small, *flags.split(), "a.npz", "--iters", "4"])
        if done.returncode == 0:                            # but for the line that it is saved
            break
        checked(done, status, status == 1)
        shown = [0, *map(int, re.findall(r"iter (\d),", done.stdout))]
        count = rnn.saved()["iter"] if names(rnn.folder) - left else 0
        assert count - shown[-1] in (0, 1)
        if count:
            assert_same(last_of(rnn.saved(f"{count}.npz")), last_of(rnn.saved()))
            (rnn.folder / "a.npz").unlink()
        ends.add(count)
    assert ends == {0, 1, 2, 3, 4}


SAMPLED = "--load a.npz --iters 0 --sample_length"


@posix
@pytest.mark.parametrize("shell, statuses, lines", [
    ("--iters 100000000 --print_interval 1 --save b.npz | head -3", [141], 3),
    ("--help | :", [0, 141], 0),                            # head has gone already
    ("--iters 30 --print_interval 1 --save b.npz | :", [0, 141], 0), ("--iters 0 | :", [0, 141], 0),
    (f"{SAMPLED} 100000000 | head -1", [141], 1),
    ("--iters 3 --save b.npz >&-", [0], 0),
    ("--iters 3 --print_interval 1 --save b.npz 2>&-", [0], 5),
    ("--iters 3 --save b.npz >&- 2>&-", [0], 0), ("--data nowhere.txt >&- 2>&-", [2], 0),
    ("--data nowhere.txt 2>&1 | :", [2], 0),
    ("--help > /dev/full", [1], 0),
    ("--iters 4 --save b.npz > /dev/full", [1], 0), (f"{SAMPLED} 9 > /dev/full", [1], 0)])
def test_output_that_nobody_reads(rnn, saved, shell, statuses, lines):
    """No message of the interpreter's own; one line if a disk is full."""
    if "/dev/full" in shell and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    command = shlex.join([sys.executable, "-W", "error", str(rnn.path), *rnn.small])
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{command} {shell}"],
                          cwd=rnn.folder, env=ENVIRONMENT, capture_output=True, encoding="utf-8",
                          timeout=60)
    assert checked(done, None, statuses == [1]).returncode in statuses
    assert done.stdout.count("\n") == lines
    if "100000000 --print" in shell:
        assert rnn.loaded("b.npz").iter >= 2                # of which head has seen the lines
    if "--iters 3 " in shell:
        assert rnn.loaded("b.npz").iter == 3


@posix
@pytest.mark.parametrize("first", ["tee", "run"])
def test_tee_and_control_c(rnn, first):
    """The terminal sends the signal to both."""
    with subprocess.Popen(["tee", "log.txt"], cwd=rnn.folder, stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL) as tee:
        with rnn.start("--save a.npz", stdout=tee.stdin) as run:
            log = rnn.folder / "log.txt"
            while not log.exists() or "\n0: " not in log.read_text():
                assert run.poll() is None
            run.send_signal(signal.SIGSTOP)
            for process in (tee, run) if first == "tee" else (run, tee):
                process.send_signal(signal.SIGINT)
            assert tee.wait(60) == -signal.SIGINT
            run.send_signal(signal.SIGCONT)
            assert run.wait(60) == 130 and run.stderr.read() == ""
    assert rnn.loaded().iter >= int(re.findall(r"iter (\d+),", log.read_text())[-1])


@posix
def test_control_c_ends_a_long_sample(rnn, saved):
    command = [sys.executable, rnn.path, *SAMPLED.split(), "100000000"]
    with subprocess.Popen(command, cwd=rnn.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=ENVIRONMENT) as process:
        assert min(len(os.read(process.stdout.fileno(), 9999)) for _ in range(9)) < 5000
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130 and err == b"" and out.endswith(b"\n----\n")


def test_terminal_that_cannot_show_the_text(script):
    """In the C locale without UTF-8, what cannot be shown is spelt out, on both streams."""
    script.text.write_text("häßlich, 漢字, 😀\n" * 30, encoding="utf-8")
    env = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    out = script.train("--iters 1 --check_interval 1 --sample_length 400 --temperature 1e30",
                    env=env).stdout
    assert out.isascii() and r"\xe4" in out and r"\u6f22" in out
    assert r"\udcc3\udca9.txt" in script.train("--data é.txt", env=env, status=2).stderr
