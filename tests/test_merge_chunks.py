"""Chunks of equal score against their rule written out row by row."""

import pytest
import torch
from slow import packed

from deltaprune.errors import UserError
from deltaprune.merge import MergeChunks
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.selection import chunk_starts
from deltaprune.steps import Stage

SHAPES = [(23, 3), (1, 2), (0, 4), (2, 0), (24, 1), (7, 5)]


def starts_by_loops(weight: list[float], count: int) -> list[int]:
    """Walk along; a chunk is closed as soon as all so far hold their share, while enough rows are left."""
    total, starts, before = sum(weight), [], 0.0
    if total == 0:
        weight, total = [1.0] * len(weight), float(len(weight))
    for j, w in enumerate(weight):
        due = before >= len(starts) / count * total or len(weight) - j == count - len(starts)
        if len(starts) < count and due:
            starts.append(j)
        before += w
    return starts


@pytest.mark.parametrize("seed", range(40))
def test_where_chunks_begin(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    n = int(torch.randint(1, 30, (), generator=draw))
    weight = torch.rand(n, generator=draw) ** (1 + seed % 7)
    if seed % 5 == 0:
        weight = (weight * 3).round()
    if seed == 7:
        weight[:] = 0
    for count in range(1, n + 1):
        starts = chunk_starts(weight, count).tolist()
        assert starts == starts_by_loops(weight.double().tolist(), count)
        assert len(set(starts)) == count
        assert starts[0] == 0


@pytest.mark.parametrize("temperature", [0.1, 1.0, 50.0])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_chunk_becomes_one_row(keep: float, temperature: float) -> None:
    tokens = packed(SHAPES, 3)
    draw = torch.Generator().manual_seed(1)
    tokens.size[:] = torch.where(tokens.visual, torch.randint(1, 5, tokens.size.shape, generator=draw), 1)
    scores = torch.rand(len(tokens.x), generator=draw)
    reduce = MergeChunks(temperature)
    stage = Stage(1, keep, Delta(), reduce=reduce)
    left = reduce(tokens, reduce.choose(stage, scores if 0 < keep < 1 else None, tokens))
    for (a, _), (c, d), n, t in zip(tokens.spans, left.spans, tokens.n_visual, (t for _, t in SHAPES), strict=True):
        count = int(keep * n + 1e-6)
        starts = starts_by_loops(scores[a : a + n].double().tolist(), count) if count else []
        assert left.origin[c:d].tolist() == starts + list(range(n, n + t))
        for row, (first, end) in enumerate(zip(starts, [*starts[1:], n], strict=False)):
            part = range(a + first, a + end)
            weight = [torch.exp(scores[j].double() / temperature).item() for j in part]
            expected = sum(w / sum(weight) * tokens.x[j].double() for w, j in zip(weight, part, strict=True))
            torch.testing.assert_close(left.x[c + row].double(), expected, atol=1e-5, rtol=1e-5)
            assert left.size[c + row] == sum(int(tokens.size[j]) for j in part)
        assert torch.equal(left.x[c + count : d], tokens.x[a + n : a + n + t])
    assert torch.equal(tokens.x, packed(SHAPES, 3).x)  # the rows that came in are as they were


def test_text_between_the_rows_of_an_image_stays_where_it_is() -> None:
    x = torch.arange(12.0)[:, None]
    mask = torch.tensor([False, True, True, False, True, True, True, False, True, True, True, False])
    tokens, reduce = Rows.mixed([x], [mask]), MergeChunks(1e6)
    stage = Stage(1, 0.25, Delta(), reduce=reduce)
    left = reduce(tokens, reduce.choose(stage, torch.ones(12), tokens))
    assert left.origin.tolist() == [0, 1, 3, 6, 7, 11]  # 8 visual rows: 1 2 4 5 | 6 8 9 10
    assert left.x[:, 0].tolist() == pytest.approx([0, 3, 3, 8.25, 7, 11], abs=1e-4)


def test_mistakes() -> None:
    stage = Stage(1, 0.5, Delta(), candidates="all", reduce=MergeChunks())
    tokens = packed(SHAPES, 0)
    with pytest.raises(UserError, match='use it with candidates="visual"'):
        stage.reduce.choose(stage, torch.ones(len(tokens.x)), tokens)
    with pytest.raises(UserError, match="temperature=0 is not possible: it is a number above 0"):
        MergeChunks(0)
