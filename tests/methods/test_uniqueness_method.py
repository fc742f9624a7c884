"""Uniqueness as a whole prefill: the rows behind the layer, each against all of its image."""

import pytest
import torch
from prefills import drawn, small
from slow import best_first, cosine

from deltaprune.methods import parse
from deltaprune.methods.uniqueness import UniquenessPruning
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.steps import Shape


@pytest.mark.parametrize("after", [0, 1, 2])
def test_it_keeps_what_is_unlike_the_image(after: int) -> None:
    torch.manual_seed(3)
    lm, rows = small(), drawn(((9, 4), (7, 2)))
    done = prefill(lm, rows, UniquenessPruning(0.5, after).checked_steps(Shape(4, 9)))
    at: Rows = rows
    for block in lm.blocks[:after]:
        at, _, _ = block.prefill(at)
    hidden = (lm.norm(at.x) if after else at.x).tolist()
    for b, count in enumerate((4, 3)):
        image = [hidden[j] for j in at.visual_rows(b).tolist()]
        values = [-sum(cosine(row, other) for other in image) for row in image]
        assert done.kept[0].origin[b].tolist() == sorted(best_first(values, range(len(image)))[:count])


def test_its_text_form() -> None:
    assert parse("uniqueness:keep=0.25;after=2") == UniquenessPruning(0.25, 2)
