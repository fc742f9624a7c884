"""VTW's curve against really running VTW(k) for every k, and the rule on curves drawn by hand."""

from math import exp

import pytest
import torch

from deltaprune import DTP, VTW, UserError
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.blocks.mamba1 import MambaBlock
from deltaprune.calibrate import ETA, earliest, measure, spread, withdrawal
from deltaprune.generate import NonFiniteLogits

TEXTS = ["a?", "How many red circles are there?", "c c c?"]


@pytest.fixture(scope="module")
def pictures():
    """Four validation pictures."""
    return [next(iter(Scenes().samples("val", seed, 1))).image for seed in range(4)]


@pytest.fixture(scope="module")
def batches(tiny, pictures):
    """Three questions of different lengths about two pictures, then one question about another."""
    _, processor = tiny
    return [
        processor(images=pictures[:2], text=TEXTS, image_index=[0, 1, 1]),
        processor(images=pictures[2], text="And this one?"),
    ]


def next_token(vlm, inputs):
    """Log-probabilities of the next token under the active method, one row after the other, float64."""
    prefilled = vlm.start(inputs)
    return vlm.model.lm.logits(prefilled.hidden).double().log_softmax(-1)


def kl_by_running_vtw(vlm, inputs):
    """KL(P_withdrawn || P_unpruned) by k and sample, each k a whole run of the model."""
    unpruned = next_token(vlm, inputs)
    curve = []
    for k in range(vlm.shape.n_layers):
        with VTW(k)(vlm):
            withdrawn = next_token(vlm, inputs)
        pairs = zip(withdrawn.tolist(), unpruned.tolist(), strict=True)
        curve.append([sum(exp(p) * (p - q) for p, q in zip(*pair, strict=True)) for pair in pairs])
    return torch.tensor(curve)


def test_against_really_running_vtw(tiny, batches):
    vlm, _ = tiny
    expected = torch.cat([kl_by_running_vtw(vlm, inputs) for inputs in batches], dim=1)
    measured = withdrawal(vlm, batches)
    assert measured.samples == expected.shape[1] == 4
    assert expected.min() > 1e-6  # the image matters at every k, so agreement says something
    assert measured.kl == pytest.approx(expected.mean(1).tolist(), rel=1e-3)


def test_a_batch_equals_its_samples_and_pruning_changes_nothing(tiny, pictures):
    vlm, processor = tiny
    together = withdrawal(vlm, [processor(images=pictures[:3], text=TEXTS)])
    alone = (processor(images=image, text=text) for image, text in zip(pictures[:3], TEXTS, strict=True))
    assert withdrawal(vlm, alone).kl == pytest.approx(together.kl, rel=1e-3)
    with DTP(keep=0.1)(vlm):
        assert withdrawal(vlm, [processor(images=pictures[:3], text=TEXTS)]) == together


def test_both_curves_come_from_one_pass(tiny, batches, monkeypatch):
    vlm, _ = tiny
    apart = spread(vlm, batches), withdrawal(vlm, batches)
    passes, run = [], MambaBlock.prefill
    counted = lambda block, rows, *rest: passes.append(len(rows.x)) or run(block, rows, *rest)  # noqa: E731
    monkeypatch.setattr(MambaBlock, "prefill", counted)
    assert measure(vlm, batches) == apart
    layers, expected = vlm.shape.n_layers, []
    for inputs in batches:
        words = int(inputs["attention_mask"].sum())
        rows = words + len(inputs["input_ids"]) * vlm.shape.n_visual
        expected += [rows] * layers + [words * (l + 1) for l in range(layers)]
    assert passes == expected


def test_nothing_to_measure(tiny):
    vlm, processor = tiny
    for curves in (withdrawal, measure):
        with pytest.raises(UserError, match="at least one sample"):
            curves(vlm, [])
        with pytest.raises(UserError, match="no image"):
            curves(vlm, [processor(text="What is this?")])


def test_logits_that_are_not_finite(tiny, batches):
    vlm, _ = tiny
    weight = vlm.model.lm.backbone.norm_f.weight
    held = weight.clone()
    try:
        weight[0] = torch.nan
        with pytest.raises(NonFiniteLogits, match="logits of the next token"):
            withdrawal(vlm, batches)
    finally:
        weight.copy_(held)


def test_the_smallest_k_that_passes():
    curve = (0.9, 0.5, 0.003, 0.004, 0.001)
    assert earliest(curve).after == 2  # the official rule: at most eta, and a later rise does not matter
    assert earliest(curve, 0.0029).after == 4
    assert earliest(curve, 1.0).after == 0
    assert "0.003 at k=2" in earliest(curve).why
    assert ETA == 0.003


def test_no_withdrawal_when_nothing_passes():
    choice = earliest((0.9, 0.5, 0.03, 0.04))
    assert choice.after == 4
    assert choice.why == "no withdrawal: mean KL is never at most eta=0.003, least 0.03 at k=2"


@pytest.mark.parametrize("eta", [0.0, -1.0, float("nan"), float("inf")])
def test_an_eta_that_is_no_threshold(eta):
    with pytest.raises(UserError, match=r"it lies above 0, such as VTW's own 0\.003"):
        earliest((0.1,), eta)
