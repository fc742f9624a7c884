"""Maximal marginal relevance against its rule written out, pick by pick."""

import pytest
import torch
from slow import Row, cosine, packed, rows
from traces import trace_of

from deltaprune.errors import UserError
from deltaprune.rows import Rows
from deltaprune.scores.marginal_relevance import MarginalRelevance
from deltaprune.scores.output import OutputNorm
from deltaprune.scores.stateful import Stateful
from deltaprune.trace import Trace

SHAPES = [(17, 3), (1, 2), (0, 4), (2, 0), (23, 1), (9, 5)]


def mmr_by_loops(x: list[Row], weight: list[float], balance: float, picks: int) -> list[int]:
    """The pick with the best sum of scaled relevance and unlikeness to the picks before it, again and again."""
    width = max(weight, default=0) - min(weight, default=0)
    relevance = [(w - min(weight)) / width if width else 0.0 for w in weight]
    chosen: list[int] = []

    def worth(j: int) -> float:
        likeness = max((cosine(x[i], x[j]) for i in chosen), default=0.0)
        return balance * relevance[j] - (1 - balance) * likeness

    while len(chosen) < picks:
        free = [j for j in range(len(x)) if j not in chosen]
        chosen.append(max(free, key=lambda j: (round(worth(j), 6), -j)))
    return chosen


def case(seed: int, tied: bool) -> tuple[Rows, Trace]:
    tokens = packed(SHAPES, seed, tied)
    draw = torch.Generator().manual_seed(seed)
    query = torch.randn(len(tokens.x), 5, generator=draw)
    if tied:
        query = torch.randint(0, 2, query.shape, generator=draw) * 2.0 - 1
        query[::2] = 0
    return tokens, trace_of(hidden=rows(len(tokens.x), seed + 3, tied), query=query)


@pytest.mark.parametrize("tied", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("balance", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_it_picks_what_the_written_out_rule_picks(seed: int, keep: float, balance: float, tied: bool) -> None:
    tokens, trace = case(seed, tied)
    scores = MarginalRelevance("readout", balance, keep)(tokens, trace)
    for (a, b), n in zip(tokens.spans, tokens.n_visual, strict=True):
        picks = int(keep * n + 1e-6)
        weight = [sum(v * v for v in row) ** 0.5 for row in trace["query"][a : a + n].tolist()]
        expected = mmr_by_loops(trace["hidden"][a : a + n].tolist(), weight, balance, picks)
        assert scores[a : a + n].argsort(descending=True)[:picks].tolist() == expected
        left = sorted(set(range(n)) - set(expected))
        assert scores[a : a + n][left].tolist() == [-float(n)] * len(left)
        assert (scores[a + n : b] == 1).all()


def test_all_relevance_is_the_relevance_and_none_begins_with_the_first_row() -> None:
    tokens, trace = case(5, tied=False)
    first = tokens.n_visual[0]
    ranked = MarginalRelevance(balance=1.0)(tokens, trace)[:first].argsort(descending=True)
    assert ranked.tolist() == trace["query"][:first].norm(dim=-1).argsort(descending=True).tolist()
    assert MarginalRelevance(balance=0.0)(tokens, trace)[:first].argmax() == 0


def test_what_it_needs_and_sees_is_its_relevances() -> None:
    assert MarginalRelevance().needs == {"hidden", "query"}
    assert MarginalRelevance(OutputNorm()).needs == {"hidden", "output"}
    assert MarginalRelevance("stateful").relevance == Stateful()
    assert MarginalRelevance("stateful").sees_text
    assert not MarginalRelevance().sees_text


def test_visual_rows_may_be_anywhere() -> None:
    """Text before, between and after the image changes nothing but the places."""
    x, query = rows(12, 1), rows(12, 2, d=5)
    mask = torch.tensor([False, True, True, False, True, True, True, False, True, True, True, False])
    scattered = MarginalRelevance(keep=0.6)(Rows.mixed([x], [mask]), trace_of(hidden=x, query=query))
    alone = Rows.pack([x[mask]], [x[:0]])
    together = MarginalRelevance(keep=0.6)(alone, trace_of(hidden=x[mask], query=query[mask]))
    assert torch.equal(scattered[mask], together)
    assert (scattered[~mask] == 1).all()


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"balance=2 is not a share: it lies between 0 and 1 \(try balance=1\)"):
        MarginalRelevance(balance=2)
    with pytest.raises(UserError, match="There is no score 'reaudot'"):
        MarginalRelevance("reaudot")
