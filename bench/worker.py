"""One side of the race, in a process of its own: a script, or one of its peers.

    worker.py '{"side": "torch", "model": "lstm", "sizes": {"batchsize": 16, "hidden": 32, "seqlength": 25}, ...}'

speed.py and scaling.py start it with the number of threads in its environment and talk to it over pipes, a line of JSON
each way: "check" compares its losses with the script's, a number trains for that many seconds. Between two orders it
sleeps.
"""
import importlib
import importlib.util
import json
import math
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = {"article": "article_way", "torch": "peers_torch", "torch-cell": "peers_torch", "jax": "peers_jax"}


def load_script(model):
    """The script as a module; its name has a dash, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location(model, os.path.join(HERE, "..", f"{model}-numpy.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Script:
    """The script itself: its own iterate(), which is all that its train() does between two lines of progress."""

    def __init__(self, script, run, ids, workers, threads=1):
        self.script, self.run, self.ids, self.workers, self.windows = script, run, ids, workers, [None] * threads
        self.each = script.threaded_map(threads)
        self.nothing = script.zeros(script.state_shapes(run.batchsize, **run.sizes), run.dtype)

    def load(self, params, mem):
        """Take these weights, this value for the accumulators, and zero state."""
        run = self.run
        for name, p in params.items():
            run.params[name][:] = p
        run.mem.flat[:] = mem
        for value in run.state.values():
            value[:] = 0

    def reset(self, streams):
        for value in self.run.state.values():
            value[..., streams] = 0

    def iterate(self):
        """One iteration; returns its loss, the mean of the nats."""
        bpc, _ = self.script.iterate(self.run, self.ids, self.nothing, self.windows, self.workers, lambda: False, self.each)
        return bpc * math.log(2)

    def learn_at(self, position):
        """The same on windows that begin at these places."""
        self.run.position[:] = position
        return self.iterate()


class Streams:
    """For the peers: the same windows at the same places, and the streams that have jumped, whose state is to be reset."""

    def __init__(self, ids, batchsize, seqlength, jump):
        self.ids, self.S, self.jump = ids, seqlength, jump
        self.position, self.steps = np.full(batchsize, len(ids)), np.arange(seqlength + 1)[:, None]

    def next(self):
        jumped = np.flatnonzero(self.position + self.S >= len(self.ids))
        for b in jumped:
            self.position[b] = self.jump(b)
        window = self.ids[self.position + self.steps]
        self.position += self.S
        return window[:-1], window[1:], jumped


def usual_lstm(params, windows, batchsize):
    """Losses of the usual LSTM, h = o tanh(c), c = g i + f c, in double precision: what nn.LSTM is checked against."""
    def sigmoid(z):
        return 1 / (1 + np.exp(-z))
    Wxh, Whh, Why, bh, by = (params[name].astype(np.float64) for name in ("Wxh", "Whh", "Why", "bh", "by"))
    h = c = np.zeros((Why.shape[1], batchsize))
    for _, inputs, targets, streams in windows:
        keep = ~np.isin(np.arange(batchsize), streams)
        h, c, nats = h * keep, c * keep, 0.0
        for x, target in zip(inputs, targets):
            i, o, f, g = np.split(Wxh[:, x] + Whh @ h + bh, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            y = Why @ h + by
            nats += (np.log(np.exp(y).sum(axis=0)) - y[target, np.arange(batchsize)]).sum()
        yield nats / inputs.size


class Race:
    """A side at its start: the text, the script's run, the peer if it is one."""

    def __init__(self, side, model, sizes, data, streams):
        self.script = load_script(model)
        flags = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
        workers = self.script.Workers()
        self.run, ids, heldout = self.script.begin(self.script.parse(["--data", data, *flags]), workers)
        self.ids = ids[:heldout]
        self.fresh = {name: p.copy() for name, p in self.run.params.items()}
        self.reference = self.me = Script(self.script, self.run, self.ids, workers, streams)
        if side != "numpy":
            self.me = importlib.import_module(MODULES[side]).SIDES[side, model](sizes)
            self.me.lr = self.run.lr
            source = (self.ids.astype(np.int64),)
            if side == "article":
                source = ("".join(self.run.vocab[i] for i in self.ids), self.run.vocab)
            self.streams = getattr(self.me, "Streams", Streams)(*source, self.run.batchsize, self.run.seqlength, self.jump)
        self.me.load(self.fresh, 0)

    def jump(self, b):
        """A place at which stream b goes on, drawn as the script draws it."""
        run = self.run
        run.jumps[b] += 1
        return int(self.script.generator(run.seed, 1, b, run.jumps[b] - 1).integers(len(self.ids) - run.seqlength))

    def iterate(self):
        """One iteration, from the text to the loss read back."""
        if self.me is self.reference:
            return self.me.iterate()
        inputs, targets, jumped = self.streams.next()
        if len(jumped):
            self.me.reset(jumped)
        return self.me.learn(inputs, targets)

    def check(self):
        """Losses of four windows, of the script and of this side: trained, state carried, one stream reset in between.

        The weights are large enough for every part to show in the loss. Accumulators start at 1, so that the first
        step is not the sign of the gradient, which is noise where the gradient is 0.
        """
        run, rng = self.run, np.random.default_rng(1)
        scale = {name: p.shape[1] ** -0.5 * (1 if name in ("Whh", "Why", "bh", "by") else 4) for name, p in self.fresh.items()}
        weights = {name: (scale[name] * rng.standard_normal(p.shape)).astype(p.dtype) for name, p in self.fresh.items()}
        windows = []
        for n in range(4):
            at = rng.integers(len(self.ids) - run.seqlength, size=run.batchsize)
            text = self.ids[at + np.arange(run.seqlength + 1)[:, None]].astype(np.int64)
            windows.append((at, text[:-1], text[1:], np.array([0] if n == 2 else [], int)))

        def losses(side):
            side.load(weights, 1)
            for at, inputs, targets, streams in windows:
                if len(streams):
                    side.reset(streams)
                yield side.learn_at(at) if side is self.reference else side.learn(inputs, targets)
        usual, lr = getattr(self.me, "usual_cell", False), run.lr
        run.lr = 0.01                                       # ten times that, and rounding noise grows from window to window
        self.me.lr = 0 if usual else run.lr                 # the usual cell's equations are here as a forward pass only
        own = list(losses(self.me))
        reference = list(usual_lstm(weights, windows, run.batchsize) if usual else losses(self.reference))
        self.me.lr = run.lr = lr
        self.me.load(self.fresh, 0)
        return {"own": own, "reference": reference}

    def train(self, seconds):
        """Train for so many seconds, after a few iterations that fetch code and data back into the caches."""
        begin = time.perf_counter()
        while time.perf_counter() - begin < 0.05 * seconds:
            self.iterate()
        begin, iterations, spent = time.perf_counter(), 0, 0.0
        while spent < seconds:
            self.iterate()
            iterations += 1
            spent = time.perf_counter() - begin
        return {"iterations": iterations, "seconds": spent, "speed": iterations * self.run.batchsize * self.run.seqlength / spent}


def peak_memory():
    """The most memory that this process has held, in MiB."""
    try:
        with open("/proc/self/status") as status:           # not ru_maxrss, which counts the parent's before exec
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main():
    orders = json.loads(sys.argv[1])
    threads, streams = orders.pop("threads"), orders.pop("streams")
    if hasattr(os, "sched_setaffinity"):                    # before the imports: libraries count the cores they may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    global np
    import numpy as np
    if orders["side"].startswith("torch"):
        import torch
        torch.set_num_threads(threads)

    answers, sys.stdout = sys.stdout, sys.stderr            # the pipe is for answers only
    race = Race(streams=streams, **orders)
    cpu = None                                              # processor time at the end of the last order
    with np.errstate(all="ignore"):                         # as the scripts do; they look at the numbers themselves
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            idle = 0 if cpu is None else time.process_time() - cpu
            answer = race.check() if order == "check" else race.train(order)
            print(json.dumps({**answer, "idle": idle, "peak": peak_memory()}), file=answers, flush=True)
            cpu = time.process_time()


if __name__ == "__main__":
    main()
