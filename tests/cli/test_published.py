"""A published checkpoint, which leaves out towers and tokenizer, given to every command that runs a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Published, cut_off, write_cobra, write_robomamba

from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

METHOD = "dtp:keep=0.5,early=1,late=3"


@pytest.fixture(scope="module", params=["cobra", "robomamba"])
def published(
    request: pytest.FixtureRequest, tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Published]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "cobra":
        return request.param, write_cobra(folder, tiny[1].tokenizer)
    return request.param, write_robomamba(folder, tiny[1].tokenizer, vision=False)


@pytest.fixture
def options(published: tuple[str, Published], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    cut_off(monkeypatch)
    given = published[1]
    return ["--model", given.source, "--towers", given.towers, "--tokenizer", given.tokenizer]


def test_ask(cli: Callable[..., Any], published: tuple[str, Published], options: list, scene: Path) -> None:
    ran = cli("ask", scene, "How many?", *options, "--method", METHOD, "--json")
    plain, pruned = ran.rows
    assert (plain["kept"], pruned["kept"]) == (None, [8, 0])


def test_towers_one_by_one(
    cli: Callable[..., Any], published: tuple[str, Published], options: list, scene: Path
) -> None:
    given = published[1]
    names = ["dino", "siglip"] if published[0] == "cobra" else ["clip"]
    towers = [word for name in names for word in ("--towers", f"{name}={given.towers / name}.safetensors")]
    words = (*options[:2], *towers, "--tokenizer", given.tokenizer.parent, "--method", METHOD, "--json")
    together = cli("ask", scene, "How many?", *options, "--method", METHOD, "--json").rows
    apart = cli("ask", scene, "How many?", *words).rows
    assert [row["answer"] for row in apart] == [row["answer"] for row in together]


def test_calibrate_then_ask(
    cli: Callable[..., Any], published: tuple[str, Published], options: list, scene: Path, tmp_path: Path
) -> None:
    """The published run has no plan of its own at this size; one is made and used."""
    refused = cli("ask", scene, "What?", *options)
    assert refused.code == 2
    assert 'early="plan", but this model has no plan: give early=LAYER or run calibrate first.' in refused.err
    plan = tmp_path / "plan.json"
    found = cli("calibrate", *options, "--samples", 2, "--rule", "argmin", "--out", plan, "--json").rows
    assert found["model"]["name"] == published[0]
    rows = cli("ask", scene, "What?", *options, "--plan", plan, "--json").rows
    assert rows[1]["after"] == [found["early"], found["late"]]


@pytest.mark.parametrize("figure", ["attention", "tokens", "scores"])
def test_plot(
    figure: str, cli: Callable[..., Any], published: tuple[str, Published], options: list, scene: Path, tmp_path: Path
) -> None:
    method = [] if figure == "attention" else ["--method", METHOD]
    layers = [] if figure == "tokens" else ["--layers", "1,3"]
    ran = cli("plot", figure, *options, "--image", scene, *method, *layers, "--out", tmp_path / "x.png")
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "x.png").stat().st_size > 0


def test_its_size_is_read_for_cost(
    cli: Callable[..., Any], published: tuple[str, Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cost` takes a checkpoint whose parts lie beside it; without them the sentence says what to bring."""
    import shutil

    cut_off(monkeypatch)
    given = published[1]
    ran = cli("cost", "--model", given.source, "--method", METHOD)
    assert ran.code == 2
    assert "leaves out tokenizer" in ran.err
    whole = tmp_path / "whole"
    whole.mkdir()
    if given.source.is_dir():
        shutil.copytree(given.source, whole, dirs_exist_ok=True)
    else:
        shutil.copy(given.source, whole)
    for file in (*given.towers.iterdir(), given.tokenizer):
        shutil.copy(file, whole)
    model = whole if given.source.is_dir() else whole / given.source.name
    (row,) = cli("cost", "--model", model, "--method", METHOD, "--json").rows
    assert (row["model"], row["kept"]) == (published[0], [8, 0])


def test_mistakes(cli: Callable[..., Any], published: tuple[str, Published], options: list, scene: Path) -> None:
    for words, sentence in (
        (["--towers", "a", "--towers", "b"], "--towers 'a b': give one folder, or NAME=FILE for each tower."),
        (["--towers", "sigplip=x"], "towers= has no use for 'sigplip'"),
        (["--tokenizer", scene, "--towers", options[3]], "is not a tokenizer"),
    ):
        ran = cli("ask", scene, "What?", *options[:2], *words)
        assert (ran.code, ran.out) == (2, "")
        assert sentence in ran.err
    ran = cli("ask", scene, "What?", "--towers", "a")
    assert (ran.code, ran.out) == (2, "")
    assert "The bundled model brings its own towers: leave towers= out." in ran.err
