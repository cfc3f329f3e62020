"""The story in data/, and what data/README.md says of it and of the texts that fetch.py brings."""
import hashlib
import lzma
import re
import runpy

import pytest

from conftest import ROOT

STORY = (ROOT / "data" / "gull-rock.txt").read_bytes()
README = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
ROWS = {name: (name, *(cell.strip() for cell in cells.split("|")[:-1]))
        for name, cells in re.findall(r"^\| `(.+?)` \|(.+)$", README, re.MULTILINE)}
SOURCES = runpy.run_path(str(ROOT / "data" / "fetch.py"))["SOURCES"]


def test_story_is_plain_text():
    assert len(STORY) >= 150_000
    assert set(STORY) <= {10, *range(32, 127)} and STORY.endswith(b"\n")


@pytest.mark.parametrize("text", [STORY, b" ".join(STORY.split())], ids=["as it is", "unbroken"])
def test_no_run_of_80_characters_stands_in_the_story_twice(text):
    assert len({text[i:i + 80] for i in range(len(text) - 79)}) == len(text) - 79


def test_story_is_not_from_a_template():
    assert 8 * len(lzma.compress(STORY, preset=9 | lzma.PRESET_EXTREME)) / len(STORY) >= 2.3


def test_readme_of_the_story():
    _, what, size, total = ROWS["gull-rock.txt"]
    assert "The Bell at Gull Rock" in what and "CC0 1.0" in what
    assert (size, total) == (f"{len(STORY):,}", f"sha256 `{hashlib.sha256(STORY).hexdigest()}`")


@pytest.mark.parametrize("name, row", SOURCES.items())
def test_readme_of_the_texts_to_fetch(name, row):
    _, files, source, size, total, _ = ROWS[name]
    _, url, archive_sum, texts = row
    assert re.findall("`(.+?)`", files) == list(texts) and source == f"<{url}>"
    (known, *_), archive_sum = [known for _, known in texts.values()], archive_sum or ""
    assert total == (f"sha256 `{known}`" if known else
                     f"md5 of the archive `{archive_sum.removeprefix('md5:')}`")


def test_readme_names_no_other_text():
    assert ROWS.keys() == {"gull-rock.txt", *SOURCES}
