#!/usr/bin/env python3
"""Where does the time of an iteration go, and how far is it from what its matrix products alone take?

    python bench/parts.py                                     the sizes of speed.py, two minutes on an idle machine
    python bench/parts.py --models lstm --markdown parts.md

products   the matrix products of an iteration and nothing else, with the same shapes, on arrays made for it: the floor
calls      the same iteration with one stream, one unit, one location ...: what remains is the cost of calling NumPy
rest       what is left: element-wise work and copies, which is reading and writing memory
window ... adagrad   the same time again, by the functions that an iteration calls

All take turns; the figures are medians, in ms. One thread, unless the environment says otherwise.
"""
import argparse
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")          # as the scripts do, above the import
os.environ.setdefault("MKL_NUM_THREADS", "1")
import numpy as np

from speed import DATA, FLAGS, SIZES
from worker import load_script

M = 62                                                      # characters in the story's vocabulary


def products(model, sizes):
    """(how often, shapes of one product) for an iteration."""
    B, H, S, N, W, R = (sizes.get(name, 0) for name in FLAGS)
    gates, both = (H if model == "rnn" else 4 * H), H + R * W
    each = [(S, (B, both), (both, gates)), (S, (B, gates), (gates, both)), (1, (gates, S * B), (S * B, both)),     # recurrence; its weights
            (1, (M, both), (both, S * B)), (1, (M, S * B), (S * B, both)), (1, (S * B, M), (M, both))]              # output
    if model == "dnc":
        K, interface = R + 1, (R + 3) * W + 5 * R + 3
        each += [(S, (interface, H), (H, B)), (S, (B, interface), (interface, H)), (1, (interface, S * B), (S * B, H)),
                 (S, (2, B, N, 2), (2, B, 2, W)), (S, (2, B, N, 2), (2, B, 2, N)),              # fade_and_add, and its backward pass
                 (S, (2, B, 2, N), (2, B, N, W)), (S, (2, B, 2, N), (2, B, N, N)),
                 (S, (2, B, N, W), (2, B, W, 1)), (S, (2, B, N, N), (2, B, N, 1)), (S, (B, N, 2), (B, 2, W)), (S, (B, N, 2), (B, 2, N)),
                 (2 * S, (B, K, W), (B, W, N)), (4 * S, (B, R, N), (B, N, N)), (S, (B, R, N), (B, N, W)),   # content, links, reading
                 (S, (B, R, W), (B, W, N)), (S, (B, K, N), (B, N, W)),
                 (S, (B, N, 2 * R), (B, 2 * R, N)), (S, (B, N, R + K), (B, R + K, W))]
    return each


def floor(model, sizes):
    """A function that computes all these products."""
    rng = np.random.default_rng(1)
    work = []
    for times, left, right in products(model, sizes):
        a, b = (rng.standard_normal(shape).astype(np.float32) for shape in (left, right))
        work.append((times, np.dot if a.ndim == 2 else np.matmul, a, b, a @ b))

    def run():
        for times, product, a, b, out in work:
            for _ in range(times):
                product(a, b, out=out)
    return run


class Iteration:
    """An iteration of a script at these sizes, in its parts."""

    def __init__(self, model, sizes, data):
        self.script = load_script(model)
        flags = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
        self.workers = self.script.Workers()
        self.run, ids, heldout = self.script.begin(self.script.parse(["--data", data, "--lr", "0.001", *flags]), self.workers)
        self.ids, self.windows, self.window = ids[:heldout], [None], None
        self.nothing = self.script.zeros(self.script.state_shapes(self.run.batchsize, **self.run.sizes), self.run.dtype)

    def whole(self):
        self.script.iterate(self.run, self.ids, self.nothing, self.windows, self.workers, lambda: False)

    def parts(self):
        """{part: seconds} of one iteration."""
        s, run, times = self.script, self.run, [time.perf_counter()]

        def lap(result):
            times.append(time.perf_counter())
            return result
        inputs, targets = lap(s.next_window(self.ids, run, run.seqlength))
        logits, run.state, self.window = lap(s.forward(run.params, inputs, run.state, self.window))
        _, dlogits = lap(s.cross_entropy(logits, targets))
        grads, _ = lap(s.backward(run.params, self.window, dlogits, self.nothing))
        lap(s.adagrad(run.params.flat, grads.flat, run.mem.flat, run.lr))
        return dict(zip(("window", "forward", "loss", "backward", "adagrad"), np.diff(times).tolist()))


def measure(model, sizes, args):
    """Medians of all, in ms."""
    large = Iteration(model, sizes, args.data)
    tiny = Iteration(model, {name: value if name == "seqlength" else 1 for name, value in sizes.items()}, args.data)
    times, work = {}, {"iteration": large.whole, "products": floor(model, sizes), "calls": tiny.whole}
    begin = time.perf_counter()
    while time.perf_counter() - begin < args.seconds or len(times.get("iteration", ())) < 5:
        for name, function in work.items():
            start = time.perf_counter()
            function()
            times.setdefault(name, []).append(time.perf_counter() - start)
        for name, value in large.parts().items():
            times.setdefault(name, []).append(value)
    return {name: 1e3 * statistics.median(values[len(values) // 10:]) for name, values in times.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    p.add_argument("--seconds", type=float, default=10.0, help="for each line of the table (default 10)")
    p.add_argument("--data", metavar="FILE", default=DATA, help="text to learn (default: data/gull-rock.txt)")
    p.add_argument("--markdown", metavar="FILE", help="write the table here")
    args = p.parse_args()

    parts = ["window", "forward", "loss", "backward", "adagrad"]
    lines = ["| model | B/H/S (/N/W/R) | iteration | products | % | GFLOP/s | calls | rest | " + " | ".join(parts) + " |",
             "|---|---" + "|--:" * (6 + len(parts)) + "|"]
    print("\n".join(lines))
    for model in args.models:
        for size in SIZES[model]:
            sizes = dict(zip(FLAGS, map(int, size.split("/"))))
            with np.errstate(all="ignore"):
                ms = measure(model, sizes, args)
            flop = sum(times * 2 * np.prod(left, dtype=float) * right[-1] for times, left, right in products(model, sizes))
            rest = ms["iteration"] - ms["products"] - ms["calls"]
            lines.append(f"| {model} | {size} | {ms['iteration']:.2f} | {ms['products']:.2f} | {100 * ms['products'] / ms['iteration']:.0f} | "
                         f"{flop / ms['products'] / 1e6:.0f} | {ms['calls']:.2f} | {rest:.2f} | "
                         + " | ".join(f"{ms[part]:.2f}" for part in parts) + " |")
            print(lines[-1], flush=True)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
