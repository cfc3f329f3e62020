#!/usr/bin/env python3
"""Held-out bits per character against seconds: the scripts, PyTorch, the article's way, nanoGPT.

    python bench/learning.py                                        the story, a minute each
    python bench/learning.py --data data/tinyshakespeare.txt --val 0.1 --seconds 144 \
        --nanogpt ../nanoGPT                                        and nanoGPT's own command

Each side runs alone, on one core, with its usual settings: the scripts with their defaults;
nn.LSTM of the same hidden size with Adam at char-rnn's rate; the article's equations, weights of
0.01 and Adagrad in double precision; nanoGPT (a prepared clone of it) with what its README suggests
for a CPU. All hold out the end of the text. Seconds are wall-clock time from the first line or
iteration on, checks included. A side that has several seeds shows their mean.
"""
import importlib.util
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

for variable in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS":
    os.environ[variable] = "1"

import numpy as np                                              # noqa: E402

import kernel                                                   # noqa: E402
import race                                                     # noqa: E402
from kernel import command                                      # noqa: E402

PNG = pathlib.Path(__file__).with_suffix(".png")
COLOURS = {"rnn": "#e69f00", "lstm": "#0072b2", "dnc": "#d55e00", "nn.LSTM, Adam": "#009e73",
           "article's way": "#56b4e9", "nanoGPT": "#000000"}
NANOGPT = ("train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 "
           "--log_interval=1 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 "
           "--max_iters=2000 --lr_decay_iters=2000 --dropout=0.0").split()      # of its README


def script(model, args, seed):
    """[(seconds, held-out BPC)] of a script with its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        flags = [f"--timelimit={args.seconds}", f"--seed={seed}", f"--fname={log}",
                 "--check_interval=250", "--sample_length=0", *args.flags]
        done = subprocess.run([sys.executable, race.ROOT / f"{model}-numpy.py", *flags],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise command.Failure(done.stderr)
        rows = np.genfromtxt(log, ndmin=2)
    return [(seconds, bpc) for _, seconds, _, bpc, _ in rows if bpc == bpc]


def article(args, seed):
    """The same for the article's way, scored by the script."""
    racer = race.Racer("article", "lstm", [f"--seed={seed}", "--lr=0.1", "--init=0",
                                           "--batchsize=16", *args.flags])
    checks, begin = [], time.perf_counter()
    racer.run.params = racer.peer.params
    while not checks or checks[-1][0] < args.seconds:
        while time.perf_counter() - begin < args.seconds * (len(checks) + 1) / 20:
            racer.iterate()
        bpc = racer.script.score(racer.run, racer.text)
        checks.append((time.perf_counter() - begin, bpc))
    return checks


