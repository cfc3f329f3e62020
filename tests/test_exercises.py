"""exercises/: the check passes the solutions, and sees scripts as they are and typical mistakes."""
import os
import pathlib
import re
import sys

import numpy as np
import pytest

from conftest import ROOT, posix, python

OK = re.compile(": ok$")
sys.path.insert(0, str(ROOT / "exercises"))

import check  # noqa: E402
import solutions  # noqa: E402


def checked(name, source, folder, monkeypatch, capsys):
    """Status, and what the check says of a script: the lines."""
    monkeypatch.chdir(folder)
    pathlib.Path("my.py").write_text(source, encoding="utf-8")
    status, (out, err) = check.main([name, "my.py"]), capsys.readouterr()
    assert err == "" and os.listdir() == ["my.py"]
    return status, out.splitlines()


def as_a_reader(folder, script, *arguments, **options):
    """Run Python as a reader does; docstrings are gone."""
    script = script if script == "my.py" else ROOT / "exercises" / script
    return python(folder, "-B", "-OO", script, *arguments, says=r"\w+\.py: |usage: ", **options)


@pytest.mark.parametrize("name", check.EXERCISES)
def test_solution_is_right_and_trains(name, tmp_path):
    assert as_a_reader(tmp_path, "solutions.py", name, "my.py").stdout == ""
    done = as_a_reader(tmp_path, "check.py", name, "my.py")
    *lines, right = done.stdout.splitlines()
    assert right == f"right: my.py solves {name}" and all(map(OK.search, lines))
    assert len(lines) == (1 if name == "rmsprop" else 8)
    flags = f"--hidden 8 --batchsize 4 --lr {0.01 if name == 'rmsprop' else 0.1} --iters 30 "
    flags += "--print_interval 9 --check_interval 0 --data"
    done = as_a_reader(tmp_path, "my.py", *flags.split(), ROOT / "data" / "gull-rock.txt")
    bpc = [float(value) for value in re.findall(r"iter \d+, (\d+\.\d+) BPC", done.stdout)]
    assert bpc == sorted(bpc, reverse=True) and bpc[-1] < bpc[0] - 0.1


@pytest.mark.parametrize("script", ["lstm-numpy.py", "dnc-numpy.py"])
def test_rmsprop_fits_the_other_scripts(script, tmp_path, monkeypatch, capsys):
    shipped = (ROOT / script).read_text(encoding="utf-8")
    source = solutions.apply(shipped, *solutions.SOLUTIONS["rmsprop"][1:], script)
    assert checked("rmsprop", source, tmp_path, monkeypatch, capsys)[0] == 0


# name, a piece of the solution that occurs once and what stands there instead (None: the script as
# it is shipped), and what the last line has to match
MISTAKES = [
    ("cell", None, None, r"forward, one step: WRONG: c_t = g i \+ f c_\{t-1\}: c\["),
    ("cell", "return o * c, s", "return o * s, s", "forward, one step: .* h_t = o tanh"),
    ("cell", " * (1 - c * c) + dc", " + dc", "backward, one step: WRONG: gradient of Wxh"),
    ("cell", ", ds * f\n", ", ds\n", "backward, one step: .* of the incoming c"),
    ("cell", "dh * c *", "dh * s *", "gradient of Wxh.* numbers .* all in the rows of o$"),
    ("cell", '"usual-lstm"', '"lstm"', "MODEL has a new name: WRONG: it is still 'lstm'"),
    ("gru", None, None, r"WRONG: param_shapes: Wxh is \(5, 7\), should be \(15, 7\)"),
    ("gru", "(1 - z) * n + z * h_", "z * n + (1 - z) * h_", r"forward, one step: .* h_t = \(1"),
    ("gru", "dh * z)\n", "0 * dh)\n", "backward, one step: WRONG: gradient of the incoming h"),
    ("gru", "[dr, dz, dn * r]", "[dr, dz, dn]", "backward, one step: WRONG: gradient of Whh"),
    ("gru", "dh_next *= keep[t]", "dh_next *= 1", "--reset, backward: WRONG: gradient of"),
    ("gru", "None:\n            dh_", "None and t:\n            dh_", "--reset, back.* incoming h"),
    ("gru", "else h[t] * keep[t]", "else h[t]", "--reset, forward: WRONG: "),
    ("gru", ".astype(Whh.dtype)   #", ".astype(float)   #", "single precision .* float64"),
    ("norm", None, None, r"WRONG: param_shapes: gain is missing, should be \(5, 1\)"),
    ("norm", '["gain"][:] = 1', '["gain"][:] = 0', "WRONG: init_params: gain"),
    ("norm", "True) + 1e-5)", "True)) + 1e-5", "forward, one step: .* h_t = tanh"),
    ("norm", "(n * n).mean(", "n.var(", "backward, one step: WRONG: forward drops the imaginary"),
    ("norm", "dn - n * (n * dn).mean(axis=1, keepdims=True)", "dn", "backward, .*gradient of Wxh"),
    ("norm", "n[t], norm", "n[t + 1], norm", r"WRONG: forward: IndexError \(line \d+\): "),
    ("rmsprop", None, None, r"mem = .*: WRONG: mem\["),
    ("rmsprop", "mem *= 0.9\n    mem +=", "mem = 0.9 * mem +", "WRONG: mem has not changed"),
    ("rmsprop", "p -= lr", "p = p - lr", "WRONG: p has not changed"),
    ("rmsprop", "np.sqrt(mem + 1e-8)", "(np.sqrt(mem) + 1e-8)", r"WRONG: p\["),
    ("deallocation", None, None, r"forward, one step: WRONG: M_t = .*: M\["),
    ("deallocation", "content(M_, kw)", "content(wipe(M_, psi)[0], kw)", "content for writ"),
    ("deallocation", "dpsi + du * used", "du * used", "backward, one step: .* gradient of Whf"),
    ("deallocation", "return dM * psi[:, :, None],", "return dM,", "of the incoming M")]


