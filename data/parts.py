"""What each part of a task's lines costs a network:   python data/parts.py my.npz new.txt

A line that data/tasks.py writes has parts that must be random, and parts that a memory can know:
the copy, the value of a key, the way round a ring. The table gives bits per character of each part,
over the first lines of the text. Each line is an episode of its own, from zero state, as the
networks trained with --reset '\\n' see it. Further flags go to the script.
"""
import argparse
import importlib.util
import math
import os
import re
import sys

import numpy as np


def label(line):
    """For each character of a line, newline included, the part that it belongs to."""
    before, number, sign, after = re.fullmatch(r"(\w+?)(\d?)([>?])(\w+)\n", line).groups()
    if sign == ">":                                     # copy and repeat
        return (["string"] * len(before) + ["number"] * len(number) + ["end of string"]
                + ["copy"] * len(after) + ["end of line"])
    if before[1].isdigit():                             # path
        return (["edges"] * len(before) + ["end of edges", "start"]
                + ["label", "node of the walk"] * (len(after) // 2) + ["end of line"])
    if before[1].isupper():                             # recall
        return (["pairs"] * len(before) + ["end of pairs"]
                + ["key asked for", "its value"] * (len(after) // 2) + ["end of line"])
    return (["steps"] * len(before) + ["end of steps", "start"] + ["way round"] * (len(after) - 1)
            + ["end of line"])


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
