"""What each part of a task's lines costs a network:   python data/parts.py my.npz new.txt

A line that data/tasks.py writes has parts that must be random, and parts that a memory can know:
the copy, the value of a key, the way round a ring. The table gives bits per character of each part,
over the first lines of the text. Each line is an episode of its own, from zero state, as the
networks trained with --reset '\\n' see it.

For the task path a second table says how much of the walks is right. A node is right if the network
finds it likeliest, given the line before it as it is; a walk if all of its nodes are. Beside that
stands a guess, always the node to which most edges of the line lead. --walks 6 takes the graph of
the first line alone, and all walks of 6 steps through it.
"""
import argparse
import collections
import itertools
import math
import os
import re
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import command                                                  # noqa: E402


STEPS = 5               # of a window; forward keeps all of them
MOST = 100_000          # walks; more take minutes and gigabytes


def label(line):
    """For each character of a line, newline included, the part that it belongs to."""
    before, number, sign, after = re.fullmatch(r"(\w+?)(\d?)([>?])(\w+)\n", line).groups()
    if sign == ">":                                     # copy and repeat
        return (["string"] * len(before) + ["number"] * len(number) + ["end of string"]
                + ["copy"] * len(after) + ["end of line"])
    if before[1].isdigit():                             # the edges of a graph
        return (["edges"] * len(before) + ["end of edges", "start"]
                + ["label", "node of the walk"] * (len(after) // 2) + ["end of line"])
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


def all_walks(line, steps):
    """A line for each walk of so many steps through the graph of this line, from each node."""
    before = line.partition("?")[0]
    edges = [before[i:i + 3] for i in range(0, len(before), 3)]
    walks = sorted({edge[0] for edge in edges})
    for _ in range(steps):
        walks = [walk + edge[1:] for walk in walks for edge in edges if edge[0] == walk[-1]]
        if len(walks) > MOST:
            raise command.Failure(f"there are more than {MOST:,} walks: choose fewer --walks")
    return [f"{before}?{walk}\n" for walk in walks]


def read_lines(path, count):
    """The first lines of a text. A last one without an end is left out."""
    lines = command.read_text(path).splitlines(keepends=True)[:count]
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    for k, line in enumerate(lines, 1):
        try:
            known = len(label(line)) == len(line)
        except (AttributeError, IndexError):
            known = False
        if not known:
            raise command.Failure(f"{path}: line {k} is none that data/tasks.py writes: {line!r}")
    if not lines:
        raise command.Failure(f"{path} has no whole line")
    return lines


def batches(script, run, lines):
    """The lines in pieces, so short that their states take 4 MB."""
    state = sum(value.size for value in script.zero_state(run, 1).values())
    size = max(1, min(256, 10**6 // state))
    return [lines[k:k + size] for k in range(0, len(lines), size)]


def score(script, run, lines):
    """Bits of each character, a list for each line, and the characters that the network finds
    likeliest; each line follows a newline, from zero state."""
    np = script.np
    S, newline = max(map(len, lines)), script.encode("\n", run.vocab, "the text")[0]
    targets = np.full((S, len(lines)), newline, int)
    for b, line in enumerate(lines):
        targets[:len(line), b] = script.encode(line, run.vocab, "the text")
    inputs = np.concatenate([np.full((1, len(lines)), newline), targets[:-1]])
    bits, best, state = np.empty(targets.shape), [], script.zero_state(run, len(lines))
    for t in range(0, S, STEPS):
        y, state, _ = script.forward(run.params, inputs[t:t + STEPS], state)
        bits[t:t + STEPS] = script.cross_entropy(y, targets[t:t + STEPS])[0] / math.log(2)
        best += y.argmax(axis=2).tolist()
    if not np.isfinite(bits).all():
        raise command.Failure("on this text the network's numbers are not finite")
    return ([bits[:len(line), b].tolist() for b, line in enumerate(lines)],
            ["".join(run.vocab[k] for k in column[:len(line)])
             for column, line in zip(zip(*best), lines)])


def tables(script, run, lines):
    """Print what the parts cost, and how much of the walks is right, if there are any."""
    pieces, by_part = batches(script, run, lines), {}
    bits, best = map(lambda lists: sum(lists, []), zip(*(score(script, run, b) for b in pieces)))
    for name, value in zip(itertools.chain(*map(label, lines)), itertools.chain(*bits)):
        by_part.setdefault(name, []).append(value)
    by_part["all"] = list(itertools.chain(*bits))
    print("| part | characters | bits per character |\n|---|--:|--:|")
    for name, values in by_part.items():
        print(f"| {name} | {len(values):,} | {sum(values) / len(values):.4f} |")
    walks = [(line, guess) for line, guess in zip(lines, best) if nodes(line)]
    if walks:
        lines, best = zip(*walks)
        places = list(map(nodes, lines))
        print("\n| right | nodes | whole walks |\n|---|--:|--:|")
        for name, guess in ("the network", best), ("a guess", list(map(baseline, lines))):
            print("| {} | {:.2%} | {:.2%} |".format(name, *shares(lines, places, guess)))


def work(argv):
    """The command line: read, score, print."""
    p = command.Parser(prog="parts.py", formatter_class=argparse.RawDescriptionHelpFormatter,
                       description=(__doc__ or "").partition("\n\n")[2])
    p.add_argument("checkpoint", help="as the scripts' --save writes it; the best weights are used")
    p.add_argument("text", help="as data/tasks.py writes it; lines that were not trained on")
    p.add_argument("--lines", type=command.number(int, 1, 10**9), metavar="N", default=2000,
                   help="to look at (default 2000)")
    p.add_argument("--locations", metavar="N", help="of a DNC, if not as many as in training")
    p.add_argument("--walks", type=command.number(int, 1, 1000), metavar="STEPS",
                   help="instead of the lines: all walks of so many steps through the graph of the "
                   "first line, from each of its nodes")
    args = p.parse_args(argv)
    lines = read_lines(args.text, args.lines)
    if args.walks is not None:
        if not nodes(lines[0]):
            raise command.Failure(f"{args.text}: the first line has no graph to --walks through")
        lines = all_walks(lines[0], args.walks)
    flags = [f"--locations={args.locations}"] if args.locations is not None else []
    script, run = command.load_run(args.checkpoint, *flags)
    command.say(f"{args.checkpoint}: {script.MODEL}, the weights of iteration {run.iter:,}")
    print()
    with script.np.errstate(all="ignore"):              # score asks whether they are finite
        tables(script, run, lines)


def main(argv=None):
    """Run the command line; returns the exit status."""
    return command.run("parts.py", work, argv)


if __name__ == "__main__":
    command.leave(main())
