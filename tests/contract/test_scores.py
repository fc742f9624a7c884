"""What every score promises, whoever wrote it: each entry of the registry x each property."""

from dataclasses import is_dataclass

import pytest
import torch
from traces import trace_of

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import ROLES, Trace

E, N, D = 24, 8, 16


def example(lengths: tuple[tuple[int, int], ...] = ((12, 3), (5, 4), (12, 1))) -> tuple[Rows, Trace]:
    """A random packed batch and a full trace of it; sample i's rows depend on i only."""
    draw = [torch.Generator().manual_seed(i) for i in range(len(lengths))]
    tokens = Rows.pack(
        [torch.randn(v, D, generator=g) for (v, _), g in zip(lengths, draw, strict=True)],
        [torch.randn(t, D, generator=g) for (_, t), g in zip(lengths, draw, strict=True)],
        torch.arange(40, 40 + len(lengths)),
    )
    totals = [sum(pair) for pair in lengths]

    def rows(width: int) -> torch.Tensor:
        return torch.cat([torch.randn(t, width, generator=g) for t, g in zip(totals, draw, strict=True)])

    delta = rows(E).abs()
    trace = trace_of(
        delta=delta,
        step=delta.mean(-1),
        decay=-torch.rand(E, N, generator=torch.Generator().manual_seed(9)) - 0.1,
        key=rows(N),
        query=rows(N),
        value=rows(E),
        output=rows(E),
        hidden=rows(D),
        attention=torch.cat([torch.rand(t, generator=g) for t, g in zip(totals, draw, strict=True)]),
    )
    return tokens, trace


def part(tokens: Rows, trace: Trace, i: int) -> tuple[Rows, Trace]:
    """Sample i alone."""
    a, b = tokens.spans[i]
    index = torch.arange(a, b)
    alone = tokens.take(index, (b - a,), (tokens.n_visual[i],))
    alone = Rows(**{**vars(alone), "n_image": (tokens.n_image[i],), "key": tokens.key[i : i + 1]})
    return alone, trace.map(lambda rows: rows[a:b])


@pytest.fixture(params=registry.names())
def score(request: pytest.FixtureRequest) -> Score:
    return registry[request.param]()


def test_is_a_frozen_dataclass_with_a_stable_repr(score: Score) -> None:
    assert is_dataclass(score)
    assert type(score).__dataclass_params__.frozen
    assert repr(score) == repr(type(score)())
    assert " at 0x" not in repr(score)
    assert type(score).__doc__


def test_says_where_it_comes_from(score: Score) -> None:
    paper = getattr(type(score), "paper", None)
    assert isinstance(paper, str)
    assert paper


def test_its_docstring_says_shape_range_source_and_whether_it_sees_text(score: Score) -> None:
    doc = type(score).__doc__ or ""
    assert "Shape (T,), range " in doc
    assert "Source: " in doc
    assert f"Sees text: {'yes' if score.sees_text else 'no'}" in doc


def test_asks_only_for_what_a_trace_has(score: Score) -> None:
    assert score.needs <= ROLES


def test_reads_only_what_it_asks_for(score: Score) -> None:
    tokens, trace = example()
    assert torch.equal(score(tokens, trace.only(score.needs)), score(tokens, trace))


def test_gives_one_finite_float32_per_row(score: Score) -> None:
    tokens, trace = example()
    values = score(tokens, trace)
    assert values.shape == (len(tokens.x),)
    assert values.dtype == torch.float32
    assert values.isfinite().all()


def with_row(tokens: Rows, trace: Trace, row: int, value: float) -> tuple[Rows, Trace]:
    """One row of the residual stream and of everything in the trace is this value."""

    def changed(rows: torch.Tensor) -> torch.Tensor:
        return rows.index_fill(0, torch.tensor([row]), value)

    return tokens.with_x(changed(tokens.x)), trace.map(changed)


def test_a_broken_row_is_not_hidden(score: Score) -> None:
    """A score that reads a row gives another number for another row, and one that is not finite for a NaN."""
    tokens, trace = example()
    before = score(tokens, trace)
    other, broken = (score(*with_row(tokens, trace, 2, value)) for value in (9.0, torch.nan))
    reads = not torch.equal(before, other)
    assert reads or not score.needs
    assert bool(broken.isfinite().all()) != reads
    assert reads or torch.equal(before, broken)


def test_a_batch_equals_the_loop(score: Score) -> None:
    tokens, trace = example()
    together = score(tokens, trace)
    for i, (a, b) in enumerate(tokens.spans):
        torch.testing.assert_close(together[a:b], score(*part(tokens, trace, i)))


def test_an_image_sees_the_text_if_and_only_if_it_says_so(score: Score) -> None:
    """Another text, and no text but its last row: the visual tokens' scores stay, or change where the text is seen."""
    if "attention" in score.needs:  # what a layer told of the last row is text already
        assert score.sees_text
        return
    tokens, trace = example(((12, 3),))
    visual = tokens.visual
    changed = tokens.with_x(tokens.x.where(visual[:, None], 0.7))
    other = trace.map(lambda v: v.where(visual[:, None] if v.ndim == 2 else visual, 0.7))
    before = score(tokens, trace)[visual]
    after = score(changed, other)[visual]
    assert torch.equal(before, after) != score.sees_text
    index = torch.cat([torch.arange(12), torch.tensor([14])])
    shorter = tokens.take(index, (13,), (12,))
    other = trace.map(lambda rows: rows[index])
    cut = score(shorter, other)[:12]
    assert torch.equal(before, cut) != score.sees_text
