"""SCOPE as a whole prefill: the rows behind the layer, covered one by one."""

import pytest
import torch
from prefills import drawn, small
from slow import cosine

from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.methods.scope import SCOPE
from deltaprune.prefill import prefill
from deltaprune.scores.coverage import Coverage
from deltaprune.scores.delta import Delta
from deltaprune.scores.output import OutputNorm
from deltaprune.steps import Shape, Stage

SHAPE = Shape(4, 9)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0])
def test_it_keeps_what_covers_the_image(alpha: float) -> None:
    torch.manual_seed(3)
    lm, rows = small(), drawn(((9, 4), (7, 2)))
    done = prefill(lm, rows, SCOPE(0.5, 1, "delta", alpha).checked_steps(SHAPE))
    at, _, trace = lm.blocks[0].prefill(rows, None, frozenset({"step"}))
    hidden = lm.norm(at.x)
    for b, (n, count) in enumerate(((9, 4), (7, 3))):
        image = at.visual_rows(b)
        x, weight = hidden[image].tolist(), trace["step"][image].tolist()
        chosen: list[int] = []
        while len(chosen) < count:
            gains = {}
            for j in set(range(n)) - set(chosen):
                covered = [max([0.0, *(cosine(x[i], x[p]) for p in chosen)]) for i in range(n)]
                gain = sum(max(0.0, cosine(x[i], x[j]) - c) for i, c in enumerate(covered))
                gains[j] = gain * (weight[j] / max(weight)) ** alpha
            chosen.append(max(gains, key=lambda j: (round(gains[j], 5), -j)))
        assert done.kept[0].origin[b].tolist() == sorted(chosen)


def test_its_stage_and_its_text_form() -> None:
    assert SCOPE(0.3).steps(SHAPE) == (Stage(2, 0.3, Coverage(Delta(), 1.0, 0.3)),)
    assert parse("scope:keep=0.3;after=3;score=output;alpha=0") == SCOPE(0.3, 3, OutputNorm(), 0)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="alpha='much' is not possible: it is a number from 0 up"):
        parse("scope:alpha=much")
