"""The long part of the tests: faults by the hundred, and minutes rather than seconds. tests/README.md has the figures of its last run.

    python tests/long.py                            everything, one part after another
    python tests/long.py kill disk                  these parts
    python tests/long.py soak --minutes 1           a shorter one
    python tests/long.py determinism --python python3.12 other/bin/python       with other interpreters and NumPys, each by itself

Each line of the table is a kind of fault: how many there were, and how many of them lost something. The exit status is 1 if
any did. What is asked of each run (one line and a status, nothing on standard error when all goes well) is what the tests ask.
"""
import argparse
import collections
import contextlib
import itertools
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import numpy as np
import pytest
from hypothesis import settings

import test_debug
import test_disk
import test_dnc_robust
import test_fetch
import test_text
from conftest import ENVIRONMENT, MODELS, Script, arrays, as_promised, some_text, unchanged
from test_disk import ENDLESS, names
from test_failures import HOSTILE, KINDS, NUMBERS, Evil, at, at_most, first_line, npy, npy_header, packed
from test_resume import assert_same, without_times

MIB = 2**20
STRICT = "-W", "error"


class Table:
    """What is printed, line by line; lost is the sum of its column."""

    def __init__(self):
        self.lost = 0
        print(f"{'part':12} {'fault':64} {'times':>7} {'lost':>5}  remarks", flush=True)

    def row(self, part, what, times, lost=0, remarks=""):
        self.lost += lost
        print(f"{part:12} {what:64} {times:7,} {lost:5,}  {remarks}", flush=True)

    def tally(self, part, what, cases, trial):
        """Try each case; one that fails is lost, and said. What a trial returns is counted in the remarks."""
        found, lost, times = collections.Counter(), 0, 0
        for times, case in enumerate(cases, 1):
            try:
                found[trial(case)] += 1
            except Exception:                               # the table goes on: this line says that something was lost
                lost += 1
                print(f"LOST by {part}, {what}: {str(case)[:100]}\n{traceback.format_exc()[-1500:]}", file=sys.stderr, flush=True)
        self.row(part, what, times, lost, ", ".join(f"{count:,} {note}" for note, count in sorted(found.items(), key=str) if note))


@contextlib.contextmanager
def fresh(model):
    """A script in an empty folder of its own, with the tests' text."""
    with tempfile.TemporaryDirectory(prefix=f"{model}-") as folder:
        (pathlib.Path(folder) / "text.txt").write_text(some_text(), newline="\n")
        yield Script(model, pathlib.Path(folder))


def finished(command, folder, env=(), **options):
    """A command, run to its end."""
    options = {"stdout": subprocess.PIPE, **options}
    env = {**ENVIRONMENT, **dict(env)}
    return subprocess.run(command, cwd=folder, env=env, stderr=subprocess.PIPE, encoding="utf-8", timeout=900, **options)


# Kills and signals ----------------------------------------------------------------------------------------------------

def written(path):
    """Which file this is, and since when, or None: what an earlier run left behind is another one."""
    with contextlib.suppress(FileNotFoundError):
        return path, path.stat().st_mtime_ns


