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
import statistics

import kernel
from race import FLAGS, PEERS, SIZES, command, race, sides


def work(argv):
    """The command line: measure, a row for each size."""
    p = kernel.parser(__doc__)
    p.add_argument("--models", nargs="+", default=list(SIZES), choices=SIZES)
    p.add_argument("--sizes", nargs="+", metavar="SIZE", help="/".join(FLAGS))
    p.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    kernel.add_turns(p, 7, 1)
    args = p.parse_args(argv)
    rows = kernel.rows(args.models, args.sizes)
    kernel.choose(p, args)

    peers = [name for name in sides("rnn", args.peers) if name != "numpy"]
    print("| model | B/H/S (/N/W/R) | numpy, char/s |", *(f" {name} | × |" for name in peers),
          "\n|---|---|--:|" + "--:|--:|" * len(peers), sep="")
    for model, size in rows:
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
    command.leave(command.run("speed.py", work))
