"""The typefaces of signs: Pillow's own, and four more whose capitals and digits lie beside this file."""

import math
from functools import cache
from pathlib import Path

from PIL import ImageFont

STROKE = 1  # pixels by which a glyph's outline is thickened
DEFAULT = "pillow"
FOLDER = Path(__file__).parent / "fonts"
FACES = (DEFAULT, "OpenSans-Semibold", "Roboto-Bold", "RobotoCondensed-Bold", "RobotoSlab-Bold")


@cache
def font(size: int, face: str = DEFAULT) -> ImageFont.FreeTypeFont:
    """A typeface at a size in pixels."""
    if face != DEFAULT:
        return ImageFont.truetype(str(FOLDER / f"{face}.ttf"), size)
    loaded = ImageFont.load_default(size=size)
    assert isinstance(loaded, ImageFont.FreeTypeFont), "Pillow was built without FreeType."
    return loaded


@cache
def glyph_extent(glyph: str, size: int, face: str = DEFAULT) -> tuple[int, int]:
    """Width and height of a character's ink in pixels."""
    left, top, right, bottom = font(size, face).getbbox(glyph, stroke_width=STROKE)
    return math.ceil(right - left), math.ceil(bottom - top)
