"""Eq. 7 against a few independent lines, and the paper's rules on curves drawn by hand."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deltaprune import DTP, UserError
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import RULES, Spread, argmin_early, first_peak, late, plan, spread
from deltaprune.mllm.network import MLLMConfig
from deltaprune.prefill import NonFiniteScore
from deltaprune.rows import Rows
from deltaprune.steps import Plan

#              l = 0  1    2    3    4    5    6    7    8    9   10   11   12   13   14   15
CURVE = (0.3, 0.2, 0.5, 0.4, 0.1, 0.6, 0.5, 0.4, 0.4, 0.4, 0.3, 0.3, 0.4, 1.4, 1.3, 0.2)


def curve_of(length: int, **values: float) -> list[float]:
    """A flat curve but for the values named l<layer>."""
    std = [1.0] * length
    for name, value in values.items():
        std[int(name[1:])] = value
    return std


@pytest.fixture(scope="module")
def batches(tiny):
    """Two batches of processor outputs: three rows about two pictures, then one row."""
    _, processor = tiny
    first, second, third = (next(iter(Scenes().samples("val", seed, 1))) for seed in (0, 1, 2))
    return [
        processor(images=[first.image, second.image], text=["a?", "b b?", "c?"], image_index=[0, 1, 1]),
        processor(images=third.image, text="And this one?"),
    ]


def test_against_a_few_independent_lines(tiny, batches):
    vlm, _ = tiny
    stds = []
    for inputs in batches:
        visual = vlm.see(inputs)
        for picture in inputs["image_index"].tolist():
            rows, curve = Rows.pack([visual[picture]], [visual[picture][:0]]), []
            for layer in vlm.model.lm.blocks:
                rows, _, trace = layer.prefill(rows, needs=frozenset({"delta"}))
                s = [sum(row) / len(row) for row in trace["delta"].double().tolist()]
                mean = sum(s) / len(s)
                curve.append((sum((each - mean) ** 2 for each in s) / len(s)) ** 0.5)
            stds.append(curve)
    expected = [sum(column) / len(column) for column in zip(*stds, strict=True)]
    measured = spread(vlm, batches)
    assert measured.samples == 4
    assert measured.std == pytest.approx(expected, rel=1e-4)


def test_a_batch_equals_its_samples_and_pruning_changes_nothing(tiny, batches):
    vlm, processor = tiny
    pictures = [next(iter(Scenes().samples("val", seed, 1))).image for seed in (0, 1, 2)]
    together = spread(vlm, [processor(images=pictures, text=["a", "b", "c"])])
    assert spread(vlm, (processor(images=each, text="a") for each in pictures)).std == pytest.approx(together.std)
    with DTP(keep=0.1)(vlm):
        assert spread(vlm, [processor(images=pictures, text=["a", "b", "c"])]) == together


def test_nothing_to_measure(tiny):
    vlm, processor = tiny
    with pytest.raises(UserError, match="at least one sample"):
        spread(vlm, [])
    with pytest.raises(UserError, match="no image"):
        spread(vlm, [processor(text="What is this?")])


def test_broken_weights_name_the_layer(tiny, batches):
    vlm, _ = tiny
    bias = vlm.model.lm.blocks[2].mixer.dt_proj.bias
    held = bias.clone()
    try:
        bias[0] = torch.nan
        with pytest.raises(NonFiniteScore, match="after layer 3"):
            spread(vlm, batches)
    finally:
        bias.copy_(held)


def test_argmin_of_the_first_quarter():
    assert argmin_early(CURVE).after == 5  # l = 4 = 0.25 L is still in
    assert argmin_early(curve_of(16, l5=0.1, l3=0.9)).after == 4  # l = 5 is not
    assert argmin_early(curve_of(16)).after == 1  # ties go to the earlier layer


def test_first_peak():
    assert first_peak(CURVE).after == 3
    assert "peak of Std is at l=2" in first_peak(CURVE).why
    assert first_peak(curve_of(16, l8=2.0, l12=3.0)).after == 9  # l = 0.5 L is still in
    assert first_peak(curve_of(64, l14=2.0)).after == 15  # the paper's "15th layer"


def test_no_peak_in_the_first_half():
    late_peak = curve_of(16, l9=2.0, l0=1.5)
    assert first_peak(late_peak).after == 1
    assert "no peak" in first_peak(late_peak).why
    assert first_peak([float(l) for l in range(16)]).after == 9  # rising: the end of the range
    assert first_peak(curve_of(16, l3=2.0, l4=2.0)).after == 4  # a plateau is no peak, but highest


def test_late():
    assert late(CURVE).after == 15  # l = 14: |0.2 - 1.3| beats |1.4 - 0.4| at l = 12
    assert late(curve_of(16, l11=9.0)).after == 12  # the jump from l = 11 = floor(0.7 L) down is in, the one up is not
    assert late(curve_of(16, l10=9.0)).after == 12  # nothing in range: the earliest
    assert late(curve_of(64, **{f"l{l}": 5.0 for l in range(45, 64)})).after == 45  # the paper's 45


@given(st.lists(st.floats(0, 10), min_size=5, max_size=80))
def test_every_rule_gives_a_plan_within_the_model(std):
    for rule in RULES:
        chosen = plan(Spread(tuple(std), samples=1), rule)
        assert 0 < chosen.early < chosen.late <= len(std) - 1


def test_a_plan_says_where_it_comes_from():
    curve = Spread(tuple(value / 3 for value in CURVE), samples=20)
    chosen = plan(curve, "argmin", benchmark="scenes", split="val", seed=7)
    assert (chosen.early, chosen.late) == (5, 15)
    source = chosen.source
    assert {key: source[key] for key in ("rule", "benchmark", "split", "seed", "samples")} == {
        "rule": "argmin",
        "benchmark": "scenes",
        "split": "val",
        "seed": 7,
        "samples": 20,
    }
    assert source["curve"][:2] == [0.1, 0.06667]
    assert plan(curve).early == 3


def test_a_plan_survives_json(tiny):
    vlm, _ = tiny
    chosen = plan(Spread(CURVE, samples=1))
    config = json.loads(json.dumps({**vlm.config.to_dict(), "plan": vars(chosen)}))
    assert MLLMConfig.from_dict(config).plan == chosen
    assert isinstance(chosen, Plan)


def test_early_must_come_before_late():
    with pytest.raises(UserError, match="not before the late one after layer 3: try rule 'argmin'"):
        plan(Spread((1.0, 2.0, 3.0, 4.0), samples=1), "first_peak")


def test_a_curve_too_short():
    with pytest.raises(UserError, match="at least 4"):
        plan(Spread((1.0, 2.0, 1.0), samples=1))


def test_an_unknown_rule():
    with pytest.raises(UserError, match="did you mean 'first_peak'"):
        plan(Spread(CURVE, samples=1), "firstpeak")
