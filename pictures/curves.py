#!/usr/bin/env python3
"""Draw learning curves from the logs that the scripts write with --fname.

    pip install -r pictures/requirements.txt
    python rnn-numpy.py --fname rnn.tsv             and so on, on the same text; then
    python pictures/curves.py rnn.tsv lstm.tsv dnc.tsv --out curves.png

Two panels: bits per character (BPC) against the characters trained on, and against wall-clock time.
Training BPC is thin and pale, as noisy as it is: a line of the log has the mean since the line
before. The dashed line is its running mean over a twentieth of the curve. Held-out text has
markers, one for each check. Each model has its colour, as in bench/learning.png, and each file its
marker; the file's name names the curve. --title says what was learnt, --floor draws the entropy
that data/tasks.py states.
"""
import math
import os
import sys

from picture import check, command, save, spelt

# colours for colour-blind eyes (Okabe and Ito), and not by colour alone; in all pictures the same
COLOURS = {"rnn": "#e69f00", "lstm": "#0072b2", "dnc": "#d55e00"}
OTHER, MARKERS = "#009e73", "osD^vPX"
LARGEST = 1e6               # BPC; what is above was not measured


def read_log(path):
    """The model of a log, its rows as columns (characters, seconds, training BPC, held-out BPC or
    nan), and how many lines are neither a heading nor a row.

    Each start of a script adds a heading, a line of # with its settings, and rows that count
    iterations. Characters are iterations * batch * window, where these may change from one start to
    the next: a row adds to the latest one before it that has fewer iterations. Where the iterations
    go back, a row of nan parts the curve.
    """
    rows, skipped, per_iteration, model = [], 0, None, ""
    done = [(0, 0)]                                     # iterations and characters, row by row
    for line in command.read_text(path).splitlines():
        name, *cells = line.split("\t")
        try:
            if name.startswith("# "):
                settings = dict(cell.split("=", 1) for cell in cells if "=" in cell)
                per_iteration = int(settings["batchsize"]) * int(settings["seqlength"])
                model = name[2:]
                continue
            seconds, training, heldout, _ = map(float, cells)
            before, characters = next(row for row in reversed(done) if row[0] < int(name))
            characters += (int(name) - before) * per_iteration
            if not (0 <= seconds < 1e12 and 0 <= training < LARGEST and characters < 1e18
                    and (0 <= heldout < LARGEST or math.isnan(heldout))):
                raise ValueError
        except (ValueError, KeyError, TypeError, StopIteration):
            skipped += 1
            continue
        if int(name) <= done[-1][0]:
            rows.append([math.nan] * 4)
        done.append((int(name), characters))
        rows.append([characters, seconds, training, heldout])
    if not rows:
        raise command.Failure(f"{path} has no rows that --fname has written")
    return model, list(zip(*rows)), skipped


def running_mean(characters, bpc, share=0.05):
    """The mean of bpc over this share of the curve's rows, around each row. A row counts by the
    characters since the row before; a gap (nan) is not crossed."""
    half, smooth, begin = round(share * len(bpc) / 2), [], 0
    for end in [k for k, x in enumerate(characters) if math.isnan(x)] + [len(bpc)]:
        last, count, total = 0 if begin == 0 else characters[begin], [0], [0]
        for x, value in zip(characters[begin:end], bpc[begin:end]):
            weight = max(x - last, 1)
            count.append(count[-1] + weight)
            total.append(total[-1] + weight * value)
            last = x
        for k in range(end - begin):
            near = min(half, k, end - begin - 1 - k)    # less at the ends, where curves are steep
            low, high = k - near, k + near + 1
            smooth.append((total[high] - total[low]) / (count[high] - count[low]))
        smooth.append(math.nan)
        begin = end + 1
    return smooth[:len(bpc)]


def draw(logs, title=None, floor=None):
    """The picture of logs, each a name, and the model and columns that read_log returns."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    fig = Figure(figsize=(11, 4.8), dpi=150, layout="constrained")
    axes, handles, names = fig.subplots(1, 2, sharey=True), [], []
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", parse_math=False)
    for k, (name, model, (characters, seconds, training, heldout)) in enumerate(logs):
        style = {"color": COLOURS.get(model, OTHER), "marker": MARKERS[k % len(MARKERS)],
                 "markersize": 5}
        handles.append(Line2D([], [], **style))
        names.append(name)
        smooth = running_mean(characters, training)
        for ax, x in zip(axes, (characters, seconds)):
            ax.plot(x, training, color=style["color"], linewidth=0.5, alpha=0.4)
            ax.plot(x, smooth, color=style["color"], linestyle="--", linewidth=1.1)
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
    for name, style in (("held-out text", {"marker": "o", "markersize": 5, "linewidth": 1.6}),
                        ("training", {"linewidth": 0.5}),
                        ("training, running mean", {"linewidth": 1.1, "linestyle": "--"})):
        handles.append(Line2D([], [], color="#555555", **style))
        names.append(name)
    if floor is not None:
        handles.append(Line2D([], [], color="#000000", linestyle=":", linewidth=1.2))
        names.append(f"entropy floor, {floor:g}")
    legend = axes[1].legend(handles, ["-"] * len(handles), frameon=False, fontsize=9)
    for text, name in zip(legend.get_texts(), names):   # legend() leaves out what begins with _
        text.set(text=name, parse_math=False)
    return fig


def work(argv):
    """The command line: read, and draw."""
    p = command.Parser(
        prog="curves.py", description="Draw learning curves from the logs that the scripts write "
        "with --fname.", epilog="matplotlib is needed: pip install -r pictures/requirements.txt")
    p.add_argument("logs", metavar="LOG", nargs="+", help="as --fname writes it; names its curve")
    p.add_argument("--out", metavar="FILE.png", required=True, help="or .svg, or .pdf")
    p.add_argument("--title", metavar="TEXT", default="", help="of the picture (default: none)")
    p.add_argument("--floor", metavar="BPC", type=command.number(float, 0, LARGEST),
                   help="the lowest possible BPC, which data/tasks.py prints (default: not drawn)")
    args = p.parse_args(argv)
    check(args.out)
    logs = []
    for path in args.logs:
        model, columns, skipped = read_log(path)
        logs.append((spelt(os.path.splitext(os.path.basename(path))[0]), model, columns))
        if skipped:
            command.say(f"curves.py: {path}: {skipped:,} lines are no rows, and are left out",
                        file=sys.stderr)
    save(draw(logs, spelt(args.title), args.floor), args.out)


def main(argv=None):
    """Run the command line; returns the exit status."""
    return command.run("curves.py", work, argv)


if __name__ == "__main__":
    command.leave(main())
