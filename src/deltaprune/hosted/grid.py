"""How the visual tokens of one picture lie over it, where they do lie in a grid."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

PATCHES = ("image_grid_thw", "image_grid_hw", "spatial_shapes", "target_sizes")  # rows and columns of patches, last


def token_grid(inputs: Mapping[str, Any], n_visual: int) -> tuple[int, int] | None:
    """Rows and columns of visual tokens, in the order of the prompt; None where they are no grid over the picture.

    A family that says how many rows and columns of patches a picture has, and makes one token of k x k of them, has a
    grid; so has one that shows a square picture whole, in one tile.

    Args:
        inputs: of one prompt with one picture.
        n_visual: its visual tokens.
    """
    for name in PATCHES:
        if name in inputs and len(inputs[name]) == 1:
            height, width = inputs[name][0, -2:].tolist()
            merged = isqrt(height * width // max(1, n_visual))
            if merged and merged**2 * n_visual == height * width and height % merged == width % merged == 0:
                return height // merged, width // merged
    pixels, side = inputs.get("pixel_values"), isqrt(n_visual)
    tiles = None if pixels is None or pixels.ndim not in (4, 5) else pixels.flatten(0, -4)
    whole = tiles is not None and len(tiles) == 1 and tiles.shape[-1] == tiles.shape[-2]
    if whole and side**2 == n_visual and not any(name in inputs for name in PATCHES):
        return side, side
    return None
