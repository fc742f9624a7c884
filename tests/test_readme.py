"""The README does what it says: its Python runs, its commands run, its files exist."""

import inspect
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import deltaprune as dp
from deltaprune.cli import run
from deltaprune.mllm.processor import Processor

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_its_python_runs_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    """As one script and with nothing added: what it imports, it shows."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == len(re.findall(r"^```python$", README, re.MULTILINE)) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    promised = re.findall(r"print\(.*?# (\['.*'\])", README)
    assert promised
    out = capsys.readouterr().out
    assert all(line in out for line in promised)


@pytest.mark.parametrize("block", re.findall(r"```py\n(.*?)```", README, re.DOTALL), ids=["cobra", "robomamba"])
def test_its_python_on_published_weights_runs(
    block: str,
    tiny: tuple[dp.VLM, Processor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the tiny model: every name is imported there or in the block before, and every call fits."""
    called = []

    def load(*args: object, **options: object) -> tuple[dp.VLM, Processor]:
        called.append(inspect.signature(real).bind(*args, **options))
        return tiny

    real = dp.load
    monkeypatch.setattr(dp, "load", load)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40), "orange").save("photo.jpg")
    first = README.split("```py\n")[1].split("```")[0]
    imports = "\n".join(line for line in first.splitlines() if line.startswith(("import ", "from ")))
    exec(f"{imports}\n{block}", {})
    assert called
    assert len(capsys.readouterr().out.splitlines()) == 1


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