@pytest.mark.parametrize("name, old, new, wrong", MISTAKES)
def test_mistake_is_seen(name, old, new, wrong, tmp_path, monkeypatch, capsys):
    source = (ROOT / solutions.SOLUTIONS[name][0]).read_text(encoding="utf-8")
    if old:
        source = solutions.solved(name)
        assert source.count(old) == 1
        source = source.replace(old, new)
    status, (*lines, last) = checked(name, source, tmp_path, monkeypatch, capsys)
    assert status == 1 and all(map(OK.search, lines)) and re.search(wrong, last), last


@pytest.mark.parametrize("name, gates, H", [("cell", 4, 5), ("gru", 3, 5), ("norm", 1, 5)])
def test_equations_are_those_of_torch(name, gates, H):
    torch = pytest.importorskip("torch")
    shapes = {"Wxh": (gates * H, 7), "Whh": (gates * H, H), "bh": (gates * H, 1), "gain": (H, 1)}
    rng = np.random.default_rng(3)
    p = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    state = {key: rng.standard_normal(H) for key in "hc"}
    found = check.EXERCISES[name][2](p, 2, state)
    p, (h, c) = {k: torch.tensor(v) for k, v in p.items()}, map(torch.tensor, state.values())
    if name == "norm":
        a = torch.layer_norm(p["Wxh"][:, 2] + p["Whh"] @ h, [H], p["gain"][:, 0], p["bh"][:, 0])
        expected = {"h": torch.tanh(a)}
    else:
        layer = (torch.nn.LSTMCell if name == "cell" else torch.nn.GRUCell)(7, H, dtype=h.dtype)
        order = [0, 2, 3, 1] if name == "cell" else [0, 1, 2]       # torch: i, f, g, o and r, z, n
        wx, wh, b = (torch.cat([p[k].split(H)[i] for i in order]) for k in ("Wxh", "Whh", "bh"))
        layer.load_state_dict(dict(zip(layer.state_dict(), (wx, wh, b[:, 0], 0 * b[:, 0]))))
        x = torch.eye(7, dtype=h.dtype)[2]
        expected = {"h": layer(x, h)} if name == "gru" else dict(zip("hc", layer(x, (h, c))))
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("command, message", [
    ("check.py cell none.py", "cannot read none.py: No such file"), ("check.py cell", "usage: "),
    ("check.py lstm my.py", "usage: "), ("solutions.py lstm a.py", "usage: "),
    ("solutions.py gru my.py", "my.py exists"), ("solutions.py gru no/a.py", "no/a.py: No such")])
def test_errors(command, message, tmp_path):
    (tmp_path / "my.py").write_text("1 +\n")
    done = as_a_reader(tmp_path, *command.split(), status=2)
    assert done.stdout == ""
    assert message in done.stderr and os.listdir(tmp_path) == ["my.py"]


def test_what_is_no_copy_is_wrong(tmp_path, monkeypatch, capsys):
    for source, words in ("1 +\n", "SyntaxError"), ("exit()\n", "SystemExit"), ("", "no attribute"):
        status, (line,) = checked("cell", source, tmp_path, monkeypatch, capsys)
        assert (status, line[:7]) == (1, "WRONG: ") and words in line


def test_a_script_that_has_changed():
    script, *solution = solutions.SOLUTIONS["cell"]
    for source in '"""A."""\nMODEL = 1\n', 2 * '"""A."""\nMODEL = "lstm"\n':
        with pytest.raises(solutions.Failure, match="another version of lstm-numpy.py"):
            solutions.apply(source, *solution, script)


def test_readme(capsys):
    text = (ROOT / "exercises" / "README.md").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 100
    rows = re.findall(r"`cp (\S+) (\S+)` \| `python exercises/check.py (\S+) (\S+)`", text)
    assert [(name, script) for script, copied, name, checked in rows if copied == checked] == [
        (name, script) for name, (script, *_) in solutions.SOLUTIONS.items()]
    assert check.main(["cell", str(ROOT / "lstm-numpy.py")]) == 1
    assert capsys.readouterr().out.startswith(re.search(r"^(forward.*); …$", text, re.M)[1])


@posix
def test_reader_of_the_output_has_gone():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as output:
        as_a_reader(ROOT, "check.py", "cell", "lstm-numpy.py", status=141, stdout=output)
