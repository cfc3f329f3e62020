"""Write each script as a page, with its explanations beside the code.

    pip install -r docs/requirements.txt
    python docs/annotate.py --out site

Left stands what explains, right the code. A function's docstring stands beside it, and so does each
section of how-it-works.md that quotes it: a code block there begins with '# SCRIPT, FUNCTION'. The
model is shown in full, the code that trains it is folded. The pages need no network.
"""
import argparse
import ast
import html
import pathlib
import re
import sys

import latex2mathml.converter
import markdown_it
import mdit_py_plugins.dollarmath
import pygments.formatters
import pygments.lexers

DOCS = pathlib.Path(__file__).resolve().parent
SCRIPTS = "rnn-numpy.py", "lstm-numpy.py", "dnc-numpy.py"
SOURCE = "https://github.com/{project}/blob/main/{script}#L{line}"


def formula(text, settings):
    """A formula as MathML; sizes of brackets are the browser's."""
    text = re.sub(r"\\(big|Big|bigl|bigr)\b", "", text)
    display = "block" if settings["display_mode"] else "inline"
    return latex2mathml.converter.convert(text.strip(), display=display)


PROSE = markdown_it.MarkdownIt().enable("table").use(
    mdit_py_plugins.dollarmath.dollarmath_plugin, renderer=formula, double_inline=True)
PLAIN = markdown_it.MarkdownIt("zero").enable("code")       # docstrings: x_ is no emphasis


def sections(page):
    """The sections of a page: [(title, text without code blocks, {(script, function), ...})]."""
    found = []
    for title, body in re.findall(r"^###? (.+)\n((?:(?!##).*\n)*)", page, re.M):
        derived = set(re.findall(r"^# ([\w-]+\.py), (\w+)", body, re.M))
        found.append((title, re.sub(r"^```.*?^```\n", "", body, flags=re.M | re.S), derived))
    return found


def chunks(source):
    """The script from top to bottom: [(name or None, docstring, first line, last line)]."""
    tree, found, line = ast.parse(source), [], 1
    end = tree.body[0].end_lineno
    found.append(("", ast.get_docstring(tree), 1, end))
    for node in tree.body[1:]:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if found[-1][3] < node.lineno - 1:
                found.append((None, None, found[-1][3] + 1, node.lineno - 1))
            found.append((node.name, ast.get_docstring(node), node.lineno, node.end_lineno))
    line = found[-1][3]
    return [*found, (None, None, line + 1, source.count("\n"))]


def without_docstring(source, first, last):
    """The numbers of a chunk's lines but for its docstring and empty lines at its ends."""
    lines = source.splitlines()
    text = "\n".join(lines[first - 1:last])
    quoted = re.search(r'^ *""".*?"""$', text, re.M | re.S)
    hidden = range(0)
    if quoted:
        start = first + text[:quoted.start()].count("\n")
        hidden = range(start, start + quoted[0].count("\n") + 1)
    numbers = [n for n in range(first, last + 1) if n not in hidden]
    while numbers and not lines[numbers[0] - 1].strip():
        numbers.pop(0)
    while numbers and not lines[numbers[-1] - 1].strip():
        numbers.pop()
    return numbers


def page(script, project):
    """The HTML of a script's page."""
    source = (DOCS.parent / script).read_text(encoding="utf-8")
    how = sections((DOCS / "how-it-works.md").read_text(encoding="utf-8"))
    lexer, formatter = pygments.lexers.PythonLexer(), pygments.formatters.HtmlFormatter(nowrap=True)
    coloured = pygments.highlight(source, lexer, formatter).splitlines()
    model_ends = source[:source.index("# ---- common: text")].count("\n")
    used, rows = set(), []
    for name, docstring, first, last in chunks(source):
        numbers = without_docstring(source, first, last)
        left = PLAIN.render(docstring or "")
        for k, (title, text, derived) in enumerate(how):
            if (script, name) in derived and k not in used:
                used.add(k)
                left += f"<h3>{html.escape(title)}</h3>\n" + PROSE.render(text)
        code = "\n".join(
            f'<a id="L{n}" href="{SOURCE.format(project=project, script=script, line=n)}">{n}</a>'
            + coloured[n - 1] for n in numbers)
        code = f'<pre tabindex="0" aria-label="{script}, lines {first} to {last}">{code}</pre>'
        title = f"<h2 id='{name}'>{name}</h2>\n" if name else ""
        if not numbers:
            continue
        if name == "":
            rows.append(f"<section class='top'><div>{left}</div></section>")
        elif first > model_ends or name is None:
            about = html.escape((docstring or "").partition("\n")[0])
            shown = f"<code>{name}</code> {about}" if name else f"lines {first} to {last}"
            mark = f" id='{name}'" if name else ""
            rows.append(f"<details{mark}><summary>{shown}</summary>{left}{code}</details>")
        else:
            rows.append(f"<section><div>{title}{left}</div>{code}</section>")
    return "\n".join(rows)


def main(argv=None):
    """Run the command line."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    p.add_argument("--out", metavar="FOLDER", default="site", type=pathlib.Path)
    p.add_argument("--project", metavar="OWNER/NAME", default="rnn-lstm-dnc-numpy/scripts",
                   help="on GitHub, where line numbers lead")
    args = p.parse_args(argv)
    template = (DOCS / "annotate.html").read_text(encoding="utf-8")
    style = (DOCS / "annotate.css").read_text(encoding="utf-8")
    args.out.mkdir(parents=True, exist_ok=True)
    for script in SCRIPTS:
        links = " ".join(f'<a href="{name[:-3]}.html">{name}</a>' for name in SCRIPTS)
        text = template.replace("{style}", style).replace("{script}", script).replace(
            "{links}", links).replace("{body}", page(script, args.project))
        (args.out / f"{script[:-3]}.html").write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
