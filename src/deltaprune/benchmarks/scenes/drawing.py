"""From a layout to pixels: the cluttered ground, the shapes and the sign."""

import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from deltaprune.benchmarks.scenes.world import SIDE, STROKE, Sign, Thing, font, glyph_extent

_FINE = 4  # shapes are drawn this many times finer, then averaged


def draw(things: tuple[Thing, ...], sign: Sign | None, noise: np.random.Generator) -> Image.Image:
    """The picture, RGB, `SIDE` pixels square."""
    picture = _ground(noise)
    for thing in things:
        left, top, mask = cover(thing)
        picture.paste(thing.rgb, (left, top), mask)
    if sign is not None:
        _draw_sign(picture, sign, noise)
    return picture


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


@cache
def _axes() -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    return axis[None, :, None], axis[:, None, None]


def _ground(noise: np.random.Generator) -> Image.Image:
    """A soft gradient in two muted colours, faint blobs, grain, thin grey lines and dots."""
    base = noise.uniform(150, 205) + noise.uniform(-14, 14, 3)
    slope = noise.uniform(-22, 22, (2, 3)).astype(np.float32)
    x, y = _axes()
    coarse = noise.integers(0, 256, (6, 6), dtype=np.uint8)
    cloud = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = noise.integers(-9, 10, (SIDE, SIDE), dtype=np.int8)
    shade = (cloud - 128) * np.float32(0.1) + grain
    pixels = base.astype(np.float32) + x * slope[0] + y * slope[1] + shade[:, :, None]
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    _clutter(ImageDraw.Draw(picture, "RGBA"), noise, base)
    return picture


def _clutter(pen: ImageDraw.ImageDraw, noise: np.random.Generator, base: np.ndarray) -> None:
    n_blobs, n_lines, n_dots = (int(n) for n in noise.integers((1, 2, 4), (4, 6, 13)))
    for x, y, width, height, *tint in noise.uniform(-1, 1, (n_blobs, 7)).tolist():
        left, top = (x + 1) / 2 * SIDE - 20, (y + 1) / 2 * SIDE - 20
        muted = tuple(int(b + 30 * t) for b, t in zip(base, tint, strict=True))
        pen.ellipse((left, top, left + 35 + 20 * width, top + 35 + 20 * height), fill=(*muted, 70))
    ends = noise.integers(0, SIDE, (n_lines, 4)).tolist()
    for end, grey in zip(ends, noise.integers(95, 235, n_lines).tolist(), strict=True):
        pen.line(end, fill=(grey, grey, grey, 150), width=1)
    dots = noise.integers(0, SIDE, (n_dots, 2)).tolist()
    for (x, y), grey in zip(dots, noise.integers(80, 235, n_dots).tolist(), strict=True):
        pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(grey, grey, grey, 200))


def _draw_sign(picture: Image.Image, sign: Sign, noise: np.random.Generator) -> None:
    plate, ink, rim = (int(v) for v in noise.integers((238, 5, 90), (253, 40, 130)))
    left, top, right, bottom = sign.box
    plate_box = (left, top, right - 1, bottom - 1)
    ImageDraw.Draw(picture).rectangle(plate_box, fill=(plate, plate, plate), outline=(rim, rim, rim))
    for glyph, box in zip(sign.text, sign.glyph_boxes, strict=True):
        picture.paste((ink, ink, ink), box[:2], _glyph(glyph, sign.font_size))


@cache
def _glyph(glyph: str, size: int) -> Image.Image:
    """The mask of one character, cut to its ink box."""
    mask = Image.new("L", glyph_extent(glyph, size))
    left, top, _, _ = font(size).getbbox(glyph, stroke_width=STROKE)
    ImageDraw.Draw(mask).text((-left, -top), glyph, fill=255, font=font(size), stroke_width=STROKE)
    return mask
