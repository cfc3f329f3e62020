"""docs/annotate.py: each derivation stands beside its function, formulas are MathML, links lead
somewhere; and the pages in a headless Chromium, on a wide screen and on a narrow one."""
import ast
import html
import json
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ENVIRONMENT, MODELS, ROOT

for _name in ("latex2mathml", "markdown_it", "mdit_py_plugins", "pygments"):
    pytest.importorskip(_name)

HOW = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
CSS = (ROOT / "docs" / "annotate.css").read_text(encoding="utf-8")
NAMES = [f"{model}-numpy" for model in MODELS]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)
WIDTHS = 390, 1400
MEASURE = """<!DOCTYPE html><meta charset="utf-8"><body><script>
const pages = %s, found = {};
let left = pages.length;
for (const [name, width] of pages) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 800px; border: 0`;
  frame.src = name + ".html";
  frame.onload = () => {
    const page = frame.contentDocument, root = page.scrollingElement;
    page.querySelectorAll("details").forEach(folded => folded.open = true);
    found[name + " " + width] = {
      width: root.clientWidth, needs: root.scrollWidth,
      math: [...page.querySelectorAll("math")].filter(
          math => !(math.getBoundingClientRect().width > 4)).map(math => math.textContent),
      loaded: frame.contentWindow.performance.getEntriesByType("resource").length,
      code: getComputedStyle(page.querySelector("section > pre")).overflowX,
    };
    left -= 1;
    if (!left) document.body.textContent = JSON.stringify(found);
  };
  document.body.append(frame);
}
</script>"""


def annotate(folder, *flags):
    """Run the script: name -> page."""
    subprocess.run([sys.executable, "-W", "error", ROOT / "docs" / "annotate.py", "--out", folder,
                    *flags], cwd=folder, env=ENVIRONMENT, check=True, timeout=300)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def pages(site):
    return annotate(site)


def rows(page):
    """What stands beside each function, and its code: name -> (explanation, code), as HTML."""
    found = re.findall(r'<(?:section|details) id="([\w-]+)">(.*?)(<pre tabindex.*?</pre>)'
                       r"</(?:section|details)>", page, re.S)
    return {name: (left, code) for name, left, code in found}


def plain(text):
    """HTML to text."""
    return html.unescape(re.sub(r"<[^>]+>", "", text))


def unnumbered(code):
    """The lines of code, without their numbers."""
    return plain(re.sub(r"<a id=.*?</a>", "", code)).splitlines()


def with_gradient(script):
    """The functions of a script's model that have a gradient, or are one."""
    source = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    model = source[:source.index("# ---- common: learning")]
    return [node.name for node in ast.parse(model).body if isinstance(node, ast.FunctionDef)
            and (node.name in ("forward", "backward") or any(
                isinstance(inner, ast.FunctionDef) for inner in node.body))]


def headings(page):
    return {plain(title) for title in re.findall("<h3>(.*?)</h3>", page)}


