"""SCOPE's choice against its algorithm written out, pick by pick."""

import pytest
import torch
from slow import Row, cosine, packed, rows
from traces import trace_of

from deltaprune.errors import UserError
from deltaprune.rows import Rows
from deltaprune.scores.coverage import Coverage
from deltaprune.scores.readout import ReadoutNorm
from deltaprune.trace import Trace

SHAPES = [(17, 3), (1, 2), (0, 4), (2, 0), (23, 1), (9, 5)]


def scope_by_loops(x: list[Row], weight: list[float], alpha: float, picks: int) -> list[int]:
    """Each time the token whose gain of coverage, times its saliency, is largest."""
    n = len(x)
    alike = [[cosine(a, b) for b in x] for a in x]
    covered, chosen = [0.0] * n, []
    while len(chosen) < picks:
        best, best_gain = -1, -1.0
        for j in range(n):
            gain = sum(max(0.0, alike[i][j] - covered[i]) for i in range(n)) * weight[j] ** alpha
            if j not in chosen and round(gain, 5) > best_gain:
                best, best_gain = j, round(gain, 5)
        chosen.append(best)
        covered = [max(c, alike[i][best]) for i, c in enumerate(covered)]
    return chosen


def case(seed: int, tied: bool) -> tuple[Rows, Trace]:
    tokens = packed(SHAPES, seed, tied)
    draw = torch.Generator().manual_seed(seed)
    step = torch.rand(len(tokens.x), generator=draw) + 0.1
    return tokens, trace_of(hidden=rows(len(tokens.x), seed + 3, tied), step=(2 * step).round() if tied else step)


@pytest.mark.parametrize("tied", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("alpha", [0, 1.0, 2.5])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(2))
def test_it_picks_what_the_written_out_algorithm_picks(seed: int, keep: float, alpha: float, tied: bool) -> None:
    tokens, trace = case(seed, tied)
    scores = Coverage("delta", alpha, keep)(tokens, trace)
    for (a, b), n in zip(tokens.spans, tokens.n_visual, strict=True):
        picks = int(keep * n + 1e-6)
        expected = scope_by_loops(trace["hidden"][a : a + n].tolist(), trace["step"][a : a + n].tolist(), alpha, picks)
        assert scores[a : a + n].argsort(descending=True)[:picks].tolist() == expected
        left = sorted(set(range(n)) - set(expected))
        assert scores[a : a + n][left].tolist() == [-float(n)] * len(left)
        assert (scores[a + n : b] == 1).all()


def test_it_covers_every_direction_before_it_repeats_one() -> None:
    """Three directions at right angles, four times each, all as salient: the first three picks are one of each."""
    hidden = torch.eye(3).repeat(4, 1)
    tokens = Rows.pack([torch.zeros(12, 3)], [torch.zeros(0, 3)])
    first = Coverage()(tokens, trace_of(hidden=hidden, step=torch.ones(12))).argsort(descending=True)[:3]
    assert sorted(hidden[first].argmax(-1).tolist()) == [0, 1, 2]


def test_what_it_needs_and_sees_is_its_saliencys() -> None:
    assert Coverage().needs == {"hidden", "step"}
    assert Coverage(ReadoutNorm()).needs == {"hidden", "query"}
    assert (Coverage().sees_text, Coverage("stateful").sees_text) == (False, True)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="alpha=-1 is not possible: it is a number from 0 up"):
        Coverage(alpha=-1)
