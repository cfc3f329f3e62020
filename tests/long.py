"""The long part of the tests: faults by the hundred, and hours rather than seconds. tests/README.md has the figures of its last run.

    python tests/long.py                            everything, one part after another
    python tests/long.py kill disk                  these parts
    python tests/long.py soak --minutes 1           a shorter one
    python tests/long.py determinism --python python3.12 other/bin/python       with other interpreters and NumPys, each by itself

Each line of the table is a kind of fault: how many there were, and how many of them lost something. The exit status is 1 if
any did. What is asked of each run (one line and a status, nothing on standard error when all goes well) is what the tests ask.
"""
import argparse
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
import test_failures
import test_fetch
import test_text
from conftest import ENVIRONMENT, MODELS, Script, arrays, as_promised, some_text, unchanged
from test_disk import names
from test_failures import HOSTILE, KINDS, NUMBERS, at_most, first_line
from test_resume import assert_same, without_times

SAVING = "--iters 100000000 --timelimit 100000 --check_interval 1 --print_interval 1 --val 0.01 --save a.npz"
ENDLESS = f"{SAVING} --load a.npz --fname log.tsv"


class Table:
    """What is printed, line by line; lost is the sum of its column."""

    def __init__(self):
        self.lost = 0
        print(f"{'part':12} {'fault':64} {'times':>7} {'lost':>5}  remarks", flush=True)

    def row(self, part, what, times, lost=0, remarks=""):
        self.lost += lost
        print(f"{part:12} {what:64} {times:7,} {lost:5,}  {remarks}", flush=True)

    def tally(self, part, what, cases, trial, remarks=""):
        """Try each case; what fails is lost, and said. A trial may return what is to be counted in the remarks."""
        found, lost, times = {}, 0, 0
        for times, case in enumerate(cases, 1):
            try:
                note = trial(case)
                found[note] = found.get(note, 0) + 1
            except Exception:                               # the table goes on: this line says that something was lost
                lost += 1
                print(f"LOST by {part}, {what}: {str(case)[:100]}\n{traceback.format_exc()[-1500:]}", file=sys.stderr, flush=True)
        counted = [f"{count:,} {note}" for note, count in sorted(found.items(), key=str) if note]
        self.row(part, what, times, lost, ", ".join(filter(None, [remarks, *counted])))


@contextlib.contextmanager
def fresh(model):
    """A script in an empty folder of its own, with the tests' text."""
    with tempfile.TemporaryDirectory(prefix=f"{model}-") as folder:
        (pathlib.Path(folder) / "text.txt").write_text(some_text(), newline="\n")
        yield Script(model, pathlib.Path(folder))


# Kills and signals ----------------------------------------------------------------------------------------------------

