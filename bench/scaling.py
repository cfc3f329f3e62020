#!/usr/bin/env python3
"""How time and memory of an iteration grow with H (hidden), S (steps) and N (locations of the DNC).

    python bench/scaling.py                           everything, and the picture: 15 minutes
    python bench/scaling.py --models dnc --axes N     one table

The other sizes stay at those of BASE. Times are medians of the turns of race.py, on one core; peak
is the most memory that the script's process has held.
"""
import pathlib
import statistics

import kernel
from race import SIZES, command, race, sides

BASE = {"B": 32, "H": 128, "S": 50, "N": 32, "W": 32, "R": 4}
AXES = {"H": (32, 128, 256, 384, 512), "S": (25, 100, 200, 300, 400), "N": (16, 64, 128, 192, 256)}
COLOURS = {"numpy": "#555555", "torch": "#009e73", "jax": "#cc79a7"}    # models have others
PNG = pathlib.Path(__file__).with_suffix(".png")


def growth(model, axis, values, names, args):
    """Print a table; returns {side: milliseconds of an iteration at each value}."""
    own = list(BASE)[:6 if model == "dnc" else 3]
    others = ", ".join(f"{name} {BASE[name]}" for name in own if name != axis)
    print(f"\n**{model}, {others}**\n\n| {axis} |", *(f" {name}, ms |" for name in names),
          " numpy, µs per step | numpy, peak MiB |\n|--:|--:|--:|", "--:|" * len(names), sep="")
    times = {name: [] for name in names}
    for value in values:
        sizes = {name: {**BASE, axis: value}[name] for name in own}
        size = "/".join(map(str, sizes.values()))
        results = race(model, size, names, args.turns, args.seconds,
                       "--lr=0.001")                    # at 0.1 weights explode over 400 steps
        for name in names:
            speed = statistics.median(speed for speed, _ in results[name])
            times[name].append(1e3 * sizes["B"] * sizes["S"] / speed)
        ms = "".join(f" {times[name][-1]:.2f} |" for name in names)
        per_step, peak = 1e3 * times["numpy"][-1] / sizes["S"], results["numpy"][-1][1]
        print(f"| {value} |{ms} {per_step:.1f} | {peak:.0f} |", flush=True)
    return times


def draw(lines, path):
    """A row for each model, a column for each axis, a colour for each library; all linear."""
    from matplotlib.figure import Figure
    models = list(dict.fromkeys(model for model, _ in lines))
    columns = list(dict.fromkeys(axis for _, axis in lines))
    figure = Figure((1 + 3.2 * len(columns), 0.6 + 2.4 * len(models)), layout="constrained")
    axes = figure.subplots(len(models), len(columns), squeeze=False)
    for ax in axes.flat:
        ax.set_visible(False)
    for (model, axis), (values, times) in lines.items():
        ax = axes[models.index(model)][columns.index(axis)]
        ax.set_visible(True)
        for name, ms in times.items():
            ax.plot(values, ms, "o-", markersize=4, color=COLOURS[name], label=name)
        ax.set(title=f"{model}: time over {axis}", xlabel=axis, ylabel="ms per iteration",
               xticks=values, xlim=(0, None), ylim=(0, None))
        ax.grid(linewidth=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend()
    with command.whole_file(path) as name:
        figure.savefig(name, dpi=110)


def work(argv):
    """The command line: measure, print tables, draw."""
    p = kernel.parser(__doc__)
    p.add_argument("--models", nargs="+", default=list(SIZES), choices=SIZES)
    p.add_argument("--axes", nargs="+", default=list(AXES), choices=AXES)
    p.add_argument("--values", nargs="+", type=command.number(int, 1, 10**5),
                   help="on each axis (default: five)")
    p.add_argument("--peers", nargs="*", default=["torch", "jax"], choices=["torch", "jax"])
    p.add_argument("--png", default=PNG, help="draw it here; '': no picture")
    kernel.add_turns(p, 5, 0.5)
    args = p.parse_args(argv)
    tables = [(model, axis) for model in args.models for axis in args.axes
              if axis != "N" or model == "dnc"]
    if not tables:
        p.error("--axes N: only dnc has locations")
    kernel.check_picture(args.png)
    kernel.choose(p, args)

    lines = {}
    for model, axis in tables:
        values = args.values or AXES[axis]
        lines[model, axis] = values, growth(model, axis, values, sides(model, args.peers), args)
    if args.png:
        draw(lines, args.png)


if __name__ == "__main__":
    command.leave(command.run("scaling.py", work))
