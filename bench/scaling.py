#!/usr/bin/env python3
"""How do time and memory of the scripts grow?

    python bench/scaling.py                               everything: ten minutes on an idle machine
    python bench/scaling.py --parts growth --models lstm  one part for one model
    python bench/scaling.py --markdown scaling.md         and keep the tables

growth   char/s, time per iteration and peak memory over H (hidden), S (steps) and, for the DNC, N (locations); the other
         sizes stay at those of BASE. Each point is a process of its own (worker.py). One picture.
load     seconds and memory until the first lines appear, on a text of 100 MB that is made for this and deleted again
start    seconds until the first lines appear in a default run, next to those that `import numpy` takes
peak     the most memory that a default run holds, from its start to its sample
leak     the most memory that 1,000 and 100,000 iterations hold, at a tiny size
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from speed import DATA, FLAGS, HERE, SIZES, Worker

BASE = {"batchsize": 32, "hidden": 128, "seqlength": 50, "locations": 32, "width": 32, "heads": 4}
AXES = {"hidden": [32, 64, 128, 256, 512], "seqlength": [25, 50, 100, 200, 400], "locations": [16, 32, 64, 128, 256]}
LETTER = {"hidden": "H", "seqlength": "S", "locations": "N"}
TINY = {"batchsize": 2, "hidden": 4, "seqlength": 3, "locations": 3, "width": 2, "heads": 1}
PARTS = "growth", "load", "start", "peak", "leak"


def sizes_of(model, sizes):
    """Those of the sizes that the model has."""
    return {name: sizes[name] for name in FLAGS[:6 if model == "dnc" else 3]}


def table(head, rows):
    """A table in Markdown; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def growth(models, args):
    """{(model, axis): [(value, answer)]} and the tables."""
    points, text = {}, ""
    for model in models:
        for axis, values in AXES.items():
            if axis not in sizes_of(model, BASE):
                continue
            line = points[model, axis] = []
            for value in values:
                sizes = {**sizes_of(model, {**BASE, axis: value}), "lr": 0.001}     # 0.1 explodes over 400 steps
                with Worker(args.threads, side="numpy", model=model, sizes=sizes, data=os.path.abspath(args.data)) as worker:
                    turns = [worker.order(args.slice) for _ in range(args.repeats)]
                answer = statistics.median_low([turn["speed"] for turn in turns])
                line.append((value, next(turn for turn in turns if turn["speed"] == answer)))
                print(f"{model} {LETTER[axis]} = {value}: {answer:,.0f} char/s, {turns[-1]['peak']:.0f} MiB", flush=True)
            rows = []
            for value, answer in line:
                iteration = 1e3 * answer["seconds"] / answer["iterations"]
                per_step = 1e3 * iteration / (value if axis == "seqlength" else BASE["seqlength"])
                rows.append((value, f"{answer['speed']:,.0f}", f"{iteration:.2f}", f"{per_step:.1f}", f"{answer['peak']:.0f}"))
            others = ", ".join(f"{name} {value}" for name, value in sizes_of(model, BASE).items() if name != axis)
            text += f"\n{model} ({others}; {args.threads} thread{'s'[:args.threads > 1]})\n\n"
            text += table((LETTER[axis], "char/s", "ms per iteration", "µs per step", "peak, MiB"), rows)
    return points, text


def run(command):
    """Run a command; seconds until it printed each line, seconds in all, its peak memory in MiB."""
    begin, lines = time.perf_counter(), []
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        lines.append((time.perf_counter() - begin, line))
    _, status, usage = os.wait4(process.pid, 0)
    seconds, process.returncode = time.perf_counter() - begin, os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} has ended with status {process.returncode}")
    return lines, seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def script(model, *flags):
    return [os.path.join(HERE, "..", f"{model}-numpy.py"), *map(str, flags)]


def first_lines(lines, model):
    """Seconds until the line that names the model, and until the first line of progress."""
    return (next(at for at, line in lines if line.startswith(model)), next(at for at, line in lines if line.startswith("0: ")))


