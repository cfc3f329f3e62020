"""Copies the common blocks of one script into the others: python tests/common.py rnn-numpy.py

A common block begins with '# ---- common: NAME' and ends with '# ---- end of common: NAME ----', or
where the next begins. A script that has no block of that name is left as it is. test_common.py
holds the blocks equal.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS = "rnn-numpy.py", "lstm-numpy.py", "dnc-numpy.py"
BLOCK = re.compile(r"^# ---- common: (\w[\w ]*?)(?: \([^\n]*)? ----\n"
                   r".*?(?:^# ---- end of common: \1 ----\n|(?=^# ---- common: ))", re.M | re.S)


def blocks(source):
    """The common blocks of a script's source, markers included, by name."""
    return {match[1]: match[0] for match in BLOCK.finditer(source)}


def main(name):
    """Copy the blocks of the script of this name into the others."""
    new = blocks((ROOT / name).read_text(encoding="utf-8"))
    for path in (ROOT / other for other in SCRIPTS if other != name):
        source = path.read_text(encoding="utf-8")
        changed = BLOCK.sub(lambda match: new.get(match[1], match[0]), source)
        path.write_text(changed, encoding="utf-8", newline="\n")
        print(f"{path.name}: {'changed' if changed != source else 'as it was'}")


if __name__ == "__main__":
    if sys.argv[1:2] == [] or sys.argv[1] not in SCRIPTS:
        sys.exit(f"usage: python tests/common.py {'|'.join(SCRIPTS)}")
    main(sys.argv[1])
