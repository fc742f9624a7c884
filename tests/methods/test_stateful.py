"""Stateful reduction: its schedule, and a whole prefill with every step's choice made by hand."""

from itertools import pairwise

import pytest
import torch
from prefills import drawn, small
from slow import best_first

from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.methods.stateful import StatefulReduction
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.scores.stateful import Stateful
from deltaprune.steps import Plan, Shape

DEEP = Shape(n_layers=64, n_visual=729, plan=Plan(early=15, late=45))


def test_gentle_first_and_strong_later() -> None:
    stages = StatefulReduction(0.2, early=4, until=20, every=4).steps(DEEP)
    assert [stage.after for stage in stages] == [4, 8, 12, 16]
    shares = [1.0, *(stage.keep for stage in stages)]
    assert shares[1:] == pytest.approx([1 - 0.8 / 16, 1 - 0.8 * 4 / 16, 1 - 0.8 * 9 / 16, 0.2])
    drops = [a - b for a, b in pairwise(shares)]
    assert drops == sorted(drops)
    even = StatefulReduction(0.2, 4, 20, 4, power=1.0).steps(DEEP)
    assert [stage.keep for stage in even] == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_every_layer_up_to_the_late_one() -> None:
    stages = StatefulReduction().steps(DEEP)
    assert [stage.after for stage in stages] == list(range(1, 45))
    assert stages[-1].keep == 0.5
    assert {stage.score for stage in stages} == {Stateful()}
    assert all(stage.sees_text for stage in stages)
    assert parse("stateful:keep=0.3,early=2,until=9,every=3,power=3,score=delta") == StatefulReduction(
        0.3, 2, 9, 3, 3, Delta()
    )


def test_a_prefill_by_hand() -> None:
    """Behind each layer the rows that are left are ranked anew by what the text reads of them."""
    torch.manual_seed(3)
    lm, rows = small(), drawn(((9, 4),))
    done = prefill(lm, rows, StatefulReduction(0.3, early=1, until=4).checked_steps(Shape(4, 9)))
    x, origin, left = rows.x, list(range(13)), []
    for l, block in enumerate(lm.blocks):
        at, _, trace = block.prefill(Rows.pack([x[:0]], [x]), None, frozenset({"step", "key", "query"}))
        x = at.x
        if l == 3:
            break
        image = [row for row, place in enumerate(origin) if place < 9]
        text = [row for row, place in enumerate(origin) if place >= 9]
        values = []
        for j in image:
            reads = [abs(float(trace["query"][t].double() @ trace["key"][j].double())) for t in text]
            values.append(sum(reads) / len(reads) * float(trace["step"][j]))
        count = int((1 - 0.7 * ((l + 1) / 3) ** 2) * 9 + 1e-6)
        kept = sorted(image[i] for i in best_first(values, range(len(values)))[:count]) + text
        x, origin = x[kept], [origin[row] for row in kept]
        left.append([place for place in origin if place < 9])
    assert [stage.origin[0].tolist() for stage in done.kept] == left
    assert [len(places) for places in left] == [8, 6, 2]
    torch.testing.assert_close(done.tokens.x, x, atol=1e-5, rtol=1e-5)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="power=0 is not possible: it is a number above 0"):
        StatefulReduction(power=0)
    with pytest.raises(UserError, match="There is no layer from early=9 to below until=9"):
        StatefulReduction(early=9, until=9).steps(DEEP)
