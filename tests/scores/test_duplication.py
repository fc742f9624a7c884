"""DART's choice against its algorithm written out: pivots, then each pivot's least similar tokens, one by one."""

import pytest
import torch
from slow import best_first, cosine, packed, rows
from traces import trace_of

from deltaprune.errors import UserError
from deltaprune.methods.dart import DART, dart_count
from deltaprune.rows import Rows
from deltaprune.scores.duplication import Duplication, dart_quota
from deltaprune.selection import floor_count, select
from deltaprune.steps import Shape, Stage
from deltaprune.trace import Trace

SHAPES = [(31, 9), (1, 1), (12, 4), (0, 5), (31, 2), (3, 0), (40, 6)]
COBRA = Shape(n_layers=64, n_visual=729)


def case(seed: int, tied: bool) -> tuple[Rows, Trace]:
    tokens = packed(SHAPES, seed, tied)
    total = len(tokens.x)
    draw = torch.Generator().manual_seed(seed)
    b = torch.randint(-2, 3, (total, 5), generator=draw) if tied else torch.randn(total, 5, generator=draw)
    u = torch.randn(total, 7, generator=draw)
    return tokens, trace_of(hidden=rows(total, seed + 7, tied), key=b.float(), value=u, step=u.abs().mean(-1))


def dart_by_loops(hidden: list, strength: list, n_visual: int, quota: int) -> list[int]:
    """The official get_retained_image_token, with lists; pivots in a fixed order, and all candidates in the end."""
    image = best_first(strength, range(n_visual))[:4]
    text = best_first(strength, range(n_visual, len(hidden)))[:4]
    chosen, valid = list(image), [j for j in range(n_visual) if j not in image]
    for pivot in image + text:
        for _ in range(quota):
            if valid:
                chosen.append(min(valid, key=lambda j: (cosine(hidden[pivot], hidden[j]), j)))
                valid.remove(chosen[-1])
    while valid:
        chosen.append(min(valid, key=lambda j: (max(cosine(hidden[p], hidden[j]) for p in image + text), j)))
        valid.remove(chosen[-1])
    return chosen


@pytest.mark.parametrize("tied", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("exact", [False, True], ids=["official", "exact"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.93])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_chooses_what_the_written_out_algorithm_chooses(seed: int, keep: float, exact: bool, tied: bool) -> None:
    tokens, trace = case(seed, tied)
    scores = Duplication(keep, "B", exact)(tokens, trace)
    for (a, b), n in zip(tokens.spans, tokens.n_visual, strict=True):
        strength = [sum(abs(v) for v in row) for row in trace["key"][a:b].tolist()]
        quota = dart_quota(keep, n, exact)
        expected = dart_by_loops(trace["hidden"][a:b].tolist(), strength, n, quota)
        assert scores[a : a + n].argsort(descending=True).tolist() == expected
        assert scores[a : a + n].sort(descending=True).values.tolist() == [-float(i) for i in range(n)]
        assert (scores[a + n : b] == 1).all()


@pytest.mark.parametrize(("pivots", "role"), [("B", "key"), ("x", "value"), ("delta", "step")])
def test_the_pivots_are_the_strongest_and_come_first(pivots: str, role: str) -> None:
    tokens, trace = case(3, False)
    strength = trace[role].flatten(1).abs().sum(1) if role != "step" else trace["step"]
    scores = Duplication(0.5, pivots)(tokens, trace)  # pyright: ignore[reportArgumentType]
    assert Duplication(0.5, pivots).needs == {"hidden", role}  # pyright: ignore[reportArgumentType]
    assert scores[:31].topk(4).indices.tolist() == strength[:31].topk(4).indices.tolist()


def test_random_pivots_depend_on_the_image_alone() -> None:
    tokens, trace = case(4, False)
    asked = trace_of(hidden=trace["hidden"])
    assert Duplication(pivots="random").needs == {"hidden"}
    first = Duplication(pivots="random")(tokens, asked)
    assert torch.equal(first, Duplication(pivots="random")(tokens, asked))
    assert not torch.equal(first, Duplication(pivots="B")(tokens, trace))


def test_a_batch_keeps_what_each_sample_keeps_alone() -> None:
    tokens, trace = case(5, True)
    (stage,) = DART(0.5).steps(COBRA)
    together = select(stage, stage.score(tokens, trace), tokens)  # pyright: ignore[reportOptionalCall]
    kept = set(together.rows.tolist())
    for i, (a, b) in enumerate(tokens.spans):
        v, t = SHAPES[i]
        alone = Rows.pack([tokens.x[a : a + v]], [tokens.x[a + v : b]], tokens.key[i : i + 1])
        part = trace_of(hidden=trace["hidden"][a:b], key=trace["key"][a:b])  # pyright: ignore[reportOptionalSubscript]
        rows = select(stage, stage.score(alone, part), alone).rows  # pyright: ignore[reportOptionalCall]
        assert {a + j for j in rows.tolist()} == kept & set(range(a, b))
        assert len(rows) == t + min(v, dart_count(0.5, v))


@pytest.mark.parametrize(
    ("keep", "n", "official", "exact"),
    [(0.66, 729, 484, 481), (0.44, 729, 324, 320), (0.222, 576, 124, 127), (1.0, 729, 729, 729), (0.0, 729, 0, 0)],
)
def test_official_counts_and_the_exact_budget(keep: float, n: int, official: int, exact: int) -> None:
    """484 and 324 give the MACs of the poster's Table 1; 124 is what DART's ratio formula gives on 576 tokens."""
    assert dart_count(keep, n) == official
    assert floor_count(keep, n) == exact
    assert 4 + 8 * dart_quota(keep, n, exact=True) >= exact
    shape = Shape(n_layers=64, n_visual=n)
    assert DART(keep).steps(shape)[0].counts((n,), (n,)) == (official,)
    assert DART(keep, exact_budget=True).steps(shape)[0].counts((n,), (n,)) == (exact,)


@pytest.mark.parametrize("n", [0, 1, 3, 5, 16, 100])
@pytest.mark.parametrize("keep", [0.01, 0.5, 0.99, 1.0])
def test_a_small_image_never_keeps_more_than_it_has(n: int, keep: float) -> None:
    assert 0 <= dart_count(keep, n) <= n


def test_its_stage() -> None:
    assert DART(0.66).steps(COBRA) == (Stage(2, 0.66, Duplication(0.66), count=dart_count),)
    exact = DART(0.5, after=3, pivots="x", exact_budget=True)
    assert exact.steps(COBRA) == (Stage(3, 0.5, Duplication(0.5, "x", True)),)


def test_pivots_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="There is no pivots='dleta': did you mean 'delta'"):
        DART(pivots="dleta")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="exact_budget='yes' is neither on nor off: it is true or false"):
        DART(exact_budget="yes")  # pyright: ignore[reportArgumentType]
