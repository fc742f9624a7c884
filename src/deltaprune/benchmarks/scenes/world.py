"""What a scene can hold: colours, shapes, things, signs; and the few ways in which a choice is drawn.

Every choice goes through `rng.random()`, so a numpy Generator and a `random.Random` both serve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from deltaprune.benchmarks.scenes.glyphs import DEFAULT, glyph_extent

T = TypeVar("T")
IntBox = tuple[int, int, int, int]  # left, top, right, bottom

SIDE = 160  # pixels of the square picture
SHAPES = ("circle", "square", "triangle", "star", "cross")
PALETTE = {
    "red": (214, 30, 34),
    "green": (30, 150, 50),
    "blue": (30, 70, 220),
    "yellow": (246, 222, 20),
    "purple": (142, 36, 170),
    "orange": (250, 130, 10),
    "black": (18, 18, 20),
}
COLORS = tuple(PALETTE)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
GLYPHS = LETTERS + DIGITS
PLATE_PAD = 6
GLYPH_GAP = 4


@runtime_checkable
class Random(Protocol):
    """The one method the layout and the questions use."""

    def random(self) -> float: ...


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of the options, each as likely as the next."""
    return options[int(rng.random() * len(options))]


def weighted(rng: Random, weights: Mapping[T, float]) -> T:
    """One key, as likely as its weight."""
    left, keys = rng.random() * sum(weights.values()), list(weights)
    for key in keys:
        left -= weights[key]
        if left < 0:
            return key
    return keys[-1]  # rounding left a crumb


def uniform(rng: Random, low: float, high: float) -> float:
    """A number between low and high."""
    return low + (high - low) * rng.random()


@dataclass(frozen=True)
class Thing:
    """One object: its names, and where and how it is drawn (pixels, centre; degrees)."""

    shape: str
    color: str
    size: str
    x: float
    y: float
    extent: float
    angle: float
    rgb: tuple[int, int, int]

    @property
    def name(self) -> tuple[str, str]:
        """Colour and shape, by which a question calls it."""
        return self.color, self.shape


@dataclass(frozen=True)
class Sign:
    """A light plate with a letter and a digit; boxes are (left, top, right, bottom) in pixels."""

    text: str
    box: IntBox
    font_size: int
    face: str = DEFAULT

    @property
    def glyph_boxes(self) -> tuple[IntBox, ...]:
        """The ink box of each character."""
        left, top, boxes = self.box[0] + PLATE_PAD, self.box[1] + PLATE_PAD, []
        for glyph in self.text:
            width, height = glyph_extent(glyph, self.font_size, self.face)
            boxes.append((left, top, left + width, top + height))
            left += width + GLYPH_GAP
        return tuple(boxes)
