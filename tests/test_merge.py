"""Merging against the definition written out row by row, and what it has to conserve."""

import pytest
import torch
from slow import cosine, packed, rows

from deltaprune.checks import check_choice, check_share
from deltaprune.errors import UserError
from deltaprune.merge import TARGETS, Merge
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.selection import select
from deltaprune.steps import Drop, Stage

SHAPES = [(23, 3), (1, 2), (0, 4), (2, 0), (24, 1), (3, 5)]


def case(seed: int, tied: bool) -> tuple[Rows, torch.Tensor]:
    """A batch in which some rows already stand for several, and scores."""
    tokens = packed(SHAPES, seed, tied)
    draw = torch.Generator().manual_seed(seed)
    tokens.size[:] = torch.where(tokens.visual, torch.randint(1, 5, tokens.size.shape, generator=draw), 1)
    return tokens, torch.randint(0, 9, tokens.size.shape, generator=draw).float()


def merge_by_loops(tokens: Rows, scores: torch.Tensor, stage: Stage, into: str, pruned: float) -> tuple[list, ...]:
    """Rows, sizes and origins that are left."""
    x, size = tokens.x.double().tolist(), tokens.size.tolist()
    left_x, left_size, left_origin = [], [], []
    for (a, b), n, total in zip(tokens.spans, tokens.n_visual, tokens.n_image, strict=True):
        ranked = sorted(range(a, a + n), key=lambda j: (-scores[j].item(), j))
        count = stage.count(stage.keep, total)
        kept, dropped = ranked[:count], ranked[count:]
        if into == "lowest":
            targets = kept[::-1][: len(dropped)]
        else:
            targets = [j for j in kept if into == "any" or j in ranked[: n // 2]]
        if targets:
            match = {s: max(targets, key=lambda t: (round(cosine(x[s], x[t]), 6), -t)) for s in dropped}
            alike = sorted(dropped, key=lambda s: round(-cosine(x[s], x[match[s]]), 6))
            merged = alike[int(pruned * len(dropped) + 1e-6) :]
        else:
            match, merged = {}, []
        for j in [*sorted(kept), *range(a + n, b)]:
            group = [j, *(s for s in merged if match[s] == j)]
            weight = sum(size[g] for g in group)
            left_x.append([sum(size[g] * x[g][d] for g in group) / weight for d in range(len(x[j]))])
            left_size.append(weight)
            left_origin.append(tokens.origin[j].item())
    return left_x, left_size, left_origin


@pytest.mark.parametrize("tied", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("into", TARGETS)
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("pruned", [0.0, 0.5, 1.0])
def test_it_equals_the_loop(into: str, keep: float, pruned: float, tied: bool) -> None:
    tokens, scores = case(1, tied)
    stage = Stage(1, keep, Delta(), reduce=Merge(into, pruned))  # pyright: ignore[reportArgumentType]
    left = stage.reduce(tokens, select(stage, scores, tokens))
    x, size, origin = merge_by_loops(tokens, scores, stage, into, pruned)
    torch.testing.assert_close(left.x, torch.tensor(x, dtype=torch.float32))
    assert left.size.tolist() == size
    assert left.origin.tolist() == origin


@pytest.mark.parametrize("into", TARGETS)
@pytest.mark.parametrize("seed", range(3))
def test_the_size_weighted_sum_is_conserved_through_two_merges(seed: int, into: str) -> None:
    tokens, scores = case(seed, tied=False)
    left = tokens
    for keep in (0.7, 0.2):
        stage = Stage(1, keep, Delta(), reduce=Merge(into))  # pyright: ignore[reportArgumentType]
        left = stage.reduce(left, select(stage, scores[: len(left.x)], left))
    for i, ((a, b), (c, d)) in enumerate(zip(tokens.spans, left.spans, strict=True)):
        if left.n_visual[i]:
            before, after = tokens.size[a:b, None] * tokens.x[a:b], left.size[c:d, None] * left.x[c:d]
            torch.testing.assert_close(after.sum(0), before.sum(0), atol=1e-4, rtol=1e-5)
            assert left.size[c:d].sum() == tokens.size[a:b].sum()


def test_text_rows_and_rows_that_take_nothing_in_are_bit_identical() -> None:
    tokens, scores = case(2, tied=False)
    stage = Stage(1, 0.5, Delta(), reduce=Merge())
    kept = select(stage, scores, tokens)
    left = stage.reduce(tokens, kept)
    same = left.size == tokens.size[kept.rows]
    assert not same.all()
    assert same[~left.visual].all()
    assert torch.equal(left.x[same], tokens.x[kept.rows][same])
    assert torch.equal(tokens.x, case(2, tied=False)[0].x)  # the rows that came in are as they were


def test_merging_keeps_the_rows_that_dropping_keeps() -> None:
    tokens, scores = case(3, tied=True)
    for candidates in ("visual", "all"):
        merge, drop = (Stage(1, 0.4, Delta(), candidates=candidates, reduce=r) for r in (Merge(), Drop()))
        merged = merge.reduce(tokens, select(merge, scores, tokens))
        dropped = drop.reduce(tokens, select(drop, scores, tokens))
        assert torch.equal(merged.origin, dropped.origin)
        assert torch.equal(merged.visual, dropped.visual)
        assert (merged.lengths, merged.n_visual) == (dropped.lengths, dropped.n_visual)
        assert merged.size[merged.visual].sum() > dropped.size[dropped.visual].sum()
        assert (merged.size[~merged.visual] == 1).all()


def test_nothing_kept_is_nothing_to_merge_into() -> None:
    tokens = Rows.pack([rows(6, 0)], [rows(2, 1)])
    stage = Stage(1, 0.0, reduce=Merge())
    left = stage.reduce(tokens, select(stage, None, tokens))
    assert torch.equal(left.x, tokens.x[6:])


def test_a_batch_merges_as_its_samples_do_alone() -> None:
    tokens, scores = case(4, tied=True)
    stage = Stage(1, 0.5, Delta(), reduce=Merge("half", pruned=0.5))
    together = stage.reduce(tokens, select(stage, scores, tokens))
    for (a, b), (c, d), (v, _) in zip(tokens.spans, together.spans, SHAPES, strict=True):
        alone = Rows.pack([tokens.x[a : a + v]], [tokens.x[a + v : b]])
        alone.size[:] = tokens.size[a:b]
        alone = stage.reduce(alone, select(stage, scores[a:b], alone))
        assert torch.equal(alone.origin, together.origin[c:d])
        assert torch.equal(alone.size, together.size[c:d])
        torch.testing.assert_close(alone.x, together.x[c:d])


def test_mistakes_end_in_a_sentence() -> None:
    with pytest.raises(UserError, match="There is no into='hlaf': did you mean 'half'"):
        check_choice("into", "hlaf", TARGETS)
    with pytest.raises(UserError, match=r"pruned=1.5 is not a share: it lies between 0 and 1 \(try pruned=1\)"):
        Merge(pruned=1.5)
    with pytest.raises(UserError, match="q='half' is not a number: it is a share"):
        check_share("q", "half")
