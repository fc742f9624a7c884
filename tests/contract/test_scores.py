"""What every score promises, whoever wrote it: each entry of the registry x each property."""

from dataclasses import fields, is_dataclass

import pytest
import torch

from deltaprune.scores import registry
from deltaprune.stages import Score
from deltaprune.tokens import Tokens, Trace

E, N, D = 24, 8, 16


def example(lengths: tuple[tuple[int, int], ...] = ((12, 3), (5, 4), (12, 1))) -> tuple[Tokens, Trace]:
    """A random packed batch and a full trace of it; sample i's rows depend on i only."""
    draw = [torch.Generator().manual_seed(i) for i in range(len(lengths))]
    tokens = Tokens.pack(
        [torch.randn(v, D, generator=g) for (v, _), g in zip(lengths, draw, strict=True)],
        [torch.randn(t, D, generator=g) for (_, t), g in zip(lengths, draw, strict=True)],
        torch.arange(40, 40 + len(lengths)),
    )
    totals = [sum(pair) for pair in lengths]

    def rows(width: int) -> torch.Tensor:
        return torch.cat([torch.randn(t, width, generator=g) for t, g in zip(totals, draw, strict=True)])

    delta = rows(E).abs()
    trace = Trace(
        delta=delta,
        delta_mean=delta.mean(-1),
        A=-torch.rand(E, N, generator=torch.Generator().manual_seed(9)) - 0.1,
        B=rows(N),
        C=rows(N),
        u=rows(E),
        y=rows(E),
        hidden=rows(D),
    )
    return tokens, trace


def part(tokens: Tokens, trace: Trace, i: int) -> tuple[Tokens, Trace]:
    """Sample i alone."""
    a, b = tokens.spans[i]
    index = torch.arange(a, b)
    alone = tokens.take(index, (b - a,), (tokens.n_visual[i],))
    alone = Tokens(**{**vars(alone), "n_image": (tokens.n_image[i],), "key": tokens.key[i : i + 1]})
    filled = {f.name: getattr(trace, f.name) for f in fields(Trace)}
    return alone, Trace(**{k: v if k == "A" else v[a:b] for k, v in filled.items()})


@pytest.fixture(params=registry.names())
def score(request: pytest.FixtureRequest) -> Score:
    return registry[request.param]()


def test_is_a_frozen_dataclass_with_a_stable_repr(score: Score) -> None:
    assert is_dataclass(score)
    assert type(score).__dataclass_params__.frozen
    assert repr(score) == repr(type(score)())
    assert " at 0x" not in repr(score)
    assert type(score).__doc__


def test_its_docstring_says_shape_range_source_and_whether_it_sees_text(score: Score) -> None:
    doc = type(score).__doc__ or ""
    assert "Shape (T,), range " in doc
    assert "Source: " in doc
    assert f"Sees text: {'yes' if score.sees_text else 'no'}" in doc


def test_asks_only_for_what_a_trace_has(score: Score) -> None:
    assert score.needs <= Trace.names()


def test_reads_only_what_it_asks_for(score: Score) -> None:
    tokens, trace = example()
    asked = Trace(**{name: getattr(trace, name) for name in score.needs})
    assert torch.equal(score(tokens, asked), score(tokens, trace))


def test_gives_one_finite_float32_per_row(score: Score) -> None:
    tokens, trace = example()
    values = score(tokens, trace)
    assert values.shape == (len(tokens.x),)
    assert values.dtype == torch.float32
    assert values.isfinite().all()


def test_a_broken_row_is_not_hidden(score: Score) -> None:
    """A score that read a NaN says so, also where it only ranks; one that did not read it does not change."""
    tokens, trace = example()
    before = score(tokens, trace)
    broken = {f.name: getattr(trace, f.name).clone() for f in fields(Trace)}
    for name in broken.keys() - {"A"}:
        broken[name][2] = torch.nan
    x = tokens.x.clone()
    x[2] = torch.nan
    after = score(tokens.with_x(x), Trace(**broken))
    assert not after.isfinite().all() or torch.equal(before, after)


def test_a_batch_equals_the_loop(score: Score) -> None:
    tokens, trace = example()
    together = score(tokens, trace)
    for i, (a, b) in enumerate(tokens.spans):
        torch.testing.assert_close(together[a:b], score(*part(tokens, trace, i)))


def test_an_image_does_not_see_the_text_unless_it_says_so(score: Score) -> None:
    tokens, trace = example(((12, 3),))
    other, other_trace = example(((12, 3),))
    visual = tokens.visual
    changed = {
        f.name: getattr(other_trace, f.name).where(visual[:, None] if getattr(trace, f.name).ndim == 2 else visual, 0.7)
        for f in fields(Trace)
        if f.name != "A"
    }
    before = score(tokens, trace)[visual]
    after = score(other, Trace(A=trace.A, **changed))[visual]
    assert torch.equal(before, after) or score.sees_text
