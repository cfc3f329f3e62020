"""The DNC's hand-written gradients against the complex step; and mistakes, made on purpose, each of which has to be seen.

A mistake in the backward pass is seen by the complex step. With a mistake in the model itself forward and backward can
well agree, so that one is seen by the paper's equations, written out in dnc_paper.py.
"""
import functools
import types

import dnc_paper
import numpy as np
import pytest
from loading import M, ROOT, STEP, agree, complex_step, load, load_changed, random_params

NAME = "dnc-numpy.py"
CARRIED = ("M", "u", "p", "L", "wr", "ww")                  # the memory's state; besides there are h, c and r


@functools.cache
def case(weights, B, S, N, R):
    """All that forward and backward take. weights: as the script starts, fresh or after some windows; or at work."""
    model, sizes = load(NAME), {"hidden": 4, "locations": N, "width": 3, "heads": R}
    rng = np.random.default_rng([R, B, N, S])
    params = random_params(model, sizes, rng, scale=0.8 if weights == "at work" else None)
    if weights == "at work":
        for name in model.interface(3, R):
            params[name] *= 4                               # h_t is below 1: gates, modes and strengths get far from the middle
    state = model.zeros(model.state_shapes(B, **sizes), float)
    for _ in range(0 if weights == "fresh" else 4):
        state = model.forward(params, rng.integers(M, size=(S, B)), state)[1]
    return types.SimpleNamespace(
        params=params, state=state, inputs=rng.integers(M, size=(S, B)), dlogits=rng.standard_normal((M, S, B)),
        dstate={name: rng.standard_normal(value.shape) for name, value in state.items()})


# Gradients ------------------------------------------------------------------------------------------------------------

@functools.cache
def numerical(*which):
    """The gradients of all parameters and of all incoming state by the complex step."""
    this, forward = case(*which), load(NAME).forward
    params = {name: p.astype(complex) for name, p in this.params.items()}
    window = None

    def objective(inputs, state, copies):
        """The sum that has the gradients dlogits and dstate, of each stream; they lie side by side, copy by copy."""
        nonlocal window
        logits, after, window = forward(params, inputs, state, window)
        pairs = (logits, this.dlogits), *((after[name], this.dstate[name]) for name in after)
        return sum((value.reshape(-1, copies, d.shape[-1]) * d.reshape(-1, 1, d.shape[-1])).sum(axis=0) for value, d in pairs)
    grads = {name: complex_step(lambda: objective(this.inputs, this.state, 1).sum(), p) for name, p in params.items()}

    # Streams know nothing of each other: one pass over a copy of them for each entry of a stream's state gives all of it.
    n = sum(value[..., 0].size for value in this.state.values())
    state, entry = {name: np.repeat(value[..., None, :], n, axis=-2).astype(complex) for name, value in this.state.items()}, 0
    for value in state.values():
        for x in value.reshape(-1, *value.shape[-2:]):
            x[entry] += STEP * 1j
            entry += 1
    wide = objective(np.tile(this.inputs, n), {name: value.reshape(*value.shape[:-2], -1) for name, value in state.items()}, n)
    pieces = np.split(wide.imag / STEP, np.cumsum([value[..., 0].size for value in this.state.values()])[:-1])
    return grads, {name: piece.reshape(value.shape) for (name, value), piece in zip(this.state.items(), pieces)}


def wrong_gradients(model, *which):
    """Names of the parameters and the incoming state whose gradient from model.backward is wrong."""
    this, window = case(*which), None
    with np.errstate(all="ignore"):                         # mistakes may well divide by zero
        for _ in range(2):                                  # the second time with arrays that are not zeros any more
            window = model.forward(this.params, this.inputs, this.state, window)[2]
            found = model.backward(this.params, window, this.dlogits, this.dstate)
    assert found[0].keys() == this.params.keys() and found[1].keys() == this.state.keys()
    return [name for n, a in zip(numerical(*which), found) for name in n if not agree(n[name], a[name])]


SOME = ("at work", 2, 4, 5, 3)                              # what mistakes are looked for with


