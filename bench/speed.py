#!/usr/bin/env python3
"""How fast do the scripts learn, next to the same models in PyTorch, in JAX, and written the article's way?

    pip install -r bench/requirements.txt
    python bench/speed.py                                     everything: a quarter of an hour on an idle machine
    python bench/speed.py --models lstm --sizes 0 --threads 1 one line of the table
    python bench/speed.py --markdown table.md --png speed.png and keep it

What is timed is the whole iteration: fetching the window, forward, loss, backward, Adagrad, reading the loss back; not
the imports, not the compilation. All sides have the same text, sizes, learning rate, precision (single; the article's
way: double) and threads. Each runs in a process of its own (worker.py), pinned to as many cores as it has threads; only
one works at a time. They take turns, A B C A B C ..., a second each, so that whatever else the machine does hits all of
them. The tables have the medians of the turns, and of the ratios of the turns that belong together. With more than one
thread the cores must be free: threads that wait for one another wait for whatever else is on a core.

Before it is timed, a peer must show the script's loss from the script's weights, on four windows, with carried state, a
stream that is reset, and an update after each window, so that gradients count too; if it does not, the bench stops.

    numpy       the script; what it does with more than one thread: see on_several_cores()
    torch       PyTorch: nn.RNN, nn.LSTM (fused; the usual cell, so its loss is checked against that), DNC eager
    torch-cell  PyTorch: the article's LSTM cell, eager, step by step
    jax         JAX: jit, lax.scan
    article     NumPy in double precision, all of it inside the time loop, Python loops over the batch
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data", "gull-rock.txt")
PEERS = {"torch": ("torch", "rnn lstm dnc"), "torch-cell": ("torch", "lstm"), "jax": ("jax", "rnn lstm dnc"),
         "article": ("numpy", "rnn lstm")}                  # side: (the module it needs, its models)
SIZES = {"rnn": ["16/32/25", "32/128/50", "64/256/50"],     # B/H/S
         "lstm": ["16/32/25", "32/128/50", "64/256/50"],
         "dnc": ["16/32/25/16/16/2", "32/128/50/32/32/4"]}  # B/H/S/N/W/R
FLAGS = "batchsize", "hidden", "seqlength", "locations", "width", "heads"
TOLERANCE = 1e-5                                            # of a loss, relative: single precision, after three updates


class Worker:
    """A process that is one side; see worker.py."""

    def __init__(self, threads, way="blas", **orders):
        self.name = orders["side"]
        env = dict(os.environ)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
            env.pop(name, None)
            env[name] = str(threads if way == "blas" else 1)
        env["JAX_PLATFORMS"] = "cpu"
        if threads == 1:
            env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "worker.py"),
                                         json.dumps({"threads": threads, "streams": threads if way == "streams" else 1, **orders})],
                                        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: the worker has ended with status {self.process.wait()}")
        return json.loads(line)

    def order(self, order):
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return self.answer()

    def check(self):
        """Stop the bench if this side does not compute the reference's losses."""
        answer = self.order("check")
        worst = max(abs(own / ref - 1) for own, ref in zip(answer["own"], answer["reference"]))
        if not worst < TOLERANCE:
            sys.exit(f"{self.name} does not compute the same loss: {answer['own']}, but should {answer['reference']}")
        return worst

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def on_several_cores(model, sizes):
    """What the script does there: --threads where README.md advises it, BLAS threads in a large DNC, one thread if the sizes are small."""
    if sizes["hidden"] < 128:
        return "one"
    return "blas" if model == "dnc" else "streams"


def race(model, size, threads, peers, args):
    """All sides of one line of the table, in turns: {side: [char/s of each turn]}."""
    sizes = dict(zip(FLAGS, map(int, size.split("/"))))
    turns = {side: [] for side in ("numpy", *peers)}
    workers = []
    try:
        for side in turns:
            way = (args.numpy or on_several_cores(model, sizes)) if side == "numpy" else "blas"
            workers.append(Worker(threads, way, side=side, model=model, sizes=sizes, data=os.path.abspath(args.data)))
            if side != "numpy":
                print(f"  {side}: same loss, to {workers[-1].check():.0e}", flush=True)
        for turn in range(args.repeats + 1):                # the first one warms up and compiles
            for worker in workers:
                time.sleep(0.1)                             # threads of the side before may still spin, for 0.03 s or so
                answer = worker.order(args.slice if turn else min(args.slice, 0.2))
                if turn:
                    turns[worker.name].append(answer["speed"])
                if answer["idle"] > 0.1:                    # then it has disturbed the others
                    print(f"  {worker.name} used {answer['idle']:.3f} s of processor time while it should have slept")
    finally:
        for worker in workers:
            worker.__exit__()
    return turns


def ratio(turns, side):
    """How often the script is as fast as a side: the median over the turns."""
    return statistics.median(ours / theirs for ours, theirs in zip(turns["numpy"], turns[side]))


