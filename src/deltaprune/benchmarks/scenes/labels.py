"""What lies in each patch of the picture: targets for training a vision tower on scenes."""

import numpy as np

from deltaprune.benchmarks.scenes.drawing import cover
from deltaprune.benchmarks.scenes.world import COLORS, GLYPHS, SHAPES, SIDE, Sign, Thing
from deltaprune.errors import UserError

_THING_SHARE = 0.2  # a patch shows a thing when it covers more than this share of the patch
_GLYPH_SHARE = 0.3


def patch_labels(things: tuple[Thing, ...], sign: Sign | None, grid: int) -> dict[str, np.ndarray]:
    """Per patch, row-major, `(grid * grid,)`: `color`, `shape`, `glyph` (0 = nothing, else 1 + index) and `x`, `y`.

    The thing that covers most of a patch names it, if it covers more than a fifth. So that nothing goes unnamed when
    it straddles four patches, the patch a thing covers most is always its own; the same holds for a character's box.
    `x`, `y` are the centre of the patch's thing in [0, 1], NaN where there is none.
    """
    if grid < 1 or SIDE % grid:
        raise UserError(f"patch_labels(grid={grid}): the grid must divide the picture's {SIDE} pixels, e.g. 10.")
    thing_of = _owners([_share_of_thing(thing, grid) for thing in things], _THING_SHARE, grid)
    glyph_of = _owners([_share_of_box(box, grid) for box in (sign.glyph_boxes if sign else ())], _GLYPH_SHARE, grid)
    colors = [0] + [1 + COLORS.index(thing.color) for thing in things]
    shapes = [0] + [1 + SHAPES.index(thing.shape) for thing in things]
    glyphs = [0] + [1 + GLYPHS.index(glyph) for glyph in (sign.text if sign else "")]
    return {
        "color": np.array(colors, dtype=np.int64)[thing_of],
        "shape": np.array(shapes, dtype=np.int64)[thing_of],
        "glyph": np.array(glyphs, dtype=np.int64)[glyph_of],
        "x": np.array([np.nan] + [thing.x / SIDE for thing in things], dtype=np.float32)[thing_of],
        "y": np.array([np.nan] + [thing.y / SIDE for thing in things], dtype=np.float32)[thing_of],
    }


def _owners(shares: list[np.ndarray], least: float, grid: int) -> np.ndarray:
    """Per patch, 1 + the index of what covers it, or 0."""
    if not shares:
        return np.zeros(grid * grid, dtype=np.int64)
    stacked = np.stack(shares)
    owners = np.where(stacked.max(axis=0) > least, 1 + stacked.argmax(axis=0), 0)
    for index, best in enumerate(stacked.argmax(axis=1)):
        if owners[best] == 0:
            owners[best] = 1 + index
    return owners


def _share_of_thing(thing: Thing, grid: int) -> np.ndarray:
    left, top, mask = cover(thing)
    pixels = np.asarray(mask)
    low_x, low_y = max(left, 0), max(top, 0)
    inside = pixels[low_y - top : SIDE - top, low_x - left : SIDE - left]
    canvas = np.zeros((SIDE, SIDE), dtype=np.float32)
    canvas[low_y : low_y + inside.shape[0], low_x : low_x + inside.shape[1]] = inside
    return _mean_by_patch(canvas, grid) / 255


def _share_of_box(box: tuple[int, int, int, int], grid: int) -> np.ndarray:
    canvas = np.zeros((SIDE, SIDE), dtype=np.float32)
    canvas[box[1] : box[3], box[0] : box[2]] = 1
    return _mean_by_patch(canvas, grid)


def _mean_by_patch(canvas: np.ndarray, grid: int) -> np.ndarray:
    pixels = SIDE // grid
    return canvas.reshape(grid, pixels, grid, pixels).mean(axis=(1, 3)).reshape(-1)
