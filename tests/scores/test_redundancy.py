"""The bipartite matching's score, written out pair by pair."""

import pytest
import torch
from slow import best_first, cosine, packed
from traces import trace_of

from deltaprune.scores.clipped_output import ClippedOutput
from deltaprune.scores.delta import Delta
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.scores.redundancy import Redundancy
from deltaprune.trace import Trace

SHAPES = [(23, 3), (1, 2), (0, 4), (2, 0), (24, 1), (3, 5)]


@pytest.mark.parametrize("tied", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("importance", [None, ClippedOutput()], ids=["alternating", "by importance"])
@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_loop(seed: int, importance: ClippedOutput | None, tied: bool) -> None:
    tokens = packed(SHAPES, seed, tied)
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(-2, 3, (len(tokens.x), 6), generator=draw).float()
    scores = Redundancy(importance)(tokens, trace_of(output=y)).tolist()
    for (a, b), n in zip(tokens.spans, tokens.n_visual, strict=True):
        x, important = tokens.x[a:b].tolist(), [sum(max(0.0, v) for v in row) for row in y[a:b].tolist()]
        targets = list(range(1, n, 2)) if importance is None else best_first(important, range(n))[: n // 2]
        for j in set(range(n)) - set(targets):
            expected = max([cosine(x[j], x[t]) for t in targets], default=0.0)
            assert scores[a + j] == pytest.approx(-expected, abs=1e-6)
        assert all(2 < scores[a + t] <= 3 for t in targets)
        if importance is not None:
            assert best_first(scores[a:b], range(n))[: n // 2] == targets
        assert scores[a + n : b] == [4.0] * (b - a - n)


def test_what_it_needs_and_sees_is_what_the_importance_does() -> None:
    assert (Redundancy().needs, Redundancy().sees_text) == (frozenset(), False)
    assert Redundancy(Delta()).needs == Delta().needs
    assert Redundancy(HiddenAttention()).sees_text


@pytest.mark.parametrize("count", [1, 5, 13, 25, 49])
def test_the_first_few_alternating_targets_are_evenly_spread(count: int) -> None:
    tokens = packed([(100, 1)], 0)
    kept = Redundancy()(tokens, Trace())[:100].topk(count).indices.sort().values
    gaps = kept.diff().tolist()
    assert all(j % 2 for j in kept.tolist())
    assert not gaps or max(gaps) <= 2 * 2.7 * 50 / count