def table(results):
    """The results as a table in Markdown."""
    sides = [side for side in PEERS if any(side in turns for turns in results.values())]
    lines = ["| model | B/H/S (/N/W/R) | threads | numpy, char/s | min – max | " + "".join(f"{side} | × | " for side in sides),
             "|---|---|--:|--:|--:|" + "--:|--:|" * len(sides)]
    for (model, size, threads), turns in results.items():
        ours = turns["numpy"]
        line = f"| {model} | {size} | {threads} | {statistics.median(ours):,.0f} | {min(ours):,.0f} – {max(ours):,.0f} | "
        for side in sides:
            line += f"{statistics.median(turns[side]):,.0f} | {ratio(turns, side):.2f} | " if side in turns else "– | – | "
        lines.append(line)
    return "\n".join(line.strip() for line in lines) + "\n\n×: how many times as fast the script is.\n"


def draw(results, path):
    """Speed of all sides as bars, the turns' range as whiskers."""
    try:
        import matplotlib
    except ImportError:
        return print("no picture: matplotlib is not installed")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    colours = {"numpy": "#1b6ca8", "torch": "#e4572e", "torch-cell": "#f3a712", "jax": "#76b041", "article": "#a0a0a0"}
    models = list(dict.fromkeys(model for model, *_ in results))
    fig, axes = plt.subplots(1, len(models), figsize=(1 + 4.5 * len(models), 4.2), squeeze=False)
    for ax, model in zip(axes[0], models):
        lines = {key[1:]: turns for key, turns in results.items() if key[0] == model}
        sides = [side for side in colours if any(side in turns for turns in lines.values())]
        width = 0.8 / len(sides)
        for n, side in enumerate(sides):
            at = [x + (n - (len(sides) - 1) / 2) * width for x, turns in enumerate(lines.values()) if side in turns]
            speeds = [sorted(turns[side]) for turns in lines.values() if side in turns]
            middle = [statistics.median(s) / 1e3 for s in speeds]
            whiskers = [[m - s[0] / 1e3 for m, s in zip(middle, speeds)], [s[-1] / 1e3 - m for m, s in zip(middle, speeds)]]
            ax.bar(at, middle, width, yerr=whiskers, color=colours[side], ecolor="#404040", error_kw={"lw": 0.8}, label=side)
        ax.set_xticks(range(len(lines)), [f"{size}\n{threads} thread{'s'[:threads > 1]}" for size, threads in lines],
                      fontsize=6)
        ax.set_yscale("log")
        ax.set_title(model.upper())
        ax.grid(axis="y", which="both", lw=0.3)
        ax.set_axisbelow(True)
        ax.legend(fontsize=7)
    axes[0][0].set_ylabel("training speed, 1000 char/s")
    fig.tight_layout()
    fig.savefig(path, dpi=120)
    print(f"picture: {path}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flag = p.add_argument
    flag("--models", nargs="+", choices=SIZES, default=list(SIZES), help="default: all whose script is there")
    flag("--sizes", nargs="+", metavar="SIZE", help="B/H/S (DNC: B/H/S/N/W/R), or 0, 1, 2 for those of the table (default: these)")
    flag("--threads", nargs="+", type=int, default=[1, 2], help="default: 1 2")
    flag("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="default: all that are installed")
    flag("--repeats", type=int, default=5, help="turns of each side (default 5)")
    flag("--slice", type=float, default=1.0, metavar="SECONDS", help="of one turn (default 1)")
    flag("--data", metavar="FILE", default=DATA, help="text to learn (default: data/gull-rock.txt)")
    flag("--numpy", choices=["streams", "blas", "one"], help="what the script does with several cores: --threads, BLAS threads, "
         "one thread (default: by model and size, see on_several_cores)")
    flag("--markdown", metavar="FILE", help="write the table here")
    flag("--png", metavar="FILE", default=os.path.join(HERE, "speed.png"), help="draw it here (default: bench/speed.png)")
    args = p.parse_args()

    results = {}
    for model in args.models:
        if not os.path.exists(os.path.join(HERE, "..", f"{model}-numpy.py")):
            print(f"{model}: there is no {model}-numpy.py")
            continue
        peers = [side for side in args.peers if model in PEERS[side][1].split()]
        for side in [side for side in peers if not importlib.util.find_spec(PEERS[side][0])]:
            print(f"{side}: not installed")
            peers.remove(side)
        for size in args.sizes or SIZES[model]:
            if size.isdigit():
                if int(size) >= len(SIZES[model]):
                    continue
                size = SIZES[model][int(size)]
            for threads in args.threads:
                print(f"{model} {size}, threads: {threads}", flush=True)
                turns = results[model, size, threads] = race(model, size, threads, peers, args)
                for side, speeds in turns.items():
                    print(f"  {side:10} {statistics.median(speeds):12,.0f} char/s   numpy {ratio(turns, side):.2f} times as fast", flush=True)
    text = table(results)
    print("\n" + text)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as file:
            file.write(text)
    if results and args.png:
        draw(results, args.png)


if __name__ == "__main__":
    main()
