"""Publication, on the tiny model: what ships, what is measured, and a card that says so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import training.publish as publication
from deltaprune.benchmarks.scenes import SKILLS
from deltaprune.checkpoints.folder import read_config, save_folder
from deltaprune.methods import parse
from deltaprune.methods.fitprune import LEVELS, key
from deltaprune.mllm.processor import Processor
from deltaprune.models import bundled
from deltaprune.plan import Plan, Shape
from deltaprune.vlm import VLM


@pytest.mark.parametrize(("layers", "late", "half"), [(20, 14, 10), (24, 17, 12), (64, 45, 32)])
def test_withdrawal_follows_the_depth(layers: int, late: int, half: int) -> None:
    tested = publication.tested(layers)
    assert tested[:3] == ["none", f"vtw:after={late}", f"vtw:after={half}"]
    assert len(set(tested)) == len(tested) == 14
    for method in tested:
        parse(method).checked_steps(Shape(layers, 256, Plan(early=3, late=6)))


@pytest.fixture
def published(tiny: tuple[VLM, Processor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model, published below a folder of the test's own."""
    vlm, processor = tiny
    trained, shipped, numbers = (tmp_path / name for name in ("trained", "shipped", "numbers"))
    about = {"pictures": 1600, "minutes": 12.3}
    save_folder(trained, vlm.model, processor.tokenizer, replace(vlm.config, about=about, plan=None))
    (trained / "log.jsonl").write_text('{"pictures": 1600}\n')
    shipped.mkdir()
    monkeypatch.setattr(publication, "SHIPPED", shipped)
    monkeypatch.setattr(publication, "NUMBERS", numbers)
    monkeypatch.setattr(bundled, "FOLDER", shipped)
    publication.main(trained, samples=4, validation=12, questions=12, budget=0.9)
    return tmp_path


def test_the_card_and_the_numbers_are_of_the_model_that_ships(published: Path) -> None:
    plan = read_config(published / "shipped").plan
    held = json.loads((published / "numbers" / "bundled.json").read_text())
    assert plan is not None
    assert (held["plan"]["early"], held["plan"]["late"]) == (plan.early, plan.late)
    assert plan.source["benchmark"] == "scenes"
    assert plan.found.keys() == {"shortv", *map(key, LEVELS)}
    assert plan.source["found"] == {"benchmark": "scenes", "split": "val", "seed": 0, "pictures": 4}
    rules = {each["rule"] for each in plan.source["tried"]}
    assert rules == {"first_peak", "argmin", "js"}
    assert [row["method"] for row in held["rows"]] == publication.tested(4)
    assert {row["benchmark"] for row in held["rows"]} == {"scenes"}
    assert all(row["n"] == 12 and row["interval"] for row in held["rows"])
    assert all(row["against_none"] for row in held["rows"])
    card = (published / "shipped" / "README.md").read_text()
    page = (published / "numbers" / "bundled.md").read_text()
    for row in held["rows"]:
        line = next(line for line in page.splitlines() if line.startswith(f"| `{row['method']}` |"))
        assert line in card
        assert f"| {row['mean']:.1f} |" in line
    assert all(f"| {rule} |" in card for rule in rules)
    assert set(SKILLS) >= set(held["rows"][0]["by_skill"])
    assert "1,600 pictures" in card
    assert "12 minutes" in card
    assert (published / "numbers" / "bundled_training.jsonl").read_text() == '{"pictures": 1600}\n'
