"""The pages in docs/ do what they say: Python and commands run, the files named are the ones that are fetched."""

import inspect
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import deltaprune as dp
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
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
MODELS = (DOCS / "guides" / "models.md").read_text()
HOME = "https://github.com/deltaprune/deltaprune/"
RUN = {  # pages whose Python and commands run, and how many blocks of Python each has at least
    "index": 3,
    "concepts": 2,
    "guides/huggingface": 5,
    "guides/hybrids": 3,
    "guides/evaluate": 3,
    "guides/own_method": 3,
    "guides/studio": 1,
}


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS).with_suffix(""))


def test_every_page_with_python_is_run() -> None:
    """But for those on published weights (`py`, below), and the file that lmms-eval reads."""
    with_python = {name_of(page) for page in PAGES if "```python" in page.read_text()}
    assert with_python - {"guides/lmms_eval"} == RUN.keys()


@pytest.mark.usefixtures("own_names")
@pytest.mark.parametrize(("name", "least"), RUN.items(), ids=RUN)
def test_a_page_runs_top_to_bottom(
    name: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / f"{name}.md").read_text()
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


@pytest.mark.parametrize(
    "block", re.findall(r"```py\n(.*?)```", MODELS, re.DOTALL), ids=["cobra", "files", "robomamba", "quantized"]
)
def test_python_on_published_weights_runs(
    block: str,
    tiny: tuple[VLM, Processor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the tiny model: every name is imported there or in the block before, and every call fits."""
    called = []

    def load(*args: object, **options: object) -> tuple[VLM, Processor]:
        called.append(inspect.signature(real).bind(*args, **options))
        return tiny

    real = dp.load
    monkeypatch.setattr(dp, "load", load)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40), "orange").save("photo.jpg")
    first = MODELS.split("```py\n")[1].split("```")[0]
    imports = "\n".join(line for line in first.splitlines() if line.startswith(("import ", "from ")))
    exec(f"{imports}\n{block}", {})
    assert len(called) == block.count("dp.load(")
    assert len(capsys.readouterr().out.splitlines()) == block.count("print(")


def test_the_speeds_are_the_measured_ones() -> None:
    page = (DOCS / "results.md").read_text()
    table = json.loads((ROOT / "numbers" / "bench_cpu.json").read_text())
    measured = {line["what"]: line["measured"] for line in table["lines"]}
    for what, label, text in (
        ("transformers / ours, bf16", "transformers' prefill", "**{:.1f}**"),
        ("ours / its matrix products, bf16", "our prefill", "**{:.2f}**"),
        ("dtp:keep=0.5 / none", "`dtp:keep=0.5` / unpruned", "**{:.2f}**"),
        ("10 full prefills / image and one packed batch, none", "ten prefills", "{:.1f}"),
    ):
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {label}"))
        assert line.endswith(f"| {text.format(measured[what])} |")
    assert f"commit {table['provenance']['commit']}" in page


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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Those to files of the repository that are no pages included: they are addresses."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if target.startswith(HOME):
            assert (ROOT / target.removeprefix(HOME).split("/", 2)[2]).exists(), target
        elif not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_list_of_decisions_has_every_page_once() -> None:
    listed = re.findall(r"^- \[[^]]+\]\((\w+\.md)\): ", (DOCS / "decisions" / "index.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (DOCS / "decisions").glob("*.md") if path.stem != "index")


def test_every_room_that_users_import_from_has_a_page_of_reference() -> None:
    shown = {
        name.split(".")[0]
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: deltaprune\.([\w.]+)$", page.read_text(), re.MULTILINE)
    }
    packages = {path.parent.name for path in (ROOT / "src" / "deltaprune").glob("*/__init__.py")}
    assert packages - shown == {
        "cli",
        "cuda_graphs",
        "inplace",
        "vision",
    }  # commands have a guide; the others are inside


def test_the_page_on_methods_names_rivals_that_there_are_and_vtws_threshold() -> None:
    """It need not name all: `deltaprune methods` and the API pages find a new file by themselves."""
    page = (DOCS / "guides" / "methods.md").read_text()
    named = set(re.findall(r"`(\w+)`", page.partition(" are written")[0]))
    assert {"dtp", "fastv", "vtw", "dart"} <= named <= {name for name in methods.names() if methods[name].paper}
    assert re.findall(
        r"eta, .* is ([\d.]+) for LLaVA-1.5-7B, \*\*([\d.]+) for 13B and ([\d.]+) for LLaVA-v1.6", page
    ) == [(f"{ETA:g}", "0.0005", "0.0001")]


def test_what_the_page_on_models_says_of_the_vocabulary(tiny: tuple[VLM, Processor]) -> None:
    """Rows that pad it have no logit."""
    lm = tiny[0].model.lm
    assert len(lm.backbone.embedding.weight) == lm.config.padded_vocab > lm.config.vocab_size
    assert lm.logits(torch.zeros(1, lm.config.d_model)).shape == (1, lm.config.vocab_size)
    assert f"{COBRA.lm.padded_vocab:,} rows for {COBRA.lm.vocab_size:,} tokens" in MODELS


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