@pytest.mark.parametrize("weights", ["fresh", "later", "at work"])
@pytest.mark.parametrize("B, S, N, R", [(1, 3, 6, 1), (1, 6, 3, 3), (5, 6, 3, 1), (5, 3, 6, 3), (2, 1, 1, 2)])
def test_gradients(weights, B, S, N, R):
    assert wrong_gradients(load(NAME), weights, B, S, N, R) == []


def test_mistakes_are_looked_for_with_the_right_gradients():
    assert wrong_gradients(load(NAME), *SOME) == []


def test_the_memory_is_at_work():
    """Else its gradients are too small to be seen."""
    this = case(*SOME)
    least = {"u": 0.4, "ww": 0.15, "p": 0.15, "wr": 0.1, "L": 0.2, "M": 1}
    assert {name for name in least if this.state[name].max() - this.state[name].min() < least[name]} == set()
    xi = dnc_paper.interface(this.params, this.state["h"][:, 0].tolist())
    assert xi["beta_w"] > 3 and max(xi["beta_r"]) > 2 and np.ptp(xi["f"]) > 0.5 and np.ptp(xi["pi"]) > 0.25


# Mistakes in the backward pass ----------------------------------------------------------------------------------------

WRONG = [
    # name, a piece of the script that occurs once, what stands there instead. First backward, from its top
    ("Why: h of the step before", 'dWhy = np.dot(dy, w.hr[1:]', 'dWhy = np.dot(dy, w.hr[:S]'),
    ("Wry: none", 'dWhy[:, :H], dWhy[:, H:]', 'dWhy[:, :H], 0'),
    ("by: mean", 'np.sum(dy, axis=1, keepdims=True, out=grads["by"])', 'np.mean(dy, axis=1, keepdims=True, out=grads["by"])'),
    ("output to h: none", 'np.concatenate([Why, Wry], axis=1), out=w.dhr', 'np.concatenate([0 * Why, Wry], axis=1), out=w.dhr'),
    ("output to r: none", 'np.concatenate([Why, Wry], axis=1), out=w.dhr', 'np.concatenate([Why, 0 * Wry], axis=1), out=w.dhr'),
    ("cell: not squashed", 'np.subtract(1, w.dtanh, out=w.dtanh)', 'w.dtanh[:] = 1'),
    ("cell: squashed before the window", 'w.s_s[0] = f[0]', 'w.s_s[0] = f[0] * (1 - cprev[0] ** 2)'),
    ("cell: from step to step", 'np.multiply(f[1:], w.dtanh[:-1], out=w.s_s[1:])', 'w.s_s[1:] = f[1:]'),
    ("cell: not carried", 'w.ig += w.dsnext', 'pass'),
    ("cell: not carried from the next window", 'np.multiply(dstate["c"].T, w.dtanh[-1], out=w.dsnext)', 'w.dsnext[:] = 0'),
    ("cell: not carried to the window before", '"c": w.dsnext.T.copy()', '"c": 0 * w.dsnext.T'),
    ("gate i", 'sigmoid_slope(i, g, out=s_i)', 'sigmoid_slope(i, f, out=s_i)'),
    ("gate f", 'sigmoid_slope(f, cprev, out=s_f)', 'sigmoid_slope(f, c, out=s_f)'),
    ("gate o", 'sigmoid_slope(o, c, out=w.h_o)', 'sigmoid_slope(o, cprev, out=w.h_o)'),
    ("gate g", 's_g *= i', 's_g *= f'),
    ("gate o: none", 'np.multiply(dh, h_o, out=da_o)', 'da_o[:] = 0'),
    ("sigmoid's slope", '    out *= s\n', ''),
    ("interface: slopes of sigmoids", 'sigmoid_slope(w.xi[:, sigmoids], 1, out=w.slope[:, sigmoids])', 'w.slope[:, sigmoids] = 1'),
    ("interface: slopes of oneplus", '-np.expm1(1 - w.xi[:, betas])', '1'),
    ("interface: oneplus is 1 more", '-np.expm1(1 - w', '-np.expm1(-w'),
    ("interface: no slopes", 's.dxi *= s.slope', 'pass'),
    ("interface: not to h", 'dh += np.dot(s.dxi.T, Wxi)', 'pass'),
    ("interface: write vector, no slope", 'w.slope[:, v] = 1', 'w.slope[:, v] = 0'),
    ("interface: h of the step before", 'w.hr[1:].reshape(S * B, H + R * W)[:, :H]', 'w.hr[:S].reshape(S * B, H + R * W)[:, :H]'),
    ("h and r: not from the next step", 'dhr += w.dhrnext', 'pass'),
    ("h: not from the next step", 'dhr += w.dhrnext', 'dhr[:, H:] += w.dhrnext[:, H:]'),
    ("r: not from the next step", 'dhr += w.dhrnext', 'dhr[:, :H] += w.dhrnext[:, :H]'),
    ("h: not from the next window", '= dstate["h"].T, dstate["r"].T', '= 0, dstate["r"].T'),
    ("r: not from the next window", '= dstate["h"].T, dstate["r"].T', '= dstate["h"].T, 0'),
    ("r: not to the window before", '"r": w.dhrnext[:, H:].T.copy()', '"r": 0 * w.dhrnext[:, H:].T'),
    *((f"{name}: not from the next window", 'np.moveaxis(dstate[name], -1, 0)', f'np.moveaxis(dstate[name], -1, 0) * (name != "{name}")')
      for name in CARRIED),
    *((f"{name}: not to the window before", 'np.moveaxis(getattr(w, "d" + name), 0, -1)',
       f'(name != "{name}") * np.moveaxis(getattr(w, "d" + name), 0, -1)') for name in CARRIED),
    ("steps in the wrong order", 'w.x, w.steps))[::-1]', 'w.x, w.steps))'),
    ("gates: mixed up", 'reshape(S, B, 4, H).swapaxes(1, 2) ', 'reshape(S, B, H, 4).transpose(0, 3, 1, 2) '),
    ("Whh, Wrh: state after the step", 'np.dot(da.T, w.hr[:S]', 'np.dot(da.T, w.hr[1:]'),
    ("Wrh: none", 'dWhhr[:, :H], dWhhr[:, H:]', 'dWhhr[:, :H], 0'),
    ("bh: none", 'np.sum(da, axis=0, out=grads["bh"][:, 0])', 'pass'),

    # use_memory_backward, from its top: reading
    ("read: wr", 'dwr += np.matmul(s.dr, s.M.swapaxes(1, 2))', 'pass'),
    ("read: wr, of M before", 'np.matmul(s.dr, s.M.swapaxes', 'np.matmul(s.dr, s.Mprev.swapaxes'),
    ("read: M", 'w.byM[:, :R] = s.wr', 'w.byM[:, :R] = 0'),
    ("read: M, by wr before", 'w.byM[:, :R] = s.wr', 'w.byM[:, :R] = s.wrprev'),
    ("read: M, the gradient of r from the output only", 'w.withM[:, :R] = s.dr ',
     'w.withM[:, :R] = s.dr - w.dhrnext[:, -s.dr[0].size:].reshape(s.dr.shape) '),
    ("modes: softmax not normalised", 's.dpicols -= np.einsum("rmb,rmb->rb", s.picols, s.dpicols)[:, None]', 'pass'),
    ("modes: softmax over heads", '"rmb,rmb->rb", s.picols, s.dpicols)[:, None]', '"rmb,rmb->mb", s.picols, s.dpicols)[None]'),
    ("modes: softmax not multiplied", 'w.slope[:, pi] = w.xi[:, pi]', 'w.slope[:, pi] = 1'),
    ("modes: none", 'w.slope[:, pi] = w.xi[:, pi]', 'w.slope[:, pi] = 0'),
    ("modes: in another order", 'db, dc, df = ', 'df, dc, db = '),
    ("modes: the weightings have other gradients", 'np.multiply(s.pi[..., None], dwr', 'np.multiply(s.pi[::-1, ..., None], dwr'),
    ("modes: the modes have other gradients", 'np.multiply(s.bcf, dwr', 'np.multiply(s.bcf[::-1], dwr'),
    ("forward weighting: links", 'rows[:, R:].swapaxes(1, 2), rows[:, :2 * R]', 'rows[:, R:2 * R].swapaxes(1, 2), rows[:, :R]'),
    ("links: from reading, transposed", 'rows[:, R:].swapaxes(1, 2), rows[:, :2 * R]', 'rows[:, :2 * R].swapaxes(1, 2), rows[:, R:]'),
    ("forward weighting: wr before", 'np.matmul(df, s.L, out=dwr)', 'dwr[:] = 0'),
    ("forward weighting: wr through links before", 'np.matmul(df, s.L, out=dwr)', 'np.matmul(df, s.Lprev, out=dwr)'),
    ("wr not ended at the step", 'np.matmul(df, s.L, out=dwr)', 'dwr += np.matmul(df, s.L)'),
    ("backward weighting: links", 'rows[:, R:].swapaxes(1, 2), rows[:, :2 * R]', 'rows[:, 2 * R:].swapaxes(1, 2), rows[:, R:2 * R]'),
    ("links: from reading, none", 'dL += np.matmul(rows', 'np.matmul(rows'),
    ("links: from reading with wr after", 'dc[:] = s.wrprev', 'dc[:] = s.wr'),
    ("backward weighting: wr before", 'dwr += np.matmul(db, s.L.swapaxes(1, 2))', 'pass'),
    ("backward weighting: transposed", 'np.matmul(db, s.L.swapaxes(1, 2))', 'np.matmul(db, s.L)'),
    ("read content: none", 'content_backward(dc, s', 'content_backward(0 * dc, s'),

    # precedence and links
    ("precedence: ww", 'dww += dp ', 'pass '),
    ("precedence: sum of ww", 'dww -= np.dot(dp * s.pprev, w.ones)[:, None]', 'pass'),
    ("precedence: one ww, not all", 'dww -= np.dot(dp * s.pprev, w.ones)[:, None]', 'dww -= dp * s.pprev'),
    ("precedence: p before", 'dp *= s.rest', 'pass'),
    ("links: diagonal", 'w.ddiagonal[:] = 0', 'pass'),
    ("links: ww[j] of the old", 'dww -= dpair[0, :, 1]', 'pass'),
    ("memory, links: ww of what fades", 'dww += by_top[0, :, :, 0]', 'pass'),
    ("links: old ones after the step", 'fade_and_add_backward(s.Lprev, ', 'fade_and_add_backward(s.L, '),
    ("memory, links: ww of what is added", 'dww += by_top[1, :, :, 0]', 'pass'),
    ("links: ww, none", 's.pairL, w.roomdL, dww)', 's.pairL, w.roomdL, dww.copy())'),
    ("links: p before", 'dp += dpair[1, :, 0]', 'pass'),
    ("links: transposed", 'fade_and_add_backward(s.Lprev, ', 'fade_and_add_backward(s.Lprev.swapaxes(1, 2), '),
    ("memory, links: not faded", 'd[1] *= np.matmul(ww1, pair[0], out=d[0])', 'pass'),
    ("memory, links: faded by what is added", 'np.matmul(ww1, pair[0], out=d[0])', 'np.matmul(ww1, pair[1], out=d[0])'),
    ("memory, links: fading is constant", 'np.multiply(d[1], before, out=d[0])', 'd[0] = 0'),
    ("memory, links: top and bottom", 'np.matmul(ww1.swapaxes(1, 2), d)', 'np.matmul(ww1.swapaxes(1, 2)[:, ::-1], d)'),

    # writing
    ("erase: none", 'np.negative(dpair[0, :, 0], out=s.de)', 's.de[:] = 0'),
    ("erase: sign", 'np.negative(dpair', 'np.positive(dpair'),
    ("erase: of M after", 'fade_and_add_backward(s.Mprev, ', 'fade_and_add_backward(s.M, '),
    ("write vector: none", 's.dv[:] = dpair[1, :, 0]', 's.dv[:] = 0'),
    ("write: ww, none", 's.pairM, w.roomdM, dww)', 's.pairM, w.roomdM, dww.copy())'),
    ("write gate: twice", 'np.dot(dww * s.mix, w.ones)', 'np.dot(dww * s.mix, w.ones) * s.gw[:, 0]'),
    ("write gate: by ww", 'np.dot(dww * s.mix,', 'np.dot(dww * s.ww,'),
    ("write gate: not through, to the allocation gate", 'w.ww_ga *= gw', 'pass'),
    ("allocation gate: not to content", 'np.subtract(w.alloc, w.cw[:, :, 0], out=w.ww_ga)', 'w.ww_ga[:] = w.alloc'),
    ("allocation gate: none", 's.dga[:, 0] = np', 's.dga[:, 0] = 0 * np'),
    ("allocation gate: not through, to allocation", 'np.multiply(ga, gw, out=w.ww_alloc)', 'w.ww_alloc[:] = gw'),
    ("allocation: none", 'dalloc = dww * s.ww_alloc', 'dalloc = dww * 0'),
    ("write content: as if all were content", 'dww *= s.ww_cw', 'dww *= s.gw'),
    ("write content: none", 'content_backward(dww[:, None], ', 'content_backward(0 * dww[:, None], '),
    ("write content: of M after", 's.cw, s.Mprev, s.mnormprev, ', 's.cw, s.M, s.mnorm, '),
    ("allocation: detached", 'allocation_backward(dalloc, s, w)\n', 'pass\n'),

    # usage and retention
    ("retention: none", 'dpsi = du * s.upsi ', 'dpsi = 0 * s.upsi '),
    ("retention: usage after", 'dpsi = du * s.upsi ', 'dpsi = du * s.u '),
    ("usage: not freed", 'w.u_u *= w.psi', 'pass'),
    ("usage: ww before, not freed", 'w.u_ww *= w.psi', 'pass'),
    ("usage: ww before, none", 'np.multiply(du, s.u_ww, out=dww)', 'dww[:] = 0'),
    ("usage: ww before, of the unused", 'np.subtract(1, w.u[:-1], out=w.u_ww)', 'w.u_ww[:] = 1'),
    ("usage: u before, of the unwritten", 'np.subtract(1, w.ww[:-1], out=w.u_u)', 'w.u_u[:] = 1'),
    ("usage: u before, none", 'du *= s.u_u', 'du *= 0'),
    ("free gates: none", '= sum_last(dpsi', '= 0 * sum_last(dpsi'),
    ("free gates: sign", '= sum_last(dpsi', '= -sum_last(dpsi'),
    ("free gates: sign of both", 'np.negative(w.psi_wr, out=w.psi_wr)', 'pass'),
    ("free gates: wr before", 'dwr += dpsi[:, None] * s.psi_wr', 'pass'),
    ("free gates: wr after", 'np.multiply(w.psi_wr, w.wr[:-1], out', 'np.multiply(w.psi_wr, w.wr[1:], out'),
    ("free gates: not to wr", 'w.psi_wr *= w.xirows[:, :, rows["Whf"], None]', 'pass'),
    ("others: all heads", 'product_of_others(w.kept, out=w.psi_wr)', 'w.psi_wr[:] = w.psi[:, :, None]'),
    ("others: none", 'product_of_others(w.kept, out=w.psi_wr)', 'w.psi_wr[:] = 1'),
    ("others: not the first, whoever it is for", 'np.delete(x, r, axis=2)', 'np.delete(x, 0, axis=2)'),
    ("others: one of them", 'np.multiply.reduce(np.delete', 'np.minimum.reduce(np.delete'),

    # allocation_backward
    ("allocation: not sorted", 'da = dalloc.reshape(-1)[s.order]', 'da = dalloc.copy()'),
    ("allocation: usages before", 'da += w.behind * s.alloc_before', 'pass'),
    ("allocation: its own term in the sum", '[:, :0:-1], axis=1, out=w.behind[:, -2::-1])', '[:, ::-1], axis=1, out=w.behind[:, ::-1])'),
    ("allocation: not by the usage", 'np.divide(1 - EPS, w.usort, out=w.alloc_before)', 'w.alloc_before[:] = 1 - EPS'),
    ("allocation: its own usage", 'da *= s.alloc_own', 'da *= 0'),
    ("allocation: no usages before its own", 'np.multiply(w.before, EPS - 1', 'np.multiply(1, EPS - 1'),
    ("allocation: eps, its own usage", 'np.multiply(w.before, EPS - 1', 'np.multiply(w.before, -1'),
    ("allocation: eps, usages before", 'np.divide(1 - EPS, w', 'np.divide(1, w'),
    ("allocation: not sorted back", 'back.reshape(-1)[s.order] = da', 'back[:] = da'),
    ("allocation: gathered, not scattered", 'back.reshape(-1)[s.order] = da', 'np.take(da, s.order, out=back)'),
    ("usage: only through the allocation", 'w.du += back', 'w.du[:] = back'),

    # content_backward
    ("content: softmax not normalised", 'dscore = dc - sum_last(dc * c, w.ones)[:, :, None]', 'dscore = 1 * dc'),
    ("content: softmax not multiplied", 'dscore *= c\n', 'pass\n'),
    ("keys: no strength", '(w.xi[:, betas] / w.knorm)[:, :, None]', '(1 / w.knorm)[:, :, None]'),
    ("keys: their lengths", '(w.xi[:, betas] / w.knorm)[:, :, None]', 'w.xi[:, betas][:, :, None]'),
    ("content: rows' lengths", 'np.divide(dscore, mnorm[:, None], out=dproduct)', 'dproduct[:] = dscore'),
    ("strength: by the key", 'np.divide(share, s.beta, out=s.dbeta)', 's.dbeta[:] = share'),
    ("strength: none", 'w.slope[:, betas] = -np', 'w.slope[:, betas] = -0 * np'),
    ("keys: their lengths' gradients", 's.dkeycols -= s.keycols * (s.dbeta / s.beta)[:, None]', 'pass'),
    ("keys: with the length beta", '(s.dbeta / s.beta)[:, None]', 's.dbeta[:, None]'),
    ("keys: none", 'dkeys[:] = np.matmul(dproduct, M)', 'dkeys[:] = 0'),
    ("rows: no product with the read keys", 'w.withM[:, R:-1] = s.keys[:, :-1]', 'w.withM[:, R:-1] = 0'),
    ("rows: no product with the write key", 'w.withM[:, -1:] = s.keys[:, -1:]', 'w.withM[:, -1:] = 0'),
    ("rows: no products before the window", 'memory_products_backward(w.M[0], w.mnorm[0], w.score[0], w.scorew[0], w)', 'pass'),
    ("rows: read again before the window", 'w.byM[:, :-1] = 0 ', 'pass'),
    ("rows: no products", 'w.dM += np.matmul(w.byM', 'np.matmul(w.byM'),
    ("rows: their lengths", 'w.dM -= np.multiply(M, along', 'np.multiply(M, along'),
    ("rows: their lengths, of the write key only", 'along = np.einsum("brn', 'along = 0 * np.einsum("brn'),
    ("rows: their lengths, of the read keys only", 'along += w.byM[:, -1] * scorew[:, 0]', 'pass'),
    ("rows: their lengths, by the write key of this step", 's.score, s.scorew, w)', 's.score, s.scorewprev, w)'),
    ("rows: their lengths squared", 'along /= mnorm', 'pass'),
    ("rows: what waits, of the window before", 'w.byM[:] = 0', 'pass'),
]


