"""What each part of a task's lines costs a network:   python data/parts.py my.npz new.txt

A line that data/tasks.py writes has parts that must be random, and parts that a memory can know:
the copy, the value of a key, the way round a ring. The table gives bits per character of each part,
over the first lines of the text. Each line is an episode of its own, from zero state, as the
networks trained with --reset '\\n' see it. Further flags go to the script.
"""
import argparse
import collections
import importlib.util
import math
import os
import re
import sys

import numpy as np


def label(line):
    """For each character of a line, newline included, the part that it belongs to."""
    before, number, sign, after = re.fullmatch(r"(\w+?)(\d?)([>?])([\w.]+)\n", line).groups()
    if sign == ">":                                     # copy and repeat
        return (["string"] * len(before) + ["number"] * len(number) + ["end of string"]
                + ["copy"] * len(after) + ["end of line"])
    if before[1].isdigit():                             # the edges of a graph
        pause, walk = ["pause"] * after.count("."), ["label", "node of the walk"]
        if after[1].isdigit():                          # path
            parts = ["start"] + walk * (len(after) // 2)
        else:                                           # way
            parts = ["start", "end"] + pause + walk * ((len(after) - 2 - len(pause)) // 2)
        return ["edges"] * len(before) + ["end of edges"] + parts + ["end of line"]
    if before[1].isupper():                             # recall
        return (["pairs"] * len(before) + ["end of pairs"]
                + ["key asked for", "its value"] * (len(after) // 2) + ["end of line"])
    return (["steps"] * len(before) + ["end of steps", "start"] + ["way round"] * (len(after) - 1)
            + ["end of line"])


def nodes(line):
    """The positions in a line of the nodes that follow from its edges."""
    return [t for t, part in enumerate(label(line)) if part == "node of the walk"]


def shares(lines, places, best):
    """How much of some lines is right: the share of the characters at places[b], positions in
    lines[b], that best[b] has, too, and the share of lines in which it has all of them. best[b][t]
    is the likeliest character at t, given the line before it as it is."""
    right = [[best[b][t] == line[t] for t in places[b]] for b, line in enumerate(lines)]
    return sum(map(sum, right)) / sum(map(len, right)), sum(map(all, right)) / len(right)


def baseline(line):
    """What to guess who reads a line's edges but not where a walk is: at each place the node to
    which most edges lead, of several the first."""
    targets = line.partition("?")[0][2::3]
    return collections.Counter(targets).most_common(1)[0][0] * len(line)


def is_shortest(line, way):
    """Whether a way, label and node in turn, is as short as that of the line, leads along the
    line's edges, and from its start to its end."""
    edges, _, (start, end, *rest) = line.rstrip("\n").partition("?")
    walk, steps = start + way, range(0, len(way), 2)
    known = {edges[i:i + 3] for i in range(0, len(edges), 3)}
    return (len(way) == len("".join(rest).lstrip(".")) and walk[-1] == end
            and all(walk[i:i + 3] in known for i in steps))


def load_script(path):
    """The script whose checkpoint this is, as a module."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    with np.load(path, allow_pickle=False) as archive:
        name = os.path.join(folder, f"{archive['model']}-numpy.py")
    spec = importlib.util.spec_from_file_location("script", name)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def score(script, run, lines):
    """Bits of each character, (longest line, lines); each line follows a newline, from zero."""
    S, newline = max(map(len, lines)), run.vocab.index("\n")
    targets = np.full((S, len(lines)), newline)
    for b, line in enumerate(lines):
        targets[:len(line), b] = script.encode(line, run.vocab, "the text")
    inputs = np.concatenate([np.full((1, len(lines)), newline), targets[:-1]])
    bits, state = np.empty(targets.shape), script.zero_state(run, len(lines))
    for t in range(0, S, 25):                           # windows: forward keeps all of one
        logits, state, _ = script.forward(run.params, inputs[t:t + 25], state)
        bits[t:t + 25] = script.cross_entropy(logits, targets[t:t + 25])[0] / math.log(2)
    return bits


def main(argv=None):
    """Run the command line; returns the exit status."""
    p = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0], allow_abbrev=False)
    p.add_argument("checkpoint")
    p.add_argument("text", help="as data/tasks.py writes it; characters that were not trained on")
    p.add_argument("--lines", type=int, default=2000, help="to look at (default 2000)")
    p.add_argument("--locations", metavar="N", help="of a DNC, if not as many as in training")
    args, flags = p.parse_known_args(argv)
    flags += ["--locations", args.locations] if args.locations else []
    try:
        script = load_script(args.checkpoint)
        run = script.begin(script.parse(["--load", args.checkpoint, "--iters", "0", *flags]))
        text = script.read_text(args.text, "utf-8", "the second argument")
        lines = text.splitlines(keepends=True)[:args.lines]
        names = [label(line) for line in lines if line.endswith("\n")]
        bits = score(script, run, lines[:len(names)])
    except Exception as e:
        message = " ".join(str(e.args[0] if e.args else e).split())
        print(f"parts.py: {message or 'this is no such text'}", file=sys.stderr)
        return 2
    by_part = {}
    for b, line in enumerate(names):
        for t, name in enumerate(line):
            by_part.setdefault(name, []).append(float(bits[t, b]))
    by_part["all"] = sum(by_part.values(), [])
    print("| part | characters | bits per character |\n|---|--:|--:|")
    for name, values in by_part.items():
        print(f"| {name} | {len(values):,} | {sum(values) / len(values):.4f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
