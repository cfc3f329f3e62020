"""The article's way, as a baseline: RNN and LSTM in double precision, everything inside the time loop.

This is how the scripts would look if they were the equations and nothing else: characters are looked up one by one in a
dict, one-hot columns are filled by a Python loop over the batch, every step computes its projections, its output, its
softmax and its share of each weight gradient with products of its own, and the loss is summed character by character.
Shapes and names are those of the scripts: B streams as columns, (H, B); gates stacked i, o, f, g.
"""
import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Streams:
    """Windows of text, one stream after another, one character after another."""

    def __init__(self, text, vocab, batchsize, seqlength, jump):
        self.text, self.B, self.S, self.jump = text, batchsize, seqlength, jump
        self.number = {char: i for i, char in enumerate(vocab)}
        self.position = [len(text)] * batchsize

    def next(self):
        """Inputs and targets, (S, B) each, and the streams that have jumped."""
        inputs, targets, jumped = np.zeros((self.S, self.B), int), np.zeros((self.S, self.B), int), []
        for b in range(self.B):
            if self.position[b] + self.S >= len(self.text):
                self.position[b] = self.jump(b)
                jumped.append(b)
            p = self.position[b]
            inputs[:, b] = [self.number[char] for char in self.text[p:p + self.S]]
            targets[:, b] = [self.number[char] for char in self.text[p + 1:p + self.S + 1]]
            self.position[b] += self.S
        return inputs, targets, jumped


class Article:
    """What both models share: parameters, one-hot inputs, the loss, Adagrad."""

    Streams = Streams
    lr = 0.1

    def __init__(self, sizes):
        self.H, self.B = sizes["hidden"], sizes["batchsize"]

    def load(self, params, mem):
        """Take these weights, this value for the accumulators, and zero state."""
        self.params = {name: p.astype(np.float64) for name, p in params.items()}
        self.mem = {name: np.full(p.shape, float(mem)) for name, p in params.items()}
        self.h, self.c = np.zeros((self.H, self.B)), np.zeros((self.H, self.B))

    def reset(self, streams):
        self.h[:, streams] = self.c[:, streams] = 0

    def one_hot(self, ids):
        x = np.zeros((self.params["Wxh"].shape[1], self.B))
        for b in range(self.B):
            x[ids[b], b] = 1
        return x

    def output(self, h, targets):
        """The softmax of one step, and its loss in nats."""
        y = np.dot(self.params["Why"], h) + self.params["by"]
        p = np.exp(y - y.max(axis=0))
        p /= p.sum(axis=0)
        return p, sum(-np.log(p[targets[b], b]) for b in range(self.B))

    def output_backward(self, p, h, targets, d):
        """The gradient of one step's output layer; returns that of h."""
        dy = p.copy()
        for b in range(self.B):
            dy[targets[b], b] -= 1
        d["Why"] += np.dot(dy, h.T)
        d["by"] += dy.sum(axis=1, keepdims=True)
        return np.dot(self.params["Why"].T, dy)

    def hidden_backward(self, da, x, hprev, d):
        """The gradient of a = Wxh x + Whh hprev + bh of one step; returns that of hprev."""
        d["Wxh"] += np.dot(da, x.T)
        d["Whh"] += np.dot(da, hprev.T)
        d["bh"] += da.sum(axis=1, keepdims=True)
        return np.dot(self.params["Whh"].T, da)

    def adagrad(self, d):
        for name, p in self.params.items():
            self.mem[name] += d[name] * d[name]
            p -= self.lr * d[name] / np.sqrt(self.mem[name] + 1e-8)


class RNN(Article):
    def learn(self, inputs, targets):
        """One iteration on one window; returns its loss, the mean of the nats."""
        Wxh, Whh, bh = (self.params[name] for name in ("Wxh", "Whh", "bh"))
        S, loss = len(inputs), 0.0
        x, h, p = {}, {-1: self.h}, {}
        for t in range(S):
            x[t] = self.one_hot(inputs[t])
            h[t] = np.tanh(np.dot(Wxh, x[t]) + np.dot(Whh, h[t - 1]) + bh)
            p[t], nats = self.output(h[t], targets[t])
            loss += nats

        d = {name: np.zeros_like(value) for name, value in self.params.items()}
        dhnext = np.zeros_like(self.h)
        for t in reversed(range(S)):
            dh = self.output_backward(p[t], h[t], targets[t], d) + dhnext
            dhnext = self.hidden_backward(dh * (1 - h[t] * h[t]), x[t], h[t - 1], d)
        self.adagrad(d)
        self.h = h[S - 1]
        return loss / inputs.size


class LSTM(Article):
    def learn(self, inputs, targets):
        """One iteration on one window; returns its loss, the mean of the nats."""
        Wxh, Whh, bh = (self.params[name] for name in ("Wxh", "Whh", "bh"))
        S, H, loss = len(inputs), self.H, 0.0
        x, gates, h, c, p = {}, {}, {-1: self.h}, {-1: self.c}, {}
        for t in range(S):
            x[t] = self.one_hot(inputs[t])
            a = np.dot(Wxh, x[t]) + np.dot(Whh, h[t - 1]) + bh
            a[:3 * H] = sigmoid(a[:3 * H])
            a[3 * H:] = np.tanh(a[3 * H:])
            gates[t] = i, o, f, g = a[:H], a[H:2 * H], a[2 * H:3 * H], a[3 * H:]
            c[t] = np.tanh(g * i + f * c[t - 1])
            h[t] = o * c[t]
            p[t], nats = self.output(h[t], targets[t])
            loss += nats

        d = {name: np.zeros_like(value) for name, value in self.params.items()}
        dhnext, dcnext = np.zeros_like(self.h), np.zeros_like(self.c)
        for t in reversed(range(S)):
            i, o, f, g = gates[t]
            dh = self.output_backward(p[t], h[t], targets[t], d) + dhnext
            ds = (dh * o + dcnext) * (1 - c[t] * c[t])
            da = np.zeros((4 * H, self.B))
            da[:H] = ds * g * i * (1 - i)
            da[H:2 * H] = dh * c[t] * o * (1 - o)
            da[2 * H:3 * H] = ds * c[t - 1] * f * (1 - f)
            da[3 * H:] = ds * i * (1 - g * g)
            dcnext = ds * f
            dhnext = self.hidden_backward(da, x[t], h[t - 1], d)
        self.adagrad(d)
        self.h, self.c = h[S - 1], c[S - 1]
        return loss / inputs.size


SIDES = {("article", "rnn"): RNN, ("article", "lstm"): LSTM}
