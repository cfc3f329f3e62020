"""docs/notebook.ipynb runs from the first cell to the last and gives what is kept in it; and that
can be read without running, tells nothing about who ran it, and is small."""
import base64
import copy
import json
import re

import pytest

from conftest import ROOT

nbformat = pytest.importorskip("nbformat")

PATH = ROOT / "docs" / "notebook.ipynb"
KEPT = nbformat.read(PATH, as_version=4)
CODE = [cell for cell in KEPT.cells if cell.cell_type == "code"]


def printed(cell):
    """What a cell prints."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def kinds(cell):
    """The kinds of a cell's outputs, in order."""
    return [sorted(output.get("data", [output.output_type])) for output in cell.outputs]


def test_it_is_a_notebook_with_outputs():
    nbformat.validate(KEPT)
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    assert sum("image/png" in kind for cell in CODE for kind in kinds(cell)) >= 3
    assert all(output.output_type in ("stream", "display_data", "execute_result")
               and output.get("name") != "stderr" for cell in CODE for output in cell.outputs)
    assert PATH.stat().st_size < 1_500_000


def test_no_paths_or_names_of_users():
    """Nor when a cell ran. Of the pictures, matplotlib says only that it has drawn them."""
    kept = copy.deepcopy(KEPT)
    for cell in kept.cells:
        assert not cell.metadata, cell.metadata
        for output in cell.get("outputs", []):
            picture = base64.b64decode(output.get("data", {}).pop("image/png", ""))
            assert set(re.findall(rb"(?:tEXt|iTXt)(\w+)\0", picture)) <= {b"Software"}
    text = json.dumps(kept)
    assert not re.search(r"/(?:home|Users|root|tmp|mnt|opt|usr|var|work)\b|\b[A-Z]:\\", text)
    assert set(kept.metadata) == {"kernelspec", "language_info"}
    assert kept.metadata.kernelspec.name == "python3"


def test_links_lead_somewhere():
    text = "".join(cell.source for cell in KEPT.cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all((PATH.parent / target).is_file() for target in targets)
    assert all(len(line) <= 100 for cell in KEPT.cells for line in cell.source.splitlines())


def test_it_runs_and_gives_what_is_kept(monkeypatch):
    """The same kinds of outputs, and the same words, but for samples and numbers, which depend on
    the machine. What the prose says about the outputs holds."""
    nbclient = pytest.importorskip("nbclient")
    for name in ("ipykernel", "matplotlib"):
        pytest.importorskip(name)
    for name in ("PYTHONWARNINGS", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    ran = copy.deepcopy(KEPT)
    for cell in ran.cells:
        cell.update({"outputs": []} if cell.cell_type == "code" else {})
    nbclient.NotebookClient(ran, timeout=600, startup_timeout=600, iopub_timeout=600,
                            kernel_name="python3", coalesce_streams=True,
                            resources={"metadata": {"path": str(ROOT / "docs")}}).execute()
    ran = [cell for cell in ran.cells if cell.cell_type == "code"]
    for new, old in zip(ran, CODE, strict=True):
        assert kinds(new) == kinds(old), new.source
        if "sample" not in new.source.replace("sample_length", ""):
            words = [{re.sub(r"-?\d[\d.,e+-]*", "#", " ".join(line.split())) for line in
                      printed(cell).splitlines()} for cell in (new, old)]
            assert words[0] == words[1], new.source
    for outputs in (ran, CODE):
        text = "\n".join(map(printed, outputs))
        bpc = re.findall(r"held-out: ([\d.]+) BPC", text)
        assert 1.5 < float(bpc[-1]) < 2.3 < 2.4 < float(bpc[0])
        assert abs(float(re.search(r"with a correlation of ([-\d.]+)", text)[1])) > 0.6
        assert float(re.search(r"relative error +(\S+)", text)[1]) < 1e-6
        assert re.search(r"copy: ([a-h]{16})\nthe same: True", text)
        samples = re.findall(r"^---- temperature ([\d.]+)\nThe bell[\s\S]{160}\n", text, re.M)
        assert [float(temperature) for temperature in samples] == [0.3, 0.8, 1.2]
