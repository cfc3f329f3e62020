"""exercises/: the check passes the solutions, and sees scripts as they are and typical mistakes."""
import os
import pathlib
import re
import sys
import types

import numpy as np
import pytest

from conftest import ROOT, load, posix, python

OK = re.compile(": ok$")
sys.path.insert(0, str(ROOT / "exercises"))

import check  # noqa: E402
import solutions  # noqa: E402


def checked(name, source, folder, monkeypatch, capsys):
    """Status, and what the check says of a script: the lines."""
    monkeypatch.chdir(folder)
    pathlib.Path("my.py").write_text(source, encoding="utf-8")
    status, (out, err) = check.work([name, "my.py"]), capsys.readouterr()
    assert err == "" and os.listdir() == ["my.py"]
    return status, out.splitlines()


def as_a_reader(folder, script, *arguments, **options):
    """Run Python as a reader does; docstrings are gone."""
    script = script if script == "my.py" else ROOT / "exercises" / script
    return python(folder, "-B", "-OO", script, *arguments, says=r"\w+\.py: ", **options)


@pytest.mark.parametrize("name", check.EXERCISES)
def test_solution_is_right_and_trains(name, tmp_path):
    assert as_a_reader(tmp_path, "solutions.py", name, "my.py").stdout == ""
    done = as_a_reader(tmp_path, "check.py", name, "my.py")
    *lines, right = done.stdout.splitlines()
    assert right == f"right: my.py solves {name}" and all(map(OK.search, lines))
    assert len(lines) == {"rmsprop": 1, "dropout": 11}.get(name, 10)
    flags = f"--hidden 8 --batchsize 4 --lr {0.01 if name == 'rmsprop' else 0.1} --iters 30 "
    flags += "--dropout 0.2 --print_interval 9 --check_interval 0 --sample_length 0 --data"
    done = as_a_reader(tmp_path, "my.py", *flags.split(), ROOT / "data" / "gull-rock.txt")
    bpc = [float(value) for value in re.findall(r"iter \d+, (\d+\.\d+) BPC", done.stdout)]
    assert len(bpc) == 5 and bpc[-1] < bpc[0] - 0.1


@pytest.mark.parametrize("script", ["lstm-numpy.py", "dnc-numpy.py"])
def test_rmsprop_fits_the_other_scripts(script, tmp_path, monkeypatch, capsys):
    shipped = (ROOT / script).read_text(encoding="utf-8")
    source = solutions.apply(shipped, *solutions.SOLUTIONS["rmsprop"][1:], script)
    assert checked("rmsprop", source, tmp_path, monkeypatch, capsys)[0] == 0


