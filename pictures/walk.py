#!/usr/bin/env python3
"""Draw how a trained DNC walks through a map that it has read.

    pip install -r pictures/requirements.txt
    python pictures/walk.py --load data/path-trained.npz --map data/metro.txt --out metro.png
    python pictures/walk.py --load data/path-trained.npz --map data/metro.txt --out metro.gif

The map is the first line of a text of data/tasks.py path, with 1, 2, 3, 4 for north, east, south
and west. The network reads its edges, then a start, and then label after label: the node that it
finds likeliest is where it goes, and what it reads next; a wrong one is orange. In a film (.gif) a
step takes a second.
"""
import types

from memory import GREY, ORANGE, read_through, save_film, written
from picture import check, command, save, spelt

COMPASS = {"1": ("north", 0, 1), "2": ("east", 1, 0), "3": ("south", 0, -1), "4": ("west", -1, 0)}
COLOURS = "#0072b2", "#cc79a7", "#009e73", "#e69f00", "#56b4e9"     # of lines, for any eyes
FRAMES = 3              # of a film, for each step
HEADING = ("The network reads the edges: d2e says that 2 leads from d to e. It writes each to a "
           "location of its\nmemory. Then it gets a start and, step by step, a label: 1 north, 2 "
           "east, 3 south, 4 west.\nIts answer, the next station, is what it reads next.")
MOST = 60, 20           # edges of a map and steps of a walk; nobody could read a picture of more


def read_map(path, walk):
    """The first line of a text: its edges, the places of its nodes, {node: (x, y)}, the start and
    labels of a walk, its own or that which is given, and the nodes to which they lead."""
    edges, _, own = command.read_text(path).partition("\n")[0].partition("?")
    walk = walk or own[:1] + own[1::2]
    edges = [edges[i:i + 3] for i in range(0, len(edges), 3)]
    leads = {edge[:2]: edge[2:] for edge in edges}
    if not own or not edges or not all(len(edge) == 3 and edge[1] in COMPASS for edge in edges):
        raise command.Failure(f"{path}: its first line is no path with labels 1 to 4")
    if len(edges) > MOST[0] or not 2 <= len(walk) <= 1 + MOST[1]:
        raise command.Failure("a picture takes at most {} edges, and 1 to {} steps".format(*MOST))
    places, bent = {edges[0][0]: (0, 0)}, False
    for a, label, b in edges * len(edges):              # from what has its place to what has none
        if a in places:
            (x, y), (_, dx, dy) = places[a], COMPASS[label]
            bent |= places.setdefault(b, (x + dx, y + dy)) != (x + dx, y + dy)
    if bent or len(set(places.values())) < len({node for edge in edges for node in edge[::2]}):
        raise command.Failure(f"{path}: its graph is no map with 1, 2, 3, 4 for north, east, "
                              "south, west")
    nodes = [walk[0]]
    for label in walk[1:]:
        if nodes[-1] + label not in leads:
            raise command.Failure(f"--walk: no edge leads from {nodes[-1]} by {label}")
        nodes.append(leads[nodes[-1] + label])
    return edges, places, walk, nodes[1:]


