#!/usr/bin/env python3
"""Draw what the memory of a trained DNC does while it reads a text.

    pip install -r pictures/requirements.txt
    python dnc-numpy.py --save my.npz                                  train one, and then
    python pictures/memory.py --load my.npz --text "The bell rang." --out bell.png
    python pictures/memory.py --load my.npz --text "The bell rang." --out bell.gif   a film of it

From the top down the picture follows one step of the memory, in the order of the paper's equations:
usage, gates, write weighting; for each head its read modes and its read weighting; at last the
surprisal of the next character. --panels chooses among them. Each column is a step, with the
character that is read in it. 20 to 120 characters make a good picture. In a film (.gif) the
characters are read one after another. The model is dnc-numpy.py itself, in the folder above.
"""
import math
import os
import textwrap
import types

from picture import check, command, save, spelt

LONGEST = 500               # characters; nobody could read a picture of more
FILM = 120                  # characters of a film, a frame for each
DOTS = 40e6                 # of a picture; more take minutes and gigabytes
PANELS = "usage", "gates", "write", "modes", "read", "surprisal"
STRONG = 0.5                # weightings above this get a letter; in a step there is one at most
MODES = {"backward": "#cc79a7", "content": "#c8c8c8", "forward": "#009e73"}     # in their order in
ORANGE, GREY = "#d55e00", "#555555"     # pi; for colour-blind eyes, and no model's but the DNC's
CAPTION = """How to read it: a column is one step, in which the network reads the character above
and below it; a row of a map is one location of the memory."""
LETTERS = """ A letter in the write weighting is the character that was read when the location was
written; the same letter in a read weighting says that this is what the head finds there. Letters
stand where a weighting is above 0.5."""


def read_through(model, run, ids, state):
    """Read the characters ids from a state on: what the memory does, the logits, the state after.

    The script's memory() is watched for that: it is called once a step, the first axis of all that
    is seen.
    """
    np, logits, steps, memory = model.np, [], [], model.memory
    names = "usage", "allocation", "write", "read", "gates", "modes"

    def watched(xi, *before):
        r, after, back = memory(xi, *before)
        _, _, _, _, f, ga, gw, _, _, pi, _ = model.interface(
            xi, run.settings.heads, run.settings.width)
        _, u, _, _, wr, ww = after
        steps.append((u, model.allocation(u)[0], ww, wr, np.concatenate([f, ga, gw], axis=1), pi))
        return r, after, back
    model.memory = watched
    try:
        for t in range(0, len(ids), 25):                # forward keeps all of a window
            y, state, _ = model.forward(run.params, ids[t:t + 25, None], state,
                                        model.reset_id(run))
            logits.append(y)
    finally:
        model.memory = memory
    seen = {name: np.concatenate(values) for name, values in zip(names, zip(*steps))}
    return types.SimpleNamespace(**seen), np.concatenate(logits), state


def look(model, run, text, prime=""):
    """What the memory does while the network reads text, and the bits that each character costs.

    It starts from zero state, or from where the prime leads.
    """
    np, state = model.np, model.zero_state(run, 1)
    ids = model.encode(text, run.vocab, "--text")
    with np.errstate(all="ignore"):                     # what has come out is looked at below
        if prime:
            prime = model.encode(prime, run.vocab, "--prime")
            _, _, state = read_through(model, run, prime, state)
        seen, logits, _ = read_through(model, run, ids, state)
        nats, _ = model.cross_entropy(logits[:-1], ids[1:, None])
    seen.bits = nats[:, 0] / math.log(2)                # none for the last step: nothing follows
    if not all(np.isfinite(values).all() for values in vars(seen).values()):
        raise command.Failure("on this text the network's numbers are not finite")
    return seen


def visible(character, font):
    """A sign for newline, space and tab; the code of what the font lacks; or the character."""
    sign = {"\n": "\u21b5", " ": "\u2423", "\t": "\u21e5"}.get(character, character)
    return sign if sign.isprintable() and font.get_char_index(ord(sign)) else f"{ord(character):x}"


