"""The one way to time in this folder: sides in turn, on the same cores, with equal losses.

A side is a script or the same model in another library. Each lives in a process of its own, on the
same cores, and only one works at a time: A B C A B C ..., so whatever else the machine does hits
all of them. An iteration goes from the text to the loss read back: window, forward, loss,
backward, Adagrad. All sides have the same text and windows, sizes, learning rate and precision
(single; the article's way: double). Imports and compilation are not timed.

Before it is timed, a peer must show the losses of the script on four windows, from the same
weights, with carried state, a stream that is reset, and an update after each window, so gradients
count, too. If it does not, the bench stops. Of three draws of weights the best counts: where two
usages of a DNC lie within rounding of each other, allocation may sort them either way.
"""
import importlib
import importlib.util
import math
import multiprocessing
import os
import pathlib
import re
import sys
import time

sys.path.append(os.path.dirname(os.path.abspath(__file__)))     # parallel/bench.py is elsewhere
from kernel import FLAGS, SIZES, command                        # noqa: E402, F401

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEERS = {"torch": ("torch", "peers_torch"), "jax": ("jax", "peers_jax"),    # side: (library, file)
         "article": ("numpy", "article_way")}
TOLERANCE = 1e-5                # of a loss, relative: single precision, after three updates


def sides(model, wanted):
    """The script and those of the wanted peers that have this model and are installed."""
    return ["numpy", *(name for name in wanted if importlib.util.find_spec(PEERS[name][0])
                       and (name, model) != ("article", "dnc"))]


def race(model, size, names, turns, seconds, *flags):
    """All sides in turn, on one core: {side: [(char/s, peak MiB) of each turn]}."""
    flags = ["--clip=0", *(f"--{flag}={value}" for flag, value in zip(FLAGS, size.split("/"))),
             *flags]                                    # the peers do not clip
    pin(1)                                              # what is started from here on inherits it
    runners = {"numpy": Side("numpy", model, 1, flags)}
    try:
        for name in names[1:]:
            runners[name] = Side(name, model, 1, flags)
            order = "usual" if (name, model) == ("torch", "lstm") else "losses"
            compare(name, runners[name].order("losses"), runners["numpy"].order(order))
        results = {name: [] for name in names}
        for turn in range(turns + 1):                   # the first one compiles and warms up
            for name, runner in runners.items():
                time.sleep(0.1)                         # threads of the side before may still spin
                answer = runner.order(seconds if turn else min(seconds, 0.2))
                if turn:
                    results[name].append(answer)
    finally:
        for runner in runners.values():
            runner.close()
    return results


def pin(threads, cores=sorted(getattr(os, "sched_getaffinity", lambda _: [])(0))):
    """Run on the first cores only; where the system cannot pin, anywhere."""
    if cores:
        os.sched_setaffinity(0, cores[:threads])


def compare(name, losses, expected):
    """End the bench if a side computes other losses."""
    worst = [max(abs(loss / other - 1) for loss, other in zip(*draw))
             for draw in zip(losses, expected)]
    if not min(worst) < TOLERANCE:
        raise command.Failure(f"{name} computes other losses: {losses} for {expected}")
    print(f"{name}: same losses, to {min(worst):.0e}", file=sys.stderr)


class Side:
    """A side in a process of its own, which sleeps between two orders."""

    def __init__(self, name, model, threads, flags):
        context = multiprocessing.get_context("spawn")
        self.name, (self.pipe, pipe) = name, context.Pipe()
        self.process = context.Process(target=serve, args=(pipe, name, model, threads, flags),
                                       daemon=True)
        self.process.start()
        pipe.close()

    def order(self, order):
        """Losses to compare, or what a turn of so many seconds gives."""
        try:
            self.pipe.send(order)
            return self.pipe.recv()
        except (EOFError, OSError):
            raise command.Failure(f"the process of {self.name} has ended")

    def close(self):
        self.pipe.close()
        self.process.join()


# In the process of a side -------------------------------------------------------------------------

def serve(pipe, name, model, threads, flags):
    """Answer orders until the pipe is closed. Nothing has imported NumPy before."""
    for variable in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS":
        os.environ[variable] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    racer = Racer(name, model, flags)
    with racer.script.np.errstate(all="ignore"):        # as in main() of the scripts
        while True:
            try:
                order = pipe.recv()
            except EOFError:
                return
            if isinstance(order, str):
                pipe.send(racer.losses(order == "usual"))
            else:
                pipe.send((racer.train(order), peak_memory()))


