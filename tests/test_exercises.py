"""The exercises' check: it accepts the solutions, and neither the scripts as they are nor solutions with a mistake.

A mistake is a piece of a solution with something else in its place, as in test_gradients.py. The check has to point at it: the
first line that says WRONG is known.
"""
import os
import re
import subprocess
import sys

import exercises
import numpy as np
import pytest
from conftest import ENVIRONMENT, ROOT, SMALL, SMALL_MEMORY, posix, some_text
from exercises import EXERCISES, M
from solutions import SCRIPTS, SOLUTIONS, apply, solved

CHECK = ROOT / "tests" / "exercises.py"
names = pytest.mark.parametrize("name", EXERCISES)


def python(folder, *command):
    """Run Python in a folder as a reader does; warnings are errors."""
    return subprocess.run([sys.executable, "-B", "-W", "error", *map(str, command)], cwd=folder, capture_output=True, encoding="utf-8",
                          env=ENVIRONMENT, timeout=120)


def check(folder, name, source, status):
    """What the check says of a script: lines that are ok, and lines that are not."""
    (folder / "my-script.py").write_text(source, encoding="utf-8")
    done = python(folder, CHECK, name, "my-script.py")
    assert (done.returncode, done.stderr) == (status, ""), done.stdout + done.stderr
    assert os.listdir(folder) == ["my-script.py"]
    return read(done.stdout, status)


def read(output, status):
    """The two kinds of lines in an output, which has nothing else but a verdict."""
    *lines, empty, verdict = output.splitlines()
    ok, wrong = ([line[7:] for line in lines if line.startswith(word)] for word in ("ok     ", "WRONG  "))
    assert len(ok) + len(wrong) == len(lines) and empty == ""
    assert verdict.startswith(f"not right yet: {len(wrong)} of {len(lines)} checks; " if status else "right: my-script.py ")
    return ok, wrong


# Solutions and the scripts as they are --------------------------------------------------------------------------------

@names
def test_solution_is_right(name, tmp_path):
    ok, wrong = check(tmp_path, name, solved(name), 0)
    assert wrong == []
    if name != "rmsprop":                                   # nothing was left out
        exercise = EXERCISES[name]
        blocks = re.findall(r"(\w+) \(", exercise.params) + ["the incoming " + name for name in re.findall(r"(\w+) \(", exercise.state)]
        assert [line for line in ok if line.startswith("gradient")] == ["gradient of " + block for block in blocks]
        assert [line for line in ok if line.startswith("one step")] == ["one step: " + equation for _, equation in exercise.results]
        assert sum(" windows of " in line for line in ok) == 2


@pytest.mark.parametrize("script", ["rnn-numpy.py", "lstm-numpy.py", "dnc-numpy.py"])
def test_solution_of_rmsprop_fits_all_scripts(script, tmp_path):
    source = (ROOT / script).read_text(encoding="utf-8")
    check(tmp_path, "rmsprop", source, 1)
    check(tmp_path, "rmsprop", apply(source, SOLUTIONS["rmsprop"]), 0)


UNCHANGED = {                                               # the first line that says WRONG
    "cell": "one step: c_t = g i + f c_{t-1}: c[",
    "gru": "param_shapes: names and shapes: Wxh is (5, 7), should be (15, 7); Whh is (5, 5), should be (15, 5); bh is ",
    "norm": "param_shapes: names and shapes: gain (5, 1) is missing",
    "rmsprop": "adagrad, in place: mem = 0.9 mem + 0.1 d^2: after step 1, mem[",
    "deallocation": "one step: M_t = (M_{t-1} psi_t 1^T) (1 - ww_t e_t^T) + ww_t v_t^T: M["}


@names
def test_unchanged_script_is_not(name, tmp_path):
    wrong = check(tmp_path, name, (ROOT / SCRIPTS[name]).read_text(encoding="utf-8"), 1)[1]
    assert wrong[0].startswith(UNCHANGED[name]) and (len(wrong) == 1 or "shapes" not in UNCHANGED[name])
    assert not any(line.startswith("gradient") for line in wrong)   # those of the unchanged script are right


