"""From a layout to pixels: the ground, the shapes and the sign."""

import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from deltaprune.benchmarks.scenes.glyphs import STROKE, font, glyph_extent
from deltaprune.benchmarks.scenes.grounds import ground
from deltaprune.benchmarks.scenes.world import Sign, Thing

_FINE = 4  # shapes are drawn this many times finer, then averaged


def draw(things: tuple[Thing, ...], sign: Sign | None, noise: np.random.Generator, version: int) -> Image.Image:
    """The picture, RGB, `SIDE` pixels square."""
    picture = ground(noise, version)
    for thing in things:
        left, top, mask = cover(thing)
        picture.paste(thing.rgb if version == 1 else _shaded(thing, mask.size, noise), (left, top), mask)
    if sign is not None:
        _draw_sign(picture, sign, noise)
    return picture


def _shaded(thing: Thing, size: tuple[int, int], noise: np.random.Generator) -> Image.Image:
    """A thing's surface: its colour, lit from one side, with some grain."""
    width, height = size
    across, down = noise.uniform(-14, 14, 2)
    light = across * np.linspace(-1, 1, width)[None] + down * np.linspace(-1, 1, height)[:, None]
    light = light + noise.integers(-4, 5, (height, width))
    pixels = np.asarray(thing.rgb, dtype=np.float32) + light[:, :, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def cover(thing: Thing) -> tuple[int, int, Image.Image]:
    """Left, top and the mask (0..255) of the pixels a thing covers."""
    half = math.ceil(0.6 * thing.extent) + 1
    left, top = math.floor(thing.x) - half, math.floor(thing.y) - half
    side = 2 * half + 1
    fine = Image.new("L", (side * _FINE, side * _FINE))
    pen, x, y = ImageDraw.Draw(fine), (thing.x - left) * _FINE, (thing.y - top) * _FINE
    radius = thing.extent / 2 * _FINE
    if thing.shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    else:
        cos, sin = math.cos(math.radians(thing.angle)), math.sin(math.radians(thing.angle))
        turned = [(u * cos - v * sin, u * sin + v * cos) for u, v in _outline(thing.shape)]
        pen.polygon([(x + radius * u, y + radius * v) for u, v in turned], fill=255)
    return left, top, fine.reduce(_FINE)


@cache
def _outline(shape: str) -> tuple[tuple[float, float], ...]:
    """The corners of a shape around (0, 0); its extent is 2."""
    if shape == "square":
        return (-0.92, -0.92), (0.92, -0.92), (0.92, 0.92), (-0.92, 0.92)
    if shape == "triangle":
        return (0.0, -1.1), (1.08, 0.85), (-1.08, 0.85)
    if shape == "cross":
        a, b = 0.34, 1.06
        arm = ((-a, -a), (-a, -b), (a, -b))  # the upper one; each quarter turn of it is another
        return tuple(turn for k in range(4) for turn in (_quarter_turns(k, u, v) for u, v in arm))
    turns = [math.pi * k / 5 - math.pi / 2 for k in range(10)]  # star: five points, long and short radii in turn
    radii = [1.17, 0.47] * 5
    return tuple((r * math.cos(t), r * math.sin(t)) for r, t in zip(radii, turns, strict=True))


def _quarter_turns(k: int, u: float, v: float) -> tuple[float, float]:
    return ((u, v), (-v, u), (-u, -v), (v, -u))[k]


def _draw_sign(picture: Image.Image, sign: Sign, noise: np.random.Generator) -> None:
    plate, ink, rim = (int(v) for v in noise.integers((238, 5, 90), (253, 40, 130)))
    left, top, right, bottom = sign.box
    plate_box = (left, top, right - 1, bottom - 1)
    ImageDraw.Draw(picture).rectangle(plate_box, fill=(plate, plate, plate), outline=(rim, rim, rim))
    for glyph, box in zip(sign.text, sign.glyph_boxes, strict=True):
        picture.paste((ink, ink, ink), box[:2], _glyph(glyph, sign.font_size, sign.face))


@cache
def _glyph(glyph: str, size: int, face: str) -> Image.Image:
    """The mask of one character, cut to its ink box."""
    mask = Image.new("L", glyph_extent(glyph, size, face))
    left, top, _, _ = font(size, face).getbbox(glyph, stroke_width=STROKE)
    ImageDraw.Draw(mask).text((-left, -top), glyph, fill=255, font=font(size, face), stroke_width=STROKE)
    return mask