def torch_lstm(args, seed):
    """The same for nn.LSTM and Adam."""
    import torch
    from torch import nn
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    racer = race.Racer("numpy", "lstm", args.flags)
    ids, tail = torch.from_numpy(racer.text.ids.astype(np.int64)), racer.text.tail
    V, H, B, S = len(racer.text.vocab), racer.args.hidden, 32, 50
    embed, lstm, head = torch.eye(V), nn.LSTM(V, H), nn.Linear(H, V)
    parameters = [*lstm.parameters(), *head.parameters()]
    adam = torch.optim.Adam(parameters, lr=2e-3)
    text = ids[:tail // B * B].view(B, -1).T                    # streams side by side
    heldout = ids[tail - 1:tail - 1 + (len(ids) - tail) // 64 * 64 + 1]
    heldout = heldout[:-1].view(64, -1).T, heldout[1:].view(64, -1).T

    def loss(inputs, targets, state):
        h, state = lstm(embed[inputs], state)
        return nn.functional.cross_entropy(head(h).flatten(0, 1), targets.flatten()), state

    checks, begin, at, state = [], time.perf_counter(), 0, None
    while not checks or checks[-1][0] < args.seconds:
        while time.perf_counter() - begin < args.seconds * (len(checks) + 1) / 20:
            if at + S >= len(text):
                at, state = 0, None
            nats, state = loss(text[at:at + S], text[at + 1:at + S + 1], state)
            state, at = tuple(value.detach() for value in state), at + S
            adam.zero_grad()
            nats.backward()
            nn.utils.clip_grad_norm_(parameters, 5)
            adam.step()
        with torch.no_grad():
            bpc = loss(*heldout, None)[0].item() / np.log(2)
        checks.append((time.perf_counter() - begin, bpc))
    return checks


def nanogpt(args, seed):
    """The same for the clone of nanoGPT, which prints its held-out loss every 250 iterations."""
    process = subprocess.Popen([sys.executable, "-u", *NANOGPT], cwd=args.nanogpt, text=True,
                               stdout=subprocess.PIPE)
    checks, begin = [], None
    for line in process.stdout:
        begin = begin or (line.startswith("step 0:") and time.perf_counter())
        if found := re.match(r"step .* val loss (\S+)", line):
            checks.append((time.perf_counter() - begin, float(found[1]) / np.log(2)))
    return checks


def check(args):
    """Whether all that is asked for can be measured and drawn, before anything is."""
    kernel.check_picture(args.png)
    kernel.pin(args.core)
    _, _, text = command.load_model("rnn").begin(args.flags)
    if text.heldout < 2000 or text.tail < 2000:
        raise command.Failure(f"--val {args.val}: {text.heldout:,} characters are held out, "
                              f"{text.tail:,} are left; needed are 2,000 each")
    if "nn.LSTM, Adam" in args.sides and not importlib.util.find_spec("torch"):
        raise command.Failure("nn.LSTM, Adam: torch is not installed; name other --sides")
    if args.nanogpt:
        own = pathlib.Path(args.nanogpt, "data/shakespeare_char/input.txt")
        data = pathlib.Path(args.data or "")
        if not own.is_file() or not data.is_file() or own.read_bytes() != data.read_bytes():
            raise command.Failure(f"--nanogpt {args.nanogpt}: {own} is not the text of --data")


def work(argv):
    """The command line: measure, a row for each side, and draw."""
    p = kernel.parser(__doc__)
    p.add_argument("--data", help="default: the story")
    p.add_argument("--val", type=command.number(float, 0, 0.99), default=0.05)
    p.add_argument("--seconds", type=command.number(float, 0.1, 10**5), default=60)
    p.add_argument("--seeds", type=command.number(int, 0, 2**62), nargs="+", default=[1, 2, 3])
    p.add_argument("--sides", nargs="+", default=list(COLOURS)[:-1], choices=list(COLOURS)[:-1])
    p.add_argument("--nanogpt", help="folder of a clone with its Shakespeare prepared")
    p.add_argument("--core", type=int, default=kernel.FIRST)
    p.add_argument("--png", default=PNG, help="draw it here; '': no picture")
    args = p.parse_args(argv)
    args.flags = [f"--val={args.val}", *[f"--data={args.data}"] * bool(args.data)]
    check(args)
    kernel.choose(p, args)

    times, results = [args.seconds * k / 4 for k in (1, 2, 3, 4)], {}
    print("| side | seeds |", *(f" {t:.0f} s |" for t in times), " best |\n|---|--:|",
          "--:|" * 5, sep="")
    for side in args.sides + ["nanoGPT"] * bool(args.nanogpt):
        run = {"nn.LSTM, Adam": torch_lstm, "article's way": article, "nanoGPT": nanogpt}.get(
            side, lambda *rest: script(side, *rest))
        seeds = args.seeds[:1] if side == "nanoGPT" else args.seeds
        results[side] = [run(args, seed) for seed in seeds]
        cells = [[([np.nan] + [bpc for s, bpc in checks if s <= t * 1.05])[-1]
                  for checks in results[side]] for t in times]
        cells.append([min(bpc for _, bpc in checks) for checks in results[side]])
        print(f"| {side} | {len(seeds)} |", *(f" {statistics.mean(c):.3f} |" for c in cells),
              sep="", flush=True)                       # nan: before the first check
    if args.png:
        draw(results, args)


def draw(results, args):
    """Held-out BPC against seconds, a line for each seed."""
    from matplotlib.figure import Figure
    figure = Figure((8, 4), layout="constrained")
    ax = figure.subplots()
    for side, runs in results.items():
        for k, checks in enumerate(runs):
            ax.plot(*zip(*checks), color=COLOURS[side], linewidth=1.2, label=side if not k else "")
    best = min(bpc for runs in results.values() for checks in runs for _, bpc in checks)
    ax.set(title=f"One core, {os.path.basename(args.data or 'the story')}: held-out BPC",
           xlabel="wall-clock time, s", ylabel="held-out bits per character",
           ylim=(best - 0.05, best + 1.5), xlim=(0, 1.05 * args.seconds))
    ax.grid(linewidth=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper")         # inside it would cover curves
    with command.whole_file(args.png) as name:
        figure.savefig(name, dpi=110)


if __name__ == "__main__":
    command.leave(command.run("learning.py", work))
