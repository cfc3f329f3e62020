"""The long part of the tests: faults by the hundred. tests/README.md has the figures of a run.

    python tests/long.py                            everything, one part after another
    python tests/long.py soak --minutes 1           this part, shorter

Each line of the table is a kind of fault: how many there were, and how many of them lost something.
The exit status is 1 if any did. What is asked of each run is what the tests ask.
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
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import pytest
from hypothesis import settings

import test_disk
import test_text
from conftest import MODELS, load, names, prepared, python
from loading import zero_state
from test_disk import SAVING
from test_failures import HOSTILE, at_most, everything, flipped, held, mutations

MIB = 2**20
TURN = {"SIGKILL": -9, "SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}        # statuses


class Table:
    """What is printed, line by line; lost is the sum of its column."""

    def __init__(self):
        self.lost = 0
        print(f"{'part':12} {'fault':60} {'times':>7} {'lost':>5}  remarks", flush=True)

    def row(self, part, what, times, lost=0, remarks=""):
        self.lost += lost
        print(f"{part:12} {what:60} {times:7,} {lost:5,}  {remarks}", flush=True)

    def tally(self, part, what, cases, trial):
        """Try each case; one that fails is lost, and said. What a trial returns is counted."""
        found, lost, times = collections.Counter(), 0, 0
        for times, case in enumerate(cases, 1):
            try:
                found[trial(case)] += 1
            except pytest.skip.Exception as e:
                found[f"skipped: {e}"] += 1
            except Exception:                               # the table goes on
                lost += 1
                print(f"LOST by {part}, {what}: {str(case)[:100]}\n{traceback.format_exc()}",
                      file=sys.stderr, flush=True)
        remarks = [f"{n:,} {note}" for note, n in sorted(found.items(), key=str) if note]
        self.row(part, what, times, lost, ", ".join(remarks))
        return times


@contextlib.contextmanager
def fresh(model):
    """A script in a folder of its own, with the tests' text."""
    with tempfile.TemporaryDirectory(prefix=f"{model}-") as folder:
        yield prepared(model, pathlib.Path(folder))


def kill(table, args):
    """Runs that do little but save get a signal at a random moment; the next one goes on."""
    for model, name, signals in itertools.product(MODELS, TURN, (1, 2)):
        if (name, signals) == ("SIGKILL", 2):
            continue
        with fresh(model) as script:
            script.train(f"--iters 1 --hidden 40 {SAVING} a.npz")
            last, number = [1], getattr(signal, name)

            def trial(turn):
                before = names(script.folder)
                flags = f"{SAVING} a.npz --hidden 40 --load a.npz --fname log.tsv"
                with script.start(flags) as process:
                    while turn % 2 and names(script.folder) - before <= {"log.tsv"}:
                        time.sleep(0.0001)                  # every other time in the middle of it
                    time.sleep(random.uniform(0, 0.001 if turn % 2 else 0.03))
                    for n in range(signals):
                        time.sleep(n * random.uniform(0, 0.003))
                        process.send_signal(number)
                    # A second one while the interpreter leaves kills it, the same for a shell
                    assert process.wait(60) == TURN[name] or (
                        signals == 2 and process.returncode == -number), process.returncode
                    assert process.stderr.read() == ""
                    lines = re.findall(r"^0: .*", process.said(), re.M)
                assert (now := script.loaded().iter) >= last[0], "an older checkpoint"
                last[0] = now
                left = list(script.folder.glob("*.tmp"))
                if signals == 1 and name != "SIGKILL":
                    assert not left and f"iter {now}," in lines[-1]
                for path in left:
                    path.unlink()
                assert len(left) <= 1
                return "in the middle of writing" if left else None
            times = args.kills if name == "SIGKILL" else args.kills // 3
            what = f"{model}: {name}{', and again' * (signals - 1)}"
            table.tally("kill", what, range(times), trial)
            rows = (script.folder / "log.tsv").read_text().splitlines()
            broken = sum(len(row.split("\t")) != 5 for row in rows if row[0] != "#")
            table.row("kill", f"{model}: lines of its log after that", len(rows), broken)


