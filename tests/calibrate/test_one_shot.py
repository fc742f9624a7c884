"""Layers ranked by what each change does alone: against a ranking written out."""

from itertools import product

import pytest

from deltaprune.benchmarks.scenes import Scene
from deltaprune.calibrate.freezing import share_of
from deltaprune.calibrate.one_shot import one_shot
from deltaprune.calibrate.own_answers import divergence_of, flows, lesson, mean_states
from deltaprune.errors import UserError


@pytest.fixture(scope="module")
def given(tiny):
    vlm, processor = tiny
    images = [Scene.from_seed(seed).image for seed in (3, 4)]
    return vlm, [processor(images=image, text=["How many?", "Is it red?"], image_index=[0, 0]) for image in images]


@pytest.mark.parametrize("store", [0, 2**31])
def test_the_ranking(given, store: int) -> None:
    vlm, asked = given
    lm, shape = vlm.model.lm, vlm.shape
    lessons = [lesson(vlm, inputs) for inputs in asked]
    means = mean_states(lm, lessons)
    tokens = sum(len(each.text.x) for each in lessons) / sum(len(each.counts) for each in lessons)

    def js(hows: dict) -> float:
        each = [divergence_of(lm, made, flows(lm, made, hows, means=means)[-1]) for made in lessons]
        return sum(each) / len(each)  # as many questions in either

    alone = list(product(range(shape.n_layers), ("write", "mean", "skip")))
    rise = {(l, how): js({l: how}) / (1 - share_of({l: how}, shape, tokens)) for l, how in alone}
    want, hows = [], {}
    for l, how in sorted(alone, key=lambda change: (rise[change], change)):
        if (
            share_of({**hows, l: how}, shape, tokens) < share_of(hows, shape, tokens)
            and share_of(hows, shape, tokens) > 0.7
        ):
            hows = {**hows, l: how}
            want.append((l, how, js(hows)))
    found = one_shot(vlm, asked, 0.7, store=store)
    assert [change[:2] for change in found.changes] == [each[:2] for each in want]
    assert [change.js for change in found.changes] == pytest.approx([each[2] for each in want], rel=1e-3, abs=1e-8)
    assert found.shares[-1] <= 0.7 < found.shares[-2]
    assert found.evaluations == len(alone) + len(want)


def test_out_of_reach(given) -> None:
    vlm, asked = given
    with pytest.raises(UserError, match=r"budget=0.01 is out of reach: with mean, skip, write the least is 0\.\d"):
        one_shot(vlm, asked, 0.01)
    with pytest.raises(UserError, match="nothing to calibrate on"):
        one_shot(vlm, [], 0.5)
