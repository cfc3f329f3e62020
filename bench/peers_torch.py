"""The three models in PyTorch, as a user who cares for speed on a CPU would write them.

RNN    nn.RNN, fused. One-hot inputs are rows of an identity matrix, looked up by F.embedding (five
       times as fast as F.one_hot). Of nn.RNN's two biases the second stays at 0.
LSTM   nn.LSTM, fused. Its cell is the usual one and not the article's: as many products and
       element-wise operations, another loss. So its loss is compared with that of the script with
       the usual cell in its place (race.py).
DNC    eager, the equations of dnc-numpy.py. What does not wait for the step before is done once
       for all steps, and the whole interface vector is one product.

Adagrad is torch.optim's, fused, the fastest of its three. It divides by sqrt(mem) + 1e-10 where the
scripts divide by sqrt(mem + 1e-8): the same but for accumulators near 0. torch.compile is left out:
it needs a C++ compiler.
"""
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
INTERFACE = "Whr", "Whw", "Whv", "Whe", "Whf", "Whga", "Whgw", "Whbr", "Whbw", "Whp"


class Torch(nn.Module):
    """What all share: weights from the script, the loss, the iteration."""

    def __init__(self, args):
        super().__init__()
        self.sizes, self.H, self.B = args.sizes, args.hidden, args.batchsize

    def load(self, params, mem, lr):
        """Take these weights, this value for all accumulators, zero state."""
        self.build({name: torch.from_numpy(np.array(p)) for name, p in params.items()})
        self.state = self.zero_state()
        trained = [p for p in self.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adagrad(trained, lr=lr, initial_accumulator_value=mem,
                                             fused=True)

    def learn(self, inputs, targets, kept):
        """One iteration on a window (S, B); returns its loss in nats per character."""
        if not kept.all():
            for value in self.state:
                value[self.streams(kept == 0)] = 0
        inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)
        logits, state = self(inputs, self.state)
        loss = F.cross_entropy(logits.reshape(targets.numel(), -1), targets.reshape(-1),
                               reduction="sum")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.state = tuple(value.detach() for value in state)
        return loss.item() / targets.numel()

    def streams(self, which):
        return torch.from_numpy(which)


class Fused(Torch):
    """nn.RNN or nn.LSTM, and a linear output layer."""

    def build(self, params):
        V, H = params["Why"].shape
        self.net, self.out = self.kind(V, H), nn.Linear(H, V)
        self.register_buffer("one_hot", torch.eye(V))
        order = torch.cat([torch.arange(H) + H * gate for gate in self.gates])
        with torch.no_grad():
            self.net.weight_ih_l0.copy_(params["Wxh"][order])
            self.net.weight_hh_l0.copy_(params["Whh"][order])
            self.net.bias_ih_l0.copy_(params["bh"][order, 0])
            self.net.bias_hh_l0.zero_().requires_grad_(False)
            self.out.weight.copy_(params["Why"])
            self.out.bias.copy_(params["by"][:, 0])

    def zero_state(self):
        return tuple(torch.zeros(1, self.B, self.H) for _ in range(self.states))

    def streams(self, which):
        return slice(None), torch.from_numpy(which)     # a layer comes before the stream here

    def forward(self, inputs, state):
        h, state = self.net(F.embedding(inputs, self.one_hot), state if self.states == 2 else
                            state[0])
        return self.out(h), state if self.states == 2 else (state,)


class RNN(Fused):
    kind, gates, states = nn.RNN, (0,), 1


class LSTM(Fused):
    kind, gates, states = nn.LSTM, (0, 2, 3, 1), 2      # the script has i, o, f, g; this i, f, g, o


