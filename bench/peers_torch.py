"""The three models in PyTorch, as a user who cares for speed on a CPU would write them.

RNN    nn.RNN, fused. One-hot inputs are rows of an identity matrix, looked up by F.embedding (five times faster here
       than F.one_hot). nn.RNN has two biases that are added; the second stays at 0 and is not trained.
LSTM   nn.LSTM, fused. Its cell is the usual one, h = o tanh(c), c = g i + f c, and not the article's, h = o c,
       c = tanh(g i + f c): the same products and the same number of element-wise operations, but another loss. So its
       loss is checked against the usual cell's equations (worker.py), computed from the same weights.
       LSTMCell is the article's cell, eager, in a loop: checked against the script itself, and timed beside nn.LSTM.
DNC    eager, the equations of dnc-numpy.py, batch first. What does not wait for the recurrence is done once for all
       steps (input projection, output layer), and all read-outs of the interface are one product. Losses agree as long
       as no two usages lie within rounding of each other when they are sorted.

Adagrad is torch.optim's, fused, the fastest of its three. It divides by sqrt(mem) + 1e-10 where the scripts divide by
sqrt(mem + 1e-8): the same but for accumulators near 0. torch.compile is left out: it needs a C++ compiler.
"""
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Torch(nn.Module):
    """What all share: weights from the script, the loss, the iteration."""

    lr = 0.1

    def __init__(self, sizes):
        super().__init__()
        self.sizes, self.H, self.B = sizes, sizes["hidden"], sizes["batchsize"]

    def load(self, params, mem):
        """Take these weights, this value for the accumulators, and zero state."""
        params = {name: torch.from_numpy(np.array(p)) for name, p in params.items()}
        self.build(params)
        self.state = self.zero_state()
        trained = [p for p in self.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adagrad(trained, lr=self.lr, initial_accumulator_value=mem, fused=True)

    def reset(self, streams):
        """Zero state for these streams; all states have the stream first, but those of nn.RNN and nn.LSTM."""
        for value in self.state:
            value[streams] = 0

    def learn(self, inputs, targets):
        """One iteration on one window (S, B); returns its loss, the mean of the nats."""
        inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)
        logits, state = self(inputs, self.state)
        loss = F.cross_entropy(logits.reshape(targets.numel(), -1), targets.reshape(-1), reduction="sum")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.state = tuple(value.detach() for value in state)
        return loss.item() / targets.numel()


class Fused(Torch):
    """nn.RNN or nn.LSTM, and a linear output layer."""

    def build(self, params):
        M, H = params["Why"].shape
        self.net, self.out = self.kind(M, H), nn.Linear(H, M)
        self.register_buffer("one_hot", torch.eye(M))
        order = torch.cat([torch.arange(H) + H * gate for gate in self.gates])      # rows of the script in PyTorch's order
        with torch.no_grad():
            self.net.weight_ih_l0.copy_(params["Wxh"][order])
            self.net.weight_hh_l0.copy_(params["Whh"][order])
            self.net.bias_ih_l0.copy_(params["bh"][order, 0])
            self.net.bias_hh_l0.zero_().requires_grad_(False)
            self.out.weight.copy_(params["Why"])
            self.out.bias.copy_(params["by"][:, 0])

    def zero_state(self):
        return tuple(torch.zeros(1, self.B, self.H) for _ in range(self.states))

    def reset(self, streams):
        for value in self.state:
            value[:, streams] = 0

    def forward(self, inputs, state):
        h, state = self.net(F.embedding(inputs, self.one_hot), state if self.states == 2 else state[0])
        return self.out(h), state if self.states == 2 else (state,)


class RNN(Fused):
    kind, gates, states = nn.RNN, (0,), 1


class LSTM(Fused):
    kind, gates, states = nn.LSTM, (0, 2, 3, 1), 2      # the scripts stack i, o, f, g; PyTorch i, f, g, o
    usual_cell = True


class LSTMCell(Torch):
    """The article's cell, step by step."""

    def build(self, params):
        params["Wxh"] = params["Wxh"].t().contiguous()                              # (M, 4H): rows are looked up
        for name, p in params.items():
            setattr(self, name, nn.Parameter(p.squeeze(1) if name.startswith("b") else p))

    def zero_state(self):
        return torch.zeros(self.B, self.H), torch.zeros(self.B, self.H)

    def forward(self, inputs, state):
        (h, c), H, hs, Whh = state, self.H, [], self.Whh.t()
        for x in (F.embedding(inputs, self.Wxh) + self.bh).unbind():
            a = torch.addmm(x, h, Whh)
            i, o, f = torch.sigmoid(a[:, :3 * H]).chunk(3, 1)
            c = torch.tanh(torch.tanh(a[:, 3 * H:]) * i + f * c)
            h = o * c
            hs.append(h)
        return F.linear(torch.stack(hs), self.Why, self.by), (h, c)


