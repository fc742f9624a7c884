"""What a scene holds, and how a layout is drawn from random numbers.

Every choice goes through `rng.random()`, so a numpy Generator and a `random.Random` both serve.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeVar, runtime_checkable

from PIL import ImageFont

T = TypeVar("T")
Box = tuple[float, float, float, float]  # left, top, right, bottom
IntBox = tuple[int, int, int, int]

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
EXTENT = {"small": (15.0, 18.0), "large": (30.0, 42.0)}  # pixels across
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
GLYPHS = LETTERS + DIGITS
FONT_SIZES = (26, 28, 30)  # characters 20 to 22 pixels high, round ones up to 24
STROKE = 1
_PLATE_PAD = 6
_GLYPH_GAP = 4
_GAP = 3  # pixels between two things, at least
_N_THINGS = (2, 3, 3, 4, 4, 4, 5, 5, 5, 5)


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

    @property
    def glyph_boxes(self) -> tuple[IntBox, ...]:
        """The ink box of each character."""
        left, top, boxes = self.box[0] + _PLATE_PAD, self.box[1] + _PLATE_PAD, []
        for glyph in self.text:
            width, height = glyph_extent(glyph, self.font_size)
            boxes.append((left, top, left + width, top + height))
            left += width + _GLYPH_GAP
        return tuple(boxes)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that no font file is needed."""
    loaded = ImageFont.load_default(size=size)
    assert isinstance(loaded, ImageFont.FreeTypeFont), "Pillow was built without FreeType."
    return loaded


@cache
def glyph_extent(glyph: str, size: int) -> tuple[int, int]:
    """Width and height of a character's ink in pixels."""
    left, top, right, bottom = font(size).getbbox(glyph, stroke_width=STROKE)
    return math.ceil(right - left), math.ceil(bottom - top)


def lay_out(rng: Random) -> tuple[tuple[Thing, ...], Sign | None]:
    """Two to five things and perhaps a sign, none overlapping, all inside the picture."""
    while True:
        taken: list[Box] = []
        sign = _place_sign(rng, taken) if rng.random() < 0.75 else None
        kinds = sorted(_kinds(rng), key=lambda kind: kind[2])  # the large ones first: they fit less easily
        things = [_place_thing(rng, kind, taken) for kind in kinds]
        if all(things):
            return tuple(thing for thing in things if thing), sign


def _kinds(rng: Random) -> list[tuple[str, str, str]]:
    """Colour, shape and size of each thing; half the scenes repeat a colour, a shape or both, for counting's sake."""
    theme_color, theme_shape = pick(rng, COLORS), pick(rng, SHAPES)
    theme = pick(rng, ("", "", "", "color", "shape", "both"))
    kinds = []
    for _ in range(pick(rng, _N_THINGS)):
        follows = rng.random() < 0.7
        color = theme_color if follows and theme in ("color", "both") else pick(rng, COLORS)
        shape = theme_shape if follows and theme in ("shape", "both") else pick(rng, SHAPES)
        kinds.append((color, shape, pick(rng, ("small", "large"))))
    return kinds


def _place_thing(rng: Random, kind: tuple[str, str, str], taken: list[Box]) -> Thing | None:
    color, shape, size = kind
    extent = uniform(rng, *EXTENT[size])
    half = 0.6 * extent  # leaves room for the rotation
    corner = _free_corner(rng, 2 * half, 2 * half, taken)
    if corner is None:
        return None
    light, angle = uniform(rng, 0.9, 1.08), uniform(rng, -12.0, 12.0)
    red, green, blue = (min(255, max(0, round(c * light + uniform(rng, -8.0, 8.0)))) for c in PALETTE[color])
    return Thing(shape, color, size, corner[0] + half, corner[1] + half, extent, angle, (red, green, blue))


def _place_sign(rng: Random, taken: list[Box]) -> Sign | None:
    text, size = pick(rng, LETTERS) + pick(rng, DIGITS), pick(rng, FONT_SIZES)
    extents = [glyph_extent(glyph, size) for glyph in text]
    width = sum(w for w, _ in extents) + _GLYPH_GAP + 2 * _PLATE_PAD
    height = max(h for _, h in extents) + 2 * _PLATE_PAD
    corner = _free_corner(rng, float(width), float(height), taken)
    assert corner is not None, "an empty picture has room for a sign"
    left, top = int(corner[0]), int(corner[1])
    return Sign(text, (left, top, left + width, top + height), size)


def _free_corner(rng: Random, width: float, height: float, taken: list[Box]) -> tuple[float, float] | None:
    """A place for a box clear of the others, which it joins; None after forty misses."""
    for _ in range(40):
        left, top = uniform(rng, 2.0, SIDE - 2 - width), uniform(rng, 2.0, SIDE - 2 - height)
        right, bottom = left + width, top + height
        if all(left > r + _GAP or right < l - _GAP or top > b + _GAP or bottom < t - _GAP for l, t, r, b in taken):
            taken.append((left, top, right, bottom))
            return left, top
    return None