@pytest.mark.parametrize("name", NAMES)
def test_all_code_is_there(pages, name):
    """In order, but for docstrings; the model in full, the machinery folded."""
    source = (ROOT / f"{name}.py").read_text(encoding="utf-8")
    found, lines = rows(pages[name]), source.splitlines()
    body = [node for node in ast.parse(source).body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert {node.name for node in body} < set(found)
    for node in body:
        hidden = range(node.body[0].lineno, node.body[0].end_lineno + 1)
        left, code = found[node.name]
        wanted = [lines[n - 1] for n in range(node.lineno, node.end_lineno + 1) if n not in hidden]
        assert unnumbered(code) == wanted, node.name
        said = " ".join(plain(left).split())
        assert " ".join(ast.get_docstring(node).split()) in said, node.name
        machinery = node.lineno > source[:source.index("# ---- common: text")].count("\n")
        assert (f'<details id="{node.name}">' in pages[name]) == machinery, node.name
    statements = {line for _, code in found.values() for line in unnumbered(code)}
    assert {'MODEL = "' + name[:-6] + '"', "import numpy as np"} <= statements


def test_what_has_a_gradient_has_its_derivation(pages):
    """On its page, or one link away: on another page, or beside another function."""
    for name in NAMES:
        assert len(with_gradient(name)) > 1
        for function in with_gradient(name):
            beside = rows(pages[name])[function][0]
            derived = re.findall(r"<h3>([^<]+)</h3>", beside)
            links = re.findall(r'<p>See <a href="([\w-]+\.html)?#(\w+)">([^<]+)</a>', beside)
            assert derived or links, f"{name}, {function}: how-it-works.md does not derive it"
            for other, place, title in links:
                there = rows(pages[(other or name).removesuffix(".html")])[place][0]
                assert f"<h3>{title}</h3>" in there, (name, function, title)


def test_every_section_is_on_a_page(pages):
    """Once, but for the one that is about another script; and all of its words."""
    titles = re.findall("^###? (.*)$", HOW, re.M)
    printed = [title for name in NAMES for title in re.findall(r"<h3>([^<]+)</h3>", pages[name])]
    assert sorted(html.unescape(title) for title in printed) == sorted(
        set(titles) - {"The gradients, checked"})
    text = re.sub(r"^```.*?^```$|<!--.*?-->|\$\$.*?\$\$", "", HOW, flags=re.M | re.S)
    for paragraph in text[:text.index("## The gradients, checked")].split("\n\n")[1:]:
        words = re.match(r"[\w ,.:]{12,}", " ".join(paragraph.split()))
        if words:
            assert any(words[0].strip() in " ".join(plain(pages[name]).split())
                       for name in NAMES), words[0]


@pytest.mark.parametrize("name", NAMES)
def test_quotations_lead_to_their_lines(pages, name):
    """Each quotation of how-it-works.md is a link to its first line, in its order."""
    quoted = re.findall(rf"^```python\n# {name}\.py, \w+\n(.*)", HOW, re.M)
    source = (ROOT / f"{name}.py").read_text(encoding="utf-8").splitlines()
    links = re.findall(r'<a href="#L(\d+)">Line (\d+)</a>', pages[name])
    assert quoted and all(one == other for one, other in links)
    assert sorted(source[int(n) - 1].split() for n, _ in links) == sorted(map(str.split, quoted))


@pytest.mark.parametrize("name", NAMES)
def test_formulas_are_mathml(pages, name):
    """And nothing of LaTeX is left on a page, or a formula in the prose, or an empty one."""
    formulas = re.findall(r"<math.*?</math>", pages[name], re.S)
    assert len(formulas) > 20
    for formula in formulas:
        assert plain(formula).strip() and "\\" not in plain(formula), formula
        assert formula.count('form="prefix"') == formula.count('form="postfix"'), formula
    prose = re.sub(r"<math.*?</math>|<pre.*?</pre>", "", pages[name], flags=re.S)
    assert "$" not in prose and not re.search(r"<p>[^<]*\\\w\w", prose)


def test_no_formula_is_lost(pages):
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", HOW, flags=re.M | re.S)
    text = text[:text.index("## The gradients, checked")]
    notation, rest = text.split("\n## ", 1)
    pattern = re.compile(r"\$\$.+?\$\$|\$[^$]+\$", re.S)
    blocks = sum(len(re.findall('class="math (?:block|inline)"', pages[name])) for name in NAMES)
    assert blocks == len(pattern.findall(rest)) + len(NAMES) * len(pattern.findall(notation))


def test_links_lead_somewhere(pages, site):
    """To anchors, which are unique, to other pages, and to files of the repository."""
    anchors = {name: re.findall(r' id="([^"]+)"', page) for name, page in pages.items()}
    assert set(pages) == {*NAMES, "index"} and pages["index"] == pages["rnn-numpy"]
    for name, page in pages.items():
        assert len(anchors[name]) == len(set(anchors[name]))
        links = re.findall(r'href="([^"]*)"', page)
        assert len(links) > 100
        for target in links:
            file, _, anchor = target.partition("#")
            if file.endswith(".html") or not file:
                assert anchor in ("", *anchors[file[:-5] or name]), target
            elif not target.startswith("data:"):
                assert (site / file).is_file(), target


def test_line_numbers_lead_to_the_source(tmp_path):
    """As --source says; a notebook beside the pages is linked."""
    (tmp_path / "notebook.html").write_text("a notebook")
    page = annotate(tmp_path, "--source", "https://example.org/files")["lstm-numpy"]
    source = (ROOT / "lstm-numpy.py").read_text(encoding="utf-8").splitlines()
    n = source.index("def lstm_cell(a, c_):") + 1
    assert f'<a id="L{n}" href="https://example.org/files/lstm-numpy.py#L{n}">{n}</a>' in page
    assert 'href="https://example.org/files/docs/differences.md' in page
    assert 'href="notebook.html"' in page


def test_contrast_of_text():
    """At least 4.5 (WCAG 2), in both modes, on the page and on code."""
    def luminance(colour):
        parts = [int(colour[k:k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    modes = [dict(re.findall(r"--(\w+): (#\w{6})", block))
             for block in re.findall(r":root \{(.*?)\}", CSS, re.S)]
    assert len(modes) == 2 and modes[0].keys() == modes[1].keys()
    used = set(re.findall(r"[{ ]color: var\(--(\w+)\)", CSS))
    assert len(used) > 5 and not re.search(r"[{; ]color: (?!var)", CSS)
    for mode in modes:
        for name in used:
            for ground in (mode["page"], mode["code"]):
                dark, light = sorted([luminance(mode[name]), luminance(ground)])
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, mode[name], ground)


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_in_a_browser(pages, site):
    """No error in the console, no page wider than the window, no formula without a size; nothing
    is loaded. The pages stand in frames of a page that measures them."""
    frames = [[name, width] for name in NAMES for width in WIDTHS]
    (site / "measure.htm").write_text(MEASURE % json.dumps(frames), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--allow-file-access-from-files", "--enable-logging=stderr", "--dump-dom",
         "--virtual-time-budget=20000", f"--user-data-dir={site / 'profile'}",
         (site / "measure.htm").as_uri()],
        env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=300)
    assert "CONSOLE" not in done.stderr, done.stderr
    found = json.loads(html.unescape(re.search(r"<body>(\{.*\})</body>", done.stdout)[1]))
    assert len(found) == len(frames)
    for where, page in found.items():
        assert page["needs"] <= page["width"] == int(where.split()[1]), (where, page)
        assert page["math"] == [] and page["loaded"] == 0 and page["code"] == "auto", (where, page)