def changed(old, new):
    """dnc-numpy.py with one mistake."""
    count = (ROOT / NAME).read_text(encoding="utf-8").count(old)
    assert count == 1, (f"{NAME} has {count} times, not once:\n    {old}\nIt has been rewritten there. Find what does the same now and "
                        "put a piece of it that occurs once into the table, with the same mistake. If no such step is left, remove it.")
    return load_changed(NAME, old, new)


@pytest.mark.parametrize("old, new", [pytest.param(*mistake[1:], id=mistake[0]) for mistake in WRONG])
def test_mistake_in_the_backward_pass_is_seen(old, new):
    assert wrong_gradients(changed(old, new), *SOME)


# Mistakes in the model ------------------------------------------------------------------------------------------------

@functools.cache
def paper(*which):
    """What dnc_paper says about each stream: logits and state after the window."""
    this = case(*which)
    params = {name: p.tolist() for name, p in this.params.items()}
    return [dnc_paper.forward(params, this.inputs[:, b].tolist(), {name: value[..., b].tolist() for name, value in this.state.items()})
            for b in range(this.inputs.shape[1])]


def differences(model, *which):
    """Names of what model.forward and dnc_paper do not agree on."""
    this = case(*which)
    with np.errstate(all="ignore"):
        logits, after, _ = model.forward(this.params, this.inputs, this.state)
    return {name for b, (y, state) in enumerate(paper(*which))
            for name, value, expected in [("logits", logits[..., b].T, y), *((name, after[name][..., b], state[name]) for name in state)]
            if not np.allclose(value, expected, rtol=1e-10, atol=1e-10)}


