"""What lies behind the things: version 1's soft gradient, and version 2's textures, which repeat as photographs do."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from deltaprune.benchmarks.scenes.world import SIDE

Field = np.ndarray  # (SIDE, SIDE) float32, about -1 to 1


def ground(noise: np.random.Generator, version: int) -> Image.Image:
    """The picture before anything lies on it, RGB."""
    return _GROUNDS[version](noise)


def _plain(noise: np.random.Generator) -> Image.Image:
    """Version 1: a soft gradient in two muted colours, faint blobs, grain, thin grey lines and dots."""
    base = noise.uniform(150, 205) + noise.uniform(-14, 14, 3)
    slope = noise.uniform(-22, 22, (2, 3)).astype(np.float32)
    x, y = _axes()
    grain = noise_of(noise, 6) * np.float32(12.8) + noise.integers(-9, 10, (SIDE, SIDE), dtype=np.int8)
    return _finish(base.astype(np.float32) + x * slope[0] + y * slope[1] + grain[:, :, None], noise, base)


def _textured(noise: np.random.Generator) -> Image.Image:
    """Version 2: one texture or two (a near and a far one), muted, unevenly lit, with version 1's clutter on top."""
    base = noise.uniform(125, 205) + noise.uniform(-20, 20, 3)
    pixels = _surface(noise, base)
    if noise.random() < 0.35:
        far = noise.uniform(125, 205) + noise.uniform(-20, 20, 3)
        edge = noise.uniform(0.25, 0.75) + 0.06 * noise_of(noise, 4)
        share = np.clip((edge - _axes()[1][:, :, 0] - 0.5) * 40, 0, 1)[:, :, None]  # a horizon a few pixels soft
        pixels = pixels * (1 - share) + _surface(noise, far) * share
    grain = noise.integers(-5, 6, (SIDE, SIDE), dtype=np.int8)
    return _finish(pixels + grain[:, :, None], noise, base)


def _surface(noise: np.random.Generator, base: np.ndarray) -> np.ndarray:
    """`(SIDE, SIDE, 3)`: a texture around a colour, lit from one side."""
    texture = _TEXTURES[int(noise.random() * len(_TEXTURES))](noise)
    tint = noise.uniform(8, 22) * noise.uniform(0.7, 1.3, 3).astype(np.float32)
    slope = noise.uniform(-22, 22, 2).astype(np.float32)
    x, y = _axes()
    return base.astype(np.float32) + texture[:, :, None] * tint + x * slope[0] + y * slope[1]


def noise_of(noise: np.random.Generator, cells: int) -> Field:
    """Smooth noise: random values on a `cells` x `cells` grid, interpolated."""
    coarse = noise.integers(0, 256, (cells, cells), dtype=np.uint8)
    grown = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return (np.asarray(grown, dtype=np.float32) - 128) / np.float32(128)


def _clouds(noise: np.random.Generator) -> Field:
    return 0.6 * noise_of(noise, 4) + 0.4 * noise_of(noise, 9) + 0.25 * noise_of(noise, 20)


def _grass(noise: np.random.Generator) -> Field:
    return 0.3 * noise_of(noise, 5) + 0.5 * noise_of(noise, 40) + 0.4 * noise_of(noise, 80)


def _wood(noise: np.random.Generator) -> Field:
    """Waves along one direction, bent by smooth noise."""
    angle, waves = noise.uniform(0, np.pi), noise.uniform(4, 14)
    x, y = _axes()
    along = (x * np.cos(angle) + y * np.sin(angle))[:, :, 0].astype(np.float32)
    return np.sin(2 * np.pi * (waves * along + 0.7 * noise_of(noise, 4))).astype(np.float32)


def _tiles(noise: np.random.Generator) -> Field:
    """Tiles of slightly different brightness between darker joints."""
    period, (left, top) = int(noise.integers(16, 41)), noise.integers(0, 40, 2)
    rows, columns = (np.arange(SIDE) + top) // period, (np.arange(SIDE) + left) // period
    shades = noise.uniform(-0.5, 0.5, (rows[-1] + 1, columns[-1] + 1)).astype(np.float32)
    field = shades[rows][:, columns]
    field[(np.arange(SIDE) + top) % period < 2] = -1
    field[:, (np.arange(SIDE) + left) % period < 2] = -1
    return field


def _weave(noise: np.random.Generator) -> Field:
    """A checked cloth: bands along both directions."""
    x, y = _axes()
    down, along = noise.uniform(5, 16, 2)
    return (0.5 * np.sin(2 * np.pi * down * y) + 0.5 * np.sin(2 * np.pi * along * x))[:, :, 0].astype(np.float32)


_TEXTURES: tuple[Callable[[np.random.Generator], Field], ...] = (_clouds, _grass, _wood, _tiles, _weave)
_GROUNDS: dict[int, Callable[[np.random.Generator], Image.Image]] = {1: _plain, 2: _textured}


@cache
def _axes() -> tuple[np.ndarray, np.ndarray]:
    """x `(1, SIDE, 1)` and y `(SIDE, 1, 1)`, -0.5 to 0.5."""
    axis = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    return axis[None, :, None], axis[:, None, None]


def _finish(pixels: np.ndarray, noise: np.random.Generator, base: np.ndarray) -> Image.Image:
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
