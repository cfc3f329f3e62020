"""What memory.py and curves.py share: where a picture goes, and which characters it can show."""
import io
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import command                                                  # noqa: E402


def check(path, *more):
    """Whether a picture can be written here: asked before the work. more: formats beside those of
    matplotlib."""
    command.check_target(path)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise command.Failure("this needs matplotlib: pip install -r pictures/requirements.txt")
    kind = os.path.splitext(path)[1][1:].lower()
    if kind not in {**Figure().canvas.get_supported_filetypes(), **dict.fromkeys(more)}:
        raise command.Failure(f"{path}: the name of a picture ends in .png, .svg, .pdf"
                              + "".join(f" or .{name}" for name in more))


def spelt(text, family=None):
    """The text, but what the font lacks, and what steers, as its code."""
    from matplotlib.font_manager import FontProperties, findfont, get_font
    font = get_font(findfont(FontProperties(family=family)))
    return "".join(c if c.isprintable() and font.get_char_index(ord(c)) else ascii(c).strip("'")
                   for c in text)


def save(figure, path):
    """Write the picture; a .png with 256 colours: a third of the bytes, and it looks the same."""
    with command.whole_file(path) as name:
        if not path.lower().endswith(".png"):
            return figure.savefig(name)
        from PIL import Image                           # matplotlib needs it, too
        figure.savefig(dots := io.BytesIO(), format="png")
        image = Image.open(dots).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(name, dpi=(150, 150), optimize=True)
