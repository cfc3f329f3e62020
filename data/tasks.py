"""Write a text that only a memory can predict:   python data/tasks.py TASK --out FILE

Each line is a small task, drawn at random:

    copy      hgfa>hgfa             a string, and the same again
    repeat    hgf3>hgfhgfhgf        a string, a number, and the string as many times
    recall    bQfAmK?mKbQmK         pairs of a key and a value, keys all different; then keys
                                    of the line again, each with its value
    ring      bcabca?cabc           the steps of a ring (from, to) in random order; then a start
                                    and the way all round
    path      b2ca1cb1bc2cc1a?b2c1a the edges of a random graph (from, label, to) in random order;
              (here 3 nodes, 2 labels) then a start and a walk, label and node in turn

What such a text costs at least is known. What is drawn costs the best predictor its entropy: a
letter out of A costs log2 A bits, the length of a string log2 of the number of lengths, and so on.
The rest, if remembered, costs nothing. The floor, printed on standard error, is the quotient of the
expected bits and characters of a line, its newline included: the bits per character (BPC) of a
perfect predictor on a long text of this kind.

Exit status: 0 done, 2 a wrong flag or the text cannot be written (one line says why), 130 Ctrl-C,
141 closed pipe.
"""
import argparse
import math
import os
import random
import string
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import command                                                  # noqa: E402

KEYS, VALUES, LABELS = string.ascii_lowercase, string.ascii_uppercase, "123456789"
PIECE = 10_000          # lines between two writes


def copy(rng, n, args):
    """A line of n letters and their copy."""
    word = "".join(rng.choices(KEYS[:args.letters], k=n))
    return f"{word}>{word}\n"


def copy_price(n, args):
    """The expected bits and characters of a line of n letters."""
    return n * math.log2(args.letters), 2 * n + 2


def repeat(rng, n, args):
    """A line of n letters, and up to args.times copies."""
    word, times = "".join(rng.choices(KEYS[:args.letters], k=n)), rng.randint(1, args.times)
    return f"{word}{times}>{word * times}\n"


def repeat_price(n, args):
    return n * math.log2(args.letters) + math.log2(args.times), n + 2 + n * (1 + args.times) / 2 + 1


def recall(rng, n, args):
    """A line of n pairs, and args.queries of them again (0: n), each drawn from all n; with
    args.once each pair once again."""
    keys, values = rng.sample(KEYS[:args.letters], n), rng.choices(VALUES[:args.letters], k=n)
    pairs = list(map("".join, zip(keys, values)))
    again = rng.sample(pairs, n) if args.once else rng.choices(pairs, k=args.queries or n)
    return f"{''.join(pairs)}?{''.join(again)}\n"


def recall_price(n, args):
    queries = args.queries or n
    keys = sum(math.log2(args.letters - i) for i in range(n))   # a key is none of those before
    asked = math.log2(math.factorial(n)) if args.once else queries * math.log2(n)
    return keys + n * math.log2(args.letters) + asked, 2 * n + 1 + 2 * queries + 1


def ring(rng, n, args):
    """A line of a ring of n nodes: its n steps, and n of them again, one after another."""
    nodes = rng.sample(KEYS[:args.letters], n)
    start, steps = rng.randrange(n), [a + b for a, b in zip(nodes, nodes[1:] + nodes[:1])]
    way = "".join(nodes[start:] + nodes[:start])
    rng.shuffle(steps)
    return f"{''.join(steps)}?{way}{nodes[start]}\n"


def ring_price(n, args):
    nodes = sum(math.log2(args.letters - i) for i in range(n))
    return nodes + math.log2(math.factorial(n - 1)) + math.log2(n), 3 * n + 3


def graph(rng, n, args):
    """A random graph of n nodes, {node: {label: node}}, and a text of its edges in random order.
    Each node has an edge for args.edges of the labels (0: for all), and an edge leads to any node.

    Nodes lack labels, but all the same number: so a step of a walk always costs log2 edges bits.
    Were that number random, too, a walk would cost what its nodes have, and since it comes back
    more often to nodes of few edges, that has no closed form."""
    nodes, labels = rng.sample(KEYS[:args.letters], n), LABELS[:args.labels]
    k = args.edges or args.labels
    leads = {a: {label: rng.choice(nodes) for label in rng.sample(labels, k)} for a in nodes}
    edges = [a + label + b for a in nodes for label, b in leads[a].items()]
    rng.shuffle(edges)
    return leads, "".join(edges)


def path(rng, n, args):
    """A line of a graph of n nodes, a start, and a walk of args.least (0: as many) to args.steps
    steps."""
    leads, line = graph(rng, n, args)
    node = rng.choice(list(leads))
    line += "?" + node
    for _ in range(rng.randint(args.least or args.steps, args.steps)):
        label, node = rng.choice(list(leads[node].items()))
        line += label + node
    return line + "\n"