@names
def test_solution_trains(name, tmp_path):
    (tmp_path / "text.txt").write_text(some_text(), newline="\n")
    (tmp_path / "my-script.py").write_text(solved(name), encoding="utf-8")
    flags = SMALL + SMALL_MEMORY * (name == "deallocation") + ["--lr", "0.01"] * (name == "rmsprop")
    done = python(tmp_path, "my-script.py", "--data", "text.txt", "--iters", 30, "--print_interval", 5, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    bpc = [float(value) for value in re.findall(r"iter \d+, (\d+\.\d+) BPC", done.stdout)]
    assert len(bpc) == 6 and bpc == sorted(bpc, reverse=True) and bpc[-1] < bpc[0] - 0.1


@names
def test_solution_says_what_it_is(name):
    """A checkpoint of another model must not be loaded by mistake; and lines are as short as in the scripts."""
    source, before = solved(name), (ROOT / SCRIPTS[name]).read_text(encoding="utf-8")
    models = [re.search(r'^MODEL = "(.+)"$', text, re.MULTILINE)[1] for text in (source, before)]
    assert (models[0] == models[1]) == (name == "rmsprop")
    assert max(map(len, source.splitlines())) <= 140


# Mistakes -------------------------------------------------------------------------------------------------------------

MISTAKES = {
    # what, a piece of the solution that occurs once, what stands there instead, how the first line that says WRONG begins
    "cell": [
        ("squashed still", 'np.tanh(c, out=tc) ', 'np.tanh(c, out=tc); c[:] = tc ', "one step: c_t = "),
        ("shown without tanh", 'np.multiply(o, tc, out=h)', 'np.multiply(o, c, out=h)', "one step: h_t = "),
        ("c not carried", 'w.c[0] = inputs, state["h"].T, state["c"].T', 'w.c[0] = inputs, state["h"].T, 0', "one step: c_t = "),
        ("slope of o by c_t", 'sigmoid_slope(o, w.tc, out=w.h_o)', 'sigmoid_slope(o, w.c[1:], out=w.h_o)', "gradient of Wxh: backward has"),
        ("no slope of tanh", '    w.h_c *= o\n', '    w.h_c[:] = o\n', "gradient of Wxh: backward has"),
        ("c from behind the window squashed", 'w.dcnext[:] = dstate["c"].T', 'np.multiply(dstate["c"].T, 1 - w.tc[-1] ** 2, out=w.dcnext)',
         "gradient of Wxh: backward has"),
        ("state after the first step, not the last", '"c": w.c[S].T.copy()}, w', '"c": w.c[1].T.copy()}, w',
         "4 windows of 3 steps, large weights: in window 1, c["),
        ("added to what the window had", 'w.dcnext[:] = dstate["c"].T', 'w.dcnext += dstate["c"].T', "gradient of Wxh: backward has"),
        ("no gradient of the state", 'return grads, {"h": w.dhnext.T.copy(), ', 'return grads, {',
         "backward: gradients of everything: the incoming h missing"),
        ("c before the window left out", '"c": w.dcnext.T.copy()', '"c": 0 * w.dcnext.T', "gradient of the incoming c: backward has")],
    "gru": [
        ("z and 1 - z exchanged", '        h *= z\n        h += n\n', '        h *= 1 - z\n        h += n\n', "one step: h_t = "),
        ("reset before the product", 'np.multiply(r, un, out=n) ', 'n[:] = np.dot(r * hprev, WhhT[:, 2 * H:]) ', "one step: h_t = "),
        ("r and z exchanged", 'for xrz, urz, rz, xn, u, un, r, z, n, ', 'for xrz, urz, rz, xn, u, un, z, r, n, ', "one step: h_t = "),
        ("no gradient straight to h_{t-1}", '        w.dhnext += dh\n', '', "gradient of Wxh: backward has"),
        ("straight to h_{t-1} by 1 - z", 'dh *= z ', 'dh *= 1 - z ', "gradient of Wxh: backward has"),
        ("u_t of n without r", 'np.multiply(dn, r, out=dun)', 'np.copyto(dun, dn)', "gradient of Wxh: backward has"),
        ("x_t of n with r", 'du[:, 2 * H:] = w.dn.reshape(S * B, H)', 'pass', "gradient of Wxh: backward has"),
        ("Whh with what is Wxh's", 'np.dot(du.T, w.h[:S]', 'du[:, 2 * H:] = w.dn.reshape(S * B, H); np.dot(du.T, w.h[:S]',
         "gradient of Whh: backward has")],
    "norm": [
        ("a parameter too many", '            "gain": (H, 1), ', '            "bn": (H, 1), "gain": (H, 1), ',
         "param_shapes: names and shapes: bn should not be there"),
        ("gain 0", 'params["gain"][:] = 1', 'params["gain"][:] = 0', "init_params: gain = 1: gain[0, 0] is 0, should be 1; 5 of 5 "),
        ("1e-5 outside of the root", 'sd += 1e-5\n        np.sqrt(sd, out=sd)', 'np.sqrt(sd, out=sd)\n        sd += 1e-5',
         "one step: h_t = "),
        ("H - 1 numbers", 'np.mean(n * n, axis=1, keepdims=True, out=sd)', 'sd[:] = np.sum(n * n, axis=1, keepdims=True) / (H - 1)',
         "one step: h_t = "),
        ("over streams", 'n -= np.mean(n, axis=1, keepdims=True) ', 'n -= np.mean(n, axis=0) ', "one step: h_t = "),
        ("mean is a constant", 'da -= np.mean(da, axis=1, keepdims=True)', 'pass', "gradient of Wxh: backward has"),
        ("deviation is a constant", 'da -= n * along', 'pass', "gradient of Wxh: backward has"),
        ("gain left out on the way to a_t", 'np.multiply(dz, gain.T, out=da)', 'np.copyto(da, dz)', "gradient of Wxh: backward has"),
        ("gain without n", 'np.sum(dz * w.n.reshape(S * B, H), axis=0', 'np.sum(dz, axis=0', "gradient of gain: backward has"),
        ("gain's gradient beside the flat vector", 'np.sum(dz * w.n.reshape(S * B, H), axis=0, out=grads["gain"][:, 0])',
         'grads["gain"] = np.sum(dz * w.n.reshape(S * B, H), axis=0)[:, None]',
         'gradient of gain: grads["gain"] is no view of grads.flat'),
        ("not for complex numbers", 'np.mean(n * n, axis=1, keepdims=True, out=sd)', 'sd[:] = np.var(n, axis=1, keepdims=True)',
         "gradient of Wxh: backward has .* \\(a difference quotient gives .*, as backward does: forward does something"),
        ("not of the parameters' type", 'np.mean(n * n, axis=1, keepdims=True, out=sd)',
         'var = np.zeros((B, 1)); var[:] = np.mean(n * n, axis=1, keepdims=True); sd[:] = var',
         r"forward with complex parameters: ComplexWarning \(line \d+\): Casting complex values to real"),
        ("an index too many", 'np.multiply(dz, gain.T, out=da)', 'np.multiply(dz, gain[0, 0, 0], out=da)',
         r"backward: IndexError \(line \d+\): "),
        ("no window returned", '{"h": w.h[S].T.copy()}, w\n', '{"h": w.h[S].T.copy()}\n',
         "what the script's functions return: ValueError: "),
        ("no state", 'return y.reshape(M, S, B), {"h": w.h[S].T.copy()}, w', 'return y.reshape(M, S, B), {}, w',
         "forward: the state after the window: h missing")],
    "rmsprop": [
        ("mem not in place", '    mem *= 0.9\n    mem += step\n', '    mem = 0.9 * mem + step\n', "adagrad, in place: mem"),
        ("mem sums up", '    mem *= 0.9\n', '', "adagrad, in place: mem"),
        ("p not in place", '    p -= step\n', '    p = p - step\n', "adagrad, in place: p"),
        ("1e-8 outside of the root", 'np.add(mem, 1e-8, out=step)\n    np.sqrt(step, out=step)\n',
         'np.sqrt(mem, out=step)\n    step += 1e-8\n', "adagrad, in place: p"),
        ("uphill", '    p -= step\n', '    p += step\n', "adagrad, in place: p")],
    "deallocation": [
        ("wiped after writing", 'fade_and_add(s.Mfreed, s.ww1, s.pairM, w.roomM, out=s.M)',
         'fade_and_add(s.Mprev, s.ww1, s.pairM, w.roomM, out=s.M); s.M *= s.psi[:, :, None]', "one step: M_t = "),
        ("content for writing looks at what is wiped", '    content(s.Mprev, s.mnormprev, s.keys[:, -1:], s.scorewprev, s.cw, w)',
         '    s.Mfreed[:] = s.Mprev * s.psi[:, :, None]; row_lengths(s.Mfreed, w, s.mnormprev)\n'
         '    content(s.Mfreed, s.mnormprev, s.keys[:, -1:], s.scorewprev, s.cw, w)', "one step: write weighting ww_t: "),
        ("no gradient to psi", 'dpsi += du * s.upsi', 'dpsi = du * s.upsi', "gradient of Wxh: backward has"),
        ("no psi to M_{t-1}", '    w.dM *= s.psi[:, :, None] ', '    pass ', "gradient of Wxh: backward has"),
        ("fading of what was not wiped", 'fade_and_add_backward(s.Mfreed, s.ww1', 'fade_and_add_backward(s.Mprev, s.ww1',
         "gradient of Wxh: backward has")]}


@pytest.mark.parametrize("name, old, new, first", [pytest.param(name, *mistake[1:], id=f"{name}: {mistake[0]}")
                                                   for name, mistakes in MISTAKES.items() for mistake in mistakes])
def test_mistake_is_seen(name, old, new, first, tmp_path, monkeypatch, capsys):
    """In this process: that saves half of the time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-script.py").write_text(apply(solved(name), [(old, new)]), encoding="utf-8")
    status = exercises.main([name, "my-script.py"])
    out, err = capsys.readouterr()
    assert (status, err) == (1, "")
    wrong = read(out, 1)[1][0]
    assert wrong.startswith(first) or re.match(first, wrong), wrong


# The equations, against PyTorch's -------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["cell", "gru", "norm"])
def test_equations_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    exercise, rng = EXERCISES[name], np.random.default_rng(3)
    params = {key: rng.standard_normal(shape) for key, shape in exercises.shapes(exercise.params, exercise.sizes).items()}
    state = {key: rng.standard_normal(shape) for key, shape in exercises.shapes(exercise.state, exercise.sizes).items()}
    inputs = rng.integers(M, size=(1, exercises.B))
    found = exercises.equations(exercise, params, inputs, state)[1]
    p = {key: torch.tensor(value) for key, value in params.items()}
    h, x, H = torch.tensor(state["h"]).T, torch.eye(M, dtype=torch.float64)[torch.tensor(inputs[0])], exercise.sizes["hidden"]
    if name == "norm":
        a = x @ p["Wxh"].T + h @ p["Whh"].T
        expected = {"h": torch.tanh(torch.nn.functional.layer_norm(a, [H], p["gain"][:, 0], p["bh"][:, 0], eps=1e-5))}
    else:
        layer = {"cell": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[name](M, H, dtype=torch.float64)
        rows = torch.arange(len(p["bh"])).reshape(-1, H)
        rows = (rows[[0, 2, 3, 1]] if name == "cell" else rows).reshape(-1)     # torch: i, f, g, o, and r, z, n as here
        with torch.no_grad():
            for theirs, ours in (layer.weight_ih, p["Wxh"]), (layer.weight_hh, p["Whh"]), (layer.bias_ih, p["bh"][:, 0]):
                theirs[:] = ours[rows]
            layer.bias_hh[:] = 0
            after = layer(x, h) if name == "gru" else layer(x, (h, torch.tensor(state["c"]).T))
        expected = {"h": after} if name == "gru" else dict(zip("hc", after))
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value.T.numpy(), rtol=1e-12, atol=1e-14)


# Command line ---------------------------------------------------------------------------------------------------------

def test_help_says_all_that_is_needed(tmp_path):
    done = python(tmp_path, CHECK, "--help")
    assert (done.returncode, done.stderr) == (0, "") and max(map(len, done.stdout.splitlines())) <= 140
    for name, exercise in EXERCISES.items():
        assert f"\n{name} (start: a copy of {exercise.script}): " in done.stdout and (ROOT / SCRIPTS[name]).exists()
        for shape in re.findall(r"\w+ \([^)]*\)", f"{exercise.params} {exercise.state}"):
            assert shape in done.stdout


@pytest.mark.parametrize("arguments, message", [
    (["cell", "nothing.py"], "cannot read nothing.py: No such file or directory"),
    (["cell", "."], "cannot read .: "),
    (["lstm", "my-script.py"], "there is no exercise lstm, but cell, gru, norm, rmsprop, deallocation; see --help"),
    (["cell"], "takes the name of an exercise (cell, gru, norm, rmsprop, deallocation) and a script; see --help"),
    ([], "takes the name of an exercise"),
    (["cell", "broken.py"], "cannot load broken.py: SyntaxError: "),
    (["cell", "other.py"], "other.py is no copy of one of the three scripts: it has no Params")])
def test_what_cannot_be_checked(arguments, message, tmp_path):
    (tmp_path / "broken.py").write_text("def forward(:\n")
    (tmp_path / "other.py").write_text("def forward(): pass\n")
    done = python(tmp_path, CHECK, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"exercises.py: {message}") and done.stderr.count("\n") == 1


@posix
@pytest.mark.parametrize("arguments", ["--help", "cell lstm-numpy.py"])
def test_reader_of_the_output_has_gone(arguments):
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run([sys.executable, "-B", CHECK, *arguments.split()], cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE,
                              encoding="utf-8", env=ENVIRONMENT, timeout=120)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


def test_solutions_write_a_script(tmp_path):
    command = ROOT / "tests" / "solutions.py", "gru", "my-gru.py"
    assert python(tmp_path, *command).returncode == 0
    assert (tmp_path / "my-gru.py").read_text(encoding="utf-8") == solved("gru")
    assert python(tmp_path, *command).returncode == 1       # what is there stays
    assert python(tmp_path, *command[:1]).returncode == 1
