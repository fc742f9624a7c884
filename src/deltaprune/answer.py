"""An answer: its ids, what was kept, and how long it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.mllm.inputs import PIXELS
from deltaprune.mllm.network import MLLMConfig
from deltaprune.mllm.pictures import Picture, read_picture
from deltaprune.overlay import as_png, overlay
from deltaprune.prefill import Kept, Prefilled
from deltaprune.prefix import ImagePrefix
from deltaprune.vision.pixels import to_picture
from deltaprune.vision.towers import TowerConfig


@dataclass(frozen=True)
class Look:
    """The pictures of a prompt as the model saw them.

    Attributes:
        grid: rows and columns of patches of a picture.
        pixels: the normalised input of one tower; None if the prompt continues from a prefix.
        tower: that tower.
        image_index: the picture of each row of the prompt; None: row b has picture b.
    """

    grid: tuple[int, int]
    pixels: Float[Tensor, "I 3 H W"] | None = None
    tower: TowerConfig | None = None
    image_index: Sequence[int] | None = None

    @classmethod
    def of(cls, inputs: Mapping[str, Any], config: MLLMConfig, side: int | None = None) -> "Look":
        """The pictures of a prompt, by the pixels of the first tower if the inputs hold them; `side`: as shrunk."""
        name, tower = next(iter(config.towers.items()))
        index = inputs.get("image_index")
        images = None if index is None else index.tolist()
        return cls(config.shrunk(side).grid, inputs.get(PIXELS + name), tower, images)

    def picture(self, row: int) -> Image.Image | None:
        """The picture of a row, at the tower's size; None without pixels."""
        if self.pixels is None or self.tower is None:
            return None
        return to_picture(self.pixels[row if self.image_index is None else self.image_index[row]], self.tower)


@dataclass(frozen=True)
class Answer:
    """The answers to a batch of prompts. In a notebook it is displayed as the picture with the kept patches.

    Attributes:
        ids: new ids, rows that end early filled up with end-of-text.
        prefilled: the state after the prompt; `continue_from` can generate from it again.
        ms: milliseconds of `vision` (towers and projector; 0 if they had run before), `prefill` and `decode`.
        prefix: the image prefix that the prompt continued, if one was given.
        look: the pictures as the model saw them; None without pictures.
    """

    ids: Int[Tensor, "B L"]
    prefilled: Prefilled = field(repr=False)
    ms: Mapping[str, float]
    prefix: ImagePrefix | None = field(default=None, repr=False)
    look: Look | None = field(default=None, repr=False)

    @property
    def kept(self) -> tuple[Kept, ...]:
        """What each stage of the method left."""
        return self.prefilled.kept

    def overlay(self, image: Picture | None = None, row: int = 0, title: str | None = None) -> Image.Image:
        """The picture with the patches that were dropped greyed and struck through, see `deltaprune.analysis.overlay`.

        Args:
            image: the picture, as the processor takes it; None restores it from the pixels, small and square as the
                model saw it.
            row: which row of the prompt.
            title: the caption's first line.

        Raises:
            UserError: no such row, no picture in the prompt, or no pixels and no `image`.
        """
        if self.look is None:
            raise UserError("There is nothing to draw: this prompt had no picture.")
        if not 0 <= row < len(self.ids):
            raise UserError(f"There is no row {row}: the rows of this answer are 0 to {len(self.ids) - 1}.")
        shown = self.look.picture(row) if image is None else read_picture(image)
        if shown is None:
            raise UserError("This prompt continued a picture that was run before: give the picture, overlay(image).")
        kept = [stage.origin[row].cpu().numpy() for stage in self.kept]
        return overlay(shown, kept, self.look.grid, [stage.after for stage in self.kept], title)

    def _repr_png_(self) -> bytes | None:
        """The overlay of the first row, for notebooks; None without pixels, so that the text is shown."""
        if self.look is None or self.look.pixels is None:
            return None
        return as_png(self.overlay())
