"""Pruned against unpruned: nothing moves before the first stage, and each number against a few independent lines."""

import numpy as np
import pytest
import torch

from deltaprune import DTP, VTW, NoPruning, UserError
from deltaprune.analysis import drift
from deltaprune.analysis.drift import next_token_kl
from deltaprune.benchmarks.scenes import Scene


@pytest.fixture(scope="module")
def inputs(tiny):
    _, processor = tiny
    pictures = [Scene.from_seed(seed).image for seed in range(6)]
    return processor(images=pictures, text=[f"How many red {shape}s?" for shape in ("a", "b", "c", "dd", "e", "f")])


def test_no_pruning_is_no_drift(tiny, inputs):
    vlm, _ = tiny
    found = drift(vlm, inputs, NoPruning(), max_new_tokens=3)
    assert found.state.shape == (4, 6)
    assert not found.state.any()
    assert not found.kl.any()
    assert found.same_answer.all()
    assert found.agreement == 100


def test_against_the_model_itself(tiny, inputs):
    vlm, _ = tiny
    method = DTP(keep=0.25, early=1, late=None)
    found = drift(vlm, inputs, method, max_new_tokens=8)
    whole, left = vlm.start(inputs), vlm.start(inputs, method=method)
    full, pruned = (vlm.continue_from(prefilled, max_new_tokens=8) for prefilled in (whole, left))
    p, q = (torch.softmax(vlm.model.lm.logits(each.hidden).double(), -1) for each in (whole, left))
    assert not found.state[0].any()  # the layer before the stage saw everything
    for l in (1, 2, 3):
        for s in range(6):
            h, pruned_h = whole.states[l].ssm[s], left.states[l].ssm[s]
            expected = float(((h - pruned_h) ** 2).sum() ** 0.5 / (h**2).sum() ** 0.5)
            assert found.state[l, s] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(found.kl, (p * torch.log(p / q)).sum(-1), rtol=1e-4)
    assert found.same_answer.tolist() == [torch.equal(a, b) for a, b in zip(full, pruned, strict=True)]
    assert 0 < found.same_answer.sum() < 6  # both kinds occur, or this test says nothing


def test_dropping_more_moves_more_and_methods_do_not_interfere(tiny, inputs):
    vlm, _ = tiny
    little = drift(vlm, [inputs, inputs], DTP(keep=0.9, early=1, late=None), 1)
    with VTW(after=2)(vlm):
        much = drift(vlm, inputs, DTP(keep=0.1, early=1, late=None), 1)
    assert little.state.shape == (4, 12)
    assert (much.state[1:].mean(1) > little.state[1:].mean(1)).all()
    assert much.kl.mean() > little.kl.mean() > 0


def test_answers_of_different_length(tiny, inputs):
    """One batch ends earlier than the other: what is missing is end-of-text."""
    vlm, _ = tiny
    eos = vlm.eos_id
    try:
        vlm.eos_id = int(vlm.generate(**inputs, max_new_tokens=1)[0, 0])  # row 0 ends at once, unpruned
        found = drift(vlm, {name: tensor[:1] for name, tensor in inputs.items()}, VTW(after=0), max_new_tokens=4)
        assert not found.same_answer[0]
    finally:
        vlm.eos_id = eos


def test_kl_by_hand():
    full, pruned = (
        torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]])),
        torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]])),
    )
    expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0]
    np.testing.assert_allclose(next_token_kl(full, pruned), expected, atol=1e-7)


def test_mistakes_are_told(tiny, inputs):
    vlm, _ = tiny
    with pytest.raises(UserError, match="at least one sample"):
        drift(vlm, [], NoPruning())
    with pytest.raises(UserError, match="beyond the model"):
        drift(vlm, inputs, VTW(after=9))