def kill(table, args):
    """Runs that do little but save get a signal at a random moment; the next run continues from what is there."""
    for model, (number, status) in itertools.product(MODELS, ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143))):
        for signals in (1,) if number == signal.SIGKILL else (1, 2):
            with fresh(model) as script:
                script.train("--iters 1 --save a.npz --check_interval 1 --hidden 40")
                rng, last = random.Random(), [1]

                def trial(turn):
                    writing = [script.folder / name for name in ("a.npz.tmp", "a.best.npz.tmp")]
                    if turn % 2:                            # every other time at a moment when one of these has come into being
                        for path in writing:
                            path.unlink(missing_ok=True)
                    before = set(map(written, writing))
                    with script.start(f"{ENDLESS} --val 0.01 --hidden 40 --save a.npz --load a.npz --fname log.tsv") as process:
                        drain = first_line(process)
                        while turn % 2 and not any(path.exists() for path in writing):
                            time.sleep(0.0002)
                        time.sleep(rng.uniform(0, 0.001 if turn % 2 else 0.03))
                        for n in range(signals):
                            time.sleep(n * rng.uniform(0, 0.003))
                            process.send_signal(number)
                        assert process.wait(60) == status or process.returncode == -number and signals == 2, process.returncode
                        printed = drain()
                        assert process.stderr.read() == ""
                    run = script.module.load(str(script.folder / "a.npz"))
                    if (script.folder / "a.best.npz").exists():
                        script.module.load(str(script.folder / "a.best.npz"))
                    assert run.iter >= last[0], "an older checkpoint"
                    last[0] = run.iter
                    there = names(script.folder) - {"text.txt", "log.tsv", "a.npz", "a.best.npz"}
                    assert there <= {path.name for path in writing}
                    if signals == 1 and number != signal.SIGKILL:
                        assert not there and f"iter {run.iter}," in printed
                    if process.returncode < 0 and signals == 2:     # for a shell that is the same status
                        return "the second while the interpreter was leaving"
                    return "in the middle of writing" if set(map(written, writing)) - before - {None} else None
                times = args.kills if number == signal.SIGKILL else args.kills // 3
                table.tally("kill", f"{model}: {signal.Signals(number).name}{', and again' * (signals - 1)}", range(times), trial)
                script.train("--iters 1 --check_interval 1 --load a.npz --save a.npz --lr 1e-30 --hidden 40")
                rows = (script.folder / "log.tsv").read_text().splitlines()
                broken = sum(len(row.split("\t")) != 5 for row in rows if row[0] != "#")
                table.row("kill", f"{model}: lines of its log after that", len(rows), broken)


# Disks ----------------------------------------------------------------------------------------------------------------

