"""Every score against its equation, written out token by token, on a ragged batch of odd sizes."""

import math
from pathlib import Path

import pytest
import torch
from own_tests import without_a_test
from slow import chance
from traces import trace_of

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.scores.random import Random
from deltaprune.trace import Trace

E, N = 7, 3
SHAPES = ((9, 4), (1, 1), (5, 0), (0, 3))


@pytest.fixture(params=range(3), ids="seed{}".format)
def case(request: pytest.FixtureRequest) -> tuple[Rows, Trace]:
    torch.manual_seed(request.param)
    total = sum(v + t for v, t in SHAPES)
    tokens = Rows.pack([torch.randn(v, 2) for v, _ in SHAPES], [torch.randn(t, 2) for _, t in SHAPES])
    delta = torch.rand(total, E)
    trace = trace_of(
        delta=delta,
        step=delta.mean(-1),
        decay=-torch.rand(E, N) - 0.01,
        key=torch.randn(total, N),
        query=torch.randn(total, N),
        output=torch.randn(total, E),
    )
    return tokens, trace


def delta(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    return sum(trace["delta"][j, d].item() for d in range(E)) / E


def delta_norm(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    return math.sqrt(sum(trace["delta"][j, d].item() ** 2 for d in range(E)))


def output(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    return math.sqrt(sum(trace["output"][j, d].item() ** 2 for d in range(E)))


def clipped_output(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    return sum(max(0.0, trace["output"][j, d].item()) for d in range(E)) / E


def input(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    return math.sqrt(sum(trace["key"][j, n].item() ** 2 for n in range(N)))


def readout(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    return math.sqrt(sum(trace["query"][j, n].item() ** 2 for n in range(N)))


def hidden_attention(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    """Eq. 5's last row as the paper prints it: a product of A-bar over the tokens between j and the last."""
    last, total = sample[-1], 0.0
    for d in range(E):
        k = 0.0
        for n in range(N):
            kept = 1.0
            for between in range(j + 1, last + 1):
                kept *= math.exp(trace["delta"][between, d] * trace["decay"][d, n])
            k += trace["query"][last, n].item() * kept * trace["delta"][j, d].item() * trace["key"][j, n].item()
        total += abs(k)
    return total / E


def stateful(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    text = sample[n_visual:]
    reads = [abs(sum(trace["query"][t, n].item() * trace["key"][j, n].item() for n in range(N))) for t in text]
    return (sum(reads) / len(reads) if reads else 1.0) * delta(trace, j, sample, n_visual)


def uniform(trace: Trace, j: int, sample: range, n_visual: int) -> float:
    return (j - sample[0]) * (math.sqrt(5) - 1) / 2 % 1


LOOPS = [delta, delta_norm, output, clipped_output, input, readout, hidden_attention, stateful, uniform]
CHOSEN_TOGETHER = {"duplication", "diversity", "redundancy"}  # no token has a value of its own; files of their own


@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_equals_the_loop(loop, case: tuple[Rows, Trace]) -> None:
    tokens, trace = case
    ours = registry[loop.__name__]()(tokens, trace)
    for (a, b), n_visual in zip(tokens.spans, tokens.n_visual, strict=True):
        for j in range(a, b):
            assert ours[j].item() == pytest.approx(loop(trace, j, range(a, b), n_visual), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2**31 + 5])
def test_random_is_its_hash(seed: int) -> None:
    keys = [3, 2**32 - 1, 0, 77]
    tokens = Rows.pack(
        [torch.zeros(v, 2) for v, _ in SHAPES], [torch.zeros(t, 2) for _, t in SHAPES], torch.tensor(keys)
    )
    ours = Random(seed)(tokens, Trace()).tolist()
    expected = [chance(seed, key, j) for key, (v, t) in zip(keys, SHAPES, strict=True) for j in range(v + t)]
    assert ours == expected


def test_every_score_has_its_loop() -> None:
    """Here, or for a new one in a test file of its own name."""
    here = {f.__name__ for f in LOOPS} | {"random"} | CHOSEN_TOGETHER
    assert here <= set(registry.names())
    assert without_a_test(registry, Path(__file__).parent, here) == set()


@pytest.mark.parametrize("count", [1, 7, 33, 50, 99])
def test_uniform_survivors_lie_evenly(count: int) -> None:
    """At most three lengths of gaps (ends aside), the longest the sum of the other two."""
    tokens = Rows.pack([torch.zeros(100, 2)], [torch.zeros(0, 2)])
    kept = registry["uniform"]()(tokens, Trace()).topk(count).indices.sort().values
    gaps = sorted(set(kept.diff().tolist()))
    assert len(gaps) <= 3
    assert not gaps or gaps[-1] <= 2.7 * 100 / count