class Racer:
    """A side: the script's run, and the peer if it is one. Both read the text by the script."""

    def __init__(self, name, model, flags):
        self.script = command.load_model(model)
        self.args, self.run, self.text = self.script.begin(["--dropout=0", *flags])
        self.args.sizes = self.script.sizes(self.args)
        self.fresh = {key: p.copy() for key, p in self.run.params.items()}
        self.lr, self.peer, self.zero = self.args.lr, None, self.run.state
        if name != "numpy":
            peer = importlib.import_module(PEERS[name][1])
            self.peer = getattr(peer, model.upper())(self.args)
            self.text.ids = self.text.ids.astype(self.script.np.int64)      # as libraries index
            ones = self.script.np.ones(self.args.batchsize, self.fresh["by"].dtype)
            self.zero = {"kept": ones}                  # next_window puts 0 where a stream jumps
        self.load(self.fresh, 0, self.lr)

    def load(self, params, mem, lr):
        """Take these weights, this value for all accumulators, zero state."""
        run, np = self.run, self.script.np
        self.args.lr, run.iter, run.state = lr, 0, self.zero
        run.position = np.full(self.args.batchsize, len(self.text.ids))     # all streams jump
        if self.peer:
            return self.peer.load(params, mem, lr)
        run.params = {name: p.copy() for name, p in params.items()}
        run.mem = {name: np.full_like(p, mem) for name, p in params.items()}

    def iterate(self):
        """One iteration, from the text to the loss read back; returns it in bits per character."""
        if not self.peer:
            return self.script.iterate(self.args, self.run, self.text)
        inputs, targets, state, self.run.position = self.script.next_window(
            self.args, self.run, self.text)
        self.run.iter += 1
        return float(self.peer.learn(inputs, targets, state["kept"])) / math.log(2)

    def losses(self, usual):
        """Those of four windows, for three draws of weights.

        Weights are so large that each part of the model shows in the loss. Accumulators start at 1:
        a first step would be the sign of the gradient, often noise. Windows have at most 25 steps:
        over hundreds of them rounding grows.
        """
        own, S = getattr(self.script, "lstm_cell", None), self.args.seqlength
        self.script.lstm_cell = self.usual_cell if usual else own
        self.args.seqlength = min(25, S)
        losses = [self.four(self.script.np.random.default_rng(seed)) for seed in range(3)]
        self.script.lstm_cell, self.args.seqlength = own, S
        self.load(self.fresh, 0, self.lr)
        return losses

    def four(self, rng):
        """The losses of four windows from random weights."""
        weights = {name: rng.standard_normal(p.shape).astype(p.dtype) * p.shape[1] ** -0.5
                   * (1 if name in ("Whh", "Why", "bh", "by") else 4)
                   for name, p in self.fresh.items()}
        self.load(weights, 1, 0.01)
        losses = [self.iterate(), self.iterate()]
        self.run.position[0] = len(self.text.ids)       # the first stream jumps
        return [*losses, self.iterate(), self.iterate()]

    def usual_cell(self, a, c_):
        """c = g i + f c_,  h = o tanh(c): the cell of nn.LSTM in the place of the script's."""
        H, np = c_.shape[1], self.script.np
        i, o, f = (self.script.sigmoid(a[:, k * H:(k + 1) * H]) for k in range(3))
        g = np.tanh(a[:, 3 * H:])
        c = g * i + f * c_
        shown = np.tanh(c)

        def back(dh, dc):
            dc = dc + dh * o * (1 - shown * shown)
            return np.concatenate([dc * g * i * (1 - i), dh * shown * o * (1 - o),
                                   dc * c_ * f * (1 - f), dc * i * (1 - g * g)], axis=1), dc * f
        return o * shown, c, back

    def train(self, seconds):
        """Characters per second, after a moment that brings code and data back into the caches."""
        for limit in 0.05 * seconds, seconds:
            begin, iterations, spent = time.perf_counter(), 0, 0.0
            while spent < limit:
                self.iterate()
                iterations, spent = iterations + 1, time.perf_counter() - begin
        return iterations * self.args.batchsize * self.args.seqlength / spent


def peak_memory():
    """The most memory that this process has held, in MiB (Linux; nan elsewhere)."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return math.nan
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024
