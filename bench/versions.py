#!/usr/bin/env python3
"""Characters per second of these scripts over those of another version of them.

    git archive 80092fd --prefix=old/ | tar -x -C /tmp
    python bench/versions.py /tmp/old                           all rows, on one core
    python bench/versions.py /tmp/old --models dnc --turns 3    fewer

Both versions train in turn, A B A B ..., as whole processes on the same core, for a few seconds
each. The ratio is the median of the ratios of the turns.
"""
import pathlib
import re
import statistics
import subprocess
import sys

import kernel
from kernel import FLAGS, SIZES, command

HERE = pathlib.Path(__file__).resolve().parents[1]


def speed(folder, model, size, seconds):
    """Characters per second of a run of so many seconds."""
    flags = [f"--{name}={value}" for name, value in zip(FLAGS, size.split("/"))]
    script = folder / f"{model}-numpy.py"
    if "dropout" in script.read_text():
        flags.append("--dropout=0")                     # an older version has none
    done = subprocess.run([sys.executable, str(script), *flags, "--check_interval=0", "--clip=0",
                           f"--timelimit={seconds}"], capture_output=True, text=True)
    if done.returncode:
        raise command.Failure(f"{script}: {done.stderr}")
    spent, iterations = map(float, re.findall(r"0: (\S+) s, iter (\d+)", done.stdout)[-1])
    return iterations * int(flags[0].split("=")[1]) * int(flags[2].split("=")[1]) / spent


def work(argv):
    """The command line: measure, a row for each size."""
    p = kernel.parser(__doc__)
    p.add_argument("other", type=pathlib.Path, help="folder of the other version")
    p.add_argument("--models", nargs="+", default=list(SIZES), choices=SIZES)
    p.add_argument("--sizes", nargs="+", metavar="SIZE", help="/".join(FLAGS))
    p.add_argument("--core", type=int, default=kernel.FIRST)
    kernel.add_turns(p, 7, 4)
    args = p.parse_args(argv)
    rows = kernel.rows(args.models, args.sizes)
    for model in args.models:
        if not (args.other / f"{model}-numpy.py").is_file():
            p.error(f"there is no {model}-numpy.py in {args.other}")
    kernel.pin(args.core)
    kernel.choose(p, args)
    print("| model | B/H/S (/N/W/R) | before, char/s | now, char/s | now / before |")
    print("|---|---|--:|--:|--:|")
    for model, size in rows:
        turns = [[speed(folder, model, size, args.seconds) for folder in (args.other, HERE)]
                 for _ in range(args.turns)]
        before, now = map(statistics.median, zip(*turns))
        ratio = statistics.median(b / a for a, b in turns)
        print(f"| {model} | {size} | {before:,.0f} | {now:,.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    command.leave(command.run("versions.py", work))
