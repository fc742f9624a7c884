"""How a layout is drawn from random numbers, in each version of the benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass

from deltaprune.benchmarks.scenes.glyphs import DEFAULT, FACES, glyph_extent
from deltaprune.benchmarks.scenes.world import (
    COLORS,
    DIGITS,
    GLYPH_GAP,
    LETTERS,
    PALETTE,
    PLATE_PAD,
    SHAPES,
    SIDE,
    Random,
    Sign,
    Thing,
    pick,
    uniform,
)

Box = tuple[float, float, float, float]  # left, top, right, bottom
_GAP = 3  # pixels between two things, at least
_N_THINGS = (2, 3, 3, 4, 4, 4, 5, 5, 5, 5)


@dataclass(frozen=True)
class Layout:
    """What differs between versions: how large things are, and what signs are written in.

    Attributes:
        extent: pixels across, least and most, of a small and of a large thing.
        font_sizes, faces: of signs; a character is about 0.75 of its font size high.
    """

    extent: Mapping[str, tuple[float, float]]
    font_sizes: tuple[int, ...]
    faces: tuple[str, ...]


LAYOUTS = {
    1: Layout({"small": (15.0, 18.0), "large": (30.0, 42.0)}, (26, 28, 30), (DEFAULT,)),
    2: Layout({"small": (14.0, 19.0), "large": (29.0, 54.0)}, (26, 28, 30, 33, 36, 40), FACES),
}


def lay_out(rng: Random, layout: Layout) -> tuple[tuple[Thing, ...], Sign | None]:
    """Two to five things and perhaps a sign, none overlapping, all inside the picture."""
    while True:
        taken: list[Box] = []
        sign = _place_sign(rng, layout, taken) if rng.random() < 0.75 else None
        kinds = sorted(_kinds(rng), key=lambda kind: kind[2])  # the large ones first: they fit less easily
        things = [_place_thing(rng, kind, layout.extent[kind[2]], taken) for kind in kinds]
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


def _place_thing(
    rng: Random, kind: tuple[str, str, str], extents: tuple[float, float], taken: list[Box]
) -> Thing | None:
    color, shape, size = kind
    extent = uniform(rng, *extents)
    half = 0.6 * extent  # leaves room for the rotation
    corner = _free_corner(rng, 2 * half, 2 * half, taken)
    if corner is None:
        return None
    light, angle = uniform(rng, 0.9, 1.08), uniform(rng, -12.0, 12.0)
    red, green, blue = (min(255, max(0, round(c * light + uniform(rng, -8.0, 8.0)))) for c in PALETTE[color])
    return Thing(shape, color, size, corner[0] + half, corner[1] + half, extent, angle, (red, green, blue))


def _place_sign(rng: Random, layout: Layout, taken: list[Box]) -> Sign | None:
    text, size = pick(rng, LETTERS) + pick(rng, DIGITS), pick(rng, layout.font_sizes)
    face = DEFAULT if layout.faces == (DEFAULT,) else pick(rng, layout.faces)  # version 1 draws no number here
    extents = [glyph_extent(glyph, size, face) for glyph in text]
    width = sum(w for w, _ in extents) + GLYPH_GAP + 2 * PLATE_PAD
    height = max(h for _, h in extents) + 2 * PLATE_PAD
    corner = _free_corner(rng, float(width), float(height), taken)
    assert corner is not None, "an empty picture has room for a sign"
    left, top = int(corner[0]), int(corner[1])
    return Sign(text, (left, top, left + width, top + height), size, face)


def _free_corner(rng: Random, width: float, height: float, taken: list[Box]) -> tuple[float, float] | None:
    """A place for a box clear of the others, which it joins; None after forty misses."""
    for _ in range(40):
        left, top = uniform(rng, 2.0, SIDE - 2 - width), uniform(rng, 2.0, SIDE - 2 - height)
        right, bottom = left + width, top + height
        if all(left > r + _GAP or right < l - _GAP or top > b + _GAP or bottom < t - _GAP for l, t, r, b in taken):
            taken.append((left, top, right, bottom))
            return left, top
    return None
