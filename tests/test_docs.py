"""README.md, CONTRIBUTING.md and docs/ are true: commands run, one after another as they stand
there (shortened), flags exist, outputs look as shown, quoted lines are in the scripts, links lead
somewhere, lines are short."""
import ast
import functools
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from conftest import ENVIRONMENT, ROOT, load, posix, prepared, python

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
EVERY = [*PAGES, ROOT / "CHANGELOG.md", *sorted(ROOT.glob("*/README.md"))]
TEXT = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
SHORTER = [                                     # to a command that matches, this is added
    (r"python (?:rnn|lstm|dnc)-numpy\.py(?!.*--iters 0)", " --iters 2 --sample_length 5"),
    (r"python data/tasks\.py(?!.*--size \d{1,4}\b)", " --size 30000"),
    (r"python dnc-debug\.py", " --gradcheck 2 --hidden 4 --batchsize 2 --seqlength 4")]
READERS = r"\bpip |pytest|venv|git clone|tests/common\.py"          # what is left to the reader


def blocks(name):
    """The code blocks of a page: (language, lines)."""
    return [(kind, body.splitlines())
            for kind, body in re.findall(r"^```(\w+)\n(.*?)^```$", TEXT[name], re.M | re.S)]


def prose(text):
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def commands(name):
    """The commands of a page's sh blocks, each with the lines of the text block behind it."""
    found = []
    for kind, lines in blocks(name):
        if kind == "sh":
            joined = "\n".join(lines).replace("\\\n", " ")
            found += [[command, []] for command in joined.splitlines()]
        elif kind == "text" and found:
            found[-1][1] = lines
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A function of a page's name: the folder in which its commands ran, and what came of each."""
    @functools.cache
    def run(name):
        folder, printed = tmp_path_factory.mktemp("docs") / "copy", {}
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"))
        story = (folder / "data" / "gull-rock.txt").read_text(encoding="utf-8")
        (folder / "data" / "tinyshakespeare.txt").write_text(story, encoding="utf-8")   # or fetched
        (folder / "other.txt").write_text(story[5000:9000], encoding="utf-8")
        for command in dict.fromkeys(command for command, _ in commands(name)):
            drawn = "pictures/" in command and not importlib.util.find_spec("matplotlib")
            if drawn or re.search(READERS, command):
                continue
            more = next((flags for pattern, flags in SHORTER if re.search(pattern, command)), "")
            shell = (command + more).replace("python ", f"{shlex.quote(sys.executable)} -W error ")
            printed[command] = subprocess.run(["bash", "-c", shell], cwd=folder, env=ENVIRONMENT,
                                              encoding="utf-8", capture_output=True, timeout=900)
        return folder, printed
    return run


def shape(line):
    """A pattern for lines that differ in numbers only."""
    number = r"(?:-?\d[\d,.]*(?:e[+-]\d+)?|\bnan\b)"
    return re.compile(number.join(map(re.escape, re.split(number, " ".join(line.split())))))


@posix
@pytest.mark.parametrize("name", [name for name in TEXT if commands(name)])
def test_commands_run_and_print_what_is_shown(ran, name):
    """All kinds of lines shown are printed; but a sample, between dashes, is the network's own."""
    _, printed = ran(name)
    failed = {command: done.stderr for command, done in printed.items() if done.returncode or
              (done.stderr and "-numpy.py" in command)}
    assert not failed
    for command, shown in ((c, shown) for c, shown in commands(name) if c in printed):
        sample = re.compile(r"^----\n.*?^----$", re.M | re.S)
        lines = [" ".join(line.split()) for line in printed[command].stdout.splitlines()]
        for line in sample.sub("", "\n".join(shown)).splitlines():
            assert line in ("", "[...]") or any(map(shape(line).fullmatch, lines)), line


@posix
def test_outputs_to_the_letter(ran):
    """What does not depend on the machine: a sample at temperature 0, the first line of a run, and
    its BPC, but for rounding. A slow machine has more lines, so each iteration gets one here."""
    _, printed = ran("memory.md")
    command, shown = next(item for item in commands("memory.md") if item[1])
    assert printed[command].stdout.splitlines() == shown
    shown = next(shown for _, shown in commands("README.md") if shown)
    lines = python(ROOT, "lstm-numpy.py", "--iters", 100, "--sample_length", 0,
                   "--print_interval", 1).stdout.splitlines()
    assert lines[0] == shown[0]
    found, said = ({int(n): float(x) for n, x in re.findall(r"iter (\d+), ([\d.]+) BPC", text)}
                   for text in ("\n".join(lines), "\n".join(shown)))
    assert found[1] == pytest.approx(said[1], abs=1e-3)
    assert sum(found[n] for n in range(51, 101)) / 50 == pytest.approx(said[100], abs=0.01)


@functools.cache
def flags(script):
    """The flags in a script's --help; None if it needs what is not installed."""
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, env=ENVIRONMENT,
                          encoding="utf-8", capture_output=True)
    return set(re.findall(r"--\w+", done.stdout)) if done.returncode == 0 else None