def take(model, run, edges, walk):
    """Let the network walk. For each step: the node it goes to, its probability, how strongly each
    location is read (mean of the heads); and location -> the edge that it was written in."""
    np, state, seen = model.np, model.zero_state(run, 1), []
    stations = sorted({node for edge in edges for node in edge[::2]})
    done, more = types.SimpleNamespace(nodes="", sure=[], read=[]), f"\n{''.join(edges)}?{walk[0]}"
    with np.errstate(all="ignore"):
        for label in walk[1:]:
            ids = model.encode(more + label, run.vocab, "--map and --walk")
            steps, logits, state = read_through(model, run, ids, state)
            seen.append(steps.write)
            done.read.append(steps.read[-1].mean(axis=0))
            p = dict(zip(run.vocab, model.softmax(logits[-1, 0])[0]))
            more = max(stations, key=p.get)
            done.nodes += more
            done.sure.append(p[more])
    if not np.isfinite(done.read).all() or not np.isfinite(done.sure).all():
        raise command.Failure("on this map the network's numbers are not finite")
    last = written(np.concatenate(seen))[-1]
    done.edges = {n: edges[(t - 1) // 3] for n, t in sorted(last.items(), key=lambda item: item[1])
                  if 0 < t <= 3 * len(edges)}
    if not done.edges:
        raise command.Failure("this network has written no edge to a location of its own")
    return done


def draw(done, edges, places, walk, nodes, names, lines):
    """The picture: the map, and beside it the memory. Returns it, and a function of a step that
    hides what comes after it, for a film."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    rows, steps, visited = list(done.edges), [], walk[0] + done.nodes   # steps: what each adds
    small = {"fontsize": 8, "color": GREY, "parse_math": False}
    fig = Figure(figsize=(11.5, max(4.8, 2.1 + 0.18 * len(rows))), dpi=150)
    fig.text(0.02, 0.95, "A network finds its way on a map that it has never seen", fontsize=12,
             fontweight="bold")
    fig.text(0.02, 0.925, HEADING, va="top", **small)
    ax = fig.add_axes((0.01, 0.02, 0.51, 0.76), aspect="equal")
    ax.axis("off")
    ax.margins(0.12)
    ax.set_title(f"Asked: from {names.get(walk[0], walk[0])} "
                 + ", ".join(COMPASS[label][0] for label in walk[1:]), fontsize=9, parse_math=False)
    for a, _, b in edges:
        colours = [c for c, line in zip(COLOURS, lines) if a + b in line or b + a in line]
        ax.plot(*zip(places[a], places[b]), color=(colours or ["#bbbbbb"])[0], linewidth=5)
    stations = {a: ax.text(*place, f"{a} {names.get(a, '')}".strip(), fontsize=8, ha="center",
                           va="center", parse_math=False, bbox={"boxstyle": "round",
                                                                "facecolor": "white"})
                for a, place in places.items()}
    memory = fig.add_axes((0.6, 0.12, 0.38, 0.66), xticks=[])
    memory.imshow([[read[n] for read in done.read] for n in rows], cmap="Blues", vmin=0, vmax=1,
                  aspect="auto")
    memory.set_yticks(range(len(rows)), [f"{done.edges[n]} at {n:>2}" for n in rows], fontsize=7.5,
                      family="DejaVu Sans Mono")
    memory.tick_params(length=0)
    memory.spines[:].set(linewidth=0.5, color="#999999")
    fig.text(0.6, 0.95, "What the memory holds, and what a step reads of it", fontsize=9)
    fig.text(0.6, 0.925, "A row is an edge, with the location to which it was written.\n"
             "A column is a step. Dark: this location is read.", va="top", **small)
    for y, va, text in (-0.7, "bottom", "asked"), (len(rows) - 0.3, "top", "answer\nprobability"):
        memory.text(-0.7, y, text, ha="right", va=va, fontsize=8, color=GREY)
    for k, (a, label, b) in enumerate(zip(visited, walk[1:], done.nodes)):
        text = {"fontsize": 8, "ha": "center", "color": "black" if b == nodes[k] else ORANGE}
        (x, y), (dx, dy) = places[a], (places[b][i] - places[a][i] for i in (0, 1))
        x, y = x + 0.12 * dy, y - 0.12 * dx             # on the right of the line
        at = 0.5 + 0.12 * list(zip(visited, done.nodes))[:k].count((a, b))
        steps.append([
            ax.annotate("", (x + 0.72 * dx, y + 0.72 * dy), (x + 0.28 * dx, y + 0.28 * dy),
                        arrowprops={"arrowstyle": "-|>", "linewidth": 1.4, "color": text["color"],
                                    "shrinkA": 0, "shrinkB": 0}),
            ax.text(x + at * dx + 0.1 * dy, y + at * dy - 0.1 * dx, k + 1, va="center", **text),
            memory.text(k, -0.7, f"{k + 1}\n{a}{label}", va="bottom", **text),
            memory.text(k, len(rows) - 0.3, f"{b}\n{done.sure[k]:.1%}", va="top", **text)])
    end = len(steps) - 0.5
    cover = memory.add_patch(Rectangle((end, -0.5), 0, len(rows), color="white", linewidth=0))

    def show(t):
        for k, artists in enumerate(steps):
            for artist in artists:
                artist.set_visible(k <= t)
        cover.set_bounds(t + 0.5, -0.5, end - t - 0.5, len(rows))
        for n, tick in zip(rows, memory.get_yticklabels()):
            tick.set_color(ORANGE if n == done.read[t].argmax() else "black")
        for a, station in stations.items():
            station.get_bbox_patch().set_facecolor("#ffd9b3" if a == done.nodes[t] else "white")
    return fig, show


def work(argv):
    """The command line: walk, and draw."""
    p = command.Parser(
        prog="walk.py", description="Draw how a trained DNC walks through a map that it has read.",
        epilog="matplotlib is needed: pip install -r pictures/requirements.txt")
    p.add_argument("--load", metavar="FILE", required=True,
                   help="checkpoint, as dnc-numpy.py --save writes it, trained on paths")
    p.add_argument("--map", metavar="FILE", required=True,
                   help="its first line is a path, as data/tasks.py writes it, labels 1 to 4")
    p.add_argument("--out", metavar="FILE.png", required=True, help="or .svg, .pdf; .gif: a film")
    p.add_argument("--walk", metavar="TEXT", help="start and labels, a122 (default: of the file)")
    p.add_argument("--lines", metavar="NODES", nargs="+", default=[],
                   help="nodes along a line that gets its own colour, such as abc")
    p.add_argument("--names", metavar="NAME", nargs="+", default=[],
                   help="of the nodes; each begins with the letter of its node")
    p.add_argument("--locations", metavar="N", help="if not as many as in training")
    args = p.parse_args(argv)
    check(args.out, "gif")
    edges, places, walk, nodes = read_map(args.map, args.walk)
    flags = [f"--locations={args.locations}"] if args.locations is not None else []
    model, run = command.load_run(args.load, *flags)
    if model.MODEL != "dnc":
        p.error(f"{args.load}: {model.MODEL}-numpy.py saved it, which has no memory")
    done = take(model, run, edges, walk)
    right = sum(a == b for a, b in zip(nodes, done.nodes))
    command.say(f"{right} of {len(nodes)} nodes right: "
                + walk[0] + "".join(map("".join, zip(walk[1:], done.nodes))))
    names = {name[:1].lower(): spelt(name) for name in args.names}
    picture, show = draw(done, edges, places, walk, nodes, names, args.lines)
    if args.out.lower().endswith(".gif"):
        save_film(picture, lambda frame: show(frame // FRAMES), FRAMES * len(nodes), args.out)
    else:
        save(picture, args.out)


def main(argv=None):
    """Run the command line; returns the exit status."""
    return command.run("walk.py", work, argv)


if __name__ == "__main__":
    command.leave(main())
