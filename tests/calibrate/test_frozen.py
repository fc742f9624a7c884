"""A plan with the order of `Freeze`: what it says, and a search that is taken up again."""

import json

import pytest

from deltaprune.benchmarks.scenes import Scene
from deltaprune.calibrate import asked_together, with_freezing
from deltaprune.errors import UserError
from deltaprune.plan import Plan, Thinning

QUESTIONS = ["How many?", "Is it red?", "Where?"]


@pytest.fixture(scope="module")
def given(tiny):
    vlm, processor = tiny
    pictures = [(Scene.from_seed(seed).image, QUESTIONS[: seed + 1]) for seed in range(3)]
    return vlm, processor, pictures


def test_pictures_run_together_with_their_questions(given, monkeypatch) -> None:
    vlm, processor, pictures = given
    monkeypatch.setattr("deltaprune.calibrate.frozen.PICTURES", 2)
    first, last = asked_together(vlm, processor, pictures)
    assert first["image_index"].tolist() == [0, 1, 1]
    assert last["image_index"].tolist() == [0, 0, 0]
    assert len(last["pixel_values_dino"]) == 1


def test_it_goes_on_where_it_broke_off(given, tmp_path) -> None:
    vlm, processor, pictures = given
    before = Plan(1, 3, {"rule": "argmin"}, thinning=(Thinning(0.5, 1, 1, 0.0),))
    file = tmp_path / "plan.json.partial"

    def found(n: int, say=lambda _: None) -> Plan:
        asked = asked_together(vlm, processor, pictures[:n])
        return with_freezing(before, vlm, asked, 0.7, source={"seed": 0}, partial=file, say=say)

    def broken(message: str) -> None:
        if "2 changes" in message:
            raise KeyboardInterrupt

    whole = found(3)
    about = whole.source["freezing"]
    assert (whole.early, whole.source["rule"], about["seed"], about["pictures"], about["questions"]) == (
        1,
        "argmin",
        0,
        3,
        6,
    )
    assert before.thinning[0] not in whole.thinning
    assert not file.exists()
    with pytest.raises(KeyboardInterrupt):
        found(3, broken)
    kept = json.loads(file.read_text())["changes"]
    assert 0 < len(kept) < len(whole.freezing)
    fewer = found(2)  # of other questions nothing is taken over
    assert fewer.source["freezing"]["evaluations"] >= 12
    with pytest.raises(KeyboardInterrupt):
        found(3, broken)
    again = found(3)
    assert [change[:2] for change in again.freezing] == [change[:2] for change in whole.freezing]
    assert not file.exists()


def test_alone_it_counts_and_tries_no_fewer_rows(given) -> None:
    vlm, processor, pictures = given
    said: list[str] = []
    asked = asked_together(vlm, processor, pictures[:1])
    plan = with_freezing(Plan(1, 3), vlm, asked, 0.8, one_shot=True, say=said.append)
    assert plan.thinning == ()
    assert plan.source["freezing"]["one_shot"]
    assert said[-1] == "freezing: 12 of 12 trials of a layer alone"


@pytest.mark.parametrize(("budget", "unit"), [(0, "macs"), (1, "macs"), (0, "ms")])
def test_no_budget(given, budget: float, unit: str) -> None:
    with pytest.raises(UserError):
        with_freezing(Plan(1, 3), given[0], [], budget, unit=unit)
