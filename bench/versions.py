#!/usr/bin/env python3
"""Characters per second of these scripts over those of another version of them.

    git archive 80092fd --prefix=old/ | tar -x -C /tmp
    python bench/versions.py /tmp/old                           all rows, on one core
    python bench/versions.py /tmp/old --models dnc --turns 3    fewer

Both versions train in turn, A B A B ..., as whole processes on the same core, for a few seconds
each. The ratio is the median of the ratios of the turns.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

import kernel

HERE = pathlib.Path(__file__).resolve().parents[1]
FLAGS = "batchsize", "hidden", "seqlength", "locations", "width", "heads"
LSTM = "64/256/25", "64/128/25", "32/128/50", "64/256/50", "16/32/25"
SIZES = {"rnn": LSTM, "lstm": LSTM, "dnc": ("64/256/25/16/16/2", "16/128/25/16/16/2",
                                            "32/128/50/32/32/4", "16/32/25/16/16/2")}


def speed(folder, model, size, seconds):
    """Characters per second of a run of so many seconds."""
    flags = [f"--{name}={value}" for name, value in zip(FLAGS, size.split("/"))]
    script = folder / f"{model}-numpy.py"
    if "dropout" in script.read_text():
        flags.append("--dropout=0")                     # an older version has none
    command = [sys.executable, str(script), *flags, "--check_interval=0", "--clip=0",
               f"--timelimit={seconds}"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent, iterations = map(float, re.findall(r"0: (\S+) s, iter (\d+)", out)[-1])
    return iterations * int(flags[0].split("=")[1]) * int(flags[2].split("=")[1]) / spent


def main():
    p = argparse.ArgumentParser(description="Speed of two versions of the scripts.")
    p.add_argument("other", type=pathlib.Path, help="folder of the other version")
    p.add_argument("--models", nargs="+", default=list(SIZES), choices=SIZES)
    p.add_argument("--turns", type=int, default=7)
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--core", type=int, default=0)
    kernel.add_flag(p)
    args = p.parse_args()
    if args.turns < 1 or not 0 < args.seconds < 3600:
        p.error("--turns and --seconds are above 0")
    for model in args.models:
        if not (args.other / f"{model}-numpy.py").is_file():
            p.error(f"there is no {model}-numpy.py in {args.other}")
    kernel.choose(p, args)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [args.core])
    print("| model | B/H/S (/N/W/R) | before, char/s | now, char/s | now / before |")
    print("|---|---|--:|--:|--:|")
    for model in args.models:
        for size in SIZES[model]:
            turns = [[speed(folder, model, size, args.seconds) for folder in (args.other, HERE)]
                     for _ in range(args.turns)]
            before, now = map(statistics.median, zip(*turns))
            ratio = statistics.median(b / a for a, b in turns)
            print(f"| {model} | {size} | {before:,.0f} | {now:,.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
