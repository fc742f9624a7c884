"""Agreement between layers: 1 with itself, known values on rows made by hand, the floor for random choices."""

import math
from dataclasses import replace

import numpy as np
import pytest

from deltaprune import Delta, Random, Stage, Uniform, UserError
from deltaprune.analysis import layer_scores, stability
from deltaprune.analysis.stability import kept, overlap, spearman
from deltaprune.benchmarks.scenes import Scene


def test_spearman_by_hand():
    rows = np.array([[1, 2, 3, 4], [10, 20, 30, 400], [4, 3, 2, 1], [1, 2, 4, 3]], dtype=np.float32)
    # 1 - 6 sum d^2 / (n (n^2 - 1)) with d = (0, 0, 1, 1)
    expected = [[1, 1, -1, 0.8], [1, 1, -1, 0.8], [-1, -1, 1, -0.8], [0.8, 0.8, -0.8, 1]]
    np.testing.assert_allclose(spearman(rows), expected)


def test_spearman_with_ties():
    found = spearman(np.array([[1, 1, 2, 3], [1, 2, 2, 3], [5, 5, 5, 5]], dtype=np.float32))
    ranks = np.array([1.5, 1.5, 3, 4]), np.array([1, 2.5, 2.5, 4])
    assert found[0, 1] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert np.isnan(found[2]).all()


def test_kept_follows_the_rules_of_a_stage():
    rows = np.array([[0.1, 0.5, 0.5, 0.5], [4, 3, 2, 1]], dtype=np.float32)
    half, more = (Stage(after=1, keep=keep, score=Delta(), candidates="all") for keep in (0.5, 0.7))
    assert kept(rows, half).tolist() == [[False, True, True, False], [True, True, False, False]]  # ties: lower index
    assert kept(rows, more).sum(axis=1).tolist() == [2, 2]  # the count is rounded down
    assert kept(rows, replace(more, count=lambda keep, n: n - 1)).sum(axis=1).tolist() == [3, 3]  # the stage's own


def test_overlap_by_hand():
    sets = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]], dtype=bool)
    np.testing.assert_allclose(overlap(sets), [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]])


def test_of_a_model(tiny):
    vlm, processor = tiny
    inputs = processor(images=[Scene.from_seed(seed).image for seed in (1, 2)], text=["a", "b"])
    found = stability(vlm, inputs, keep=0.25)
    assert (found.samples, found.keep) == (2, 0.25)
    scores = layer_scores(vlm, inputs).scores
    by_hand = [len(set(np.argsort(-scores[0, s])[:4]) & set(np.argsort(-scores[2, s])[:4])) / 4 for s in (0, 1)]
    assert found.overlap[0, 2] == found.overlap[2, 0] == np.mean(by_hand)
    np.testing.assert_allclose(np.diag(found.spearman), 1)
    np.testing.assert_allclose(found.spearman, found.spearman.T)
    assert found.spearman[0, 3] < 1


def test_a_score_that_knows_no_layers_is_perfectly_stable(tiny):
    vlm, processor = tiny
    inputs = processor(images=Scene.from_seed(1).image, text="a")
    for score in (Random(), Uniform()):
        found = stability(vlm, inputs, score)
        np.testing.assert_allclose(found.spearman, 1)
        np.testing.assert_array_equal(found.overlap, 1)


@pytest.mark.parametrize(
    ("keep", "sentence"), [(0.05, "keep=0.05 keeps none of 16 tokens"), (1.5, "not a share"), (math.nan, "not a share")]
)
def test_mistakes_are_told(tiny, keep, sentence):
    vlm, processor = tiny
    with pytest.raises(UserError, match=sentence):
        stability(vlm, processor(images=Scene.from_seed(1).image, text="a"), keep=keep)
