"""Uniqueness against the mean over all pairs, written out."""

import pytest
import torch
from slow import cosine, packed
from traces import trace_of

from deltaprune.scores.uniqueness import Uniqueness

SHAPES = [(9, 3), (1, 2), (0, 4), (5, 1)]


def test_it_is_minus_the_mean_cosine_to_the_image() -> None:
    tokens = packed(SHAPES, 3, tied=False)
    scores = Uniqueness()(tokens, trace_of(hidden=tokens.x))
    for (a, b), n in zip(tokens.spans, tokens.n_visual, strict=True):
        rows = tokens.x[a : a + n].tolist()
        expected = [-sum(cosine(row, other) for other in rows) / n for row in rows]
        assert scores[a : a + n].tolist() == pytest.approx(expected, abs=1e-6)
        assert (scores[a + n : b] == 2).all()


def test_the_odd_one_out_comes_first() -> None:
    tokens = packed([(6, 1)], 0, tied=False)
    hidden = torch.tensor([[1.0, 0.1 * i] for i in range(5)] + [[-1.0, 0.0], [0.0, 1.0]])
    assert Uniqueness()(tokens, trace_of(hidden=hidden))[:6].argmax() == 5
