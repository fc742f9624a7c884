"""The pages in docs/ do what they say: Python and commands run, the files named are the ones that are fetched."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deltaprune.calibrate.withdrawal import ETA
from deltaprune.checkpoints.hub import address
from deltaprune.cli import run
from deltaprune.methods import registry as methods
from deltaprune.mllm.processor import Processor
from deltaprune.models import cobra, robomamba
from deltaprune.models.cobra import COBRA
from deltaprune.vision.images import to_rgb
from deltaprune.vlm import VLM

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


def test_the_page_on_methods_names_every_rival_and_vtws_threshold() -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    controls = {"none", "random", "uniform"}
    assert set(re.findall(r"`(\w+)`", page.partition(" are written")[0])) == set(methods.names()) - controls
    assert re.findall(
        r"eta, .* is ([\d.]+) for LLaVA-1.5-7B, \*\*([\d.]+) for 13B and ([\d.]+) for LLaVA-v1.6", page
    ) == [(f"{ETA:g}", "0.0005", "0.0001")]


def test_what_the_page_on_models_says_of_the_vocabulary(tiny: tuple[VLM, Processor]) -> None:
    """Rows that pad it have no logit."""
    lm = tiny[0].model.lm
    assert len(lm.backbone.embedding.weight) == lm.config.padded_vocab > lm.config.vocab_size
    assert lm.logits(torch.zeros(1, lm.config.d_model)).shape == (1, lm.config.vocab_size)
    assert f"{COBRA.lm.padded_vocab:,} of them for {COBRA.lm.vocab_size:,} tokens" in MODELS


PICTURES = {  # rows of the page's table, and what `Image.open(file).convert("RGB")` makes of the same picture
    "greys of 16 bits": (np.array([[300, 65535]], dtype=np.uint16), [1, 255], [255, 255]),
    "floats": (np.array([[0.5, 1.0]], dtype=np.float32), [128, 255], [0, 1]),
    "wider integers": (np.array([[100, 255]], dtype=np.int32), [100, 255], [100, 255]),
}


@pytest.mark.parametrize("row", PICTURES)
def test_the_table_of_pictures(row: str) -> None:
    levels, here, there = PICTURES[row]
    assert f"| {row} |" in MODELS
    image = Image.fromarray(levels)
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == here
    assert np.asarray(image.convert("RGB"))[0, :, 0].tolist() == there
