"""V-CoLA as a whole prefill: scores by the recurrence written out, chunks cut and merged by hand."""

import math

import pytest
import torch
from prefills import drawn, small
from slow import cosine
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.merge import MergeChunks
from deltaprune.methods import parse
from deltaprune.methods.vcola import VCoLA
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.scores.retention import Retention
from deltaprune.steps import Plan, Shape, Stage
from deltaprune.trace import Trace

SHAPE = Shape(4, 9, Plan(early=1, late=3))
NEEDS = frozenset({"delta", "decay", "key", "query", "value"})


def scores_of(trace: Trace, n: int, unique: float) -> list[float]:
    state = torch.zeros(trace["decay"].shape, dtype=torch.float64)
    delta, u, b, c, a = (trace[role].double() for role in ("delta", "value", "key", "query", "decay"))
    states = [state]
    for j in range(n):
        states.append(torch.exp(delta[j][:, None] * a) * states[-1] + (delta[j] * u[j])[:, None] * b[j])

    def psi(p: Tensor, q: Tensor) -> float:
        return (1 - cosine(p.tolist(), q.tolist())) / 2

    found = []
    for j in range(n):
        known = 1 - psi(states[-1] @ b[j], delta[j] * u[j])
        turned = [psi(states[j + 1] @ c[t], states[j] @ c[t]) for t in range(j, min(j + 4, n))]
        found.append((1 - unique) * known + unique * sum(turned) / len(turned))
    return found


@pytest.mark.parametrize("unique", [0.1, 1.0])
def test_chunks_of_equal_score_become_one_row_each(unique: float) -> None:
    torch.manual_seed(3)
    lm, rows = small(), drawn(((9, 4),))
    method = VCoLA(0.5, 1, None, unique, temperature=0.2)
    done = prefill(lm, rows, method.checked_steps(SHAPE))
    at, _, trace = lm.blocks[0].prefill(rows, None, NEEDS)
    score = scores_of(trace, 9, unique)
    starts, before = [], 0.0
    for j in range(9):
        if len(starts) < 4 and (before >= len(starts) / 4 * sum(score) or 9 - j == 4 - len(starts)):
            starts.append(j)
        before += score[j]
    merged = []
    for first, end in zip(starts, [*starts[1:], 9], strict=True):
        weight = [math.exp(score[j] / 0.2) for j in range(first, end)]
        merged.append(sum(w / sum(weight) * at.x[j] for w, j in zip(weight, range(first, end), strict=True)))
    left = Rows.pack([torch.stack(merged)], [at.x[9:]])  # pyright: ignore[reportArgumentType, reportCallIssue]
    for block in lm.blocks[1:]:
        left, _, _ = block.prefill(left)
    assert done.kept[0].origin[0].tolist() == starts
    torch.testing.assert_close(done.tokens.x, left.x, atol=1e-5, rtol=1e-4)
    assert int(done.tokens.size.sum()) == 13


def test_its_stages_and_its_text_form() -> None:
    merged = Stage(1, 0.25, Retention(), reduce=MergeChunks())
    assert VCoLA(0.25).steps(SHAPE) == (merged, Stage(3, 0.0))
    assert VCoLA(0.25, late=None).steps(SHAPE) == (merged,)
    asked = parse("vcola:keep=0.25,after=2,late=none,unique=0.9,window=1,temperature=2")
    assert asked == VCoLA(0.25, 2, None, 0.9, 1, 2)
    assert asked.steps(SHAPE) == (Stage(2, 0.25, Retention(0.9, 1), reduce=MergeChunks(2)),)


def test_mistakes() -> None:
    for text, sentence in (
        ("vcola:temperature=0", "temperature=0 is not possible: it is a number above 0"),
        ("vcola:window=0", "window=0 is not possible"),
        ("vcola:unique=2", "unique=2 is not a share"),
        ("vcola:late=x", "late='x' is not a layer"),
    ):
        with pytest.raises(UserError, match=sentence):
            parse(text)
