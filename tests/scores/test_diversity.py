"""DivPrune's choice against its algorithm written out, pick by pick."""

import pytest
import torch
from slow import Row, cosine, packed

from deltaprune.methods.divprune import DivPrune
from deltaprune.rows import Rows
from deltaprune.scores.diversity import Diversity
from deltaprune.selection import round_count, select
from deltaprune.steps import Shape, Stage
from deltaprune.trace import Trace

SHAPES = [(23, 3), (1, 2), (0, 4), (2, 0), (23, 1), (14, 5)]


def divprune_by_loops(x: list[Row], picks: int) -> list[int]:
    """First the token whose nearest neighbour is farthest, then always the farthest from its nearest pick."""
    n = len(x)
    apart = [[1 - cosine(a, b) for b in x] for a in x]
    if not n:
        return []
    nearest = [min([apart[i][j] for i in range(n) if i != j], default=0.0) for j in range(n)]
    chosen = [max(range(n), key=lambda j: (nearest[j], -j))]
    while len(chosen) < picks:
        free = [j for j in range(n) if j not in chosen]
        chosen.append(max(free, key=lambda j: (min(apart[i][j] for i in chosen), -j)))
    return chosen[:picks]


@pytest.mark.parametrize("tied", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_it_picks_what_the_written_out_algorithm_picks(seed: int, keep: float, tied: bool) -> None:
    tokens = packed(SHAPES, seed, tied)
    scores = Diversity(keep)(tokens, Trace())
    for (a, b), n in zip(tokens.spans, tokens.n_visual, strict=True):
        picks = round_count(keep, n)
        expected = divprune_by_loops(tokens.x[a : a + n].tolist(), picks)
        assert scores[a : a + n].argsort(descending=True)[:picks].tolist() == expected
        left = sorted(set(range(n)) - set(expected))
        assert scores[a : a + n][left].tolist() == [-float(n)] * len(left)
        assert (scores[a + n : b] == 1).all()


def test_a_batch_keeps_what_each_image_keeps_alone() -> None:
    tokens = packed(SHAPES, 4, tied=True)
    (stage,) = DivPrune(0.4).steps(Shape(64, 23))
    kept = set(select(stage, Diversity(0.4)(tokens, Trace()), tokens).rows.tolist())
    for (a, b), (v, _) in zip(tokens.spans, SHAPES, strict=True):
        alone = Rows.pack([tokens.x[a : a + v]], [tokens.x[a + v : b]])
        rows = select(stage, Diversity(0.4)(alone, Trace()), alone).rows
        assert {a + j for j in rows.tolist()} == kept & set(range(a, b))


def test_it_spreads_over_clusters_before_it_repeats_one() -> None:
    """Three directions, many times each: the first three picks are one of each."""
    tokens = packed([(30, 1)], 1, tied=True)
    first = Diversity()(tokens, Trace())[:30].topk(3).indices
    assert len(torch.unique(tokens.x[first], dim=0)) == len(torch.unique(tokens.x[:30], dim=0)) == 3


@pytest.mark.parametrize(("keep", "n", "count"), [(0.5, 729, 364), (0.5, 101, 50), (0.098, 576, 56), (0.35, 729, 255)])
def test_its_stage_and_its_own_count(keep: float, n: int, count: int) -> None:
    """Python rounds a half to the even number: 364.5 -> 364, 50.5 -> 50."""
    (stage,) = DivPrune(keep).steps(Shape(64, n))
    assert stage == Stage(0, keep, Diversity(keep), count=round_count)
    assert stage.counts((n,), (n,)) == (count,)
