"""The pages in docs/ do what they say: Python and commands run, the files named are the ones that are fetched."""

import re
import shlex
from pathlib import Path

import pytest

from deltaprune.cli import run
from deltaprune.models import cobra, robomamba
from deltaprune.models._hub import address

ROOT = Path(__file__).parents[1]
HUGGINGFACE, MODELS = ((ROOT / "docs" / name).read_text() for name in ("huggingface.md", "models.md"))
EVALUATE = (ROOT / "docs" / "evaluate.md").read_text()


@pytest.mark.usefixtures("own_names")
@pytest.mark.parametrize(("page", "least"), [(HUGGINGFACE, 5), (EVALUATE, 3)], ids=["huggingface", "evaluate"])
def test_a_page_runs_top_to_bottom(
    page: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    blocks = re.findall(r"```(bash|python)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks].count("python") >= least
    names: dict[str, object] = {}
    for kind, block in blocks:
        if kind == "bash":
            for line in block.splitlines():
                assert run(shlex.split(line)[1:]) == 0
        else:
            exec(block, names)
    promised = re.findall(r"print\(.*\)  # (.+)", page)
    assert promised
    out = capsys.readouterr().out
    assert all(line in out for line in promised)


def test_the_page_on_models_names_every_file_that_is_fetched() -> None:
    parts = (cobra.TOKENIZER, *cobra.TOWERS, robomamba.TOKENIZER, robomamba.TOWER)
    for part in parts:
        assert part.repo is not None
        assert address(part.repo, part.file) in MODELS
        assert f"`{part.local}`" in MODELS
    for file in ("config.json", cobra.CHECKPOINT):
        assert address(cobra.REPO, f"{cobra.RUN}/{file}") in MODELS


@pytest.mark.parametrize("name", ["ask", "convert"])
def test_its_commands_have_the_options_it_shows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in MODELS.splitlines() if line.startswith(f"deltaprune {name} ")]
    assert lines
    assert run([name, "--help"]) == 0
    known = capsys.readouterr().out
    for option in {word for line in lines for word in shlex.split(line) if word.startswith("--")}:
        assert option in known


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
