"""Chosen: the user's own list of visual tokens, nothing is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.rows import Rows, on_device
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("chosen")
@dataclass(frozen=True)
class Chosen(Score):
    """s_j = 0 for the visual tokens whose number j is listed, 1 for every other row.

    Visual tokens are counted from 0 among those that reach the stage: where nothing was dropped before it, token j is
    patch j of the picture, row by row. A number beyond the image chooses nothing.

    Attributes:
        drop: the numbers, in any order; kept as an ascending tuple.

    Shape (T,), range {0, 1}. Sees text: no. Source: ours; for choosing by hand, see `methods.chosen`.
    """

    paper: ClassVar[str] = "ours: the user's own choice"

    drop: Sequence[int] = ()

    needs = frozenset()
    sees_text = False

    def __post_init__(self) -> None:
        if not all(isinstance(j, int) and not isinstance(j, bool) and j >= 0 for j in self.drop):
            raise UserError(f"drop={self.drop!r} must be a list of visual tokens counted from 0, such as (3, 17).")
        object.__setattr__(self, "drop", tuple(sorted(set(self.drop))))

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        device = rows.visual.device
        before = on_device([0, *accumulate(rows.n_visual)][:-1], device)
        lengths = on_device(rows.lengths, device)
        number = rows.visual.cumsum(0) - 1 - torch.repeat_interleave(before, lengths, output_size=len(rows.visual))
        listed = (number[:, None] == on_device(self.drop, device)).any(1)
        return (~(listed & rows.visual)).float()
