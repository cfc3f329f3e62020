"""The three models in JAX: one jitted function per iteration, with lax.scan over the steps.

The equations are those of the scripts, the loss is summed over the window, gradients come from
jax.value_and_grad. What does not wait for the step before stands outside of the scan, as in the
scripts: the input projection is a look-up of rows, the output layer one product. Unrolled scans,
one-hot products and the stream as the last axis were tried and are not faster. A backward pass by
hand (jax.custom_vjp) would be, by a sixth; but then the gradient is not JAX's.
"""
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

INTERFACE = "Whr", "Whw", "Whv", "Whe", "Whf", "Whga", "Whgw", "Whbr", "Whbw", "Whp"


class Jax:
    """What all share: weights from the script, the loss, the iteration."""

    def __init__(self, args):
        self.sizes, self.H, self.B = args.sizes, args.hidden, args.batchsize
        self.iterate = jax.jit(self.iteration, donate_argnums=(0, 1, 2))

    def load(self, params, mem, lr):
        """Take these weights, this value for all accumulators, zero state."""
        self.lr = lr
        self.params = {name: jnp.array(p) for name, p in self.arrange(params).items()}
        self.mem = {name: jnp.full(p.shape, float(mem), p.dtype) for name, p in self.params.items()}
        self.state = tuple(jnp.zeros((self.B, *shape)) for shape in self.state_shapes())

    def loss(self, params, state, inputs, targets):
        logits, state = self.forward(params, inputs, state)
        at_target = jnp.take_along_axis(logits, targets[:, :, None], axis=2)[:, :, 0]
        return (jax.nn.logsumexp(logits, axis=2) - at_target).sum(), state

    def iteration(self, params, mem, state, inputs, targets, kept, lr):
        state = tuple((value.T * kept).T for value in state)
        (loss, state), d = jax.value_and_grad(self.loss, has_aux=True)(
            params, state, inputs, targets)
        mem = jax.tree.map(lambda m, d: m + d * d, mem, d)
        params = jax.tree.map(lambda p, m, d: p - lr * d / jnp.sqrt(m + 1e-8), params, mem, d)
        return params, mem, state, loss / targets.size

    def learn(self, inputs, targets, kept):
        """One iteration on a window (S, B); returns its loss in nats per character."""
        self.params, self.mem, self.state, loss = self.iterate(
            self.params, self.mem, self.state, inputs.astype(np.int32), targets.astype(np.int32),
            kept.copy(), self.lr)       # JAX may keep what it is given, and the caller changes it
        return float(loss)


class RNN(Jax):
    def arrange(self, params):
        """The script's parameters, transposed."""
        return {name: p[:, 0] if name[0] == "b" else p.T for name, p in params.items()}

    def state_shapes(self):
        return ((self.H,),)

    def forward(self, params, inputs, state):
        def step(h, x):
            h = jnp.tanh(x + h @ params["Whh"])
            return h, h
        h, hs = lax.scan(step, state[0], (params["Wxh"] + params["bh"])[inputs])
        return hs @ params["Why"] + params["by"], (h,)


class LSTM(RNN):
    def state_shapes(self):
        return (self.H,), (self.H,)

    def forward(self, params, inputs, state):
        def step(state, x):
            h, c = lstm_cell(x + state[0] @ params["Whh"], state[1])
            return (h, c), h
        state, hs = lax.scan(step, state, (params["Wxh"] + params["bh"])[inputs])
        return hs @ params["Why"] + params["by"], state


def lstm_cell(a, c):
    """The article's cell from the gates' arguments a (B, 4 H)."""
    i, o, f, g = jnp.split(a, 4, axis=1)    # its gradient: one concatenation; of slices: four sums
    i, o, f = map(jax.nn.sigmoid, (i, o, f))
    c = jnp.tanh(jnp.tanh(g) * i + f * c)
    return o * c, c


class DNC(Jax):
    """State: h, c (B, H), memory (B, N, W), u, p (B, N), L (B, N, N), wr (B, R, N), ww (B, N),
    r (B, R W)."""

    def arrange(self, params):
        return {"Wxh": params["Wxh"].T,
                "bh": params["bh"][:, 0],
                "Whr": np.concatenate([params["Whh"], params["Wrh"]], 1).T,     # of [h; r]
                "interface": np.concatenate([params[name] for name in INTERFACE]).T,
                "Wy": np.concatenate([params["Why"], params["Wry"]], 1).T,      # of [h; r]
                "by": params["by"][:, 0]}

    def state_shapes(self):
        H, N, W, R = self.sizes
        return (H,), (H,), (N, W), (N,), (N,), (N, N), (R, N), (N,), (R * W,)

    def forward(self, params, inputs, state):
        def step(state, x):
            state = self.step(params, x, *state)
            return state, (state[0], state[-1])
        state, hr = lax.scan(step, state, (params["Wxh"] + params["bh"])[inputs])
        return jnp.concatenate(hr, 2) @ params["Wy"] + params["by"], state

    def step(self, params, x, h, c, memory, u, p, L, wr, ww, r):
        B, (_, N, W, R) = self.B, self.sizes
        h, c = lstm_cell(x + jnp.concatenate([h, r], 1) @ params["Whr"], c)
        kr, kw, v, e, free, ga, gw, br, bw, modes = jnp.split(
            h @ params["interface"], np.cumsum([R * W, W, W, W, R, 1, 1, R, 1]), axis=1)
        e, free, ga, gw = map(jax.nn.sigmoid, (e, free, ga, gw))
        modes = jax.nn.softmax(modes.reshape(B, R, 3))

        u = (u + ww - u * ww) * jnp.prod(1 - free[:, :, None] * wr, axis=1)
        c_write = content(memory, kw[:, None], 1 + jax.nn.softplus(bw))[:, 0]
        ww = gw * (ga * allocation(u) + (1 - ga) * c_write)
        column = ww[:, :, None]
        memory = memory * (1 - column * e[:, None]) + column * v[:, None]
        L = ((1 - column - ww[:, None]) * L + column * p[:, None]) * (1 - jnp.eye(N))
        p = (1 - ww.sum(1, keepdims=True)) * p + ww
        wr = (modes[:, :, 0:1] * (wr @ L)
              + modes[:, :, 1:2] * content(memory, kr.reshape(B, R, W), 1 + jax.nn.softplus(br))
              + modes[:, :, 2:3] * (wr @ L.swapaxes(1, 2)))
        return h, c, memory, u, p, L, wr, ww, (wr @ memory).reshape(B, R * W)


def allocation(u):
    """For each location the product over those that sort before it: comparing all pairs is faster
    here than a sort."""
    key = lax.stop_gradient(u) + 1e-6 * jnp.arange(u.shape[1])
    v = 1e-6 + (1 - 1e-6) * u
    j, i = key[:, None, :], key[:, :, None]
    before = (j < i) | (j == i) & jnp.tri(u.shape[1], k=-1, dtype=bool)     # a tie: in order
    return (1 - v) * jnp.exp(jnp.where(before, jnp.log(v)[:, None, :], 0).sum(2))


def content(memory, keys, strengths):
    """memory (B, N, W), keys (B, R, W), strengths (B, R): weightings (B, R, N)."""
    key_norm = jnp.sqrt((keys * keys).sum(2, keepdims=True) + 1e-6)
    memory_norm = jnp.sqrt((memory * memory).sum(2) + 1e-6)[:, None]
    cosine = keys @ memory.swapaxes(1, 2) / (key_norm * memory_norm)
    return jax.nn.softmax(strengths[:, :, None] * cosine)
