"""The notebook runs, says what it says in the repository, and is shown on the site with all its cells."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

DOCS = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOK = DOCS / "first_steps.ipynb"
CELLS = nbformat.read(NOTEBOOK, as_version=4).cells
CODE = [cell for cell in CELLS if cell.cell_type == "code"]


def told(outputs: list[Any]) -> list[tuple[str, list[str]]]:
    """What cells printed and showed; of pictures only that there is one, and what it is a picture of."""
    return [
        (output.get("text") or output["data"]["text/plain"].split(" at 0x")[0], sorted(output.get("data", {})))
        for output in outputs
    ]


@pytest.mark.slow
def test_it_runs_and_its_outputs_are_the_stored_ones() -> None:
    """After a change that they show: python runs/first_steps.py."""
    from first_steps import executed

    again = [cell for cell in executed().cells if cell.cell_type == "code"]
    assert len(again) == len(CODE) > 5
    for cell, stored in zip(again, CODE, strict=True):
        if cell.source != "rows[1]" and cell.source.splitlines()[-1] != "answer":  # these two tell their times
            assert told(cell.outputs) == told(stored.outputs), cell.source
    assert sum("image/png" in output.get("data", {}) for cell in again for output in cell.outputs) == 4


def test_it_is_stored_with_small_outputs_of_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    for trace in ('"stderr"', '"error"', "/home/", "/root/", "site-packages", "iopub"):
        assert trace not in text
    nbformat.validate(json.loads(text))


def test_the_page_has_every_cell_and_picture() -> None:
    spec = importlib.util.spec_from_file_location("page", DOCS / "page.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    file = DOCS / "first_steps.md"
    page = hook.on_page_markdown(file.read_text(), SimpleNamespace(file=SimpleNamespace(abs_src_path=str(file))))
    assert ".ipynb -->" not in page
    for cell in CELLS:
        assert cell.source in page
    pictures = [output for cell in CODE for output in cell.outputs if "image/png" in output.get("data", {})]
    assert page.count('src="data:image/png;base64,') == len(pictures) == 4
    assert "freeze:budget=0.5" in page.partition("agreement  macs_share")[2]
    assert (
        hook.on_page_markdown("No notebook.", SimpleNamespace(file=SimpleNamespace(abs_src_path="x"))) == "No notebook."
    )