# name, a piece of the solution that occurs once and what stands there instead (None: the script as
# it is shipped), and what the last line has to match
MISTAKES = [
    ("cell", None, None, r"forward, one step: WRONG: c_t = g i \+ f c_\{t-1\}: c\["),
    ("cell", "return o * shown, c", "return o * c, c", "forward, one step: .* h_t = o tanh"),
    ("cell", "dc + dh * o * (1 - shown ** 2)", "dc + dh * o", "backward, one step: .* of Wxh"),
    ("cell", ", dc * f\n", ", dc\n", "backward, one step: .* of the incoming c"),
    ("cell", "dh * shown *", "dh * c *", "gradient of Wxh.* numbers .* all in the rows of o$"),
    ("cell", '"usual-lstm"', '"lstm"', "MODEL has a new name: WRONG: it is still 'lstm'"),
    ("gru", None, None, r"WRONG: param_shapes: Wxh is \(5, 7\), should be \(15, 7\)"),
    ("gru", "(1 - z) * n + z * h_,", "z * n + (1 - z) * h_,", r"forward, one step: .* h_t = \(1"),
    ("gru", "axis=1), dh * z)\n", "axis=1), 0 * dh)\n", "backward, one step: .* the incoming h"),
    ("gru", "[dr, dz, dn * r]", "[dr, dz, dn]", "backward, one step: WRONG: gradient of Whh"),
    ("gru", "restart(dh_ + du[t] @ Whh, fresh[t])", "dh_ + restart(du[t] @ Whh, fresh[t])",
     "--reset, backward: WRONG: gradient of"),
    ("gru", "h_[t] @ WhhT, h_[t])", "h_[t] @ WhhT, h[t - 1])", "backward, one step: WRONG: "),
    ("gru", "(2, S, B, H), Whh.dtype)", "(2, S, B, H))", "WRONG: forward with complex numbers: "),
    ("gru", "(2, S, B, len(Whh)), Whh.dtype)", "(2, S, B, len(Whh)))", "single .* float64"),
    ("gru", "dh = drop(mask, ", "dh = drop(None, ", "--dropout, backward: WRONG: "),
    ("gru", "mh = drop(mask, h)", "mh = h", "--dropout, forward: WRONG: "),
    ("norm", None, None, r"WRONG: param_shapes: gain is missing, should be \(5, 1\)"),
    ("norm", '["gain"][:] = 1', '["gain"][:] = 0', "WRONG: init_params: gain"),
    ("norm", "True) + 1e-5)", "True)) + 1e-5", "forward, one step: .* h_t = tanh"),
    ("norm", "(n * n).mean(", "n.var(", "backward, one step: WRONG: forward drops the imaginary"),
    ("norm", "dn - n * (n * dn).mean(axis=1, keepdims=True)", "dn", "backward, .*gradient of Wxh"),
    ("norm", "n[t], back", "n[t + 1], back", r"WRONG: forward: IndexError \(line \d+\): "),
    ("rmsprop", None, None, r"mem = .*: WRONG: mem\["),
    ("rmsprop", "mem = 0.9 * mem +", "mem *= 0.9\n    mem +=", "adagrad: ValueError .* read-only"),
    ("rmsprop", "np.sqrt(mem + 1e-8)", "(np.sqrt(mem) + 1e-8)", r"WRONG: p\["),
    ("rmsprop", "1e-8), mem\n", "1e-8)\n", "WRONG: adagrad: ValueError"),
    ("dropout", None, None, r"one mask .*: dropout_mask: its shape is \(3, 150, 20\), should"),
    ("dropout", "[share(args.batchsize)]", "", r"its shape is \(200, 20\)"),
    ("dropout", "256 / (256 - dropped)", "1.0", r"its values is \[0.0, 1.0\], should be"),
    ("dropout", "256 * args.dropout", "256 * (1 - args.dropout)", "its values is"),
    ("dropout", "MASK, run.iter", "MASK, 0", "the same in all iterations"),
    ("dropout", "drop(mask, h_[t]) @", "h_[t] @", "--dropout, forward: WRONG: h_t = tanh"),
    ("dropout", "h[t] = np.tanh", "h[t] = drop(mask, 1.0) * np.tanh",
     "--dropout, forward: WRONG: h_t = tanh"),
    ("dropout", "drop(mask, da[t] @ Whh)", "da[t] @ Whh", "--dropout, backward: WRONG: "),
    ("dropout", "rows(drop(mask, h_))", "rows(h_)", "--dropout, backward: WRONG: gradient of Whh"),
    ("deallocation", None, None, r"forward, one step: WRONG: M_t = .*: M\["),
    ("deallocation", "content(M_, kw", "content(wipe(M_, psi)[0], kw", "content for writ"),
    ("deallocation", "dpsi + du * used", "du * used", "backward, one step: .* gradient of Whf"),
    ("deallocation", "return dM * psi[:, :, None],", "return dM,", "of the incoming M"),
    ("masks", None, None, r"WRONG: param_shapes: Whmr is missing, should be \(6, 3\)"),
    ("masks", "sigmoid(mw).", "mw.", r"forward, one step: WRONG: c\[i\] = .* for writing: ww"),
    ("masks", "sigmoid(mr).", "mr.", r"forward, one step: WRONG: c\[i\] = .* for reading: wr"),
    ("masks", "q @ MT ** 2 + EPS", "dot(M, M).swapaxes(1, 2) + EPS", "for writing: ww"),
    ("masks", " + dMM @ M ** 2", "", "backward, one step: WRONG: gradient of Whm"),
    ("masks", ", 2 * m * dq ", ", m * dq ", "backward, one step: WRONG: gradient of Whm")]


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
    found = check.EXERCISES[name][2](p, 2, state, None)
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


@pytest.mark.parametrize("drop", [False, True])
def test_equations_of_the_dnc_and_of_dropout(drop):
    """As the scripts have them, without what the exercises add; a mask that leaves out one number
    compares what is left."""
    dnc, rng = load("dnc-numpy.py"), np.random.default_rng(3)
    p = {k: rng.standard_normal(shape) for k, shape in dnc.param_shapes(7, 4, 5, 3, 2).items()}
    state = {k: 0.3 * rng.random(shape) for k, shape in dnc.state_shapes(1, 4, 5, 3, 2).items()}
    inputs, mask = rng.integers(7, size=(4, 1)), 2.0 * (rng.random((4, 1, 4)) < 0.5)
    mask = mask if drop else 1
    expected, after, _ = dnc.forward(p, inputs, state, -1, mask)
    y, found = check.reference(check.dnc, p, inputs, state, -1, mask)
    for one, other in [(y, expected), *((found[name], after[name]) for name in state)]:
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)

    M, k, m = rng.standard_normal((1, 5, 3)), rng.standard_normal((1, 2, 3)), [1.0, 0.0, 1.0]
    masked = types.ModuleType("masked")
    exec(solutions.solved("masks"), vars(masked))
    c, _ = masked.content(M, k, np.ones((1, 2)), np.tile(m, (1, 2, 1)))
    expected, _ = dnc.content(M[..., ::2], k[..., ::2], np.ones((1, 2)))
    np.testing.assert_allclose(c, expected, rtol=1e-12)


