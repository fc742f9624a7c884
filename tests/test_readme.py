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
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    exec("from deltaprune import Delta, Stage", names)
    for block in blocks:
        exec(block, names)
    promised = re.findall(r"print\(.*?# (\['.*'\])", README)
    assert promised
    for line in promised:
        assert line in capsys.readouterr().out


def test_its_first_command_answers(capsys: pytest.CaptureFixture[str]) -> None:
    command = next(line for line in README.splitlines() if ".venv/bin/deltaprune ask" in line)
    words = shlex.split(command.split("&&")[-1])
    assert run(words[1:]) == 0
    out = capsys.readouterr().out
    assert "none" in out
    assert "dtp:keep=0.5" in out


def test_its_numbers_are_the_measured_ones() -> None:
    """Every row of `numbers/scenes_table1.json`, the two costs side by side."""
    table = json.loads((ROOT / "numbers" / "scenes_table1.json").read_text())
    rows = {row["method"]: row for row in table["rows"]}
    cells: dict[str, list[str]] = {}
    for entry in table["entries"][1:]:
        row = rows[entry["method"]]
        low, high = row["interval"]
        cells.setdefault(entry["label"], []).append(f"{row['mean']:.1f} [{low:.1f}, {high:.1f}]")
    assert len(cells) > 5
    for label, each in cells.items():
        assert f"| {label} | {' | '.join(each)} |" in README
    assert (
        f"Unpruned it answers {rows['none']['mean']:.1f} % (the commonest answers: {rows['none']['floor']:.1f} %)"
        in README
    )
    assert f"commit {table['provenance']['commit']} · {table['provenance']['date']}" in README


def test_its_speeds_are_the_measured_ones() -> None:
    table = json.loads((ROOT / "numbers" / "bench_cpu.json").read_text())
    measured = {line["what"]: line["measured"] for line in table["lines"]}
    for what, label, text in (
        ("transformers / ours, bf16", "transformers' prefill", "**{:.1f}**"),
        ("ours / its matrix products, bf16", "our prefill", "**{:.2f}**"),
        ("dtp:keep=0.5 / none", "`dtp:keep=0.5` / unpruned", "**{:.2f}**"),
        ("10 full prefills / image and one packed batch, none", "ten prefills", "{:.1f}"),
    ):
        (line,) = (line for line in README.splitlines() if line.startswith(f"| {label}"))
        assert line.endswith(f"| {text.format(measured[what])} |")
    assert f"commit {table['provenance']['commit']}" in README


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
