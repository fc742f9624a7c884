"""R_imp and R_uni against V-CoLA's definitions, state by state in plain numbers."""

import math

import pytest
import torch
from slow import cosine, packed, rows
from traces import trace_of

from deltaprune.errors import UserError
from deltaprune.rows import Rows
from deltaprune.scores.retention import Retention
from deltaprune.trace import Trace

E, N = 4, 3
SHAPES = [(9, 3), (1, 2), (0, 4), (5, 1), (2, 0)]
State = list[list[float]]


def case(seed: int) -> tuple[Rows, Trace]:
    tokens, total = packed(SHAPES, seed), sum(map(sum, SHAPES))
    roles = {name: rows(total, 7 * seed + i, d=N) for i, name in enumerate(("key", "query"))}
    decay = -torch.rand(E, N, generator=torch.Generator().manual_seed(seed)) - 0.1
    return tokens, trace_of(
        delta=rows(total, seed + 50, d=E).abs(), value=rows(total, seed + 60, d=E), decay=decay, **roles
    )


def read(state: State, q: list[float]) -> list[float]:
    return [sum(s * p for s, p in zip(row, q, strict=True)) for row in state]


def psi(a: list[float], b: list[float]) -> float:
    return (1 - cosine(a, b)) / 2


def retention_by_loops(trace: Trace, image: range, unique: float, window: int) -> list[float]:
    a = trace["decay"].tolist()
    k, q, u, delta = (trace[role][image.start : image.stop].tolist() for role in ("key", "query", "value", "delta"))
    states: list[State] = [[[0.0] * N for _ in range(E)]]
    for j in range(len(image)):
        old = states[-1]
        states.append(
            [
                [math.exp(delta[j][e] * a[e][n]) * old[e][n] + delta[j][e] * u[j][e] * k[j][n] for n in range(N)]
                for e in range(E)
            ]
        )
    scores = []
    for j in range(len(image)):
        known = 1 - psi(read(states[-1], k[j]), [delta[j][e] * u[j][e] for e in range(E)])
        probes = q[j : j + window]
        new = sum(psi(read(states[j + 1], p), read(states[j], p)) for p in probes) / len(probes)
        scores.append((1 - unique) * known + unique * new)
    return scores


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("unique", "window"), [(0.1, 4), (0.0, 4), (1.0, 1), (1.0, 3), (0.5, 20)])
def test_it_is_the_definition(seed: int, unique: float, window: int) -> None:
    tokens, trace = case(seed)
    scores = Retention(unique, window)(tokens, trace)
    for (a, b), n in zip(tokens.spans, tokens.n_visual, strict=True):
        expected = retention_by_loops(trace, range(a, a + n), unique, window)
        assert scores[a : a + n].tolist() == pytest.approx(expected, abs=1e-5)
        assert (scores[a + n : b] == 2).all()
    visual = scores[tokens.visual]
    assert visual.min() >= 0
    assert visual.max() <= 1


def test_a_token_that_is_written_again_is_known_and_one_that_is_overwritten_is_not() -> None:
    """One key; the state ends with the last value: equal ones are given back, opposite ones are not."""
    tokens = Rows.pack([torch.zeros(3, 2)], [torch.zeros(0, 2)])
    value = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
    known = trace_of(
        delta=torch.ones(3, 2), value=value, key=torch.ones(3, 1), query=torch.ones(3, 1), decay=torch.zeros(2, 1) - 0.1
    )
    assert Retention(unique=0.0)(tokens, known).tolist() == pytest.approx([1, 0, 1])


def test_mistakes() -> None:
    with pytest.raises(UserError, match="window=0 is not possible: it is a whole number from 1 up"):
        Retention(window=0)
