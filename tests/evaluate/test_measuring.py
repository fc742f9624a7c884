"""Measurements handed to an engine: what comes back, in whatever order, is what this process measures."""

import numpy as np
import pytest
from elsewhere import register

from deltaprune import DTP, UserError
from deltaprune.analysis import correlation, keep_curve, sensitivity
from deltaprune.analysis.parts import Run
from deltaprune.benchmarks.scenes import Scene
from deltaprune.calibrate import contribution, disjoint, divergence, fitting, measure
from deltaprune.calibrate.one_shot import one_shot
from deltaprune.evaluate.engines import Answers, Place
from deltaprune.evaluate.measuring import run_on


@pytest.fixture
def sent(monkeypatch) -> list[Answers]:
    return register(monkeypatch)


@pytest.fixture
def run(sent) -> Run:
    return run_on("elsewhere", Place())


@pytest.fixture(scope="module")
def given(tiny):
    vlm, processor = tiny
    images = [Scene.from_seed(seed).image for seed in range(5)]
    return vlm, [
        processor(images=images[i : i + 2], text=["How many?", "Is it red?"][: len(images[i : i + 2])])
        for i in (0, 2, 4)
    ]


def test_maps_curves_and_correlations(given, sent, run) -> None:
    vlm, inputs = given
    told: list[tuple[int, int]] = []
    there = sensitivity(vlm, inputs, 0.25, (1, 2), (3, 4), on_progress=lambda *done: told.append(done), run=run)
    here = sensitivity(vlm, inputs, 0.25, (1, 2), (3, 4))
    np.testing.assert_array_equal(there.js, here.js)
    np.testing.assert_array_equal(there.same, here.same)
    assert there.samples == here.samples == 5
    assert told == [(done, 6) for done in range(1, 7)]
    methods = [DTP(keep, 1, 3) for keep in (0.25, 0.5)]
    there, here = keep_curve(vlm, inputs, methods, run), keep_curve(vlm, inputs, methods)
    for name in ("js", "same", "std", "full"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    np.testing.assert_array_equal(correlation(vlm, inputs, run=run).mass, correlation(vlm, inputs).mass)
    assert len(sent) == 4


def test_calibration(given, sent, run) -> None:
    vlm, inputs = given
    assert measure(vlm, inputs, run) == measure(vlm, inputs)
    assert disjoint(vlm, [inputs[:2], inputs[2:]], run=run) == disjoint(vlm, [inputs[:2], inputs[2:]])
    assert divergence(vlm, inputs, run=run) == divergence(vlm, inputs)
    assert contribution(vlm, inputs, run) == contribution(vlm, inputs)
    assert fitting(vlm, inputs, run) == fitting(vlm, inputs)
    assert len(sent) == 6


def test_layers_ranked_alone(tiny, sent, run) -> None:
    vlm, processor = tiny
    images = [Scene.from_seed(seed).image for seed in range(3)]
    asked = [
        processor(images=images[:2], text=["How many?", "Is it red?", "Where?"], image_index=[0, 0, 1]),
        processor(images=images[2:], text=["How many?"], image_index=[0]),
    ]
    there, here = one_shot(vlm, asked, 0.75, run=run), one_shot(vlm, asked, 0.75)
    assert there.changes == here.changes
    assert there.means == here.means
    assert (there.questions, there.pictures, there.one_shot) == (4, 3, True)
    assert len(sent) == 4


def test_an_engine_and_its_place_are_checked() -> None:
    with pytest.raises(UserError, match=r"There is no engine 'rya': did you mean 'ray'"):
        run_on("rya", Place())
    with pytest.raises(UserError, match="for an address or workers take"):
        run_on("local", Place(workers=2))
