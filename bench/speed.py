#!/usr/bin/env python3
"""Characters per second of the scripts beside the same models in other libraries.

    pip install -r bench/requirements.txt
    python bench/speed.py                                    everything: ten minutes
    python bench/speed.py --models lstm --sizes 32/128/50    one row

    numpy      the script
    torch      PyTorch: nn.RNN and nn.LSTM, fused; the DNC eager
    jax        JAX: jit and lax.scan
    article    NumPy in double precision, everything in the time loop

All on one core (several: parallel/bench.py). race.py says how it is timed. Figures are medians of
the turns; × is the median of the ratios of the turns that belong together: how many times as fast
the script is.
"""
import argparse
import statistics

from race import FLAGS, PEERS, SIZES, race, sides


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--models", nargs="+", default=list(SIZES), choices=SIZES)
    p.add_argument("--sizes", nargs="+", metavar="SIZE", help="/".join(FLAGS))
    p.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    p.add_argument("--turns", type=int, default=7)
    p.add_argument("--seconds", type=float, default=1.0, help="of one turn (default 1)")
    args = p.parse_args()

    peers = [name for name in sides("rnn", args.peers) if name != "numpy"]
    print("| model | B/H/S (/N/W/R) | numpy, char/s |", *(f" {name} | × |" for name in peers),
          "\n|---|---|--:|" + "--:|--:|" * len(peers), sep="")
    for model in args.models:
        kind = SIZES[model][0].count("/")
        for size in [s for s in args.sizes or SIZES[model] if s.count("/") == kind]:
            names = sides(model, peers)
            results = race(model, size, names, args.turns, args.seconds)
            speeds = {name: [speed for speed, _ in results[name]] for name in names}
            row = f"| {model} | {size} | {statistics.median(speeds['numpy']):,.0f} |"
            for name in peers:
                if name in speeds:
                    ratios = [a / b for a, b in zip(speeds["numpy"], speeds[name])]
                    row += f" {statistics.median(speeds[name]):,.0f} |"
                    row += f" {statistics.median(ratios):.2f} |"
                else:
                    row += " – | – |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
