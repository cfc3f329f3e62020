#!/usr/bin/env python3
"""Draw what the memory of a trained DNC does while it reads a text.

    pip install -r pictures/requirements.txt
    python dnc-numpy.py --save my.npz                                  train one, and then
    python pictures/memory.py --load my.npz --text "The bell rang." --out bell.png

From the top down the picture follows one step of the memory, in the order of the paper's equations:
usage, gates, write weighting; for each head its read modes and its read weighting; at last the
surprisal of the next character. Each column is a step, with the character that is read in it. 20 to
120 characters make a good picture. The model is dnc-numpy.py itself, in the folder above.
"""
import argparse
import importlib.util
import io
import math
import os
import sys
import textwrap
import types

LONGEST = 500               # characters; nobody could read a picture of more
STRONG = 0.5                # weightings above this get a letter; in a step there is one at most
MODES = {"backward": "#cc79a7", "content": "#c8c8c8", "forward": "#009e73"}     # in their order in
ORANGE, GREY = "#d55e00", "#555555"     # pi; for colour-blind eyes, and no model's but the DNC's
CAPTION = """How to read it: a column is one step, in which the network reads the character above
and below it; a row of a map is one location of the memory."""
LETTERS = """ A letter in the write weighting is the character that was read when the location was
written; the same letter in a read weighting says that this is what the head finds there. Letters
stand where a weighting is above 0.5."""


def load_script(name="dnc-numpy.py"):
    """The script in the folder above, as a module: there is no second copy of the model."""
    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location("dnc_numpy", os.path.join(here, "..", name))
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    return model


def read_through(model, run, ids, state):
    """Read the characters ids from a state on: what the memory does, the logits, the state after.

    The script's memory() is watched for that: it is called once a step, the first axis of all that
    is seen.
    """
    np, steps, memory = model.np, [], model.memory

    def watched(xi, *before):
        r, after, back = memory(xi, *before)
        _, _, _, _, f, ga, gw, pi, _ = model.interface(xi, run.heads, run.width)
        u, wr, ww = (after[model.MEMORY.index(name)] for name in ("u", "wr", "ww"))
        steps.append((u, model.allocation(u)[0], ww, wr, np.concatenate([f, ga, gw], axis=1), pi))
        return r, after, back
    model.memory = watched
    try:
        logits, after, _ = model.forward(run.params, ids.astype(int)[:, None], state, run.reset_id)
    finally:
        model.memory = memory
    names = "usage", "allocation", "write", "read", "gates", "modes"
    seen = {name: np.concatenate(values) for name, values in zip(names, zip(*steps))}
    return types.SimpleNamespace(**seen), logits, after


def look(model, run, text):
    """What the memory does while the network reads text, and the bits that each character costs.

    It starts from zero state, or from where run.prime leads.
    """
    np, state = model.np, model.zero_state(run, 1)
    ids = model.encode(text, run.vocab, "--text")
    with np.errstate(all="ignore"):                     # what has come out is looked at below
        if run.prime:
            prime = model.encode(run.prime, run.vocab, "--prime")
            _, _, state = read_through(model, run, prime, state)
        seen, logits, _ = read_through(model, run, ids, state)
        nats, _ = model.cross_entropy(logits[:, :-1], ids.astype(int)[1:, None])
    seen.bits = nats[:, 0] / math.log(2)                # none for the last step: nothing follows
    if not all(np.isfinite(values).all() for values in vars(seen).values()):
        raise model.Failure("on this text the network's numbers are not finite")
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