def path_price(n, args):
    k, least = args.edges or args.labels, args.least or args.steps
    edges, steps = n * k, (least + args.steps) / 2
    graphs = (math.log2(math.comb(args.letters, n)) + n * math.log2(math.comb(args.labels, k))
              + edges * math.log2(n) + math.log2(math.factorial(edges)))
    walk = math.log2(n) + math.log2(args.steps + 1 - least) + steps * math.log2(k)
    return graphs + walk, 3 * edges + 2 + 2 * steps + 1


TASKS = {"copy": (copy, copy_price), "repeat": (repeat, repeat_price),
         "recall": (recall, recall_price), "ring": (ring, ring_price), "path": (path, path_price)}


def floor(args):
    """The bits per character that the best predictor pays: the entropy rate of the text."""
    lengths = range(args.shortest, args.longest + 1)
    bits, characters = map(sum, zip(*(TASKS[args.task][1](n, args) for n in lengths)))
    return (bits + len(lengths) * math.log2(len(lengths))) / characters


def lines(args):
    """Lines of the task without end; the lengths of strings (numbers of pairs) are drawn evenly."""
    rng, line = random.Random(args.seed), TASKS[args.task][0]
    while True:
        yield line(rng, rng.randint(args.shortest, args.longest), args)


def write(args, file):
    """Whole lines, until there are args.size characters; returns how many of both."""
    count = characters = 0
    piece, more = [], lines(args)
    while characters < args.size:
        piece.append(next(more))
        count, characters = count + 1, characters + len(piece[-1])
        if len(piece) == PIECE or characters >= args.size:
            file.write("".join(piece))
            piece.clear()
    file.flush()
    return count, characters


def write_new(args):
    """The same to the file args.out, which may not exist (or is a device, or a pipe). An error
    takes away what was begun."""
    device = os.path.exists(args.out) and not os.path.isfile(args.out)
    try:
        file = open(args.out, "w" if device else "x", encoding="ascii", newline="\n")
    except FileExistsError:
        raise command.Failure(f"{args.out} exists; remove it, or name another file with --out")
    try:
        with file:
            return write(args, file)
    except BaseException:
        if not device:
            os.remove(args.out)
        raise


def parse(argv):
    """The command line, and whether its numbers go together."""
    p = command.Parser(prog="tasks.py", formatter_class=argparse.RawDescriptionHelpFormatter,
                       description=(__doc__ or "").partition("\n\n")[2].rpartition("\n\n")[0])
    p.add_argument("task", metavar="TASK", choices=TASKS, help=" or ".join(TASKS))
    for name, low, high, default, meaning in (
            ("shortest", 1, 1000, 1, "letters, pairs or nodes of the shortest line"),
            ("longest", 1, 1000, 8, "letters, pairs or nodes of the longest line"),
            ("letters", 1, 26, 26, "how many different letters"),
            ("times", 1, 9, 3, "repeat: copies at most"),
            ("queries", 0, 1000, 0, "recall: keys that are asked for; 0: as many as pairs"),
            ("labels", 1, 9, 2, "path: how many different labels"),
            ("edges", 0, 9, 0, "path: edges of each node; 0: as many as labels"),
            ("least", 0, 1000, 0, "path: steps of the shortest walk; 0: as many as --steps"),
            ("steps", 1, 1000, 6, "path: steps of the longest walk"),
            ("size", 1, 10**10, 10_000_000, "characters, up to the next end of a line"),
            ("seed", 0, 2**62, 1, "of all that is drawn")):
        p.add_argument(f"--{name}", type=command.number(int, low, high), metavar="N",
                       default=default, help=f"{meaning} (default {default})")
    p.add_argument("--once", action="store_true",
                   help="recall: each key is asked for once, in random order")
    p.add_argument("--out", metavar="FILE", help="the text (default: standard output)")
    args = p.parse_args(argv)
    if args.task in ("recall", "ring", "path") and args.longest > args.letters:
        raise command.Failure(f"--longest {args.longest} pairs or nodes need as many different "
                              f"letters, and --letters is {args.letters}")
    for less, more in (("shortest", "longest"), ("edges", "labels"), ("least", "steps")):
        if getattr(args, less) > getattr(args, more):
            raise command.Failure(f"--{less} {getattr(args, less)} is more than --{more} "
                                  f"{getattr(args, more)}")
    if args.once and args.queries:
        raise command.Failure("--once asks for as many keys as there are: it does not go with "
                              "--queries")
    return args


def work(argv):
    """The command line: write the text, and say what it is."""
    args = parse(argv)
    if args.out:
        count, characters = write_new(args)
    elif sys.stdout is None:
        raise command.Failure("standard output is closed: name a file with --out FILE")
    else:
        count, characters = write(args, sys.stdout)
    if sys.stderr:
        command.say(f"{args.task}: {count:,} lines, {characters:,} characters; "
                    f"floor {floor(args):.4f} bits per character", file=sys.stderr)


def main(argv=None):
    """Run the command line (default: sys.argv's) and return the exit status."""
    return command.run("tasks.py", work, argv)


if __name__ == "__main__":
    command.leave(main())
