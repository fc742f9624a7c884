"""`deltaprune plot`: which files it writes, what it draws into them, and its sentence for each mistake."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deltaprune.analysis import figures
from deltaprune.cli._plots import DRAW
from deltaprune.cli.plot import TAKES


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the last figure function was given, by position and by name."""
    seen: dict[str, Any] = {}

    def spy(name: str) -> Callable[..., Any]:
        draw = getattr(figures, name)

        def call(*args: Any) -> Any:
            seen.update(name=name, args=args)
            return draw(*args)

        return call

    for name in ("spread_curve", "score_maps", "attention_maps", "kept_tokens"):
        monkeypatch.setattr(figures, name, spy(name))
    return seen


def test_every_figure_has_its_options() -> None:
    assert list(DRAW) == list(TAKES)


def test_spread(cli: Callable[..., Any], model: Path, tmp_path: Path, drawn: dict[str, Any]) -> None:
    out = tmp_path / "curve.png"
    ran = cli("plot", "spread", "--model", model, "--samples", 2, "--rule", "argmin", "--out", out)
    assert ran == (0, f"{out}\n", "")
    with Image.open(out) as picture:
        assert picture.width == 1020
    std, early, late, title = drawn["args"]
    found = cli("calibrate", "--model", model, "--samples", 2, "--rule", "argmin", "--json").rows
    assert (early, late) == (found["early"], found["late"])
    assert [float(f"{value:.4g}") for value in std] == found["source"]["curve"]
    assert title == "Spread of token importance, tiny\n2 pictures of scenes, early layer by argmin"


def test_scores_of_the_method_that_is_named(
    cli: Callable[..., Any], model: Path, scene: Path, tmp_path: Path, drawn: dict[str, Any]
) -> None:
    method = "dtp:keep=0.25,score=output"
    ran = cli("plot", "scores", "--model", model, "--image", scene, "--method", method, "--out", tmp_path / "maps")
    assert ran == (0, f"{tmp_path / 'maps.png'}\n{tmp_path / 'maps.svg'}\n", "")
    _, scores, best, after, grid, _, title = drawn["args"]
    assert (after, grid) == ([1, 2, 3], (4, 4))  # the plan's 1 and 3, and what lies between
    assert [len(row) for row in scores] == [16] * 3
    assert [int(mask.sum()) for mask in best] == [4] * 3
    assert all(row[mask].min() >= row[~mask].max() for row, mask in zip(scores, best, strict=True))
    assert title == "Scores by which dtp:keep=0.25,score=output ranks the visual tokens of tiny, layer by layer"


@pytest.mark.parametrize(("layers", "after"), [("4,2", [2, 4]), ("all", [1, 2, 3, 4]), ("3", [3])])
def test_attention_of_the_layers_that_are_named(
    cli: Callable[..., Any], model: Path, tmp_path: Path, drawn: dict[str, Any], layers: str, after: list[int]
) -> None:
    ran = cli(
        *("plot", "attention", "--model", model, "--question", "Is it $5?", "--layers", layers),
        *("--out", tmp_path / "a.svg"),
    )
    assert (ran.code, ran.err) == (0, "")
    matrices, named, n_visual, title = drawn["args"]
    assert (named, n_visual, len(matrices)) == (after, 16, len(after))
    assert all(np.array_equal(matrix, np.tril(matrix)) and matrix.any() for matrix in matrices)
    assert title == "Implicit attention, tiny\n“Is it $5?”"


def test_tokens_that_a_method_keeps(
    cli: Callable[..., Any], model: Path, scene: Path, tmp_path: Path, drawn: dict[str, Any]
) -> None:
    out = tmp_path / "kept.pdf"
    ran = cli("plot", "tokens", "--model", model, "--image", scene, "--method", "dtp:keep=0.25", "--out", out)
    assert ran == (0, f"{out}\n", "")
    _, left, after, grid, title = drawn["args"]
    assert ([len(indices) for indices in left], after, grid) == ([4, 0], [1, 3], (4, 4))
    assert title == "Visual tokens kept by dtp:keep=0.25, tiny"
    asked = ("--method", "fastv:keep=0.5,after=2,score=hidden_attention", "--question", "Where?")
    assert cli("plot", "tokens", "--model", model, *asked, "--out", out).code == 0
    assert drawn["args"][-1].endswith("\n“Where?”")  # what is kept depends on the question, so it is named


def test_the_files_are_named_after_the_figure(
    cli: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("plot", "tokens", "--model", model) == (0, "tokens.png\ntokens.svg\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.png", "tokens.svg"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("", "Missing argument 'spread|scores|attention|tokens|tradeoff|growth': the form is deltaprune plot"),
        ("spred", "There is no figure 'spred': did you mean 'spread'?"),
        ("spread --layers 2", "--layers is not for plot spread: it takes --benchmark, --rule, --samples."),
        ("tokens --samples 2", "--samples is not for plot tokens"),
        ("spread --samples 0", "--samples 0 is out of range"),
        ("spread --rule argmn", "did you mean 'argmin'?"),
        ("spread --benchmark scens", "did you mean 'scenes'?"),
        ("scores --layers 1,5", "There is no layer 5: they are counted from 1 to 4 (try 4)."),
        ("attention --layers 0", "There is no layer 0: they are counted from 1 to 4 (try 1)."),
        ("attention --layers first", "--layers 'first' is no list of layers: write 1,4 or all."),
        ("attention --layers 1,,2", "--layers '1,,2' is no list of layers"),
        ("attention --question EMPTY", "Question 1 is empty"),
        ("scores --method vtw:after=2", "Method 'vtw:after=2' ranks no tokens"),
        ("tokens --method dpt", "did you mean 'dtp'?"),
        ("tokens --method dtp:early=9", "lies beyond the model"),
        ("tokens --image SCENEX", "did you mean"),
        ("tokens --image SCENE --out SCENE", "is the picture itself and would replace it"),
        ("tokens --out x.gif", "'x.gif' does not end in a format for figures"),
        ("tokens --out nowhere/x.png", "the folder 'nowhere' does not exist, so create it first."),
        ("tokens --out FOLDER.png", "is a directory"),
        ("tokens --device gpu", "There is no device 'gpu'"),
        ("tokens --plan nowhere.json", "cannot be read"),
    ],
)
def test_mistakes_are_told(
    argv: str, sentence: str, cli: Callable[..., Any], model: Path, scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    texts = {"SCENE": str(scene), "EMPTY": " ", "FOLDER": str(tmp_path / "folder")}
    words = []
    for word in argv.split():
        for short, text in texts.items():
            word = word.replace(short, text)
        words.append(word)
    ran = cli("plot", *words, "--model", model)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_a_folder_that_cannot_be_written(
    cli: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    ran = cli("plot", "tokens", "--model", model, "--out", tmp_path / "x.png")
    assert (ran.code, ran.out) == (2, "")
    assert "cannot be written: you lack the permission." in ran.err


def test_a_disk_that_is_full(
    cli: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures, "save", full)
    ran = cli("plot", "tokens", "--model", model, "--out", tmp_path / "x.png")
    assert (ran.code, ran.out) == (2, "")
    assert "could not be written: No space left on device." in ran.err


def test_without_matplotlib(cli: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import deltaprune.analysis

    for name in [name for name in sys.modules if name.startswith("deltaprune.analysis.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(deltaprune.analysis, "figures")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = cli("plot", "spread", "--model", model)
    assert (ran.code, ran.out) == (2, "")
    assert "run pip install 'deltaprune[plot]'" in ran.err
