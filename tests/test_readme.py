"""The README does what it says: its Python runs, its commands run, its files exist."""

import json
import re
import shlex
from pathlib import Path

import pytest

from deltaprune.cli import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_its_python_runs_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    """As one script and with nothing added: what it imports, it shows."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == len(re.findall(r"^```python$", README, re.MULTILINE)) >= 1
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    promised = re.findall(r"print\(.*?# (\['.*'\])", README)
    assert promised
    out = capsys.readouterr().out
    assert all(line in out for line in promised)


def test_its_first_command_answers(capsys: pytest.CaptureFixture[str]) -> None:
    command = next(line for line in README.splitlines() if ".venv/bin/deltaprune ask" in line)
    words = shlex.split(command.split("&&")[-1])
    assert run(words[1:]) == 0
    out = capsys.readouterr().out
    assert "none" in out
    assert "dtp:keep=0.5" in out
    assert "freeze" in out


def test_its_numbers_are_the_measured_ones() -> None:
    """Every row of `numbers/scenes_freeze.json`, the costs side by side."""
    table = json.loads((ROOT / "numbers" / "scenes_freeze.json").read_text())
    rows = {row["method"]: row for row in table["rows"]}
    blocks = list(dict.fromkeys(entry["block"] for entry in table["entries"][1:]))
    cells: dict[str, dict[str, str]] = {}
    for entry in table["entries"][1:]:
        row = rows[entry["method"]]
        low, high = row["interval"]
        cells.setdefault(entry["label"], {})[entry["block"]] = f"{row['mean']:.1f} [{low:.1f}, {high:.1f}]"
    assert len(cells) > 5
    for label, each in cells.items():
        line = " | ".join(each.get(block, "out of reach") for block in blocks)
        assert f"| {label} | {line} |" in README or f"| **{label}** | {line} |" in README
    assert (
        f"Unpruned it answers {rows['none']['mean']:.1f} % (the commonest answers: {rows['none']['floor']:.1f} %)"
        in README
    )
    assert f"commit {table['provenance']['commit']} · {table['provenance']['date']}" in README


def test_it_is_short() -> None:
    assert len(README.split()) < 900


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