def disk(table, args):
    """Everything of test_disk.py again, at random moments and with all sizes; and limits."""
    moments = [random.uniform(0, 0.1) for _ in range(args.kills // 10)]
    for model in MODELS:
        for trial in (test_disk.runs_into_a_full_disk, *test_disk.TRIALS):
            def alone(case):
                with fresh(model) as script:
                    return trial(script, *case)
            full = trial is test_disk.runs_into_a_full_disk
            table.tally("disk", f"{model}: {trial.__name__.replace('_', ' ')}",
                        zip(range(4096, 4096 * 30, 4096)) if full else
                        itertools.product(moments, (False, True)), alone)
        with fresh(model) as script:
            path = script.folder / "a.npz"
            script.train("--iters 1 --save a.npz")
            good = path.read_bytes()

            def limited(limit):
                script.train("--load a.npz --save a.npz --iters 1", status=2,
                             preexec_fn=at_most(FSIZE=limit))
                assert path.read_bytes() == good
            table.tally("disk", f"{model}: a limit below the size of a checkpoint",
                        range(0, len(good), 1024), limited)


def output(table, args):
    """Output that fails at a random moment, and saves that fail: nothing learnt is lost."""
    flags = "--save a.npz --check_interval 3 --sample_length 9"

    def closed(script, moment):
        with script.start(flags, stdout=subprocess.PIPE) as process:
            said = ""
            while "iter" not in said:
                said += process.stdout.readline()
            time.sleep(moment)
            os.set_blocking(process.stdout.fileno(), False)
            with contextlib.suppress(TypeError):            # there was nothing
                said += process.stdout.read()
            process.stdout.close()
            assert process.wait(60) == 141 and process.stderr.read() == ""
        return said

    def full(script, moment):
        size = 4 + 4 * int(40 * moment)
        with test_disk.mounted(script.folder / "disk", f"size={size}k") as disk:
            with open(disk / "out.txt", "w") as out, script.start(flags, stdout=out) as process:
                assert process.wait(60) == 1
                assert re.fullmatch(r"\S+: cannot write the output: No space left on device\n",
                                    process.stderr.read())
            return (disk / "out.txt").read_text()

    def gone(script, moment):
        (script.folder / "logs").mkdir()
        with script.start("--save a.npz --fname logs/log.tsv") as process:
            time.sleep(moment)
            (script.folder / "logs").rename(script.folder / "gone")
            assert process.wait(60) == 1 and "log.tsv" in process.stderr.read()
            return process.said()

    def tee(script, moment):
        """Ctrl-C ends what reads the output, too, in whatever order."""
        with script.start("--save a.npz", stdout=subprocess.PIPE) as process:
            said = ""
            while "iter" not in said:
                said += process.stdout.readline()
            time.sleep(moment)
            ends = [process.stdout.close, lambda: process.send_signal(signal.SIGINT)]
            process.send_signal(signal.SIGSTOP)
            for end in random.sample(ends, 2):
                end()
            process.send_signal(signal.SIGCONT)
            assert process.wait(60) == 130 and process.stderr.read() == ""
        return said

    for model, trial in itertools.product(MODELS, (closed, full, gone, tee)):
        def alone(moment):
            with fresh(model) as script:
                last = re.findall(r"iter (\d+),", trial(script, moment) or "")[-1:]
                assert script.loaded().iter >= int((last or [1])[0])
                assert {"a.npz", "text.txt"} <= names(script.folder)
        moments = [random.uniform(0, 0.1) for _ in range(args.kills // 3)]
        table.tally("output", f"{model}: {trial.__name__}", moments, alone)
    for model in MODELS:
        def replace(turn):
            """The n-th replace fails, for some n more than once."""
            with fresh(model) as script, pytest.MonkeyPatch.context() as patch:
                fails = {random.randrange(2, 12) for _ in range(random.randrange(1, 6))}
                calls, real = itertools.count(1), os.replace

                def fail(*paths):
                    if next(calls) in fails:
                        raise PermissionError(13, "Permission denied")
                    real(*paths)
                patch.setattr(os, "replace", fail)
                done = script.main([*script.small, *"--iters 8 --check_interval 1 --save a.npz"
                                    .split()])
                both = {9, 10} <= fails                     # the last save, twice
                assert done.returncode == both
                assert len(done.stderr.splitlines()) == len(fails & {*range(2, 11)} - (
                    set() if 9 in fails else {10}))
                assert script.loaded().iter == (8 if not both else 7 - ({8} <= fails) - (
                    {7, 8} <= fails) - ({6, 7, 8} <= fails))
                assert names(script.folder) == {"text.txt", "a.npz"}
        table.tally("output", f"{model}: a replace that fails", range(args.kills // 3), replace)

        def thirty(turn):
            with fresh(model) as script:
                test_disk.all_at_once(script, 30)
        table.tally("output", f"{model}: 30 runs under one name", range(args.kills // 30), thirty)


def hostile(table, args):
    """Files that are no checkpoint any more. What is taken has to be what was saved, to the bit."""
    tried = 0
    for model in MODELS:
        with fresh(model) as script:
            script.train("--iters 3 --save a.npz --hidden 32 --check_interval 1 --val 0.05")
            path, bad = script.folder / "a.npz", script.folder / "b.npz"
            arrays, good, expected = held(path), path.read_bytes(), everything(script.loaded())
            directory = good.index(b"PK\x01\x02")           # of the archive, at its end

            def trial(case):
                bad.write_bytes(case[1](arrays))
                done = script.run("--load b.npz --iters 0 --sample_length 1", status=None)
                assert done.returncode in (0, 2), case[0]
                if done.returncode == 0:
                    assert everything(script.loaded("b.npz")) == expected, case[0]
                assert names(script.folder) == {"a.npz", "b.npz", "text.txt"}, "code was run"
                return "refused" if done.returncode else "harmless"

            def flips(start):
                for _ in range(args.flips):
                    at = random.randrange(start, len(good)), random.randrange(8)
                    yield "byte {}, bit {}".format(*at), lambda _, at=at: flipped(good, *at)

            def cuts(*sizes):
                return ((f"{n} bytes", lambda _, n=n: good[:n]) for n in range(*sizes))
            for what, cases in (
                    ("cut at every KiB", cuts(0, len(good), 1024)),
                    ("cut at each of the last bytes", cuts(len(good) - 200, len(good))),
                    ("a bit flipped anywhere", flips(0)),
                    ("a bit flipped in the directory of the archive", flips(directory)),
                    ("an array or a setting spoilt or missing", mutations(arrays)),
                    ("pickles, bombs ... of test_failures.py", HOSTILE.items())):
                tried += table.tally("hostile", f"{model}: {what}", cases, trial)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table.row("hostile", "files in all", tried, int(peak > 500), f"at most {peak:.0f} MiB resident")


MEASURED = """import resource, subprocess, sys
done = subprocess.run([sys.executable, "-W", "error", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)"""


def text(table, args):
    """The properties of test_text.py with more examples, and texts too large for the suite."""
    settings.register_profile("long", settings.get_profile("suite"), max_examples=args.examples,
                              derandomize=False)
    settings.load_profile("long")
    for function in (test_text.test_read_text, test_text.test_encode, test_text.test_say,
                     test_text.test_a_run):
        what = f"{function.__name__}: any characters, {args.examples:,} examples"
        table.tally("text", what, [function], lambda function: function())
    every = "".join(map(chr, (*range(0xd800), *range(0xe000, 0x110000)))).encode()
    large = (("one line of 100 MB", b"abcdefghij" * 10**7, "--val 0.01"),
             ("100 MB of all bytes", bytes(range(256)) * 400_000, "--val 0 --encoding latin-1"),
             ("all 1,112,064 characters of Unicode", every,
              "--hidden 2 --val 0 --batchsize 1 --seqlength 2"))
    for model, (what, content, flags) in itertools.product(MODELS, large):
        def trial(_):
            with fresh(model) as script:
                script.text.write_bytes(content)
                done = python(script.folder, "-c", MEASURED, script.path, *script.small, *(
                    f"--iters 2 --check_interval 2 --sample_length 20 {flags}".split()))
                *said, peak = done.stdout.splitlines()
                assert not test_text.STEERS.search("\n".join(said))
                return f"at most {int(peak) / 1024:,.0f} MiB resident"
        table.tally("text", f"{model}: {what}", [None], trial)


def numbers(table, args):
    """Rates and seeds that diverge; a DNC that does not end."""
    for model, powers in itertools.product(MODELS, (range(-3, 4), (6, 20, 30, 38))):
        def rate(case):
            with fresh(model) as script:
                done = script.train("--iters 200 --check_interval 50 --sample_length 5 --save "
                                    "a.npz --lr 1e{} --seed {} {}".format(*case), status=None)
                assert done.returncode == 0 or done.returncode == 1 and "finite" in done.stderr
                if done.returncode == 0 or (script.folder / "a.npz").exists():
                    script.loaded()
                return "ended with the message" if done.returncode else "survived"
        table.tally("numbers", f"{model}: --lr 1e{powers[0]} to 1e{powers[-1]}, 3 seeds",
                    itertools.product(powers, range(3), ("", "--fp64")), rate)
    model, rng, sizes = load("dnc-numpy.py"), np.random.default_rng(0), (8, 6, 3, 2)
    for dtype, limit in (np.float32, 1e-5), (np.float64, 1e-12):
        def steps(count):
            """Weights of 8 close and open gates; sums of weightings stay at most 1. In single
            precision that of p drifts while the write gate is nearly closed: 1 - sum ww = 1"""
            params = {name: 8 * rng.standard_normal(shape).astype(dtype)
                      for name, shape in model.param_shapes(5, *sizes).items()}
            state, excess = zero_state(model, sizes, 2, dtype), 0
            for _ in range(count // 25):
                _, state, _ = model.forward(params, rng.integers(5, size=(25, 2)), state)
                sums = [state[name].sum(axis=-1).max() - 1 for name in ("ww", "wr", "p", "L")]
                below = [-state[name].min() for name in ("ww", "wr", "p", "L", "u")]
                excess = max(excess, *sums, *below, state["u"].max() - 1)
                assert excess <= limit
            return f"a sum above 1, or a weighting below 0, by at most {excess:.1e}"
        table.tally("numbers", f"{args.steps:,} steps of a DNC, {np.dtype(dtype).name}",
                    [args.steps], steps)


def soak(table, args):
    """All scripts side by side, saving often: memory and open files have to stay as they are."""
    command = (f"--timelimit {60 * args.minutes} --check_interval 20 --print_interval 20 "
               "--sample_length 20 --hidden 32 --val 0.1 --save a.npz --fname log.tsv --lr 0.01")
    with contextlib.ExitStack() as stack:
        scripts = [stack.enter_context(fresh(model)) for model in MODELS]
        runs = [stack.enter_context(script.start(command)) for script in scripts]
        seen, begin = [[] for _ in scripts], time.monotonic()
        while any(run.poll() is None for run in runs):
            for run, looks in zip(runs, seen):
                with contextlib.suppress(OSError, IndexError):      # it may have ended just now
                    pages = pathlib.Path(f"/proc/{run.pid}/statm").read_text().split()[1]
                    if time.monotonic() - begin > args.minutes * 6:     # a tenth, to settle
                        looks.append((int(pages) * os.sysconf("SC_PAGE_SIZE"),
                                      len(os.listdir(f"/proc/{run.pid}/fd"))))
            time.sleep(1)
        for script, run, looks in zip(scripts, runs, seen):
            rows = np.genfromtxt(script.folder / "log.tsv", delimiter="\t")
            memory, files = np.array(looks).T
            tenth, minute = -(-len(memory) // 10), rows[:, 1] < 60
            growth = memory[-tenth:].mean() - memory[:tenth].mean()
            good = growth < MIB and np.ptp(memory) < 4 * MIB and np.ptp(files) <= 1
            good &= script.loaded().iter == rows[-1, 0]
            good &= run.wait() == 0 and run.stderr.read() == "" and len(names(script.folder)) == 3
            table.row("soak", f"{script.model}: iterations in {args.minutes:g} minutes",
                      int(rows[-1, 0]), int(not good),
                      f"resident {memory[0] / MIB:.1f} MiB, grown by {growth / 1024:.0f} KiB; "
                      f"char/s {np.nanmedian(rows[minute, 4]):,.0f} in the first minute, "
                      f"{np.nanmedian(rows[rows[:, 1] > rows[-1, 1] - 60, 4]):,.0f} in the last")


def mutants(table, args):
    """Mistakes in the models: tests/mutants.py lists what no test sees."""
    import mutants as engine
    table.row("mutants", "tests/mutants.py", 1, engine.main([str(args.every)]))


PARTS = {part.__name__: part for part in (
    kill, disk, output, hostile, text, numbers, soak, mutants)}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    for name, default, meaning in (
            ("kills", 100, "SIGKILLs of each script; a third of other signals"),
            ("flips", 500, "flipped bits of each model, twice"),
            ("examples", 1000, "of each property of texts"),
            ("steps", 1_000_000, "of the DNC that does not end"),
            ("every", 1, "take each N-th mutant")):
        p.add_argument(f"--{name}", type=int, metavar="N", default=default, help=meaning)
    p.add_argument("--minutes", type=float, metavar="N", default=20, help="of the soak")
    args = p.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        p.error(f"there is no part {', '.join(unknown)}")
    table = Table()
    for name in args.parts or PARTS:
        PARTS[name](table, args)
    print("lost:", table.lost or "nothing")
    return int(table.lost > 0)


if __name__ == "__main__":
    sys.exit(main())