@pytest.mark.parametrize("name", TEXT)
def test_flags_exist(name):
    known = set().union(*(flags(f"{script}.py") for script in
                          ("dnc-numpy", "dnc-debug", "data/tasks")))
    text = TEXT[name].replace("\\\n", " ")
    for script, given in re.findall(r"python ([\w/-]+\.py)([^`\n|]*)", text):
        assert (ROOT / script).is_file() or script.startswith("my-"), script
        found = flags(script) if (ROOT / script).is_file() else None
        assert found is None or set(re.findall(r"--\w+", given)) <= found, (script, given)
    named = set(re.findall(r"`(--\w+)", text))
    assert named <= known, named - known
    if name == "README.md":
        assert 10 <= len(re.findall(r"^\| `--", text, re.M)) and "uv run lstm-numpy.py" in text


def test_quoted_lines_are_in_their_functions():
    """In their order, but for white space; lines between them may be left out."""
    quoted = [lines for name in TEXT for kind, lines in blocks(name)
              if kind == "python" and re.match(r"# \S+\.py, ", lines[0])]
    assert len(quoted) > 10
    for where, *lines in quoted:
        file, function = re.fullmatch(r"# (\S+), (\w+)", where).groups()
        source = (ROOT / file).read_text(encoding="utf-8")
        node = next(node for node in ast.walk(ast.parse(source))
                    if isinstance(node, ast.FunctionDef) and node.name == function)
        body = iter(line.split() for line in source.splitlines()[node.lineno:node.end_lineno])
        for line in lines:
            assert line.split() in body, f"{where}: not there, or not in this order: {line}"


def anchors(page):
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", EVERY, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            other = page.parent / path if path else page
            assert other.exists() and (not anchor or anchor in anchors(other)), target


@pytest.mark.parametrize("page", EVERY, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_at_most_100_columns_wide(page):
    """But for tables, and for what has no place to break."""
    for line in prose(page.read_text(encoding="utf-8")).splitlines():
        assert len(line) <= 100 or line.startswith("|") or " " not in line.strip(), line


def test_formulas_are_such_as_github_renders():
    """Markdown comes first: it takes the backslash from before punctuation; and a formula begins
    and ends without a space."""
    text = re.sub(r"`[^`\n]*`", "", prose(TEXT["how-it-works.md"]))
    formulas = re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", text, re.S)
    assert len(formulas) > 50 and text.replace("$$", "").count("$") % 2 == 0
    for display, inline in formulas:
        assert not re.search(r"\\[,;:!{}|_*\\]", display + inline), display + inline
        assert inline == inline.strip() and "\n" not in inline, inline


def test_line_counts():
    """Within 12 %: the README rounds."""
    rows = re.findall(r"^\| \[([\w-]+\.py)\]\(\S+\) \| about ([\d,]+) \|", TEXT["README.md"], re.M)
    assert len(rows) == 4
    for name, said in rows:
        lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
        assert lines == pytest.approx(int(said.replace(",", "")), rel=0.12), name


@posix
def test_the_weights_in_pytorch(ran, monkeypatch):
    """The snippet, on the checkpoint that the command above it has made."""
    torch = pytest.importorskip("torch")
    folder, _ = ran("pytorch.md")
    snippet = next("\n".join(lines) for kind, lines in blocks("pytorch.md") if kind == "python")
    names = {}
    monkeypatch.chdir(folder)
    exec(snippet, names)
    script = load("rnn-numpy.py")
    run = script.load(str(folder / "rnn.npz"))
    ids = np.array([[run.vocab.index(c)] for c in "The bell"])
    y, _, _ = script.forward(run.best_params, ids, script.zero_state(run, 1))
    np.testing.assert_allclose(names["y"].detach(), y[:, 0], rtol=1e-4, atol=1e-5)
    assert isinstance(names["rnn"], torch.nn.RNN)


def test_the_readmes_rate_for_another_text(tmp_path):
    """Better than a lower one, and than afresh."""
    rate = re.search(r"--data other\.txt --save other\.npz --lr (\S+)", TEXT["README.md"])[1]
    lstm, story = prepared("lstm", tmp_path), (ROOT / "data" / "gull-rock.txt").read_text("utf-8")
    lstm.text.write_text(story[:60_000], encoding="utf-8")
    (tmp_path / "other.txt").write_text(story[100_000:108_000], encoding="utf-8")
    flags = "--hidden 32 --batchsize 16 --dropout 0 --check_interval 25 --iters"
    lstm.train(f"{flags} 300 --save tale.npz")

    def best(name, *more):
        lstm.train(f"{flags} 75 --data other.txt --save {name}.npz", *more)
        return lstm.saved(f"{name}.npz")["best"]
    tuned = best("other", "--load", "tale.npz", "--lr", rate)       # 2.46
    assert tuned < best("slow", "--load", "tale.npz", "--lr", "0.02") - 0.05        # 2.56
    assert tuned < best("fresh") - 0.2                              # 2.82