def disk(table, args):
    """Everything of test_disk.py again and again, at random moments and with all sizes; limits of a file's size as well."""
    moments = [random.uniform(0, 0.1) for _ in range(args.kills // 10)]
    for model in MODELS:
        for what, cases, trial in (
                ("a full file system, of 4 to 116 KiB", range(4096, 4096 * 30, 4096), test_disk.runs_into_a_full_disk),
                ("read-only half-way", moments, test_disk.runs_while_the_disk_becomes_read_only),
                ("the folder of --save gone half-way", moments, test_disk.runs_while_the_folder_goes),
                ("the folder of --fname gone half-way", moments, lambda *case: test_disk.runs_while_the_folder_goes(*case, "--fname")),
                ("the target a folder half-way", moments, test_disk.runs_while_the_target_becomes_a_folder)):
            def alone(case):
                with fresh(model) as script:
                    return trial(script, case)
            try:
                table.tally("disk", f"{model}: {what}", cases, alone)
            except pytest.skip.Exception as e:
                table.row("disk", f"{model}: {what}", 0, remarks=f"skipped: {e}")

        with fresh(model) as script:
            script.train("--iters 1 --save a.npz")

            def limited(limit):
                with unchanged(script.folder):
                    script.train("--load a.npz --save a.npz --iters 1", status=1, preexec_fn=at_most(FSIZE=limit))
            limits = range(0, (script.folder / "a.npz").stat().st_size, 1024)
            table.tally("disk", f"{model}: a limit below the size of a checkpoint", limits, limited)


# Checkpoints from anywhere --------------------------------------------------------------------------------------------

def everything(run):
    """All that a loaded run has, as something that can be compared."""
    state = {f"state {name}": value for name, value in run.state.items()}
    held = {**vars(run), **state, "params": run.params.flat, "mem": run.mem.flat}
    return {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in held.items() if name != "state"}


def spoilt(array):
    """Ways to spoil an array of a checkpoint: what -> another array, or the bytes of an .npy file."""
    def declared(shape):
        return npy_header(f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {shape}}}", array.tobytes())
    flat = array.reshape(-1)
    ways = {"one more": np.append(flat, flat[:1]), "one axis more": array[None], "empty": flat[:0], "object": np.array([Evil()], object),
            "text": np.array("\x1b[2J"), "complex": np.ones(array.shape, complex),
            "bytes swapped": array.astype(array.dtype.newbyteorder()),
            "structured": np.zeros(array.shape, [("\x1b", "f4")]), "many declared": declared((10**12,)), "negative shape": declared((-1,))}
    if array.dtype.kind == "f":
        ways |= {str(value): at(array.size // 2, value)(array.copy()) for value in (np.nan, np.inf, -np.inf)}
    if array.ndim > 1 and array.shape[0] != array.shape[1]:
        ways["transposed"] = array.T.copy()
    return ways


def mutations(held):
    """Checkpoints with one array missing, or spoilt: (what, bytes of the file)."""
    raw = {name: npy(array) for name, array in held.items()}
    for name in held:
        yield f"{name} missing", packed([(f"{key}.npy", value) for key, value in raw.items() if key != name])
        for what, value in spoilt(held[name]).items():
            changed = {**raw, name: value if isinstance(value, bytes) else npy(value)}
            yield f"{name}: {what}", packed([(f"{key}.npy", each) for key, each in changed.items()])


def hostile(table, args):
    """Files that are no checkpoint any more. What is not refused has to be what was saved, to the bit."""
    tried = 0
    for model in MODELS:
        with fresh(model) as script:
            path, bad = script.folder / "a.npz", script.folder / "b.npz"
            script.train("--iters 3 --save a.npz --hidden 32")
            good, held, expected = path.read_bytes(), arrays(path), everything(script.module.load(str(path)))
            directory = good.index(b"PK\x01\x02")           # of the archive, at its end

            def trial(case):
                what, content = case
                bad.write_bytes(content)
                done = script.main("--load b.npz --iters 0 --sample_length 1", status=None)
                assert done.returncode in (0, 2), what
                if done.returncode == 0:
                    assert everything(script.module.load(str(bad))) == expected, what
                assert names(script.folder) == {"a.npz", "b.npz", "text.txt"}, "code was run"
                return "refused" if done.returncode else "harmless"

            def refused(case):
                assert trial(case) == "refused"
                return "refused"

            def table_of_failures(case):                    # one of these loads, and is refused for the memory that it then needs
                bad.write_bytes(case[1])
                script.main("--load b.npz --data text.txt --iters 1 --check_interval 0", status=2)
                assert names(script.folder) == {"a.npz", "b.npz", "text.txt"}, "code was run"
                return "refused"

            def flips(start):
                for _ in range(args.flips):
                    place, bit = random.randrange(start, len(good)), random.randrange(8)
                    yield f"bit {bit} of byte {place}", good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1:]
            for what, cases, test in (
                    ("cut at every KiB", [(f"{n} bytes", good[:n]) for n in range(0, len(good), 1024)], refused),
                    ("cut at each of the last bytes", [(f"{n} bytes", good[:n]) for n in range(len(good) - 200, len(good))], refused),
                    ("a bit flipped anywhere", flips(0), trial),
                    ("a bit flipped in the directory of the archive", flips(directory), trial),
                    ("an array spoilt or missing", mutations(held), trial),
                    ("pickles, bombs, 10^12 numbers ... of test_failures.py", [(name, make(held, good)) for name, make in HOSTILE.items()],
                     table_of_failures)):
                cases = list(cases)
                tried += len(cases)
                table.tally("hostile", f"{model}: {what}", cases, test)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table.row("hostile", "files in all", tried, int(peak > 500), f"resident memory at most {peak:.0f} MiB")


# Texts ----------------------------------------------------------------------------------------------------------------

MEASURED = ("import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)")


def text(table, args):
    """The properties of test_text.py with more examples, and texts that are too large for the suite."""
    settings.register_profile("long", settings.get_profile("suite"), max_examples=args.examples, derandomize=False)
    settings.load_profile("long")
    for function in (test_text.test_read_text, test_text.test_encode, test_text.test_printable, test_text.test_a_run):
        table.tally("text", f"{function.__name__}: any characters, {args.examples:,} examples", [function], lambda function: function())
    every = "".join(map(chr, (*range(0xd800), *range(0xe000, 0x110000)))).encode()
    large = (("one line of 100 MB", b"abcdefghij" * 10**7, "--val 0.01"),
             ("100 MB of all bytes, in latin-1", bytes(range(256)) * 400_000, "--val 0 --encoding latin-1"),
             ("all 1,112,064 characters of Unicode", every, "--hidden 2 --val 0 --batchsize 1 --seqlength 2"))
    for model, (what, content, flags_of_it) in itertools.product(MODELS, large):
        def trial(_):
            with fresh(model) as script:
                (script.folder / "text.txt").write_bytes(content)
                flags_ = f"--iters 2 --check_interval 2 --sample_length 20 --timelimit 600 {flags_of_it}".split()
                command = [sys.executable, "-c", MEASURED, *script.command("", *script.small, *flags_, python=STRICT)]
                *said, peak = as_promised(finished(command, script.folder), 0).stdout.splitlines()
                assert not test_text.STEERS.search("\n".join(said))
                return f"at most {int(peak) / 1024:,.0f} MiB resident"
        table.tally("text", f"{model}: {what}", [None], trial)


# Flags ----------------------------------------------------------------------------------------------------------------

VALUES = "0 -1 nan inf 1e30 text".split()


def allowed(kind, value):
    return value not in KINDS[kind].split()


def flags(table, args):
    """Every numeric flag at each odd value, and sizes that cannot fit, in processes of their own under a limit of 1 GiB."""
    limit = {"preexec_fn": at_most(AS=1 << 30), "python": STRICT}
    for model in MODELS:
        with fresh(model) as script:
            numeric = [name for name in NUMBERS if name in vars(script.module.parse([]))]

            def value_of_a_flag(case):
                name, value = case
                good = allowed(NUMBERS[name], value)
                done = script.train("--iters 2 --check_interval 1 --sample_length 2 --timelimit 5", f"--{name}", value,
                                    status=None if good else 2, **limit)
                assert done.returncode in (0, 1) if good else f"--{name}" in done.stderr
                return "taken" if good else "refused"
            cases = itertools.product(numeric, VALUES)
            table.tally("flags", f"{model}: {', '.join(VALUES)} for each of {len(numeric)} flags", cases, value_of_a_flag)

            def size(case):
                name, value = case
                error = script.train("--iters 1", f"--{name}", value, status=2, **limit).stderr
                assert re.search(r"need \d{1,3}(,\d{3}){3,} bytes of memory|too short", error)
                return "with the bytes named" if "bytes" in error else "too short a text"
            sizes = itertools.product([*script.module.SIZES, "batchsize", "seqlength"], (10**9, 10**12, 10**30))
            table.tally("flags", f"{model}: sizes of 10^9, 10^12, 10^30", sizes, size)


# The same again -------------------------------------------------------------------------------------------------------

CIRCUMSTANCES = {
    "again": {}, "once more": {}, "in a Turkish locale": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "LANGUAGE": "tr"},
    "in the C locale without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "hash seed 0": {"PYTHONHASHSEED": "0"}, "hash seed 4242": {"PYTHONHASHSEED": "4242"}}


def determinism(table, args):
    """A run, and the same under other circumstances: its lines, its log and its checkpoints are the same to the bit, but for times."""
    command = "--iters 200 --check_interval 50 --print_interval 10 --sample_length 30 --val 0.1 --fname log.tsv --save a.npz"

    def results(python, env):
        with fresh(model) as script:
            flags_ = [*script.small, *command.split(), *precision.split()]
            done = as_promised(finished([python, *STRICT, str(script.path), *flags_], script.folder, env), 0)
            rows = [line.split("\t") for line in (script.folder / "log.tsv").read_text().splitlines()]
            rows = [row if len(row) == 1 else (row[0], row[2], row[3]) for row in rows]     # without seconds and speed
            return without_times(done.stdout), rows, *(arrays(script.folder / name) for name in ("a.npz", "a.best.npz"))
    for model, precision in itertools.product(MODELS, ("", "--fp64")):
        lines = []
        for python in args.python:
            versions = "import numpy, platform; print(platform.python_version(), 'NumPy', numpy.__version__)"
            version = finished([python, "-c", versions], None).stdout.strip()
            expected = results(python, {})
            lines.append(expected[0])

            def same(name):
                got = results(python, CIRCUMSTANCES[name])
                assert got[:2] == expected[:2]
                for one, other in zip(got[2:], expected[2:]):
                    assert_same(one, other)
                return name
            table.tally("determinism", f"{model} {precision}: Python {version}", CIRCUMSTANCES, same)
        if len(lines) > 1:
            same = lines.count(lines[0])
            table.row("determinism", f"{model} {precision}: interpreters that print the same lines", same, 0, f"of {len(lines)}")


# dnc-debug.py and data/fetch.py ---------------------------------------------------------------------------------------

def debug(table, args):
    """dnc-debug.py: odd values, Ctrl-C at any moment of its work, outputs that are closed or full."""
    command = [sys.executable, *STRICT, "-u", str(test_debug.DEBUG), *test_debug.SMALL_DNC]
    with tempfile.TemporaryDirectory() as folder:
        def value_of_a_flag(case):
            flag, value = case
            good = allowed({"gradcheck": "count", "check_interval": "count"}.get(flag) or NUMBERS[flag], value)
            limit = ["--timelimit", "1"] if good and flag != "timelimit" else []
            with unchanged(pathlib.Path(folder)):
                done = finished([*command, *limit, f"--{flag}", value], folder, preexec_fn=at_most(AS=1 << 30))
            assert done.returncode in (0, 1) if good else done.returncode == 2, done
            assert re.fullmatch(r"dnc-debug\.py: [^\n\x00-\x1f\x7f-\x9f]+\n" if not good else r"(dnc-debug\.py: .*\n)?", done.stderr), done
            return "taken" if good else "refused"
        numeric = "gradcheck hidden locations width heads batchsize seqlength timelimit check_interval sample_length lr seed".split()
        cases = [case for case in itertools.product(numeric, VALUES) if case != ("timelimit", "1e30")]      # which would not end
        table.tally("debug", f"{', '.join(VALUES)} for each of {len(numeric)} flags", cases, value_of_a_flag)

        def interrupted(seconds):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            with subprocess.Popen([*command, "--timelimit", "1000"], cwd=folder, env=ENVIRONMENT, **pipes) as process:
                try:
                    process.stdout.readline()
                    drain = threading.Thread(target=process.stdout.read)
                    drain.start()
                    time.sleep(seconds)
                    process.send_signal(signal.SIGINT)
                    assert process.wait(60) == 130 and process.stderr.read() == b""
                    drain.join()
                finally:
                    process.kill()
        table.tally("debug", "Ctrl-C", [random.uniform(0, 2) for _ in range(args.kills // 5)], interrupted)

        def output(case):
            redirection, status = case
            done = finished(["bash", "-c", f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', "bash", *command], folder)
            assert done.returncode == status and done.stderr.count("\n") == (status == 1), done
        cases = [("> /dev/full", 1), ("| true", 141), (">&-", 0), ("--fname /dev/full", 1)]
        table.tally("debug", "output: a full disk, a closed pipe, closed; a full log", cases, output)


def fetch(table, args):
    """data/fetch.py: signals at any moment of its work, limits of a file's size, outputs that are closed or full."""
    with tempfile.TemporaryDirectory() as name, test_fetch.serving() as server:
        folder = pathlib.Path(name) / "texts"
        folder.mkdir()

        def dripping(handler):
            """A download that takes some time, so that signals meet it; ptb has more to write."""
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(test_fetch.PLAYS)))
            handler.end_headers()
            for start in range(0, len(test_fetch.PLAYS), 5000):
                handler.wfile.write(test_fetch.PLAYS[start:start + 5000])
                time.sleep(0.001)
        server.answers["/input.txt"] = dripping

        def emptied():
            shutil.rmtree(folder)
            folder.mkdir()

        def signalled(case):
            what, number, status = case
            texts, asked = test_fetch.texts_of(what), len(server.requests)
            command = test_fetch.command(server, what, "--out", folder)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                while len(server.requests) == asked:
                    assert process.poll() is None
                    time.sleep(0.0005)
                time.sleep(random.uniform(0, {"tinyshakespeare": 0.05, "ptb": 0.005}[what]))
                process.send_signal(number)
                assert process.communicate(timeout=60)[1] == b"" and process.returncode in (status, 0)
            after = test_fetch.listing(folder)
            if number != signal.SIGKILL:
                assert after == (texts if process.returncode == 0 else {})
            assert all(path.startswith(f"fetch-{what}.part") or after[path] == texts[path] for path in after)
            assert test_fetch.run(server, what, "--out", folder).returncode == 0 and test_fetch.listing(folder) == texts
            emptied()
            return "came too late" if process.returncode == 0 else "left something to sweep up" if after else None
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
            cases = [(what, number, status) for what in ("tinyshakespeare", "ptb") for _ in range(args.kills // 4)]
            table.tally("fetch", signal.Signals(number).name, cases, signalled)

        def limited(limit):
            before = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
            done = test_fetch.run(server, "ptb", "--out", folder, before=before)
            assert (done.returncode, done.stdout) == (2, "") and re.fullmatch(r"fetch\.py: ptb: \[Errno .*\n", done.stderr)
            assert test_fetch.listing(folder) == {}
        table.tally("fetch", "a limit below the size of a text", range(0, 9000, 250), limited)

        def output(redirection):
            done = finished(["bash", "-c", f'"$@" {redirection}', "bash", *test_fetch.command(server, "alice29", "--out", folder)], name)
            assert done.stderr.count("\n") <= 1 and "Traceback" not in done.stderr, done
            assert test_fetch.listing(folder) == test_fetch.texts_of("alice29")
            emptied()
        table.tally("fetch", "output: a full disk, a closed pipe, closed", ["> /dev/full", "| true", ">&-"], output)


# Numbers --------------------------------------------------------------------------------------------------------------

def numbers(table, args):
    """Rates and seeds that diverge; a DNC that never ends."""
    for model, powers in itertools.product(MODELS, (range(-3, 4), (6, 20, 30, 38))):
        def rate(case):
            power, seed, precision = case
            with fresh(model) as script:
                flags_ = f"--iters 200 --check_interval 50 --sample_length 5 --save a.npz --lr 1e{power} --seed {seed} {precision}".split()
                done = script.main("", *script.small, *flags_, status=None)
                assert done.returncode == 0 or done.returncode == 1 and "finite" in done.stderr
                if done.returncode == 0 or (script.folder / "a.npz").exists():
                    script.module.load(str(script.folder / "a.npz"))
                return "ended with the message" if done.returncode else "survived"
        table.tally("numbers", f"{model}: --lr 1e{powers[0]} to 1e{powers[-1]}, single and double, 3 seeds",
                    itertools.product(powers, range(3), ("", "--fp64")), rate)
    for dtype in (np.float32, np.float64):
        excess = []

        def windows(_):
            for state in test_dnc_robust.endless(8, dtype, args.steps // 25):
                excess.append(test_dnc_robust.excess(state))
        table.tally("numbers", f"{args.steps:,} steps of a DNC with weights of 8, {np.dtype(dtype).name}", [None], windows)
        table.row("numbers", "windows of 25 of these", len(excess), 0, f"a sum or weighting is above 1, or below 0, by at most "
                  f"{max(excess[:400]):.1e} in the first 10,000 steps, {max(excess[-400:]):.1e} in the last, {max(excess):.1e} in all")


# A long run -----------------------------------------------------------------------------------------------------------

def looked_at(process, folder):
    """Bytes of memory that a process holds, how many files it has open, how many there are in its folder; Linux only."""
    pages = int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    files = names(folder) - {"a.npz.tmp", "a.best.npz.tmp"}
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{process.pid}/fd")), len(files)


def speeds(rows):
    """Median and quartiles of the log's last column."""
    low, median, high = np.nanpercentile(rows[:, 4], (25, 50, 75))
    return f"{median:,.0f} ({low:,.0f} to {high:,.0f})"


def soak(table, args):
    """All scripts side by side, saving often: memory, open files and files in the folder have to stay as they are."""
    flags_ = (f"--iters 100000000 --timelimit {60 * args.minutes} --check_interval 20 --print_interval 20 --sample_length 20 "
              "--hidden 32 --val 0.1 --save a.npz --fname log.tsv --lr 0.01")
    with contextlib.ExitStack() as stack:
        scripts = [stack.enter_context(fresh(model)) for model in MODELS]
        processes = [stack.enter_context(script.start(flags_, python=STRICT)) for script in scripts]
        drains, seen = [first_line(process) for process in processes], [[] for _ in scripts]
        begin = time.monotonic()
        while any(process.poll() is None for process in processes):
            for script, process, looks in zip(scripts, processes, seen):
                if process.poll() is None and time.monotonic() - begin > args.minutes * 6:      # a tenth, to settle
                    with contextlib.suppress(OSError, IndexError):          # it may have ended just now
                        looks.append(looked_at(process, script.folder))
            time.sleep(1)
        for script, process, drain, looks in zip(scripts, processes, drains, seen):
            drain()
            rows, memory = np.genfromtxt(script.folder / "log.tsv", delimiter="\t"), np.array([look[0] for look in looks])
            files, tenth = sorted({tuple(counts) for _, *counts in looks}), -(-len(memory) // 10)
            growth = memory[-tenth:].mean() - memory[:tenth].mean()
            flat = growth < MIB and np.ptp(memory) < 4 * MIB and len(files) <= 2        # a file is open while it is written
            saved = script.module.load(str(script.folder / "a.npz")).iter == rows[-1, 0]
            good = flat and saved and process.wait() == 0 and process.stderr.read() == ""
            table.row("soak", f"{script.model}: iterations in {args.minutes:g} minutes, a save every 20", int(rows[-1, 0]), int(not good),
                      f"resident {memory[0] / MIB:.1f} MiB, grown by {growth / 1024:.0f} KiB, at most {memory.max() / MIB:.1f} MiB; "
                      f"files open and in the folder: {files}; char/s, median and quartiles, of the first minute "
                      f"{speeds(rows[rows[:, 1] < 60])}, of the last {speeds(rows[rows[:, 1] > rows[-1, 1] - 60])}")


PARTS = {part.__name__: part for part in (kill, disk, hostile, text, flags, determinism, debug, fetch, numbers, soak)}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    p.add_argument("--kills", type=int, metavar="N", default=100, help="SIGKILLs of each script; a third of other signals (default 100)")
    p.add_argument("--flips", type=int, metavar="N", default=500, help="flipped bits of each model, twice (default 500)")
    p.add_argument("--minutes", type=float, metavar="N", default=20, help="of the soak (default 20)")
    p.add_argument("--steps", type=int, metavar="N", default=1_000_000, help="of the DNC's endless run (default 1,000,000)")
    p.add_argument("--examples", type=int, metavar="N", default=1000, help="of each property of texts (default 1000)")
    p.add_argument("--python", nargs="+", metavar="FILE", default=[sys.executable], help="interpreters of the part determinism")
    args = p.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        p.error(f"there is no part {', '.join(unknown)}")
    table = Table()
    for name in args.parts or PARTS:
        PARTS[name](table, args)
    print(f"lost: {table.lost}" if table.lost else "lost: nothing")
    return int(table.lost > 0)


if __name__ == "__main__":
    sys.exit(main())
