#!/usr/bin/env python3
"""Draw learning curves from the logs that the scripts write with --fname.

    pip install -r pictures/requirements.txt
    python rnn-numpy.py --fname rnn.tsv             and so on, on the same text; then
    python pictures/curves.py rnn.tsv lstm.tsv dnc.tsv --out curves.png

Two panels: bits per character (BPC) against the characters trained on, and against wall-clock time.
The running average of the training loss is thin and dashed; held-out text has markers. Each model
has its colour, as in bench/learning.png, and each file its marker; the file's name names the curve.
--title says what was learnt, --floor draws the entropy that data/tasks.py states.
"""
import argparse
import math
import os
import re
import sys

# colours for colour-blind eyes (Okabe and Ito), and not by colour alone; in all pictures the same
COLOURS = {"rnn": "#e69f00", "lstm": "#0072b2", "dnc": "#d55e00"}
OTHER, MARKERS = "#009e73", "osD^vPX"


class Failure(Exception):
    """What the user reads instead of a traceback, in one line."""


def read_log(path):
    """The model of a log, and its rows as columns: characters, seconds, training BPC, held-out BPC
    (or nan).

    Each start of a script adds a line of # with its sizes, and rows that count iterations.
    Characters are iterations * batch * window, where these may change from one start to the next:
    a row adds to the latest one before it that has fewer iterations. Where the iterations go back,
    a row of nan parts the curve.
    """
    rows, number, per_iteration, model = [], 0, None, ""
    done = [(0, 0)]                                     # iterations and characters, row by row
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.startswith("#"):
                    sizes = dict(re.findall(r"(\w+)=(\S+)", line))
                    model = line[1:].split()[0]
                    per_iteration = int(sizes["batchsize"]) * int(sizes["seqlength"])
                    continue
                iteration, seconds, training, heldout, _ = map(float, line.split("\t"))
                before, characters = next(row for row in reversed(done) if row[0] < iteration)
                if iteration <= done[-1][0]:
                    rows.append([math.nan] * 4)
                characters += (iteration - before) * per_iteration
                done.append((iteration, characters))
                rows.append([characters, seconds, training, heldout])
    except OSError as e:
        raise Failure(f"cannot read {path}: {e.strerror or e}")
    except (ValueError, KeyError, IndexError, TypeError, StopIteration):
        raise Failure(f"{path} is not a log that --fname has written: see line {max(number, 1)}")
    if not rows:
        raise Failure(f"{path} has no rows")
    return model, list(zip(*rows))


def draw(logs, title=None, floor=None):
    """The picture of logs, each a name and what read_log returns."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    fig = Figure(figsize=(11, 4.8), dpi=150, layout="constrained")
    axes, names = fig.subplots(1, 2, sharey=True), []
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", parse_math=False)
    for k, (name, (model, (characters, seconds, training, heldout))) in enumerate(logs):
        style = {"color": COLOURS.get(model, OTHER), "marker": MARKERS[k % len(MARKERS)],
                 "markersize": 5}
        names.append(Line2D([], [], **style, label=name))
        for ax, x in zip(axes, (characters, seconds)):
            ax.plot(x, training, color=style["color"], linestyle="--", linewidth=0.8)
            # nan in heldout: no check; but nan in x parts the curve
            checks = [(a, b) for a, b in zip(x, heldout) if b == b or a != a]
            ax.plot(*zip(*checks or [(math.nan, math.nan)]), **style, linewidth=1.6,
                    markevery=max(1, len(checks) // 15))
    for ax, unit in zip(axes, ("characters trained on", "wall-clock time, s, checks included")):
        ax.set_xlabel(unit)
        ax.set_xlim(0)
        if floor is not None:
            ax.axhline(floor, color="#000000", linestyle=":", linewidth=1.2)
        ax.grid(color="#dddddd", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g} M" if x else "0")
    axes[0].set_ylabel("bits per character (BPC)")
    kinds = [Line2D([], [], color="#555555", marker="o", markersize=5, linewidth=1.6,
                    label="held-out text"),
             Line2D([], [], color="#555555", linewidth=0.8, linestyle="--",
                    label="training, running average")]
    if floor is not None:
        kinds.append(Line2D([], [], color="#000000", linestyle=":", linewidth=1.2,
                            label=f"entropy floor, {floor:g}"))
    for text in axes[1].legend(handles=names + kinds, frameon=False, fontsize=9).get_texts():
        text.set_parse_math(False)
    return fig


def main(argv=None):
    """Run the command line; returns the exit status."""
    def error(message):
        raise Failure(f"{message} (see --help)")
    p = argparse.ArgumentParser(
        description="Draw learning curves from the logs that the scripts write with --fname.",
        epilog="matplotlib is needed: pip install -r pictures/requirements.txt", allow_abbrev=False)
    p.error = error
    p.add_argument("logs", metavar="LOG", nargs="+", help="as --fname writes it; names its curve")
    p.add_argument("--out", metavar="FILE.png", required=True, help="or .svg, or .pdf")
    p.add_argument("--title", metavar="TEXT", help="of the picture (default: none)")
    p.add_argument("--floor", metavar="BPC", type=float,
                   help="the lowest possible BPC, which data/tasks.py prints (default: not drawn)")
    try:
        args = p.parse_args(argv)
        if os.path.isdir(args.out) or not os.path.isdir(os.path.dirname(args.out) or "."):
            raise Failure(f"cannot write {args.out}: it is a folder, or its folder is not there")
        names = [os.path.splitext(os.path.basename(path))[0] for path in args.logs]
        picture = draw(list(zip(names, map(read_log, args.logs))), args.title, args.floor)
        try:
            picture.savefig(args.out)
        except (OSError, ValueError) as e:              # no room, no such format
            raise Failure(f"cannot write {args.out}: {e}")
        return 0
    except ImportError:
        message = "this needs matplotlib: pip install -r pictures/requirements.txt"
    except Failure as e:
        message = " ".join(str(e).split())
    print(f"curves.py: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