class DNC(Torch):
    """State: h, c (B, H), memory (B, N, W), u, p (B, N), L (B, N, N), wr (B, R, N), ww (B, N),
    r (B, R W)."""

    def build(self, params):
        _, N, W, R = self.sizes
        self.Wxh = nn.Parameter(params["Wxh"].t().contiguous())                 # rows to look up
        self.bh = nn.Parameter(params["bh"].squeeze(1))
        self.Whr = nn.Parameter(torch.cat([params["Whh"], params["Wrh"]], 1))   # of [h; r]
        self.interface = nn.Parameter(torch.cat([params[name] for name in INTERFACE]))
        self.Wy = nn.Parameter(torch.cat([params["Why"], params["Wry"]], 1))    # of [h; r]
        self.by = nn.Parameter(params["by"].squeeze(1))
        self.split = R * W, W, W, W, R, 1, 1, R, 1, 3 * R
        self.register_buffer("delta", torch.arange(N) * 1e-6)
        self.register_buffer("off_diagonal", 1 - torch.eye(N))

    def zero_state(self):
        B, (H, N, W, R) = self.B, self.sizes
        shapes = (H,), (H,), (N, W), (N,), (N,), (N, N), (R, N), (N,), (R * W,)
        return tuple(torch.zeros(B, *shape) for shape in shapes)

    def forward(self, inputs, state):
        hr = []
        for x in (F.embedding(inputs, self.Wxh) + self.bh).unbind():
            state = self.step(x, *state)
            hr.append(torch.cat([state[0], state[-1]], 1))
        return F.linear(torch.stack(hr), self.Wy, self.by), state

    def step(self, x, h, c, memory, u, p, L, wr, ww, r):
        B, H, R = self.B, self.H, self.sizes[3]
        a = torch.addmm(x, torch.cat([h, r], 1), self.Whr.t())
        i, o, f = torch.sigmoid(a[:, :3 * H]).chunk(3, 1)
        c = torch.tanh(torch.tanh(a[:, 3 * H:]) * i + f * c)
        h = o * c

        xi = (h @ self.interface.t()).split(self.split, 1)
        kr, kw, v, e, free, ga, gw, br, bw, modes = xi
        e, free, ga, gw = map(torch.sigmoid, (e, free, ga, gw))
        modes = modes.view(B, R, 3).softmax(2)

        u = (u + ww - u * ww) * (1 - free.unsqueeze(2) * wr).prod(1)
        c_write = content(memory, kw.unsqueeze(1), 1 + F.softplus(bw)).squeeze(1)
        ww = gw * (ga * self.allocation(u) + (1 - ga) * c_write)
        column = ww.unsqueeze(2)
        memory = memory * (1 - column * e.unsqueeze(1)) + column * v.unsqueeze(1)
        L = (1 - column - ww.unsqueeze(1)) * L + column * p.unsqueeze(1)
        L = L * self.off_diagonal
        p = (1 - ww.sum(1, keepdim=True)) * p + ww
        wr = (modes[:, :, 0:1] * (wr @ L)
              + modes[:, :, 1:2] * content(memory, kr.view(B, R, -1), 1 + F.softplus(br))
              + modes[:, :, 2:3] * (wr @ L.transpose(1, 2)))
        return h, c, memory, u, p, L, wr, ww, (wr @ memory).flatten(1)

    def allocation(self, u):
        order = torch.sort((u + self.delta).detach(), stable=True)[1]
        v = 1e-6 + (1 - 1e-6) * u.gather(1, order)
        before = torch.cat([torch.ones_like(u[:, :1]), v[:, :-1].cumprod(1)], 1)
        return torch.zeros_like(u).scatter(1, order, (1 - v) * before)


def content(memory, keys, strengths):
    """memory (B, N, W), keys (B, R, W), strengths (B, R): weightings (B, R, N)."""
    key_norm = torch.sqrt((keys * keys).sum(2, keepdim=True) + 1e-6)
    memory_norm = torch.sqrt((memory * memory).sum(2) + 1e-6).unsqueeze(1)
    cosine = (keys @ memory.transpose(1, 2)) / (key_norm * memory_norm)
    return (strengths.unsqueeze(2) * cosine).softmax(2)
