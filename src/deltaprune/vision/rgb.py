"""One rule for every picture: upright, transparency on white, 8 bits for each of red, green and blue."""

from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from deltaprune.errors import UserError

SIXTEEN_BITS = ("PNG", "PPM")  # what files of these formats hold where PIL opens them as 32 bits
CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
HALF = 0.5  # of a grey level: how far rounding may have moved a value out of its range
ALPHA = {"LA": "LA", "La": "LA", "PA": "RGBA", "P": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}  # PIL's way to RGBA
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def rgb(image: Image.Image) -> Image.Image:
    """A picture of any of PIL's modes -> 8-bit RGB. It is decoded here, and errors are PIL's own.

    EXIF orientation is applied; unreadable EXIF data is ignored. Alpha, a palette's alpha and a single
    transparent colour are laid on white. Grey levels of more than 8 bits are scaled, see `eight_bits`.

    The result holds only pixels, no EXIF data that would turn it a second time.
    """
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN_BITS)
    clear = _clear_colour(image)
    image.load()
    turn = TURNS.get(_orientation(image))
    image = image if turn is None else image.transpose(turn)
    if clear is not None or image.mode == "F" or image.mode.startswith("I"):
        pixels = np.asarray(image)
        image = Image.fromarray(eight_bits(pixels, sixteen))
        if clear is not None:
            opaque = np.any(np.atleast_3d(pixels) != clear, axis=-1)
            image.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    if image.mode in ALPHA:
        image = image.convert(ALPHA[image.mode]).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info = {}
    return image


def array_image(array: np.ndarray) -> Image.Image:
    """An array -> a PIL image of mode L, LA, RGB or RGBA.

    Args:
        array: `(H, W)`, `(H, W, C)` or `(C, H, W)` with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels; where
            both ends could be channels the last axis is taken. Levels as in `eight_bits`.

    Raises:
        UserError: another shape, a dtype that is no number, or colours outside the ranges of `eight_bits`.
    """
    if array.dtype.kind not in "buif":
        raise UserError(f"An image cannot be read from an array of dtype {array.dtype}: give uint8, or floats in 0..1.")
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim == 3 and pixels.shape[-1] not in CHANNELS:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim != 3 or pixels.shape[-1] not in CHANNELS:
        raise UserError(
            f"An image cannot be read from an array of shape {array.shape}: give (H, W), (H, W, C) or (C, H, W) with 1 "
            "to 4 channels."
        )
    if pixels.size == 0:
        raise UserError(f"The image has no pixels (an array of shape {array.shape}): an image is at least 1 x 1.")
    levels = eight_bits(pixels)
    return Image.fromarray(np.ascontiguousarray(levels[..., 0] if levels.shape[-1] == 1 else levels))


def eight_bits(levels: np.ndarray, sixteen: bool = False) -> np.ndarray:
    """Grey levels or colours of any depth as uint8, of the same shape.

    uint8 is kept, booleans are black and white, uint16 is divided by 257. For other types the values decide: floats in
    0..1 are multiplied by 255; values in 0..255 are kept; integers in 0..65535 are divided by 257; other greys are
    stretched from their own minimum and maximum. NaN and infinity are black.

    Args:
        levels: greys, or with a last axis of 2 to 4 channels.
        sixteen: they are of 16 bits, whatever the dtype.

    Raises:
        UserError: colours beyond these ranges, such as an image that was normalised.
    """
    if levels.dtype == np.uint8:
        return levels
    if levels.dtype == np.bool_:
        return levels.astype(np.uint8) * 255
    values = levels.astype(np.float32 if levels.itemsize <= 2 else np.float64)
    values = np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    top = _top(levels.dtype, low, high, sixteen)
    if top is None and levels.ndim == 3 and levels.shape[-1] > 1:
        raise UserError(
            f"The image's colours reach from {low:.4g} to {high:.4g}: they must lie in 0..1 (floats) or 0..255, before "
            "any normalisation."
        )
    if top is None:
        values, top = values - low, (high - low) or 1.0
    return np.rint(np.clip(values * (255 / top), 0, 255)).astype(np.uint8)


def _top(dtype: np.dtype, low: float, high: float, sixteen: bool) -> float | None:
    """The value that means white, None where no range fits, see `eight_bits`."""
    if sixteen or (dtype.kind == "u" and dtype.itemsize == 2):  # of either byte order
        return 65535.0
    tops = (1.0, 255.0) if dtype.kind == "f" else (255.0, 65535.0)
    return next((top for top in tops if low * 255 / top >= -HALF and high * 255 / top <= 255 + HALF), None)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none.

    `ImageOps.exif_transpose` is not used, because it also writes the EXIF data anew, and data that cannot be written
    would leave the picture as it lies.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # PIL's reader of broken EXIF data raises many types of errors
        return 1


def _clear_colour(image: Image.Image) -> tuple[int, ...] | None:
    """The single transparent colour, at the depth of the pixels; None where there is none or PIL applies it itself.

    A PNG file gives it at the file's own depth, and PIL does not scale it along with pixels of 2, 4 or 16 bits. The
    depth is known only until the pixels are read.
    """
    colour = image.info.get("transparency")
    if not isinstance(colour, int | tuple) or image.mode not in ("1", "L", "I", "I;16", "I;16B", "RGB"):
        return None
    levels = colour if isinstance(colour, tuple) else (colour,)
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    layout: Any = tiles[0][3] if tiles else ""
    layout = layout[0] if isinstance(layout, tuple) and layout else layout
    if layout == "RGB;16B" or (image.mode == "RGB" and max(levels) > 255):
        return tuple(level >> 8 for level in levels)
    scale = {"L;2": 85, "L;4": 17}.get(layout, 1)
    if image.mode == "1":
        return tuple(int(level != 0) for level in levels)  # numpy sees booleans
    return tuple(level * scale for level in levels)
