"""Pictures of several sizes and shapes in one square frame; the patches of the padding are left out of the LM.

A model that has only met full frames learns a count as a share of all rows: it then needs the ground as much as the
things. Photographs come in all sizes, so models of today meet a varying number of visual tokens. Here a picture is
scaled about the frame's centre, cut to a random window around all it holds, and padded with grey, as LLaVA-1.6 pads and
then "unpads" (its visual tokens are those of the picture, not of the padding). No answer changes by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from deltaprune.benchmarks.scenes import Scene
from deltaprune.benchmarks.scenes.labels import patch_labels
from deltaprune.benchmarks.scenes.world import SIDE, IntBox, Sign, Thing

SCALES = (1.0, 1.0, 0.875, 0.75)  # drawn with equal chances; times 160 pixels they are whole patches
GREY = 128


@dataclass(frozen=True)
class ScaledSign(Sign):
    """A sign whose boxes were scaled; its characters' boxes no longer follow from a font size."""

    boxes: tuple[IntBox, ...] = ()

    @property
    def glyph_boxes(self) -> tuple[IntBox, ...]:
        return self.boxes


@dataclass(frozen=True)
class Framed:
    """A picture in its frame of `grid` x `grid` patches.

    Attributes:
        things, sign: where they are in the frame (pixels of a frame of 160).
        inside: `(grid, grid)` bool, the patches of the picture; the others are padding.
        scale: of the picture.
    """

    scene: Scene
    things: tuple[Thing, ...]
    sign: Sign | None
    inside: np.ndarray
    scale: float = 1.0

    def pixels(self, size: int) -> np.ndarray:
        """`(size, size, 3)` float32 in [0, 1]."""
        side = round(size * self.scale)
        small = np.asarray(self.scene.image.resize((side, side), Image.Resampling.BICUBIC))
        frame = np.full((size, size, 3), GREY, dtype=np.uint8)
        first = (size - side) // 2
        frame[first : first + side, first : first + side] = small
        patch = size // len(self.inside)
        frame[~self.inside.repeat(patch, 0).repeat(patch, 1)] = GREY
        return frame.astype(np.float32) / np.float32(255)

    def labels(self) -> dict[str, np.ndarray]:
        """What lies under each patch, see `Scene.patch_labels`."""
        return patch_labels(self.things, self.sign, len(self.inside))


def full(scene: Scene, grid: int) -> Framed:
    """The picture as it is: it fills the frame."""
    return Framed(scene, scene.things, scene.sign, np.ones((grid, grid), dtype=bool))


def varied(scene: Scene, grid: int, rng: np.random.Generator) -> Framed:
    """The picture at a random scale, cut to a random window that holds all its things and its sign."""
    scale = SCALES[int(rng.random() * len(SCALES))]
    things = tuple(
        replace(thing, x=_about_centre(thing.x, scale), y=_about_centre(thing.y, scale), extent=thing.extent * scale)
        for thing in scene.things
    )
    sign = None if scene.sign is None else _scaled(scene.sign, scale)
    margin = round(grid * (1 - scale) / 2)
    window = _window(_boxes(things, sign), grid, margin, rng)
    inside = np.zeros((grid, grid), dtype=bool)
    inside[window[1] : window[3], window[0] : window[2]] = True
    return Framed(scene, things, sign, inside, scale)


def _about_centre(x: float, scale: float) -> float:
    return SIDE / 2 + (x - SIDE / 2) * scale


def _scaled(sign: Sign, scale: float) -> ScaledSign:
    def box(edges: IntBox) -> IntBox:
        left, top, right, bottom = (round(_about_centre(edge, scale)) for edge in edges)
        return left, top, right, bottom

    return ScaledSign(sign.text, box(sign.box), sign.font_size, sign.face, tuple(box(b) for b in sign.glyph_boxes))


def _boxes(things: Sequence[Thing], sign: Sign | None) -> np.ndarray:
    """`(n, 4)`: what must stay in the picture, in pixels of the frame."""
    boxes = [(t.x - 0.6 * t.extent, t.y - 0.6 * t.extent, t.x + 0.6 * t.extent, t.y + 0.6 * t.extent) for t in things]
    return np.array(boxes + ([sign.box] if sign else []))


def _window(boxes: np.ndarray, grid: int, margin: int, rng: np.random.Generator) -> IntBox:
    """Left, top, right, bottom in patches: somewhere between what is held and the whole picture, side by side."""
    patch, low, high = SIDE / grid, margin, grid - margin
    tight = (boxes[:, :2].min(0) / patch, boxes[:, 2:].max(0) / patch)
    left, top = (max(low, math.floor(edge)) for edge in tight[0])
    right, bottom = (min(high, math.ceil(edge)) for edge in tight[1])
    draw = [int(rng.random() * (room + 1)) for room in (left - low, top - low, high - right, high - bottom)]
    return left - draw[0], top - draw[1], right + draw[2], bottom + draw[3]
