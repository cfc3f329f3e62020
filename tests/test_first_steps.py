"""The numbers of docs/first-steps.md, computed again by the scripts' own functions."""
import re

import numpy as np
import pytest

from conftest import ROOT, load

PAGE = (ROOT / "docs" / "first-steps.md").read_text(encoding="utf-8")


def shown(x):
    """An array as the page writes it: three digits, and a minus sign."""
    if np.ndim(x):
        return "[" + ", ".join(map(shown, x)) + "]"
    return f"{x + 0:.3f}".replace("-", "\u2212")


@pytest.fixture(scope="module")
def network():
    """All that the page's code computes."""
    values = {}
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)[1].split("rnn = ", 1)[1].split("\n", 1)[1]
    exec(compile(code, "first-steps.md", "exec"), values | {"np": np, "rnn": load("rnn-numpy.py")},
         values)
    return values


def test_the_network(network):
    h, dy, y = network["cache"][2][:2, 0], network["dy"][:, 0], network["y"][:, 0]
    Whh, Why = (network["params"][name] for name in ("Whh", "Why"))
    p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    a = np.arctanh(h)
    for t, letter in enumerate("ab"):
        start = f"| step {t + 1}, reads {letter} | "
        assert start + " | ".join(map(shown, (h[t], y[t], p[t]))) in re.sub(
            r"(reads . \| )\[.*?\] \| ", r"\1", PAGE)
        assert f"target {'bc'[t]} | {shown(dy[t])}" in PAGE
    assert "reads a | [1, 0] |" in PAGE and np.allclose(a[0], [1, 0])
    assert f"reads b | {shown(a[1])} |" in PAGE
    nats = network["nats"][:, 0]
    assert f"{shown(nats[0])} + {shown(nats[1])} = {shown(nats.sum())}." in PAGE
    assert f"here {shown(nats.sum() / 2 / np.log(2))}." in PAGE
    dh2 = Why.T @ dy[1]
    da2 = dh2 * (1 - h[1] ** 2)
    dh1 = Why.T @ dy[0] + Whh.T @ da2
    for x in dh2, da2, Why.T @ dy[0], Whh.T @ da2, dh1, dh1 * (1 - h[0] ** 2):
        assert f"$ = {shown(x)}" in PAGE, shown(x)
    for name, d in network["grads"].items():
        assert f"| \u03b4{name} | {shown(d[:, 0] if name[0] == 'b' else d)} |" in PAGE, name
    assert shown(network["before"]["h"][0]) in PAGE


def test_vanishing_and_exploding(network):
    rnn, rows = load("rnn-numpy.py"), re.findall(r"^\|.*Whh.*\|$", PAGE, re.M)
    table = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in rows}
    for name, scale in ("Whh", 1), ("2 Whh", 2), ("4 Whh without tanh", 4):
        params = {**network["params"], "Whh": scale * network["params"]["Whh"]}
        for S, cell in zip((1, 2, 5, 10, 20), table[name], strict=True):
            inputs = np.arange(S)[:, None] % 3
            y, _, cache = rnn.forward(params, inputs, {"h": np.zeros((1, 2))})
            length = np.linalg.norm(rnn.backward(
                params, cache, np.zeros_like(y), {"h": np.ones((1, 2))})[1]["h"])
            if "without" in name:
                length = np.linalg.norm(np.linalg.matrix_power(params["Whh"].T, S) @ [1, 1])
            assert cell.strip() == f"{length:.2g}"


def test_the_memory():
    dnc = load("dnc-numpy.py")
    a, _ = dnc.allocation(np.array([[0.5, 0.2, 1.0, 0.8]]))
    assert "| allocation a | " + " | ".join(f"{x:.2f}" for x in a[0]) + " |" in PAGE
    L, p = np.zeros((1, 4, 4)), np.zeros((1, 4))
    for ww in [1, 0, 0, 0], [0, 0, 1, 0], [0, 0.5, 0, 0.5]:
        ww = np.array([ww], float)
        L, p = dnc.link(L, p, ww)[0], dnc.precedence(p, ww)[0]
        assert f"| [{', '.join(f'{x:g}' for x in p[0])}] |" in PAGE
    links = {(2, 0): 1, (1, 2): 0.5, (3, 2): 0.5}
    assert all(L[0, i, j] == links.get((i, j), 0) for i in range(4) for j in range(4))
    assert all(f"L[{i}, {j}] = {value:g}" in PAGE for (i, j), value in links.items())
    w = np.array([0, 0, 1, 0])
    assert (L[0] @ w).tolist() == [0, 0.5, 0, 0.5] and (L[0].T @ w).tolist() == [1, 0, 0, 0]
