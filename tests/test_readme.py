"""README.md says what is: each command runs, prints what stands there, each quoted line is in its script, each link leads somewhere.

Commands run one after another, as they stand there, in one copy of the repository; but training takes a few iterations instead of
minutes, and texts are small. Outputs are compared by their shape, and where they are the same everywhere, to the letter.
"""
import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from conftest import ENVIRONMENT, ROOT, load_module, posix

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [(kind, body.strip("\n").split("\n")) for kind, body in re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)]
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.M | re.S)
PROGRAMS = r"python |pip |mpirun |diff |[A-Z_]+=\d+ python "
SHORTER = [                             # what is done to a command: (what it matches, what is added to it)
    (r"python (?:rnn|lstm|dnc)-numpy\.py(?!.*--iters 0)[^|>&]*", " --iters 2 --sample_length 5"),
    (r"python data/tasks\.py[^|>&]*", " --size 30000"),
    (r"python data/fetch\.py[^|>&]*", " --help"),                   # no network
    (r"python dnc-debug\.py[^|>&]*", " --gradcheck 2 --hidden 4 --batchsize 2 --seqlength 4"),
    (r"python bench/speed\.py[^|>&]*", " --peers --sizes 0 --threads 1 --slice 0.01 --repeats 1 --png ''"),
    (r"python bench/scaling\.py[^|>&]*", " --help"),                # minutes
    (r"python bench/mpi\.py[^|>&]*", " --help")]


def commands():
    """All commands in their order: the lines of sh blocks, and what stands between backquotes and begins like a command."""
    found = re.finditer(rf"^```sh\n(.*?)^```$|`((?:{PROGRAMS})[^`]+)`", TEXT, re.M | re.S)
    return [line for block, inline in (match.groups() for match in found) for line in (block or inline).strip("\n").split("\n")]


def shell(command):
    """What is run in the command's place: the same Python, and fewer iterations; installing is left to the reader."""
    command = re.sub(r"pip install [^&|]*", "true ", command)
    command = re.sub(r"python -m pytest|uv run .*", "true", command)
    for pattern, flags in SHORTER:
        command = re.sub(pattern, lambda match: match[0].rstrip() + flags + " ", command)
    return re.sub(r"\bpython ", f"{sys.executable} -W error ", command)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All commands with their outputs, in a copy of the repository with what a reader would have by then."""
    folder = tmp_path_factory.mktemp("readme") / "copy"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    story = (folder / "data" / "gull-rock.txt").read_text(encoding="utf-8")
    (folder / "other.txt").write_text(story[5000:15000] + story[-3000:], encoding="utf-8")
    done = {}
    for exercise, solution in re.findall(r"tests/exercises\.py (\w+) (\S+)", TEXT):
        subprocess.run([sys.executable, "tests/solutions.py", exercise, solution], cwd=folder, check=True, capture_output=True)
    for command in dict.fromkeys(commands()):
        missing = [name for word, name in (("pictures/", "matplotlib"), ("mpirun", "mpi4py")) if word in command
                   and "install" not in command and not importlib.util.find_spec(name)]
        if missing or ("mpirun" in command and not shutil.which("mpirun")):
            continue
        env = {**ENVIRONMENT, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_btl": "^ofi",
               "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
        done[command] = subprocess.run(["bash", "-c", f"set -o pipefail; {shell(command)}"], cwd=folder, env=env, encoding="utf-8",
                                       capture_output=True, timeout=300)
    return folder, done


@posix
def test_commands(runs):
    _, done = runs
    assert len(done) > 20
    failed = {command: (shell(command), run.returncode, run.stderr) for command, run in done.items()
              if run.returncode not in ((0, 1) if command.startswith("diff ") else (0,))}
    assert not failed
    assert not {command: run.stderr for command, run in done.items() if "-numpy.py" in command and "mpirun" not in command and run.stderr}


def test_what_is_installed_stands_in_files_that_are_there():
    files = re.findall(r"pip install -r (\S+)", TEXT)
    assert {"requirements.txt", "tests/requirements.txt"} <= set(files) and all((ROOT / file).is_file() for file in files)
    assert "uv run lstm-numpy.py" in TEXT and 'dependencies = ["numpy' in (ROOT / "lstm-numpy.py").read_text(encoding="utf-8")


def shape(line):
    """A pattern for lines that differ in numbers only, and in how they are aligned."""
    number = r"(?:-?\d[\d,.]*(?:e[+-]\d+)?|\bnan\b)"
    return re.compile(number.join(map(re.escape, re.split(number, " ".join(line.split())))))


def outputs():
    """(command, what it is said to print) for each text block: it follows the command's block, or its last mention."""
    found, said, last = [], re.finditer(rf"^```(\w+)\n(.*?)^```$|`((?:{PROGRAMS})[^`]+)`", TEXT, re.M | re.S), None
    for match in said:
        kind, body, inline = match.groups()
        if kind == "text":
            found.append((last, body.strip("\n").split("\n")))
        last = inline or (body.strip("\n").split("\n")[-1] if kind == "sh" else last)
    return found