class DNC(Torch):
    """State, the stream first: h, c (B, H), memory (B, N, W), u, p (B, N), L (B, N, N), wr (B, R, N), ww (B, N), r (B, R W)."""

    INTERFACE = "Whr", "Whw", "Whv", "Whe", "Whbr", "Whbw", "Whf", "Whga", "Whgw", "Whp"

    def build(self, params):
        N, W, R = (self.sizes[name] for name in ("locations", "width", "heads"))
        self.Wxh = nn.Parameter(params["Wxh"].t().contiguous())                     # (M, 4H): rows are looked up
        self.bh = nn.Parameter(params["bh"].squeeze(1))
        self.Whr = nn.Parameter(torch.cat([params["Whh"], params["Wrh"]], 1))       # of [h; r]
        self.interface = nn.Parameter(torch.cat([params[name] for name in self.INTERFACE]))
        self.Wy = nn.Parameter(torch.cat([params["Why"], params["Wry"]], 1))        # of [h; r]
        self.by = nn.Parameter(params["by"].squeeze(1))
        self.split = R * W, W, W, W, R, 1, R, 1, 1, 3 * R
        self.register_buffer("tie", torch.arange(N) * 1e-6)
        self.register_buffer("off_diagonal", 1 - torch.eye(N))

    def zero_state(self):
        B, H, (N, W, R) = self.B, self.H, (self.sizes[name] for name in ("locations", "width", "heads"))
        shapes = (B, H), (B, H), (B, N, W), (B, N), (B, N), (B, N, N), (B, R, N), (B, N), (B, R * W)
        return tuple(torch.zeros(shape) for shape in shapes)

    def forward(self, inputs, state):
        hr = []
        for x in (F.embedding(inputs, self.Wxh) + self.bh).unbind():
            state = self.step(x, *state)
            hr.append(torch.cat([state[0], state[-1]], 1))
        return F.linear(torch.stack(hr), self.Wy, self.by), state

    def step(self, x, h, c, memory, u, p, L, wr, ww, r):
        B, H, R = self.B, self.H, self.sizes["heads"]
        a = torch.addmm(x, torch.cat([h, r], 1), self.Whr.t())
        i, o, f = torch.sigmoid(a[:, :3 * H]).chunk(3, 1)
        c = torch.tanh(torch.tanh(a[:, 3 * H:]) * i + f * c)
        h = o * c

        kr, kw, v, e, br, bw, free, ga, gw, modes = (h @ self.interface.t()).split(self.split, 1)
        free, ga, gw, e = torch.sigmoid(free), torch.sigmoid(ga), torch.sigmoid(gw), torch.sigmoid(e)
        modes = modes.view(B, R, 3).softmax(2)

        retention = (1 - free.unsqueeze(2) * wr).prod(1)
        u = (u + ww - u * ww) * retention
        allocated = ga * self.allocation(u) + (1 - ga) * content(memory, kw.unsqueeze(1), 1 + F.softplus(bw)).squeeze(1)
        ww = gw * allocated
        column = ww.unsqueeze(2)
        memory = memory * (1 - column * e.unsqueeze(1)) + column * v.unsqueeze(1)
        L = ((1 - column - ww.unsqueeze(1)) * L + column * p.unsqueeze(1)) * self.off_diagonal
        p = (1 - ww.sum(1, keepdim=True)) * p + ww
        wr = (modes[:, :, 0:1] * (wr @ L)
              + modes[:, :, 1:2] * content(memory, kr.view(B, R, -1), 1 + F.softplus(br))
              + modes[:, :, 2:3] * (wr @ L.transpose(1, 2)))
        r = (wr @ memory).flatten(1)
        return h, c, memory, u, p, L, wr, ww, r

    def allocation(self, u):
        u = 1e-6 + (1 - 1e-6) * u
        order = torch.sort((u + self.tie).detach(), stable=True)[1]
        ascending = u.gather(1, order)
        before = torch.cat([torch.ones_like(u[:, :1]), ascending[:, :-1].cumprod(1)], 1)
        return torch.zeros_like(u).scatter(1, order, (1 - ascending) * before)


def content(memory, keys, strengths):
    """memory (B, N, W), keys (B, R, W), strengths (B, R): weightings (B, R, N)."""
    key_norm = torch.sqrt((keys * keys).sum(2, keepdim=True) + 1e-6)
    memory_norm = torch.sqrt((memory * memory).sum(2) + 1e-6).unsqueeze(1)
    cosine = (keys @ memory.transpose(1, 2)) / (key_norm * memory_norm)
    return (strengths.unsqueeze(2) * cosine).softmax(2)


SIDES = {("torch", "rnn"): RNN, ("torch", "lstm"): LSTM, ("torch-cell", "lstm"): LSTMCell, ("torch", "dnc"): DNC}