def kill(table, args):
    """Runs that do nothing but save get a signal at a random moment; the next run continues from what is there."""
    for model, (number, status) in itertools.product(MODELS, ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143))):
        for signals in (1,) if number == signal.SIGKILL else (1, 2):
            with fresh(model) as script:
                script.train("--iters 1 --save a.npz --check_interval 1 --hidden 40")
                flags, rng, last = ENDLESS.replace("--val", "--hidden 40 --val"), random.Random(), [1]

                def trial(_):
                    with script.start(flags) as process:
                        drain = first_line(process)
                        time.sleep(rng.uniform(0, 0.03))
                        for n in range(signals):
                            time.sleep(n * rng.uniform(0, 0.003))
                            process.send_signal(number)
                        assert process.wait(60) == status
                        printed = drain()
                        assert process.stderr.read() == ""
                    run = script.module.load(str(script.folder / "a.npz"))
                    if (script.folder / "a.best.npz").exists():
                        script.module.load(str(script.folder / "a.best.npz"))
                    assert run.iter >= last[0], "an older checkpoint"
                    last[0] = run.iter
                    there = names(script.folder) - {"text.txt", "log.tsv", "a.npz", "a.best.npz"}
                    assert there <= {"a.npz.tmp", "a.best.npz.tmp"}
                    if signals == 1 and number != signal.SIGKILL:
                        assert not there and f"iter {run.iter}," in printed
                    return "in the middle of writing" if there else None
                table.tally("kill", f"{model}: {signal.Signals(number).name}{', and again' * (signals - 1)}", range(args.kills if number == signal.SIGKILL else args.kills // 3), trial)
                script.train("--iters 1 --check_interval 1 --load a.npz --save a.npz --lr 1e-30 --hidden 40")
                rows = (script.folder / "log.tsv").read_text().splitlines()
                broken = sum(len(row.split("\t")) != 5 for row in rows if row[0] != "#")
                table.row("kill", f"{model}: lines of its log after that", len(rows), broken)


# Disks ----------------------------------------------------------------------------------------------------------------

def disk(table, args):
    """Everything of test_disk.py again and again, at random moments and with all sizes; limits of a file's size as well."""
    rng = random.Random()
    for model in MODELS:
        def in_a_fresh_folder(trial):
            def alone(case):
                with fresh(model) as script:
                    return trial(script, case)
            return alone
        moments = [rng.uniform(0, 0.1) for _ in range(args.kills // 10)]
        sizes = range(4096, 4096 * 30, 4096)
        for what, cases, trial in (
                ("a full file system, of 4 to 116 KiB", sizes, test_disk.runs_into_a_full_disk),
                ("read-only half-way", moments, test_disk.runs_while_the_disk_becomes_read_only),
                ("the folder of --save gone half-way", moments, test_disk.runs_while_the_folder_goes),
                ("the folder of --fname gone half-way", moments, lambda script, at: test_disk.runs_while_the_folder_goes(script, at, "--fname")),
                ("the target a folder half-way", moments, test_disk.runs_while_the_target_becomes_a_folder)):
            try:
                table.tally("disk", f"{model}: {what}", cases, in_a_fresh_folder(trial))
            except pytest.skip.Exception as e:
                table.row("disk", f"{model}: {what}", 0, remarks=f"skipped: {e}")

        with fresh(model) as script:
            script.train("--iters 1 --save a.npz")
            before = (script.folder / "a.npz").read_bytes()

            def limited(limit):
                with unchanged(script.folder):
                    script.train("--load a.npz --save a.npz --iters 1", status=1, preexec_fn=at_most(FSIZE=limit))
                assert (script.folder / "a.npz").read_bytes() == before
            table.tally("disk", f"{model}: a limit below the size of a checkpoint", range(0, len(before), 1024), limited)


# Checkpoints from anywhere --------------------------------------------------------------------------------------------

def everything(run):
    """All that a loaded run has, as something that can be compared."""
    held = {**vars(run), **{f"state {name}": value for name, value in run.state.items()}, "params": run.params.flat, "mem": run.mem.flat}
    return {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in held.items() if name != "state"}


def mutations(held):
    """Each array of a checkpoint spoilt in each way: (what, bytes of the file)."""
    for name, array in held.items():
        spoilt = {"missing": None, "shape": np.append(array.ravel(), array.ravel()[:1]), "one axis more": array[None], "empty": array[:0] if array.ndim else array[None][:0],
                  "object": np.array([test_failures.Evil()], object), "text": np.array("\x1b[2J"), "complex": array.astype(complex) if array.dtype.kind != "U" else 1j,
                  "bytes swapped": array.astype(array.dtype.newbyteorder()), "structured": np.zeros(array.shape, [("\x1b", "f4")]),
                  "many declared": test_failures.npy_header(f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': ({10**12},)}}", array.tobytes()),
                  "negative shape": test_failures.npy_header(f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': (-1,)}}", array.tobytes())}
        if array.dtype.kind == "f":
            spoilt |= {str(value): test_failures.at(array.size // 2, value)(array.copy()) for value in (np.nan, np.inf, -np.inf)}
        if array.ndim > 1 and array.shape[0] != array.shape[1]:
            spoilt["transposed"] = array.T.copy()
        for what, value in spoilt.items():
            members = {**held, name: value}
            if value is None:
                del members[name]
            yield f"{name}: {what}", test_failures.packed([(f"{key}.npy", each if isinstance(each, bytes) else test_failures.npy(each))
                                                           for key, each in members.items()])


def hostile(table, args):
    """Files that are no checkpoint any more. What is not refused has to be what was saved, to the bit."""
    tried = 0
    for model in MODELS:
        with fresh(model) as script:
            path, bad = script.folder / "a.npz", script.folder / "b.npz"
            script.train("--iters 3 --save a.npz --hidden 32")
            good, held, expected, rng = path.read_bytes(), arrays(path), everything(script.module.load(str(path))), random.Random()
            central = good.rindex(b"PK\x01\x02", 0, good.index(b"PK\x01\x02") + 4)      # where the archive's directory starts

            def trial(case, harmless=True):
                what, content = case
                bad.write_bytes(content)
                done = script.main("--load b.npz --iters 0 --sample_length 1", status=None)
                assert done.returncode == 2 or harmless and done.returncode == 0, what
                if done.returncode == 0:
                    assert everything(script.module.load(str(bad))) == expected, what
                assert names(script.folder) == {"a.npz", "b.npz", "text.txt"}, "code was run"
                return "refused" if done.returncode else "harmless"

            def flips(start, stop):
                for _ in range(args.flips):
                    at, bit = rng.randrange(start, stop), rng.randrange(8)
                    yield f"bit {bit} of byte {at}", good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1:]

            def refused(case):
                return trial(case, harmless=False)
            for what, cases, test in (
                    ("cut at every KiB", [(f"{n} bytes", good[:n]) for n in range(0, len(good), 1024)], refused),
                    ("cut at each of the last bytes", [(f"{n} bytes", good[:n]) for n in range(len(good) - 200, len(good))], refused),
                    ("a bit flipped anywhere", flips(0, len(good)), trial),
                    ("a bit flipped in the directory of the archive", flips(central, len(good)), trial),
                    ("an array spoilt", mutations(held), trial),
                    ("pickles, bombs, 10^12 numbers, and the like of test_failures.py", [(key, make(held, good)) for key, make in HOSTILE.items()], None)):
                if test is None:                            # some of those load, and are refused for what they then need
                    def test(case):
                        bad.write_bytes(case[1])
                        script.main("--load b.npz --data text.txt --iters 1 --check_interval 0", status=2)
                        assert names(script.folder) == {"a.npz", "b.npz", "text.txt"}, "code was run"
                        return "refused"
                cases = list(cases)
                tried += len(cases)
                table.tally("hostile", f"{model}: {what}", cases, test)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table.row("hostile", "files in all", tried, int(peak > 500), f"resident memory of all this at most {peak:.0f} MiB")


# Texts ----------------------------------------------------------------------------------------------------------------

MEASURED = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); " \
           "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"


def text(table, args):
    """The properties of test_text.py with more examples, and texts that are too large for the suite."""
    settings.register_profile("long", settings.get_profile("suite"), max_examples=args.examples, derandomize=False)
    settings.load_profile("long")
    for function in (test_text.test_read_text, test_text.test_encode, test_text.test_printable, test_text.test_a_run):
        table.tally("text", f"{function.__name__}: any characters, {args.examples:,} examples", [function], lambda f: f())
    every = "".join(map(chr, (*range(0xd800), *range(0xe000, 0x110000))))
    for model in MODELS:
        for what, content, flags in (("one line of 100 MB", b"abcdefghij" * 10**7, "--val 0.01"),
                                     ("one line of 100 MB in latin-1, all bytes", bytes(range(256)) * 400_000, "--val 0 --encoding latin-1"),
                                     ("all 1,112,064 characters of Unicode", every.encode(), "--hidden 2 --val 0 --batchsize 1 --seqlength 2")):
            def trial(_):
                with fresh(model) as script:
                    (script.folder / "text.txt").write_bytes(content)
                    command = script.command("", *script.small, *f"--iters 2 --check_interval 2 --sample_length 20 --timelimit 600 {flags}".split(), python=["-W", "error"])
                    done = as_promised(subprocess.run([sys.executable, "-c", MEASURED, *command], cwd=script.folder, env=ENVIRONMENT, capture_output=True, encoding="utf-8"), 0)
                    *said, peak = done.stdout.splitlines()
                    assert not test_text.STEERS.search("\n".join(said))
                    return f"at most {int(peak) / 1024:,.0f} MiB resident"
            table.tally("text", f"{model}: {what}", [None], trial)


# Flags ----------------------------------------------------------------------------------------------------------------

VALUES = "0 -1 nan inf 1e30 text".split()
LARGE = [10**9, 10**12, 10**30]


def allowed(kind, value):
    return value not in KINDS[kind].split()


def flags(table, args):
    """Every numeric flag at each odd value, and sizes that cannot fit, in processes of their own under a limit of 1 GiB."""
    limit = {"preexec_fn": at_most(AS=1 << 30), "python": ("-W", "error")}
    for model in MODELS:
        with fresh(model) as script:
            numeric = [name for name in NUMBERS if name in vars(script.module.parse([]))]

            def value_of_a_flag(case):
                name, value = case
                good = allowed(NUMBERS[name], value)
                done = script.train("--iters 2 --check_interval 1 --sample_length 2 --timelimit 5", f"--{name}", value, status=None if good else 2, **limit)
                assert good or f"--{name}" in done.stderr
                return "taken" if good else "refused"
            table.tally("flags", f"{model}: {', '.join(VALUES)} for each of {len(numeric)} flags", itertools.product(numeric, VALUES), value_of_a_flag)

            def size(case):
                name, value = case
                error = script.train("--iters 1", f"--{name}", value, status=2, **limit).stderr
                assert re.search(r"need \d{1,3}(,\d{3}){3,} bytes of memory|too short", error)
                return "with the bytes named" if "bytes" in error else "too short a text"
            table.tally("flags", f"{model}: sizes of 10^9, 10^12, 10^30", itertools.product([*script.module.SIZES, "batchsize", "seqlength"], LARGE), size)


# Numbers --------------------------------------------------------------------------------------------------------------

def numbers(table, args):
    """Rates and seeds that diverge; a DNC that never ends."""
    for model in MODELS:
        with fresh(model) as script:
            def rate(case):
                power, seed, precision = case
                with contextlib.suppress(FileNotFoundError):
                    (script.folder / "a.npz").unlink()
                done = script.main("", *script.small, *f"--iters 200 --check_interval 50 --sample_length 5 --save a.npz {precision}".split(),
                                   "--lr", f"1e{power}", "--seed", seed, status=None)
                assert done.returncode == 0 or done.returncode == 1 and "finite" in done.stderr
                if (script.folder / "a.npz").exists():
                    script.module.load(str(script.folder / "a.npz"))
                return "survived" if done.returncode == 0 else "ended with the message"
            for powers in (range(-3, 4), (6, 20, 30, 38)):
                table.tally("numbers", f"{model}: --lr 1e{powers[0]} to 1e{powers[-1]}, single and double, 3 seeds",
                            itertools.product(powers, range(3), ("", "--fp64")), rate)
    for dtype in (np.float32, np.float64):
        excess = []

        def windows(_):
            for state in test_dnc_robust.endless(8, dtype, args.steps // 25):
                excess.append(test_dnc_robust.excess(state))
        what = f"{args.steps:,} steps of a DNC with weights of 8, {np.dtype(dtype).name}"
        table.tally("numbers", what, [None], windows)
        table.row("numbers", "windows of 25 of these", len(excess), 0, f"a sum or weighting is above 1, or below 0, by at most {max(excess[:400]):.1e} in "
                  f"the first 10,000 steps, {max(excess[-400:]):.1e} in the last, {max(excess):.1e} in all")


# The same again -------------------------------------------------------------------------------------------------------

def determinism(table, args):
    """One run and the same under other circumstances: its lines, its log and its checkpoint are the same to the bit, but for times."""
    circumstances = {"again": {}, "once more": {}, "in another locale": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "LANGUAGE": "tr"},
                     "in the C locale without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
                     "with PYTHONHASHSEED 0": {"PYTHONHASHSEED": "0"}, "with PYTHONHASHSEED 4242": {"PYTHONHASHSEED": "4242"}}
    flags = "--iters 200 --check_interval 50 --print_interval 10 --sample_length 30 --val 0.1 --fname log.tsv --save a.npz"
    firsts = {}
    for model, python, precision in itertools.product(MODELS, args.python, ("", "--fp64")):
        version = subprocess.run([python, "-c", "import numpy, sys; print(sys.version.split()[0], numpy.__version__)"],
                                 capture_output=True, encoding="utf-8", check=True).stdout.split()

        def results(env, model=model, python=python, precision=precision):
            with fresh(model) as script:
                command = [python, "-W", "error", *script.command("", *script.small, *flags.split(), *precision.split())[1:]]
                done = as_promised(subprocess.run(command, cwd=script.folder, env={**ENVIRONMENT, **env}, capture_output=True, encoding="utf-8"), 0)
                rows = [line.split("\t")[::2] for line in (script.folder / "log.tsv").read_text().splitlines()]
                rows = [[row[0], row[1], row[2][:0]] if len(row) == 3 else row for row in rows]     # iter, train; not the speed
                return without_times(done.stdout), rows, arrays(script.folder / "a.npz"), arrays(script.folder / "a.best.npz")
        expected = firsts[model, python, precision] = results({})

        def same(name):
            got = results(circumstances[name])
            assert got[:2] == expected[:2]
            for one, other in zip(got[2:], expected[2:]):
                assert_same(one, other)
        table.tally("determinism", f"{model} {precision}: Python {version[0]}, NumPy {version[1]}: {', '.join(circumstances)}", circumstances, same)
        if python != args.python[0]:
            first = firsts[model, args.python[0], precision]
            table.row("determinism", f"{model} {precision}: the lines of the first interpreter", 1, 0, "the same" if first[0] == expected[0] else "others")


# dnc-debug.py and data/fetch.py ---------------------------------------------------------------------------------------

def debug(table, args):
    """dnc-debug.py: odd values, Ctrl-C at any moment of its work, outputs that are closed or full."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = [sys.executable, "-W", "error", "-u", str(test_debug.DEBUG), *test_debug.SMALL_DNC]

        def value_of_a_flag(case):
            flag, value = case
            kind = "count" if flag == "gradcheck" else NUMBERS[flag]
            good = allowed(kind, value) and not (flag == "check_interval" and value == "0")
            more = ["--timelimit", "1"] if good and flag != "timelimit" else []
            with unchanged(folder):
                done = subprocess.run([*command, *more, f"--{flag}", value], cwd=folder, env=ENVIRONMENT, capture_output=True, encoding="utf-8",
                                      timeout=600, preexec_fn=at_most(AS=1 << 30))
            assert done.returncode in ((0, 1) if good else (2,)), done
            assert re.fullmatch(r"dnc-debug\.py: [^\n\x00-\x1f\x7f]+\n" if not good else r"(dnc-debug\.py: .*\n)?", done.stderr), done.stderr
            return "taken" if good else "refused"
        numeric = "gradcheck hidden locations width heads batchsize seqlength timelimit check_interval sample_length lr seed".split()
        values = [(flag, value) for flag in numeric for value in VALUES if (flag, value) != ("timelimit", "1e30")]
        table.tally("debug", f"{', '.join(VALUES)} for each of {len(numeric)} flags", values, value_of_a_flag)

        def interrupted(seconds):
            with subprocess.Popen([*command, "--timelimit", "1000"], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
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
            name, status = case
            with contextlib.ExitStack() as stack:
                if name == "full":
                    stdout = stack.enter_context(open("/dev/full", "w"))
                elif name == "closed pipe":
                    read, write = os.pipe()
                    os.close(read)
                    stdout = stack.enter_context(os.fdopen(write, "w"))
                else:
                    stdout = None
                log = ["--fname", "/dev/full"] if name == "full log" else []
                done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command, *log] if name == "closed" else [*command, *log], cwd=folder, env=ENVIRONMENT,
                                      stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", timeout=300)
            assert done.returncode == status and done.stderr.count("\n") == (status == 1), done
        table.tally("debug", "output: a full disk, a closed pipe, closed, a full log", [("full", 1), ("closed pipe", 141), ("closed", 0), ("full log", 1)], output)


def fetch(table, args):
    """data/fetch.py: signals at any moment of its work, and limits of a file's size."""
    with tempfile.TemporaryDirectory() as name:
        with test_fetch.serving() as server:
            folder, rng = pathlib.Path(name) / "texts", random.Random()
            folder.mkdir()

            def emptied():
                shutil.rmtree(folder)
                folder.mkdir()

            def trial(case):
                what, number, status = case
                finished, asked = test_fetch.texts_of(what), len(server.requests)
                with subprocess.Popen(test_fetch.command(server, what, "--out", folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                    while len(server.requests) == asked:
                        assert process.poll() is None
                        time.sleep(0.0005)
                    time.sleep(rng.uniform(0, 0.02))
                    process.send_signal(number)
                    assert process.communicate(timeout=60)[1] == b"" and process.returncode in (status, 0)
                after = test_fetch.listing(folder)
                if number != signal.SIGKILL:
                    assert after == (finished if process.returncode == 0 else {})
                assert all(path.startswith(f"fetch-{what}.part") or after[path] == finished[path] for path in after)
                assert test_fetch.run(server, what, "--out", folder).returncode == 0 and test_fetch.listing(folder) == finished
                emptied()
                return "came too late" if process.returncode == 0 else "left something to sweep up" if after else None
            for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
                cases = [(what, number, status) for what in ("alice29", "ptb") for _ in range(args.kills // 4)]
                table.tally("fetch", signal.Signals(number).name, cases, trial)

            def limited(limit):
                before = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
                done = test_fetch.run(server, "ptb", "--out", folder, before=before)
                assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1 and done.stderr.startswith("fetch.py: ptb: [Errno")
                assert test_fetch.listing(folder) == {}
            table.tally("fetch", "a limit below the size of a text", range(0, 9000, 250), limited)

            def output(kind):
                redirection = {"full": "> /dev/full", "closed": ">&-", "closed pipe": "| true"}[kind]
                done = subprocess.run(["bash", "-c", f'set -o pipefail; "$@" {redirection}', "sh", *test_fetch.command(server, "alice29", "--out", folder)],
                                      capture_output=True, encoding="utf-8", timeout=60)
                assert done.stderr.count("\n") <= 1 and "Traceback" not in done.stderr and "Exception" not in done.stderr, done
                assert test_fetch.listing(folder) == test_fetch.texts_of("alice29")
                emptied()
            table.tally("fetch", "output: a full disk, closed, a closed pipe", ["full", "closed", "closed pipe"] * 3, output)


# A long run -----------------------------------------------------------------------------------------------------------

def resident(process):
    """Bytes of memory that a process holds, and how many files it has open; Linux only."""
    pages = int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{process.pid}/fd"))


def soak(table, args):
    """All scripts side by side, saving often: memory, open files and files in the folder have to stay as they are."""
    with contextlib.ExitStack() as stack:
        scripts = [stack.enter_context(fresh(model)) for model in MODELS]
        flags = (f"--iters 100000000 --timelimit {60 * args.minutes} --check_interval 20 --print_interval 20 --sample_length 20 "
                 "--hidden 32 --val 0.1 --save a.npz --fname log.tsv --lr 0.01")
        processes = [stack.enter_context(script.start(flags, python=("-W", "error"))) for script in scripts]
        drains, seen = [first_line(process) for process in processes], [[] for _ in scripts]
        begin = time.monotonic()
        while any(process.poll() is None for process in processes):
            for script, process, samples in zip(scripts, processes, seen):
                if process.poll() is None:
                    with contextlib.suppress(OSError, IndexError):          # it may have ended just now
                        samples.append((time.monotonic() - begin, *resident(process), len(names(script.folder) - {"a.npz.tmp", "a.best.npz.tmp"})))
            time.sleep(1)
        for script, process, drain, samples in zip(scripts, processes, drains, seen):
            drain()
            good = process.wait() == 0 and process.stderr.read() == ""
            rows = np.genfromtxt(script.folder / "log.tsv", delimiter="\t")
            first, last = (rows[part, 4] for part in (rows[:, 1] < 60, rows[:, 1] > rows[-1, 1] - 60))
            memory = np.array([bytes_ for at, bytes_, *_ in samples if at > args.minutes * 6])      # after a tenth, to settle
            files = {tuple(counts) for at, _, *counts in samples if at > args.minutes * 6}
            growth = memory[-len(memory) // 10:].mean() - memory[:len(memory) // 10].mean()
            saved = script.module.load(str(script.folder / "a.npz")).iter == rows[-1, 0]
            flat = growth < 2**20 and len(files) <= 2 and memory.max() - memory.min() < 4 * 2**20
            table.row("soak", f"{script.model}: iterations in {args.minutes:g} minutes, a save every 20", int(rows[-1, 0]), int(not (good and saved and flat)),
                      f"resident {memory[0] / 2**20:.1f} MiB, grown by {growth / 1024:.0f} KiB, at most {memory.max() / 2**20:.1f} MiB; "
                      f"(open files, files in the folder): {sorted(files)}; median char/s of the first minute {np.nanmedian(first):,.0f} "
                      f"(quartiles {np.nanpercentile(first, 25):,.0f} to {np.nanpercentile(first, 75):,.0f}), of the last "
                      f"{np.nanmedian(last):,.0f} ({np.nanpercentile(last, 25):,.0f} to {np.nanpercentile(last, 75):,.0f})")


PARTS = {function.__name__: function for function in (kill, disk, hostile, text, flags, determinism, debug, fetch, numbers, soak)}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    p.add_argument("--kills", type=int, metavar="N", default=100, help="signals of each kind to each script (default 100)")
    p.add_argument("--flips", type=int, metavar="N", default=500, help="flipped bits of each model, anywhere and in the archive's directory (default 500)")
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
