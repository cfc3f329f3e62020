#!/usr/bin/env python3
"""How much faster workers learn than one process, at the same total batch, and than PyTorch.

    pip install -r parallel/requirements.txt torch
    python parallel/bench.py                                   the table of README.md: ten minutes
    python parallel/bench.py --models lstm --sizes 64/256/50   one row

One process, the workers, and PyTorch with as many threads take turns, A B C A B C ..., on the same
cores, so whatever else the machine does hits all of them. Figures are medians of the turns; × is
the median of the ratios of the turns that belong together: how many times as fast the workers are.
ms is the time of one of their iterations, from the text to the loss read back; kB is the message
that it sums. PyTorch must first show the losses of the script; bench/race.py says how.
"""
import contextlib
import importlib.util
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))
import kernel                                           # noqa: E402 (bench/ is no package)
import race                                             # noqa: E402

SIZES = {"rnn": ("64/128/25", "64/256/25", "32/128/50", "64/256/50"),
         "lstm": ("64/128/25", "64/256/25", "32/128/50", "64/256/50"),
         "dnc": ("16/128/25/16/16/2",)}
MPIRUN = shutil.which("mpirun", path=os.path.dirname(sys.executable)) or shutil.which("mpirun")


class Script:
    """A side: whole runs of a script, alone or on so many workers."""

    def __init__(self, model, workers, flags):
        start = [MPIRUN, "-n", str(workers)] if workers > 1 else []
        train = [str(ROOT / "parallel" / "train.py")] if workers > 1 else []
        self.command = [*start, sys.executable, *train, str(ROOT / f"{model}-numpy.py"), *flags]
        self.parameters = 0

    def order(self, seconds):
        """Characters per second. The first iteration, which is slow, does not count."""
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}   # container
        done = subprocess.run([*self.command, "--check_interval=0", f"--timelimit={seconds}"],
                              env={**root, **os.environ}, capture_output=True, text=True)
        if done.returncode:
            raise race.command.Failure(f"{' '.join(self.command)}: {done.stderr}")
        heading = re.search(r"(\S+) parameters, (\d+) streams, (\d+) steps", done.stdout)
        self.parameters, B, S = (int(number.replace(",", "")) for number in heading.groups())
        lines = re.findall(r"^0: (\S+) s, iter (\d+),", done.stdout, flags=re.M)
        (begin, first), *_, (end, last) = lines
        return (int(last) - int(first)) * B * S / (float(end) - float(begin))

    def close(self):
        """Nothing is open between two turns."""


def measure(model, size, args):
    """All sides in turn: {side: [char/s of each turn]}, and the number of parameters."""
    flags = ["--clip=0", "--dropout=0", *(f"--{flag}={value}" for flag, value in zip(race.FLAGS,
                                                                      size.split("/")))]
    alone = Script(model, 1, flags)
    sides = {"alone": alone, "workers": Script(model, args.workers, flags)}
    with contextlib.ExitStack() as stack:
        if importlib.util.find_spec("torch"):
            reference, torch = (stack.enter_context(contextlib.closing(
                race.Side(name, model, threads, flags)))
                for name, threads in (("numpy", 1), ("torch", args.workers)))
            race.compare("torch", torch.order("losses"),
                         reference.order("usual" if model == "lstm" else "losses"))
            torch.order(min(0.2, args.seconds))         # warms up
            sides["torch"] = torch
        speeds = {name: [] for name in sides}
        for _ in range(args.turns):
            for name, side in sides.items():
                answer = side.order(args.seconds)
                speeds[name].append(answer[0] if name == "torch" else answer)
    return speeds, alone.parameters


def row(model, size, speeds, parameters):
    """A line of the table."""
    def ratio(other):
        pairs = zip(speeds["workers"], speeds[other])
        return f"{statistics.median(a / b for a, b in pairs):.2f}"
    B, _, S, *_ = map(int, size.split("/"))
    median = {name: statistics.median(turns) for name, turns in speeds.items()}
    cells = [model, size, f"{median['alone']:,.0f}", f"{median['workers']:,.0f}", ratio("alone")]
    cells += [f"{median['torch']:,.0f}", ratio("torch")] if "torch" in speeds else ["–", "–"]
    cells += [f"{1000 * B * S / median['workers']:.1f}", f"{4 * (parameters + 1) / 1000:,.0f}"]
    return f"| {' | '.join(cells)} |"


def work(argv):
    """The command line: measure, a row for each size."""
    p = kernel.parser(__doc__)
    p.add_argument("--models", nargs="+", default=list(SIZES), choices=SIZES)
    p.add_argument("--sizes", nargs="+", metavar="SIZE", help="/".join(race.FLAGS))
    p.add_argument("--workers", type=race.command.number(int, 2, os.cpu_count() or 2), default=2,
                   help="and threads of PyTorch (default 2)")
    kernel.add_turns(p, 7, 4)
    args = p.parse_args(argv)
    rows = (kernel.rows(args.models, args.sizes) if args.sizes else
            [(model, size) for model in args.models for size in SIZES[model]])
    if any(int(size.partition("/")[0]) < args.workers for _, size in rows):
        p.error("--sizes: a batch has fewer streams than there are workers")
    if not (MPIRUN and importlib.util.find_spec("mpi4py")):
        p.error("this takes mpi4py and mpirun: pip install -r parallel/requirements.txt")
    kernel.choose(p, args)
    n = args.workers
    race.pin(n)
    print(f"| model | B/H/S (/N/W/R) | 1 process | {n} workers | × | PyTorch | × | ms | kB |",
          "|---|---|" + "--:|" * 7, sep="\n", flush=True)
    for model, size in rows:
        print(row(model, size, *measure(model, size, args)), flush=True)


if __name__ == "__main__":
    race.command.leave(race.command.run("parallel/bench.py", work))
