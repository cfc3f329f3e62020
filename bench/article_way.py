"""The article's way, as a baseline: RNN and LSTM in double precision, everything in the time loop.

This is how the scripts would look if they were the equations and nothing else: one-hot columns are
filled by a Python loop over the batch; each step computes its projections, its output, its softmax
and its share of each weight gradient by products of its own; the loss is summed character by
character. Streams are columns, (H, B); the gates' rows are i, o, f, g.
"""
import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Article:
    """What both models share: parameters, one-hot inputs, the loss, Adagrad."""

    def __init__(self, args):
        self.H, self.B = args.hidden, args.batchsize

    def load(self, params, mem, lr):
        """Take these weights, this value for all accumulators, zero state."""
        self.lr = lr
        self.params = {name: p.astype(np.float64) for name, p in params.items()}
        self.mem = {name: np.full(p.shape, float(mem)) for name, p in params.items()}
        self.h, self.c = np.zeros((self.H, self.B)), np.zeros((self.H, self.B))

    def learn(self, inputs, targets, kept):
        """One iteration on a window (S, B); returns its loss in nats per character."""
        self.h, self.c = self.h * kept, self.c * kept
        d = {name: np.zeros_like(p) for name, p in self.params.items()}
        loss = self.window(inputs, targets, d)
        for name, p in self.params.items():
            self.mem[name] += d[name] * d[name]
            p -= self.lr * d[name] / np.sqrt(self.mem[name] + 1e-8)
        return loss / inputs.size

    def projection(self, ids, h):
        """One-hot x, and Wxh x + Whh h + bh."""
        x = np.zeros((self.params["Wxh"].shape[1], self.B))
        for b in range(self.B):
            x[ids[b], b] = 1
        return x, np.dot(self.params["Wxh"], x) + np.dot(self.params["Whh"], h) + self.params["bh"]

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

    def projection_backward(self, da, x, h, d):
        """The gradient of one step's projection; returns that of h."""
        d["Wxh"] += np.dot(da, x.T)
        d["Whh"] += np.dot(da, h.T)
        d["bh"] += da.sum(axis=1, keepdims=True)
        return np.dot(self.params["Whh"].T, da)


class RNN(Article):
    def window(self, inputs, targets, d):
        """The loss of a window in nats; its gradients are added to d."""
        S, loss, x, h, p = len(inputs), 0.0, {}, {-1: self.h}, {}
        for t in range(S):
            x[t], a = self.projection(inputs[t], h[t - 1])
            h[t] = np.tanh(a)
            p[t], nats = self.output(h[t], targets[t])
            loss += nats
        dhnext = np.zeros_like(self.h)
        for t in reversed(range(S)):
            dh = self.output_backward(p[t], h[t], targets[t], d) + dhnext
            dhnext = self.projection_backward(dh * (1 - h[t] * h[t]), x[t], h[t - 1], d)
        self.h = h[S - 1]
        return loss


class LSTM(Article):
    def window(self, inputs, targets, d):
        """The loss of a window in nats; its gradients are added to d."""
        S, H, loss, x, gates = len(inputs), self.H, 0.0, {}, {}
        h, c, p = {-1: self.h}, {-1: self.c}, {}
        for t in range(S):
            x[t], a = self.projection(inputs[t], h[t - 1])
            a[:3 * H] = sigmoid(a[:3 * H])
            a[3 * H:] = np.tanh(a[3 * H:])
            gates[t] = i, o, f, g = a[:H], a[H:2 * H], a[2 * H:3 * H], a[3 * H:]
            c[t] = np.tanh(g * i + f * c[t - 1])
            h[t] = o * c[t]
            p[t], nats = self.output(h[t], targets[t])
            loss += nats
        dhnext, dcnext = np.zeros_like(self.h), np.zeros_like(self.c)
        for t in reversed(range(S)):
            i, o, f, g = gates[t]
            dh = self.output_backward(p[t], h[t], targets[t], d) + dhnext
            ds = (dh * o + dcnext) * (1 - c[t] * c[t])
            da = np.concatenate([ds * g * i * (1 - i), dh * c[t] * o * (1 - o),
                                 ds * c[t - 1] * f * (1 - f), ds * i * (1 - g * g)])
            dcnext = ds * f
            dhnext = self.projection_backward(da, x[t], h[t - 1], d)
        self.h, self.c = h[S - 1], c[S - 1]
        return loss