BOTH = SOME, ("fresh", 2, 4, 5, 3)                          # some mistakes show only in a memory in use, some in an empty one

MISTAKES = [
    # The mistakes of published implementations
    ("modes: softmax over heads", 'softmax(s.picols)', 'softmax(s.picols.swapaxes(0, 1))'),
    ("allocation: gathered, not scattered", 's.alloc.reshape(-1)[s.order] = s.asort', 'np.take(s.asort, s.order, out=s.alloc)'),
    ("precedence before the links", 's.pairL[1, :, 0] = s.pprev',
     's.pairL[1, :, 0] = s.pprev * (1 - s.ww.sum(axis=1, keepdims=True)) + s.ww'),
    ("read content: of M before", 'content(s.M, s.mnorm, ', 'content(s.Mprev, s.mnormprev, '),
    ("read vectors: of M before", 'np.matmul(s.wr, s.M, out=s.r)', 'np.matmul(s.wr, s.Mprev, out=s.r)'),
    ("forward and backward swapped", 'np.multiply(s.pi[..., None], s.bcf', 'np.multiply(s.pi[:, ::-1, :, None], s.bcf'),
    ("links: transposed", '    s.diagonal[:] = 0\n', '    s.diagonal[:] = 0\n    s.L[:] = s.L.swapaxes(1, 2).copy()\n'),
    ("interface: write vector is the write key", '("v", "Whv")', '("v", "Whw")'),
    ("interface: read keys end too early", 'step, d + "keys", xi[:, w.keys]', 'step, d + "keys", xi[:, 1:w.keys.stop + 1]'),
    ("interface: modes by mode, not by head", 'xi[rows["Whp"]].reshape(R, 3, B)', 'xi[rows["Whp"]].reshape(3, R, B).swapaxes(0, 1)'),
    ("interface: gates overlap", '("ga", "Whga")', '("ga", "Whgw")'),
    ("interface: modes begin too early", 'xi[rows["Whp"]].reshape', 'xi[rows["Whp"].start - 1:-1].reshape'),
    ("read vectors: not fed back", 'np.dot(hrprev, WhhrT, ', 'np.dot(np.concatenate([hrprev[:, :H], w.hr[0, :, H:]], axis=1), WhhrT, '),
    *((f"{name}: not from the window before", 'np.moveaxis(state[name], -1, 0)', f'np.moveaxis(state[name], -1, 0) * (name != "{name}")')
      for name in CARRIED),
    ("h: not from the window before", '= inputs, state["h"].T', '= inputs, 0'),
    ("r: not from the window before", ' state["r"].T, state["c"].T', ' 0, state["c"].T'),
    ("c: not from the window before", ' state["r"].T, state["c"].T', ' state["r"].T, 0'),
    *((f"{name}: not to the next window", 'np.moveaxis(getattr(w, name)[S], ', f'(name != "{name}") * np.moveaxis(getattr(w, name)[S], ')
      for name in CARRIED),

    # Each equation
    ("cell not squashed", 'np.tanh(c, out=c)', 'pass'),
    ("strengths: not from 1 on", '    z += w.one\n', ''),
    ("sigmoids: not halved", 'Wxi[w.sigmoids] *= 0.5', 'Wxi[w.sigmoids] *= 1'),
    ("retention: one head, not all", 'np.multiply.reduce(s.kept', 'np.minimum.reduce(s.kept'),
    ("retention: of what was not read", 'np.subtract(w.one, s.kept, out=s.kept)', 'pass'),
    ("retention: one free gate", 'np.multiply(s.f, s.wrprev', 'np.multiply(s.f[:, :1], s.wrprev'),
    ("usage: a sum", 'np.subtract(s.wwprev, s.upsi, out=s.upsi)', 's.upsi[:] = s.wwprev'),
    ("usage: not freed", 'np.multiply(s.upsi, s.psi, out=s.u)', 's.u[:] = s.upsi'),
    ("allocation: most used first", '(s.u.real + w.tie.real).argsort', '(-s.u.real + w.tie.real).argsort'),
    ("allocation: rounding chooses between equals", '(s.u.real + w.tie.real)', '(s.u.real + 0 * w.tie.real)'),
    ("allocation: last of equals first", '(s.u.real + w.tie.real)', '(s.u.real - w.tie.real)'),
    ("allocation: no eps", 's.usort += w.eps', 'pass'),
    ("allocation: product with its own usage", 's.asort *= s.before', 's.asort *= s.before * s.usort'),
    ("allocation: product only", 'np.subtract(w.one, s.usort, out=s.asort)', 's.asort[:] = 1'),
    ("cosine: no eps", 'squares += w.eps', 'pass'),
    ("cosine: eps beside the root", 'squares += w.eps\n    np.sqrt(squares, out=squares)', 'squares **= 0.5\n    squares += w.eps'),
    ("cosine: keys not normalised", 's.keycols *= (s.beta / s.knorm)', 's.keycols *= (s.beta / 1)'),
    ("cosine: rows not normalised", 'score /= mnorm[:, None]', 'pass'),
    ("content: without strengths", 's.keycols *= (s.beta / s.knorm)', 's.keycols *= (1 / s.knorm)'),
    ("write content: with a read key", 'content(s.Mprev, s.mnormprev, s.keys[:, -1:]', 'content(s.Mprev, s.mnormprev, s.keys[:, :1]'),
    ("write weighting: allocation gate the other way", 'np.subtract(s.alloc, s.cw[:, 0], ', 'np.subtract(s.cw[:, 0], s.alloc, '),
    ("write weighting: no write gate", 'np.multiply(s.mix, s.gw, out=s.ww)', 's.ww[:] = s.mix'),
    ("memory: nothing erased", 'np.negative(s.e, out=s.pairM[0, :, 0])', 's.pairM[0, :, 0] = 0'),
    ("memory: nothing written", 's.pairM[1, :, 0] = s.v', 's.pairM[1, :, 0] = 0'),
    ("memory: erased all over", 'np.negative(s.e, out=s.pairM[0, :, 0])', 's.pairM[0] = -s.e[:, None]\n    s.pairM[0, :, 1] += 1'),
    ("links: not faded by ww[j]", 'np.subtract(w.one, s.ww, out=s.pairL[0, :, 1])', 's.pairL[0, :, 1] = 1'),
    ("links: not faded by ww[i]", 'w.pairL[:, 0, :, 0] = 1, -1', 'w.pairL[:, 0, :, 0] = 1, 0'),
    ("memory, links: nothing added", '    out += room[1]\n', ''),
    ("links: diagonal", 's.diagonal[:] = 0', 'pass'),
    ("precedence: kept", 'np.multiply(s.pprev, s.rest, out=s.p)', 's.p[:] = s.pprev'),
    ("precedence: faded one by one", 'np.multiply(s.pprev, s.rest', 'np.multiply(s.pprev, 1 - s.ww'),
    ("precedence: nothing new", 's.p += s.ww', 'pass'),
    ("read weighting: links before, backward", 'np.matmul(s.wrprev, s.L, out', 'np.matmul(s.wrprev, s.Lprev, out'),
    ("read weighting: links before, forward", 'np.matmul(s.wrprev, s.L.swapaxes', 'np.matmul(s.wrprev, s.Lprev.swapaxes'),
    ("output: read vectors of the step before", '[Why, Wry], axis=1), w.hr[1:]', '[Why, Wry], axis=1), w.hr[:S]'),
    ("output: no read vectors", '[Why, Wry], axis=1), w', '[Why, 0 * Wry], axis=1), w'),
]


@pytest.mark.parametrize("which", BOTH, ids=["at work", "fresh"])
def test_mistakes_are_looked_for_with_the_right_model(which):
    assert differences(load(NAME), *which) == set()


@pytest.mark.parametrize("old, new", [pytest.param(*mistake[1:], id=mistake[0]) for mistake in MISTAKES])
def test_mistake_in_the_model_is_seen(old, new):
    model = changed(old, new)
    assert any(differences(model, *which) for which in BOTH)
