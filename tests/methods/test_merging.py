"""MTR, UTRC and ToMe, each as its paper tells it, against one step of ours."""

from functools import partial

import pytest
import torch
from slow import best_first, cosine, packed
from traces import trace_of

from deltaprune.methods.mtr import MTR
from deltaprune.methods.tome import ToMe
from deltaprune.methods.utrc import UTRC
from deltaprune.rows import Rows
from deltaprune.selection import select
from deltaprune.steps import Method, Plan, Shape, Stage
from deltaprune.trace import Trace

SHAPES = [(23, 3), (2, 2), (0, 4), (24, 1), (3, 5)]
DEEP = Shape(n_layers=64, n_visual=24, plan=Plan(early=15, late=45))
Groups = dict[int, list[int]]


def traced(seed: int, tied: bool) -> tuple[Rows, Trace]:
    """A batch with whole-numbered importance where it is tied."""
    tokens = packed(SHAPES, seed, tied)
    draw = torch.Generator().manual_seed(seed)
    y = torch.randn(len(tokens.x), 6, generator=draw)
    y = y.round() if tied else y
    return tokens, trace_of(output=y, step=y.abs().sum(-1))


def one_step(method: Method) -> Stage:
    (stage,) = method.steps(DEEP)
    return stage


def mtr(x: list, important: list, n: int, count: int, q: float) -> Groups:
    """Sort by Delta; Keep, Target, Source; each Source token into its most similar Target."""
    ranked = best_first(important, range(n))
    kept, source = ranked[:count], ranked[count:]
    target = kept[::-1][: len(source)]
    return joined(kept, {s: nearest(x, s, target) for s in source} if target else {})


def utrc(x: list, important: list, n: int, count: int, q: float) -> Groups:
    """Halves by importance; each of M_A to its most similar in M_B; the most similar go, a part of them pruned."""
    ranked = best_first(important, range(n))
    m_b, m_a = ranked[: n // 2], sorted(ranked[n // 2 :])
    return matched(x, m_a, m_b, n - count, q)


def tome(x: list, important: list, n: int, count: int, q: float) -> Groups:
    """Alternate; each even token to its most similar odd one; the r most similar are merged."""
    return matched(x, list(range(0, n, 2)), list(range(1, n, 2)), n - count, 0.0)


def matched(x: list, a: list[int], b: list[int], r: int, q: float) -> Groups:
    if not b:
        return {j: [j] for j in a}
    f = {i: nearest(x, i, b) for i in a}
    g = {i: round(cosine(x[i], x[f[i]]), 6) for i in a}
    gone = sorted(a, key=lambda i: (-g[i], -i))[:r]  # of two as similar, the first one stays
    merged = sorted(gone, key=lambda i: (-g[i], i))[int(q * r + 1e-6) :]
    return joined(b + [i for i in a if i not in gone], {i: f[i] for i in merged})


def nearest(x: list, i: int, targets: list[int]) -> int:
    return max(targets, key=lambda t: (round(cosine(x[i], x[t]), 6), -t))


def joined(kept: list[int], moves: dict[int, int]) -> Groups:
    return {j: [j, *(s for s, t in moves.items() if t == j)] for j in kept}


@pytest.mark.parametrize("tied", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("keep", [0.5, 0.65, 0.9])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("loop", "method", "q"),
    [
        (mtr, MTR, 0.0),
        (utrc, partial(UTRC, every=40, q=0.5), 0.5),
        (utrc, partial(UTRC, every=40, q=0.2), 0.2),
        (tome, partial(ToMe, every=40), 0.0),
    ],
    ids=["mtr", "utrc", "utrc q=0.2", "tome"],
)
def test_one_step_is_the_papers(loop, method, q: float, seed: int, keep: float, tied: bool) -> None:
    tokens, trace = traced(seed, tied)
    stage = one_step(method(keep))
    assert stage.score is not None
    left = stage.reduce(tokens, select(stage, stage.score(tokens, trace), tokens))
    important = (trace["output"].clamp(min=0).sum(-1) if loop is utrc else trace["step"]).tolist()
    for (a, b), (c, d), n in zip(tokens.spans, left.spans, tokens.n_visual, strict=True):
        x = tokens.x[a:b].double()
        groups = loop(x.tolist(), important[a:b], n, int(keep * n + 1e-6), q)
        assert left.origin[c:d].tolist() == sorted(groups) + list(range(n, b - a))
        for row, j in zip(range(c, d), sorted(groups), strict=False):
            torch.testing.assert_close(left.x[row], x[groups[j]].mean(0).float(), atol=1e-5, rtol=1e-5)
            assert left.size[row] == len(groups[j])


def test_the_steps() -> None:
    paper = UTRC(0.497, early=12, until=43, every=5).steps(DEEP)
    assert [stage.after for stage in paper] == [12, 17, 22, 27, 32, 37, 42]
    ratios = [b.keep / a.keep for a, b in zip((Stage(0, 1.0), *paper), paper, strict=False)]
    assert ratios == pytest.approx([0.905] * 7, abs=5e-4)  # "keep .905 each"
    assert [stage.after for stage in UTRC().steps(DEEP)] == [15, 20, 25, 30, 35, 40]
    merged = ToMe(0.4, early=2, until=8).steps(DEEP)
    assert [stage.after for stage in merged] == [2, 4, 6]
    assert [stage.keep for stage in merged] == pytest.approx([0.8, 0.6, 0.4])
    assert [stage.after for stage in MTR(late="plan").steps(DEEP)] == [15, 45]
    assert MTR(late=50).steps(DEEP)[1] == Stage(50, 0.0)


@pytest.mark.parametrize("method", [MTR, UTRC, ToMe], ids=lambda m: m.__name__)
@pytest.mark.parametrize("keep", [0, 0.0, 1, 1.0, 1e-9, 1 / 3])
def test_every_share_is_possible(method: type, keep: float) -> None:
    stages = method(keep).steps(DEEP)
    assert stages[-1].keep == pytest.approx(keep, abs=1e-12)
    assert all(0 <= stage.keep <= 1 for stage in stages)


@pytest.mark.parametrize("method", [UTRC(0.2, every=40, q=0.0), ToMe(0.2, every=40)], ids=["utrc", "tome"])
def test_less_than_half_at_once_keeps_targets_only_and_loses_nothing(method: Method) -> None:
    tokens, trace = traced(0, tied=False)
    stage = one_step(method)
    assert stage.score is not None
    left = stage.reduce(tokens, select(stage, stage.score(tokens, trace), tokens))
    assert left.n_visual == tuple(int(0.2 * n) for n, _ in SHAPES)
    for (c, d), n_left, (n, t) in zip(left.spans, left.n_visual, SHAPES, strict=True):
        if n_left:
            assert left.size[c:d].sum() == n + t
    if isinstance(method, ToMe):
        assert (left.origin[left.visual] % 2 == 1).all()