@posix
@pytest.mark.parametrize("command, lines", outputs(), ids=[command for command, _ in outputs()])
def test_outputs(runs, command, lines):
    """Every kind of line that stands there is printed; the network's own words, between dashes, are its own."""
    if command not in runs[1]:
        pytest.skip("what this command needs is not installed")
    printed = [" ".join(line.split()) for line in runs[1][command].stdout.splitlines()]
    dashes = [k for k, line in enumerate(lines) if line == "----"]
    own = range(dashes[0] + 1, dashes[1]) if dashes else ()
    for k, line in enumerate(lines):
        if line.strip() and line != "[...]" and k not in own:
            assert any(shape(line).fullmatch(p) for p in printed), line


def test_the_first_lines_to_the_letter(tmp_path):
    """What does not depend on the machine: the first line; and the BPC after 100 iterations, to what rounding leaves of it."""
    lines = next(lines for command, lines in outputs() if "lstm-numpy.py" in command)
    printed = subprocess.run([sys.executable, str(ROOT / "lstm-numpy.py"), "--iters", "100", "--check_interval", "0"], cwd=ROOT,
                             env=ENVIRONMENT, encoding="utf-8", capture_output=True, timeout=300).stdout.splitlines()
    assert printed[0].replace(str(ROOT) + os.sep, "") == lines[0]
    said, found = (float(re.search(r"iter 100, ([\d.]+) BPC", line)[1]) for line in (lines[1], printed[1]))
    assert found == pytest.approx(said, abs=0.01)


def test_quoted_lines_are_in_their_scripts():
    quoted = [lines for kind, lines in BLOCKS if kind == "python" and lines[0].startswith("# ")]
    assert len(quoted) > 10
    for where, *lines in quoted:
        file, function = re.fullmatch(r"# (\S+), (\w+)", where).groups()
        source = (ROOT / file).read_text(encoding="utf-8")
        node = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name == function)
        rest = iter(source.split("\n")[node.lineno:node.end_lineno])
        for line in lines:
            assert line in rest, f"{where} has not, or not in this order: {line}"       # this moves rest on


def test_links_lead_somewhere():
    def anchor(heading):
        return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    for page in [ROOT / "README.md", *ROOT.glob("*/README.md")]:
        text = page.read_text(encoding="utf-8")
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        anchors = {anchor(heading.strip()) for heading in re.findall(r"^#+ (.*)$", prose, re.M)}
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if target.startswith("#"):
                assert target[1:] in anchors, target
            elif not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_formulas_are_such_as_github_renders():
    """Markdown comes first: it takes the backslash from before punctuation, and a formula begins and ends without a space."""
    prose = re.sub(r"`[^`\n]*`", "", PROSE)
    formulas = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", prose, re.S)
    assert len(formulas) > 50 and prose.replace("$$", "").count("$") % 2 == 0
    for display, inline in formulas:
        assert not re.search(r"\\[,;:!{}|_*]", display + inline), display + inline
        assert inline == inline.strip(), inline


def test_figures_that_can_be_counted():
    for name, lines in re.findall(r"^\| \[([\w-]+\.py)\]\([\w-]+\.py\) \|.*\| (\d+) \|$", TEXT, re.M):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) == int(lines), name


def test_every_flag_is_there():
    for script in ("rnn-numpy.py", "lstm-numpy.py", "dnc-numpy.py"):
        printed = subprocess.run([sys.executable, str(ROOT / script), "--help"], env=ENVIRONMENT, encoding="utf-8", capture_output=True).stdout
        table = "".join(re.findall(r"^\| `--.*$", TEXT, re.M))
        assert {flag for flag in re.findall(r"--[a-z_0-9]+", printed) if flag != "--help"} <= set(re.findall(r"--[a-z_0-9]+", table))


@posix
def test_the_weights_in_pytorch(runs):
    """The snippet of the README, on the checkpoint that the command above it has made."""
    torch = pytest.importorskip("torch")
    folder, _ = runs
    snippet = next("\n".join(lines) for kind, lines in BLOCKS if kind == "python" and "torch.nn.RNN" in "\n".join(lines))
    names, before = {}, os.getcwd()
    os.chdir(folder)
    try:
        exec(snippet, names)
    finally:
        os.chdir(before)
    rnn = load_module(ROOT / "rnn-numpy.py")
    run = rnn.load(str(folder / "rnn.npz"))
    ids = np.array([[run.vocab.index(c)] for c in "The bell"])
    logits, _, _ = rnn.forward(run.params, ids, rnn.zeros(rnn.state_shapes(1, **run.sizes), run.dtype))
    np.testing.assert_allclose(names["logits"].detach(), logits[:, :, 0].T, rtol=1e-4, atol=1e-5)
    assert isinstance(names["rnn"], torch.nn.RNN)
