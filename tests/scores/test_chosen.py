"""The user's own list against a loop, in batches and where the image does not come first."""

import pytest
import torch

from deltaprune.errors import UserError
from deltaprune.rows import Rows
from deltaprune.scores.chosen import Chosen
from deltaprune.trace import Trace

WHERE = [[1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 1], [0, 0], [1, 0, 1]]  # which rows of each sample are visual


def by_a_loop(drop: tuple[int, ...]) -> list[float]:
    values = []
    for sample in WHERE:
        seen = 0
        for visual in sample:
            values.append(0.0 if visual and seen in drop else 1.0)
            seen += visual
    return values


@pytest.mark.parametrize("drop", [(), (0,), (1, 3), (2, 1, 2), (99,)])
def test_it_is_the_loop(drop: tuple[int, ...]) -> None:
    rows = Rows.mixed([torch.zeros(len(s), 2) for s in WHERE], [torch.tensor(s).bool() for s in WHERE])
    assert Chosen(drop)(rows, Trace()).tolist() == by_a_loop(drop)


@pytest.mark.parametrize("drop", [(-1,), (1.5,), (True,)])
def test_a_number_that_is_none(drop: tuple[int, ...], unchecked: None) -> None:
    with pytest.raises(UserError, match="counted from 0"):
        Chosen(drop)