def load(models, args):
    with open(args.data, "rb") as file:
        piece = file.read()
    with tempfile.TemporaryDirectory() as folder:
        path, rows = os.path.join(folder, "text"), []
        with open(path, "wb") as file:
            for _ in range(int(100e6) // len(piece)):
                file.write(piece)
        for model in models:
            lines, _, peak = run(script(model, "--data", path, "--iters", 100, "--val", 0, "--check_interval", 0))
            rows.append((model, *(f"{at:.2f}" for at in first_lines(lines, model)), f"{peak:.0f}"))
        title = f"\nA text of {os.path.getsize(path) / 1e6:.0f} MB\n\n"
    return title + table(("", "s to the model's line", "s to the first line of progress", "peak, MiB"), rows)


def start(models, args):
    seconds, lines = [], {model: [] for model in models}
    for _ in range(max(args.repeats, 3)):
        seconds.append(run(["-c", "import numpy"])[1])
        for model in models:
            flags = "--data", args.data, "--iters", 100, "--check_interval", 0
            lines[model].append(first_lines(run(script(model, *flags))[0], model))
    numpy = statistics.median(seconds)
    rows = [("import numpy, start to end", f"{numpy:.2f}", "", "")]
    for model in models:
        named, progress = map(statistics.median, zip(*lines[model]))
        rows.append((model, f"{named:.2f}", f"{progress:.2f}", f"{progress - numpy:.2f}"))
    return "\nStart\n\n" + table(("", "s to the model's line", "s to the first line of progress (100 iterations)", "more than numpy, s"), rows)


def peak(models, args):
    numpy = run(["-c", "import numpy"])[2]
    rows = [("import numpy", f"{numpy:.0f}")]
    for model in models:
        rows.append((model, f"{run(script(model, '--data', args.data, '--timelimit', args.timelimit))[2]:.0f}"))
    return f"\nDefault sizes, {args.timelimit:g} s\n\n" + table(("", "peak, MiB"), rows)


def leak(models, args):
    rows, counts = [], (args.leak_iters // 100, args.leak_iters)
    for model in models:
        flags = [part for name, value in sizes_of(model, TINY).items() for part in (f"--{name}", value)]
        peaks = [run(script(model, "--data", args.data, "--timelimit", 3600, "--check_interval", 0, "--iters", n, *flags))[2] for n in counts]
        rows.append((model, *(f"{mib:.1f}" for mib in peaks)))
    return "\nMemory over many iterations at a tiny size\n\n" + table(("", *(f"peak, MiB, {n:,} iterations" for n in counts)), rows)


def draw(points, path):
    """Speed above, peak memory below; one column per axis."""
    try:
        import matplotlib
    except ImportError:
        return print("no picture: matplotlib is not installed")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    axes_names = list(dict.fromkeys(axis for _, axis in points))
    fig, axes = plt.subplots(2, len(axes_names), figsize=(1 + 3.5 * len(axes_names), 6), squeeze=False)
    colours = {"rnn": "#76b041", "lstm": "#1b6ca8", "dnc": "#e4572e"}
    for (model, axis), line in points.items():
        column = axes[:, axes_names.index(axis)]
        values = [value for value, _ in line]
        column[0].plot(values, [answer["speed"] / 1e3 for _, answer in line], "o-", color=colours[model], label=model)
        column[1].plot(values, [answer["peak"] for _, answer in line], "o-", color=colours[model], label=model)
        for ax in column:
            ax.set_xscale("log", base=2)
            ax.set_xticks(values, list(map(str, values)))
            ax.grid(lw=0.3)
        column[0].set_yscale("log")
        column[1].set_xlabel(f"{LETTER[axis]} ({axis})")
    axes[0][0].set_ylabel("training speed, 1000 char/s")
    axes[1][0].set_ylabel("peak memory, MiB")
    for ax in axes[1]:
        ax.set_ylim(bottom=0)
    axes[0][0].legend()
    fig.tight_layout()
    fig.savefig(path, dpi=120)
    print(f"picture: {path}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flag = p.add_argument
    flag("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    flag("--models", nargs="+", choices=SIZES, default=list(SIZES), help="default: all whose script is there")
    flag("--threads", type=int, default=1, help="of the growth part (default 1)")
    flag("--repeats", type=int, default=3, help="turns of each point, and starts (default 3)")
    flag("--slice", type=float, default=1.0, metavar="SECONDS", help="of one turn (default 1)")
    flag("--timelimit", type=float, default=10.0, metavar="SECONDS", help="of the run in the peak part (default 10)")
    flag("--leak-iters", type=int, default=100_000, help="iterations of the leak part (default 100000)")
    flag("--data", metavar="FILE", default=DATA, help="text to learn (default: data/gull-rock.txt)")
    flag("--markdown", metavar="FILE", help="write the tables here")
    flag("--png", metavar="FILE", default=os.path.join(HERE, "scaling.png"), help="draw growth here (default: bench/scaling.png)")
    args = p.parse_args()

    models = [model for model in args.models if os.path.exists(script(model)[0])]
    points, text = {}, ""
    for part in PARTS:
        if part in args.parts:
            print(f"{part} ...", flush=True)
            if part == "growth":
                points, more = growth(models, args)
            else:
                more = globals()[part](models, args)
            text += more
    print(text)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as file:
            file.write(text.lstrip())
    if points:
        draw(points, args.png)


if __name__ == "__main__":
    main()
