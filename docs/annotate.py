"""Write each script as a page, with its explanations beside the code.

    pip install -r docs/requirements.txt
    python docs/annotate.py --out site

A function's docstring stands beside its code, and so does a section of how-it-works.md that derives
it: one that names it in a quotation ('# SCRIPT, FUNCTION') or a comment ('<!-- SCRIPT, FUNCTION,
... -->'). The section is printed beside the first function of the page that it names, and the
others link to it. The model is shown in full, the code that trains it is folded.
"""
import argparse
import ast
import html
import itertools
import os
import pathlib
import re

import latex2mathml.converter
import markdown_it
import mdit_py_plugins.dollarmath
import pygments.formatters
import pygments.lexers

DOCS = pathlib.Path(__file__).resolve().parent
SCRIPTS = "rnn-numpy.py", "lstm-numpy.py", "dnc-numpy.py"      # each one builds on those before
MATHML = [                                  # what latex2mathml sets badly, and the same set well
    (r"\|([^|]+)\|", r"\\left| \1 \\right|"),               # else | gets an operator's spaces
    (r"(?<=[\w}]) *(\\(?:cos|log|tanh)(?![a-z]))", r"\\:\1"),  # space before a function's name,
    (r"(\\(?:log|tanh)) (?=[\w\\])", r"\1\\:")]             # and before its argument


def formula(text, settings):
    """A formula as MathML. A displayed one is cut at wide spaces and ends of lines, to wrap."""
    for old, new in MATHML:
        text = re.sub(old, new, text)
    if not settings["display_mode"]:
        return latex2mathml.converter.convert(text)
    return "".join(latex2mathml.converter.convert(part.strip(), display="block")
                   for part in re.split(r"\\q?quad|(?<=[+-])\n", text))


PROSE = markdown_it.MarkdownIt().enable("table").use(
    mdit_py_plugins.dollarmath.dollarmath_plugin, renderer=formula, double_inline=True)
PLAIN = markdown_it.MarkdownIt("zero").enable("code")       # docstrings: x_ is no emphasis


def sections(text):
    """The sections of a page: title, text, and the pairs of script and function that it derives."""
    for title, body in re.findall(r"^#{1,3} (.+)\n((?:(?!##).*\n)*)", text, re.M):
        named = re.findall(r"^(?:#|<!--) ([\w-]+\.py), ([\w, ]+?)(?: -->)?$", body, re.M)
        yield title, body, [(script, name) for script, names in named for name in names.split(", ")]


def prose(text, lines):
    """The HTML of a section. A quotation becomes a link to its first line in the script."""
    def link(quotation):
        n = [line.split() for line in lines].index(quotation[1].split()) + 1
        return f"[Line {n}](#L{n})"
    text = re.sub(r"^```python\n# [\w-]+\.py, \w+\n(.*)\n(?s:.*?)^```$", link, text, flags=re.M)
    return PROSE.render(re.sub(r"^<!--.*\n", "", text, flags=re.M))


def derivations(script, name, how, lines):
    """The HTML of the sections that derive a function, or links to them."""
    out = ""
    for title, text, derived in how:
        files = [file for file in (script, *SCRIPTS[:SCRIPTS.index(script)])
                 if (file, name) in derived]
        place = next((function for file, function in derived if file in files[:1]), None)
        if (files[:1], place) == ([script], name):
            out += f"<h3>{title}</h3>\n{prose(text, lines)}"
        elif place:
            out += f'<p>See <a href="{files[0][:-3]}.html#{place}">{title}</a>.</p>\n'
    return out