def draw(seen, text, heading, guess):
    """The picture: panels below each other, a column for each character, notes on the right."""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import findfont, get_font
    (S, R, N), mono = seen.read.shape, "DejaVu Sans Mono"   # matplotlib brings this font along
    signs, last = [visible(c, get_font(findfont(mono))) for c in text], written(seen.write)
    heads = [f" of head {r + 1}" if R > 1 else "" for r in range(R)]
    wide, row = max(5, 0.13 * S), max(0.03, min(0.14, 3.2 / N))     # inches: columns, one location
    left, right, top, gap = 0.95, 2.6, 1.15, 0.4        # for names of axes, notes, heading; between
    heights = [row * N, 0.16 * (R + 2), row * N, *[0.45, row * N] * R, 0.7]     # two panels
    lettered = row > 0.08                               # a letter has room
    caption = textwrap.wrap(CAPTION + LETTERS * lettered, int(14.5 * (left + wide + right - 0.4)))
    width = left + wide + right
    height = top + sum(heights) + gap * len(heights) + 0.16 * len(caption) + 0.25
    fig, below, panels = Figure(figsize=(width, height), dpi=150), height - top, iter(heights)
    small = {"fontsize": 7.5, "color": GREY, "linespacing": 1.35}
    fig.text(0.2 / width, 1 - 0.15 / height, "What the memory does while the network reads",
             va="top", fontsize=12, fontweight="bold")
    fig.text(0.2 / width, 1 - 0.41 / height, heading, va="top", fontsize=8.5, color=GREY,
             parse_math=False)
    fig.text(0.2 / width, 0.12 / height, "\n".join(caption), **{**small, "fontsize": 8})

    def panel(name, ylabel, note):
        """The next panel, with its name and, on its right, what to know about it."""
        nonlocal below
        below -= (tall := next(panels))
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
                        fontsize=min(7, 62 * row), parse_math=False)

    def characters(ax, edge):
        """The characters along an edge of a panel: what each step reads."""
        ax.set_xticks(range(S), signs, fontsize=8, family=mono, parse_math=False)
        ax.tick_params(axis="x", bottom=False, labelbottom=edge == "bottom",
                       labeltop=edge == "top", pad=3)
        for tick, sign in zip(ax.xaxis.get_major_ticks(), signs):
            if len(sign) > 1:                           # a code needs more room than a character
                tick.label1.set_rotation(90)
                tick.label2.set_rotation(90)

    ax = heat(seen.usage, "Usage", "location", "1: in use, 0: free\n\u25cb the location that "
              "allocation\n   offers: the freest one")
    ax.plot(seen.allocation.argmax(axis=1), "o", markersize=3.5, markerfacecolor="none",
            markeredgewidth=0.8, color=ORANGE)
    characters(ax, "top")
    place = (left + wide + 0.14) / width, 1 - 0.6 / height, 1.7 / width, 0.1 / height
    bar = fig.colorbar(ax.images[0], cax=fig.add_axes(place), orientation="horizontal",
                       ticks=[0, 0.5, 1])
    bar.ax.set_title("colour in all maps", loc="left", fontsize=7.5, color=GREY, pad=3)
    bar.ax.tick_params(labelsize=7, length=2)
    ax = heat(seen.gates, "Gates", "", "free 1: what was read last gets free\n"
              "allocation 1: write to the freest location,\n   0: to where the write key is found\n"
              "write 0: write nothing")
    ax.set_yticks(range(R + 2), [*(f"free{head}" for head in heads), "allocation", "write"])
    weighting(seen.write, "Write weighting", "location",
              "1: this location is written,\n0: it stays as it is")
    for r, head in enumerate(heads):
        ax, floor = panel(f"Read modes{head}", "share", ""), 0
        for (mode, colour), share in zip(MODES.items(), seen.modes[:, r].T):
            ax.bar(range(S), share, 1, floor, color=colour, label=mode, linewidth=0.5,
                   edgecolor=colour)                    # or else there are gaps
            floor = floor + share
        ax.set(ylim=(0, 1), yticks=[0, 1])
        ax.legend(reverse=True, loc="upper left", bbox_to_anchor=(1, 1.25), fontsize=7.5,
                  frameon=False, labelcolor=GREY)
        weighting(seen.read[:, r], f"Read weighting{head}", "location", "" if r else
                  "the modes, mixed: by content, or along\nthe links to what was written after\n"
                  "(forward) or before (backward) the\nlocation that was read last")
    ax = panel("Surprisal of the next character", "bits", "-log2 of the probability that the next\n"
               f"character got; a guess costs {guess:.1f} bits")
    ax.bar(range(S - 1), seen.bits, 0.8, color=GREY)
    ax.set_ylim(0, max(guess, seen.bits.max()))
    characters(ax, "bottom")
    ax.set_xlabel("character that the step reads", fontsize=7.5)
    return fig


def save(picture, path):
    """Write the picture; a .png with 256 colours: a third of the bytes, and it looks the same."""
    if not path.lower().endswith(".png"):
        return picture.savefig(path)
    from PIL import Image                               # matplotlib needs it, too
    picture.savefig(dots := io.BytesIO(), format="png")
    image = Image.open(dots).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(path, dpi=(150, 150), optimize=True)


def main(argv=None):
    """Run the command line; returns the exit status."""
    model = load_script()

    def error(message):
        raise model.Failure(f"{message} (see --help)")
    p = argparse.ArgumentParser(
        description="Draw what the memory of a trained DNC does while it reads a text.",
        epilog="matplotlib is needed: pip install -r pictures/requirements.txt", allow_abbrev=False)
    p.error = error
    p.add_argument("--load", metavar="FILE", required=True,
                   help="checkpoint, as dnc-numpy.py --save writes it")
    p.add_argument("--text", metavar="TEXT", required=True,
                   help=f"what the network reads, 2 to {LONGEST} characters, or @FILE")
    p.add_argument("--out", metavar="FILE.png", required=True, help="or .svg, or .pdf")
    p.add_argument("--prime", metavar="TEXT", default="",
                   help="read before that, not drawn, or @FILE (default: nothing; the memory is "
                   "empty at first)")
    p.add_argument("--locations", metavar="N", type=int,
                   help="rows of the memory, if not as many as in training")
    p.add_argument("--encoding", default="utf-8",
                   help="of these files; latin-1 takes bytes one to one (default utf-8)")
    try:
        args = p.parse_args(argv)
        if os.path.isdir(args.out) or not os.path.isdir(os.path.dirname(args.out) or "."):
            raise model.Failure(f"cannot write {args.out}: it is a folder, or its folder is not "
                                "there")
        with model.np.errstate(all="ignore"):
            other = {"locations": args.locations} if args.locations else {}
            run = model.begin({"load": args.load, "iters": 0, "prime": args.prime,
                               "encoding": args.encoding, **other})
        if args.text[:1] == "@":
            args.text = model.read_text(args.text[1:], args.encoding, "--text @FILE")
        if not 2 <= len(args.text) <= LONGEST:
            raise model.Failure(f"--text has {len(args.text):,} characters; a picture takes 2 to "
                                f"{LONGEST}")
        seen = look(model, run, args.text)
        begins = (f"primed with {len(run.prime):,} characters" if run.prime else "zero state at "
                  + (f"each {run.reset}" if run.reset else "first"))
        heading = (f"{os.path.basename(args.load)} after {run.iter:,} iterations, {run.locations} "
                   f"locations\n{seen.bits.mean():.2f} bits per character; {begins}")
        picture = draw(seen, args.text, heading, math.log2(len(run.vocab)))
        try:
            save(picture, args.out)
        except (OSError, ValueError) as e:              # no room, no such format
            raise model.Failure(f"cannot write {args.out}: {e}")
        return 0
    except ImportError:
        message = "this needs matplotlib: pip install -r pictures/requirements.txt"
    except (model.Failure, MemoryError) as e:
        message = str(e.args[0]) if e.args else "not enough memory for this text"
    model.say(" ".join(f"memory.py: {message}".split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