@pytest.mark.parametrize("command, message", [
    ("check.py cell none.py", "cannot read none.py: No such file"),
    ("check.py cell", "required: script"), ("check.py lstm my.py", "invalid choice: 'lstm'"),
    ("check.py cell .", "cannot read .: it is not a regular"),
    ("check.py cell my.py", "my.py cannot be loaded: SyntaxError"),
    ("solutions.py lstm a.py", "invalid choice: 'lstm'"),
    ("solutions.py gru my.py", "my.py exists"),
    ("solutions.py gru no/a.py", "cannot write no/a.py: No such")])
def test_errors(command, message, tmp_path):
    (tmp_path / "my.py").write_text("1 +\n")
    done = as_a_reader(tmp_path, *command.split(), status=2)
    assert done.stdout == ""
    assert message in done.stderr and os.listdir(tmp_path) == ["my.py"]
    assert (tmp_path / "my.py").read_text() == "1 +\n"


@posix
def test_what_is_not_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link.py").symlink_to("nowhere")
    for command, message in [("check.py cell fifo", "cannot read fifo"),
                             ("check.py cell /dev/zero", "cannot read /dev/zero"),
                             ("solutions.py cell fifo", "fifo exists"),
                             ("solutions.py cell link.py", "link.py exists")]:
        assert message in as_a_reader(tmp_path, *command.split(), status=2, timeout=60).stderr
    assert sorted(os.listdir(tmp_path)) == ["fifo", "link.py"]


@posix
def test_a_solution_is_written_whole_or_not_at_all(tmp_path):
    import resource
    done = as_a_reader(tmp_path, "solutions.py", "gru", "my.py", status=2, preexec_fn=lambda: (
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))))
    assert "cannot write my.py: File too large" in done.stderr and os.listdir(tmp_path) == []


RETURN = "    return y.reshape(S, B, V), {"
ZEROS = "(S, B), (V, H) = inputs.shape, Why.shape\n"
HOSTILE = [     # what stands in rnn-numpy.py, what is there instead, status, what is said of it
    ('MODEL = "rnn"\n', "", 2, "my.py .*MODEL"),
    ('MODEL = "rnn"\n', "exit()\n", 2, "my.py cannot be loaded: SystemExit"),
    (RETURN, "    return y.reshape(S, B, V).tolist(), {", 2, "y is no array .* list"),
    (RETURN, "    return y.reshape(S, B, V).astype(object), {", 2, "y is no array"),
    (RETURN, "    return y.T, {", 1, r"y is \(7, 2\), should be \(1, 2, 7\)"),
    (RETURN, "    return {", 1, "WRONG: forward: ValueError"),
    ('    return {"h": (B, hidden)}', "    return None", 1, "state_shapes returns no dict"),
    (RETURN, "    sys.stdout = None\n" + RETURN, 2, "has closed standard output"),
    (RETURN, "    sys.stdout.close()\n" + RETURN, 2, "has closed standard output"),
    (RETURN, "    os.close(1)\n" + RETURN, 2, "cannot write the output: Bad file descriptor"),
    ('MODEL = "rnn"\n', 'raise ValueError("\\x1b[31m\\n\\x07")\n', 2, r"\\x1b\[31m \\x07"),
    (ZEROS, ZEROS + '    raise ValueError(2000 * "long ")\n', 1, r"long lo\w* \.\.\.$"),
    (ZEROS, ZEROS + "    inputs[:] = 0\n", 1, "forward: ValueError .* read-only"),
    (ZEROS, ZEROS + "    inputs.flags.writeable = True\n    inputs[:] = 0\n", 1, r"WRONG: .*: h\["),
    (ZEROS, ZEROS + "    Wxh.flags.writeable = True\n    Wxh[:] = 0\n", 1, r"WRONG: .*: h\[")]


@posix
@pytest.mark.parametrize("old, new, status, said", HOSTILE)
def test_one_line_says_what_is_wrong_with_a_script(old, new, status, said, tmp_path):
    source = (ROOT / "rnn-numpy.py").read_text(encoding="utf-8")
    assert source.count(old) == 1
    (tmp_path / "my.py").write_text(source.replace(old, new), encoding="utf-8")
    done = as_a_reader(tmp_path, "check.py", "dropout", "my.py", status=status, line=status == 2)
    assert re.search(said, (done.stderr or done.stdout).splitlines()[-1])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", done.stderr + done.stdout)


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
    assert check.work(["cell", str(ROOT / "lstm-numpy.py")]) == 1
    assert capsys.readouterr().out.startswith(re.search(r"^(forward.*); …$", text, re.M)[1])


@posix
def test_reader_of_the_output_has_gone():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as output:
        as_a_reader(ROOT, "check.py", "cell", "lstm-numpy.py", status=141, stdout=output)