def written(write):
    """For each step: location -> the step in which it was last written."""
    last, steps = {}, []
    for t, weighting in enumerate(write):
        if weighting.max() > STRONG:
            last = {**last, int(weighting.argmax()): t}
        steps.append(last)
    return steps


def layout(S, N, R, panels):
    """Inches: the width of the columns, the height of a location, and the heights of the panels.
    Few panels are wider than high together."""
    order = [name for name in panels if PANELS.index(name) < 3]
    order += [name for name in panels if name in ("modes", "read")] * R
    order += [name for name in panels if name == "surprisal"]
    maps = sum(name in ("usage", "write", "read") for name in order)
    room, wide = (3.2, 5) if len(panels) > 3 else (min(2, 4 / max(1, maps)), 6.5)
    wide, row = max(wide, 0.13 * S), max(0.03, min(0.14, room / N))     # at least this can be seen
    tall = {"gates": 0.16 * (R + 2), "modes": 0.45, "surprisal": 0.7}
    heights = [tall.get(name, row * N) for name in order]
    if 150 * wide * 150 * sum(heights) > DOTS:
        raise command.Failure(f"this picture would have {150 * wide:,.0f} by "
                              f"{150 * sum(heights):,.0f} dots: choose a shorter --text, or fewer "
                              "--panels")
    return wide, row, heights


