"""Scores of every layer as a stage would read them there, and eq. 7 from them."""

import numpy as np
import pytest
import torch

from deltaprune import DTP, Delta, InputNorm, OutputNorm, Random, UserError
from deltaprune.analysis import LayerScores, layer_scores
from deltaprune.analysis.layers import traces
from deltaprune.benchmarks.scenes import Scene
from deltaprune.calibrate import spread
from deltaprune.prefill import NonFiniteScore, prefill
from deltaprune.steps import Score, Stage


@pytest.fixture(scope="module")
def inputs(tiny):
    """Three questions about two pictures."""
    _, processor = tiny
    pictures = [Scene.from_seed(seed).image for seed in (1, 2)]
    return processor(images=pictures, text=["a?", "b b?", "c?"], image_index=[0, 1, 1])


@pytest.mark.parametrize("score", [Delta(), OutputNorm(), InputNorm(), Random()], ids=repr)
def test_what_a_stage_would_read(tiny, inputs, score: Score):
    vlm, _ = tiny
    scores = layer_scores(vlm, inputs, score).scores
    assert scores.shape == (4, 3, 16)
    for k in (1, 2, 3):
        kept = prefill(vlm.model.lm, vlm.pack(inputs), (Stage(after=k, keep=0.25, score=score),)).kept[0]
        for s in range(3):
            best = np.sort(np.argsort(-scores[k - 1, s], kind="stable")[:4])
            assert best.tolist() == kept.origin[s].tolist()


def test_hidden_is_filled(tiny, inputs):
    vlm, _ = tiny
    (found,) = traces(vlm, vlm.pack(inputs), frozenset({"hidden"}), [2])
    assert found[0] == 2
    torch.testing.assert_close(found[2]["hidden"], vlm.model.lm.norm(found[1].x))


def test_several_batches_and_an_active_method(tiny, inputs):
    vlm, processor = tiny
    once = layer_scores(vlm, inputs)
    parts = layer_scores(vlm, [inputs, processor(images=Scene.from_seed(1).image, text="a?")])
    np.testing.assert_array_equal(parts.scores[:, :3], once.scores)
    np.testing.assert_allclose(parts.scores[:, 3], once.scores[:, 0], rtol=1e-4)
    with DTP(keep=0.1)(vlm):
        np.testing.assert_array_equal(layer_scores(vlm, inputs).scores, once.scores)


def test_statistics_by_hand():
    scores = np.array([[[1, 2, 3, 6], [0, 0, 0, 8]]], dtype=np.float32)
    found = LayerScores(scores)
    np.testing.assert_allclose(found.std, [[np.sqrt(14 / 4), np.sqrt(12)]])
    told = found.statistics
    assert told.mean == pytest.approx([2.5])
    assert told.std == pytest.approx([(np.sqrt(14 / 4) + np.sqrt(12)) / 2])
    assert (told.low, told.median, told.high) == ([0.5], [1.25], [7])


def test_the_curve_of_calibrate_is_the_same(tiny, inputs):
    vlm, _ = tiny
    assert spread(vlm, [inputs]).std == pytest.approx(layer_scores(vlm, inputs).statistics.std.tolist(), rel=1e-12)


def test_mistakes_are_told(tiny):
    vlm, processor = tiny
    with pytest.raises(UserError, match="at least one sample"):
        layer_scores(vlm, [])
    with pytest.raises(UserError, match="no image: scores are measured on visual tokens"):
        layer_scores(vlm, processor(text="What is this?"))


def test_broken_weights_name_the_layer(tiny, inputs):
    vlm, _ = tiny
    bias = vlm.model.lm.blocks[2].mixer.dt_proj.bias
    held = bias.clone()
    try:
        bias[0] = torch.nan
        with pytest.raises(NonFiniteScore, match="after layer 3"):
            layer_scores(vlm, inputs)
    finally:
        bias.copy_(held)
