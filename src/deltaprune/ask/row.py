"""AskRow: one answer under one method, with what was kept, its cost and its time."""

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deltaprune.errors import UserError
from deltaprune.mllm.pictures import Picture, read_picture
from deltaprune.overlay import as_png, overlay
from deltaprune.steps import Method

UNWRITTEN = ("kept_origin", "grid", "picture", "more")  # fields of a row that are not in its JSON
NO_GRID = (
    "The visual tokens of this picture are not a grid over it, because the model's processor cuts it into tiles: leave "
    "out the overlay."
)


@dataclass(frozen=True)
class AskRow:
    """One answer. In a notebook it is displayed as the picture with the kept patches.

    Attributes:
        question: as given.
        method: as given if that was a text, else its `repr`.
        answer: the model's answer.
        kept: visual tokens after each stage; None without stages, when nothing was pruned.
        macs_share: the LM prefill's MACs for this prompt over those without pruning, a fraction.
        ms: milliseconds for `vision` (towers and projector, once for all rows), `prefill` (image and question) and
            `decode` (the whole answer); compilation is not in them, and no row reuses another's prefill.
        after: for each stage, how many layers see all tokens that reach it.
        text_tokens: text tokens of the prompt, template included.
        new_tokens: tokens of the answer, end-of-text included.
        kept_origin: for each stage, the indices of the visual tokens it left, row by row; not part of the JSON row.
        grid: rows and columns of patches, None if the visual tokens are not a grid; not part of the JSON row.
        picture: the picture asked about, upright RGB; not part of the JSON row.
        more: further JSON fields for a transformers model: `visual_tokens`, and `plan` if it was not calibrated.
    """

    question: str
    method: str
    answer: str
    kept: list[int] | None
    macs_share: float
    ms: dict[str, float]
    after: list[int]
    text_tokens: int
    new_tokens: int
    kept_origin: tuple[np.ndarray, ...] = field(repr=False, compare=False)
    grid: tuple[int, int] | None = field(repr=False, compare=False)
    picture: Image.Image = field(repr=False, compare=False)
    more: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON row."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in UNWRITTEN}
        return {**row, **self.more}

    def overlay(self, image: Picture | None = None, title: str | None = None) -> Image.Image:
        """The picture with the patches that were dropped greyed and struck through, see `deltaprune.analysis.overlay`.

        Args:
            image: drawn on instead of the picture asked about.
            title: the caption's first line; None names method and answer.

        Raises:
            UserError: the visual tokens are no grid over the picture.
        """
        if self.grid is None:
            raise UserError(NO_GRID)
        title = f"{self.method}: {self.answer}" if title is None else title
        return overlay(
            self.picture if image is None else read_picture(image), self.kept_origin, self.grid, self.after, title
        )

    def _repr_png_(self) -> bytes:
        """The overlay, for notebooks."""
        return as_png(self.overlay())


class Asked(NamedTuple):
    """One question under one method, written as `label`."""

    question: str
    label: str
    method: Method
    picture: Image.Image
