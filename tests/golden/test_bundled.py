"""The shipped model is the one its numbers were measured on, and pruning it does what they say."""

import json
from pathlib import Path

import pytest

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.evaluate import evaluate
from deltaprune.models.bundled import FOLDER

NUMBERS = json.loads((Path(__file__).parents[2] / "numbers" / "bundled.json").read_text())
ROWS = {row["method"]: row for row in NUMBERS["rows"]}


def test_the_weights_are_small_enough_to_ship() -> None:
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 20e6
    assert (FOLDER / "model.safetensors").stat().st_size < 16 * 2**20


def test_the_stored_plan_is_the_measured_one() -> None:
    plan = dp.load("bundled")[0].config.plan
    assert plan is not None
    assert (plan.early, plan.late) == (NUMBERS["plan"]["early"], NUMBERS["plan"]["late"])
    assert {"first_peak", "argmin", "js"} == {each["rule"] for each in plan.source["tried"]}


@pytest.mark.slow
def test_the_published_accuracy_comes_out_again() -> None:
    """The first 1,200 of the 10,000 questions: within four standard errors of a mean over six skills of 200 each."""
    vlm, processor = dp.load("bundled")
    methods = ["none", "dtp:keep=0.5", "random:keep=0.5"]
    for row in evaluate(vlm, processor, Scenes(), methods, limit=1200, batch_size=96):
        published = ROWS[row.method]
        assert abs(row.mean - published["mean"]) < 5.5
        assert row.macs_share == pytest.approx(published["macs_share"], abs=0.005)
        assert abs(row.agreement - published["agreement"]) < 5