def chunks(source):
    """The script's statements, one definition or those between two, and the part they begin."""
    lines, body = source.splitlines(), ast.parse(source).body
    defined = [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    marks = [n for n, line in enumerate(lines, 1) if re.match("# .*----", line)]
    cuts = {body[0].end_lineno + 1, *marks, len(lines) + 1, *(node.lineno for node in defined),
            *(node.end_lineno + 1 for node in defined)}
    for first, end in itertools.pairwise(sorted(cuts)):
        part = re.match(r"# (?:---- common: )?(\w[\w ]*?)(?: \(.*\))? --", lines[first - 1])
        yield part and part[1], [node for node in body if first <= node.lineno < end]


def page(script, source):
    """The HTML of a script's page. source: the script's address, where line numbers lead."""
    text = (DOCS.parent / script).read_text(encoding="utf-8")
    how = list(sections((DOCS / "how-it-works.md").read_text(encoding="utf-8")))
    lines, rows, contents, parts = text.splitlines(), [], [], []
    coloured = pygments.highlight(text, pygments.lexers.PythonLexer(stripnl=False),
                                  pygments.formatters.HtmlFormatter(nowrap=True)).splitlines()
    for part, nodes in chunks(text):
        parts += [part] * bool(part)
        if part == "The model" or part and "learning" in parts:
            rows.append(f'<h2 class="part">{part.capitalize()}</h2>')
        if not nodes:
            continue
        first, last, hidden, left, about = nodes[0].lineno, nodes[-1].end_lineno, (), "", ""
        if name := getattr(nodes[0], "name", ""):
            hidden = range(nodes[0].body[0].lineno, nodes[0].body[0].end_lineno + 1)
            docstring = ast.get_docstring(nodes[0])
            left = PLAIN.render(docstring) + derivations(script, name, how, lines)
            about = html.escape(re.split(r"(?<=\.) (?=[A-Z])|\n\n", docstring)[0])
        constants = re.findall("^[A-Z]+", "\n".join(lines[first - 1:last]), re.M)
        title = name or (constants or parts[-1:])[0].replace(" ", "-")
        code = "\n".join(f'<a id="L{n}" href="{source}#L{n}">{n}</a>{coloured[n - 1]}'
                         for n in range(first, last + 1) if n not in hidden)
        code = f'<pre tabindex="0" role="region" aria-label="{title}">{code}</pre>'
        if "text" in parts or title == "imports":
            rows.append(f'<details id="{title}"><summary><code>{title}</code> {about}</summary>'
                        f"{left}{code}</details>")
            continue
        contents.append(f'<a href="#{title}">{title}</a>')
        rows.append(f'<section id="{title}"><div><h3><code>{title}</code></h3>\n{left}</div>'
                    f"{code}</section>")
    top, notation = PLAIN.render(ast.get_docstring(ast.parse(text))), prose(how[0][1], lines)
    return (f'<div class="top">{top}</div>\n<details><summary>Notation</summary>{notation}'
            f'</details>\n<p class="contents">{" ".join(contents)}</p>\n' + "\n".join(rows))


def main():
    """Run the command line."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    p.add_argument("--out", metavar="FOLDER", default="site", type=pathlib.Path)
    p.add_argument("--source", metavar="URL", default="", help="where the repository's files are")
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    base = args.source or pathlib.Path(os.path.relpath(DOCS.parent, args.out)).as_posix()
    template, style = ((DOCS / name).read_text(encoding="utf-8")
                       for name in ("annotate.html", "annotate.css"))
    files = [*SCRIPTS, *["notebook.ipynb"] * (args.out / "notebook.html").exists()]
    for script in SCRIPTS:
        links = " ".join(f'<a href="{pathlib.Path(name).stem}.html"'
                         f'{" aria-current=page" * (name == script)}>{name}</a>' for name in files)
        body = re.sub(r'href="((?:\.\./)?[\w-]+\.(?:md|py))', rf'href="{base}/docs/\1',
                      page(script, args.source and f"{args.source}/{script}"))
        text = template.format(style=style, script=script, links=links, body=body)
        for name in [script[:-3], *["index"] * (script == SCRIPTS[0])]:
            (args.out / f"{name}.html").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