def draw(seen, text, heading, guess, panels=PANELS):
    """The picture: panels below each other, a column for each character, notes on the right.
    Returns it, and a function of a step that covers what comes later, for a film."""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import findfont, get_font
    (S, R, N), mono = seen.read.shape, "DejaVu Sans Mono"   # matplotlib brings this font along
    signs, last = [visible(c, get_font(findfont(mono))) for c in text], written(seen.write)
    heads = [f" of head {r + 1}" if R > 1 else "" for r in range(R)]
    wide, row, heights = layout(S, N, R, panels)
    left, right, top, gap = 0.95, 2.6, 1.15, 0.4        # for names of axes, notes, heading; between
    lettered = row > 0.08                               # a letter has room
    letters = LETTERS * (lettered and {"write", "read"} <= set(panels))
    caption = textwrap.wrap(CAPTION + letters, int(14.5 * (left + wide + right - 0.4)))
    width = left + wide + right
    height = top + sum(heights) + gap * len(heights) + 0.16 * len(caption) + 0.25
    fig, below, heights = Figure(figsize=(width, height), dpi=150), height - top, iter(heights)
    small = {"fontsize": 7.5, "color": GREY, "linespacing": 1.35}
    fig.text(0.2 / width, 1 - 0.15 / height, "What the memory does while the network reads",
             va="top", fontsize=12, fontweight="bold")
    fig.text(0.2 / width, 1 - 0.41 / height, heading, va="top", fontsize=8.5, color=GREY,
             parse_math=False)
    fig.text(0.2 / width, 0.12 / height, "\n".join(caption), **{**small, "fontsize": 8})

    def panel(name, ylabel, note):
        """The next panel, with its name and, on its right, what to know about it."""
        nonlocal below
        below -= (tall := next(heights))
        place = left / width, below / height, wide / width, tall / height
        ax = fig.add_axes(place, xlim=(-0.5, S - 0.5), xticks=[])
        below -= gap
        ax.set_title(name, loc="left", fontsize=9, fontweight="bold", pad=4)
        ax.set_ylabel(ylabel, fontsize=7.5)
        ax.tick_params(labelsize=7, length=2)
        ax.spines[:].set(linewidth=0.5, color="#999999")
        ax.text(1 + 0.12 / wide, 1, note, transform=ax.transAxes, va="top", **small)
        return ax

    def heat(values, *words):
        """A map of values (S, rows) in [0, 1]: 0 is white and 1 is dark, without colours, too."""
        ax = panel(*words)
        ax.imshow(values.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        ax.set_yticks(range(0, values.shape[1], max(1, values.shape[1] // 4)))
        return ax

    def weighting(values, *words):
        """A map of a weighting; where it is strong, with the character last written there."""
        ax = heat(values, *words)
        for t, n in enumerate(values.argmax(axis=1)):
            if values[t, n] > STRONG and n in last[t] and lettered:
                ax.text(t, n, signs[last[t][n]], ha="center", va="center_baseline", color="white",
                        fontsize=min(7, 72 * row), parse_math=False)

    def characters(ax, above, below):
        """The characters along the edges of a panel: what each step reads."""
        ax.set_xticks(range(S), signs, fontsize=8, family=mono, parse_math=False)
        ax.tick_params(axis="x", bottom=False, labelbottom=below, labeltop=above, pad=3)
        for tick, sign in zip(ax.xaxis.get_major_ticks(), signs):
            if len(sign) > 1:                           # a code needs more room than a character
                tick.label1.set_rotation(90)
                tick.label2.set_rotation(90)

    if "usage" in panels:
        ax = heat(seen.usage, "Usage", "location", "1: in use, 0: free\n\u25cb the location that "
                  "allocation\n   offers: the freest one")
        ax.plot(seen.allocation.argmax(axis=1), "o", markersize=3.5, markerfacecolor="none",
                markeredgewidth=0.8, color=ORANGE)
    if "gates" in panels:
        ax = heat(seen.gates, "Gates", "", "free 1: what was read last gets free\n"
                  "allocation 1: write to the freest location,\n   0: to where the write key is "
                  "found\nwrite 0: write nothing")
        ax.set_yticks(range(R + 2), [*(f"free{head}" for head in heads), "allocation", "write"])
    if "write" in panels:
        weighting(seen.write, "Write weighting", "location",
                  "1: this location is written,\n0: it stays as it is")
    for r, head in enumerate(heads):
        if "modes" in panels:
            ax, floor = panel(f"Read modes{head}", "share", ""), 0
            for (mode, colour), share in zip(MODES.items(), seen.modes[:, r].T):
                ax.bar(range(S), share, 1, floor, color=colour, label=mode, linewidth=0.5,
                       edgecolor=colour)                # or else there are gaps
                floor = floor + share
            ax.set(ylim=(0, 1), yticks=[0, 1])
            ax.legend(reverse=True, loc="upper left", bbox_to_anchor=(1, 1.25), fontsize=7.5,
                      frameon=False, labelcolor=GREY)
        if "read" in panels:
            weighting(seen.read[:, r], f"Read weighting{head}", "location", "" if r else
                      "the modes, mixed: by content, or along\nthe links to what was written after"
                      "\n(forward) or before (backward) the\nlocation that was read last")
    if "surprisal" in panels:
        ax = panel("Surprisal of the next character", "bits", "-log2 of the probability that the "
                   f"next\ncharacter got; a guess costs {guess:.1f} bits")
        ax.bar(range(S - 1), seen.bits, 0.8, color=GREY)
        ax.set_ylim(0, max(guess, seen.bits.max()))
    axes = list(fig.axes)
    for ax in axes:
        characters(ax, ax is axes[0], ax is axes[-1])
    axes[-1].set_xlabel("character that the step reads", fontsize=7.5)
    if maps := [ax.images[0] for ax in axes if ax.images]:
        place = (left + wide + 0.14) / width, 1 - 0.6 / height, 1.7 / width, 0.1 / height
        bar = fig.colorbar(maps[0], cax=fig.add_axes(place), orientation="horizontal",
                           ticks=[0, 0.5, 1])
        bar.ax.set_title("colour in all maps", loc="left", fontsize=7.5, color=GREY, pad=3)
        bar.ax.tick_params(labelsize=7, length=2)
    return fig, lambda t: cover(axes, t, S)


def cover(axes, t, S):
    """Frame step t; what comes later is pale."""
    from matplotlib.patches import Rectangle
    for ax in axes:
        for patch in [patch for patch in ax.patches if patch.get_gid() == "cover"]:
            patch.remove()
        low, high = ax.get_ylim()
        box = {"height": high - low, "gid": "cover", "zorder": 10}
        ax.add_patch(Rectangle((t + 0.5, low), S - 1 - t, color="white", alpha=0.88, linewidth=0,
                               **box))
        ax.add_patch(Rectangle((t - 0.5, low), 1, fill=False, edgecolor=ORANGE, **box))
        ax.spines[:].set_zorder(11)
        for k, tick in enumerate(ax.xaxis.get_major_ticks()):
            for label in tick.label1, tick.label2:
                label.set_color(ORANGE if k == t else "black" if k < t else "#bbbbbb")


def save_film(figure, show, steps, path):
    """A frame for each step, three a second; the last one stays for three seconds."""
    from matplotlib.animation import PillowWriter
    with command.whole_file(path) as name, (writer := PillowWriter(fps=3)).saving(
            figure, name, dpi=100):
        for t in [*range(steps), *[steps - 1] * 8]:
            show(t)
            writer.grab_frame()


def given(model, text, encoding):
    """What a flag says, or the file that it names by @."""
    if text[:1] != "@":
        return text
    if not os.path.isfile(text[1:]):                    # a pipe would let us wait for ever
        raise command.Failure(f"cannot read {text[1:]}: there is no regular file of this name")
    return model.read_text(text[1:], encoding)


def work(argv):
    """The command line: look, and draw."""
    p = command.Parser(
        prog="memory.py", description="Draw what the memory of a trained DNC does while it reads a "
        "text.", epilog="matplotlib is needed: pip install -r pictures/requirements.txt")
    p.add_argument("--load", metavar="FILE", required=True,
                   help="checkpoint, as dnc-numpy.py --save writes it")
    p.add_argument("--text", metavar="TEXT", required=True,
                   help=f"what the network reads, 2 to {LONGEST} characters, or @FILE")
    p.add_argument("--out", metavar="FILE.png", required=True,
                   help=f"or .svg, or .pdf; .gif: a film, of at most {FILM} characters")
    p.add_argument("--panels", metavar="PANEL", nargs="+", choices=PANELS, default=PANELS,
                   help=f"of {', '.join(PANELS)} (default: all)")
    p.add_argument("--prime", metavar="TEXT", default="",
                   help="read before that, not drawn, or @FILE (default: nothing; the memory is "
                   "empty at first)")
    p.add_argument("--locations", metavar="N",
                   help="rows of the memory, if not as many as in training")
    p.add_argument("--encoding", default="utf-8",
                   help="of these files; latin-1 takes bytes one to one (default utf-8)")
    args = p.parse_args(argv)
    check(args.out, "gif")
    film = args.out.lower().endswith(".gif")
    flags = [f"--locations={args.locations}"] if args.locations is not None else []
    model, run = command.load_run(args.load, *flags)
    if model.MODEL != "dnc":
        p.error(f"{args.load}: {model.MODEL}-numpy.py saved it, which has no memory")
    text, prime = (given(model, value, args.encoding) for value in (args.text, args.prime))
    longest = FILM if film else LONGEST
    if not 2 <= len(text) <= longest:
        raise command.Failure(f"--text has {len(text):,} characters; a "
                              f"{'film' if film else 'picture'} takes 2 to {longest}")
    panels = [name for name in PANELS if name in args.panels]
    layout(len(text), run.settings.locations, run.settings.heads, panels)       # too large?
    seen, reset = look(model, run, text, prime), run.settings.reset
    begins = (f"primed with {len(prime):,} characters" if prime else "zero state at "
              + (f"each {ascii(reset)[1:-1]}" if reset else "first"))
    heading = (f"{spelt(os.path.basename(args.load))} after {run.iter:,} iterations, "
               f"{run.settings.locations} locations\n{seen.bits.mean():.2f} bits per character; "
               f"{begins}")
    picture, show = draw(seen, text, heading, math.log2(len(run.vocab)), panels)
    if film:
        save_film(picture, show, len(text), args.out)
    else:
        save(picture, args.out)


def main(argv=None):
    """Run the command line; returns the exit status."""
    return command.run("memory.py", work, argv)


if __name__ == "__main__":
    command.leave(main())
