"""A picture with the state of each patch, or with a heat map, as SVG."""

import base64
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from deltaprune.studio.layers import DROPPED, FROZEN
from deltaprune.studio.svg import n, svg

SIDE = 640  # the long side of a drawn picture, in its own units
VIRIDIS = ((68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142), (31, 158, 137), (53, 183, 121),
           (109, 205, 89), (180, 222, 44), (253, 231, 37))  # fmt: skip
MIDDLE = (2, 98)  # percentiles between which a heat map's colours lie
GREY_FILTER = '<filter id="dp-grey"><feColorMatrix type="saturate" values="0"/></filter>'


def data_uri(image: Image.Image, kind: str = "PNG") -> str:
    """A picture as an address that holds it."""
    buffer = BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def small_uri(image: Image.Image) -> str:
    """An RGB picture with its long side at most `SIDE`, as an address that holds it."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return data_uri(small, "PNG" if max(small.size) < SIDE / 2 else "JPEG")


def icon() -> bytes:
    """The page's icon, a PNG: a white delta on teal."""
    image = Image.new("RGB", (64, 64), (13, 116, 110))
    pen = ImageDraw.Draw(image)
    pen.polygon([(32, 10), (56, 52), (8, 52)], fill="white")
    pen.polygon([(32, 25), (45, 46), (19, 46)], fill=(13, 116, 110))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def patches(uri: str, size: tuple[int, int], grid: tuple[int, int], states: UInt8[np.ndarray, "P"]) -> str:
    """The picture with dropped patches grey, dark and struck through, and frozen ones under blue lines.

    A stroke has a light core and a dark rim, so it is seen on any picture. The grid is stretched over the picture, as
    the towers' square is.

    Args:
        uri: of the picture.
        size: its width and height, in any unit.
        grid: rows and columns of patches.
        states: of each patch, row by row, see `layers`.
    """
    width, height = _fitted(size)
    w, h = width / grid[1], height / grid[0]
    where = {state: np.flatnonzero(states == state).tolist() for state in (DROPPED, *FROZEN.values())}

    def cells(state: int) -> str:
        return "".join(f"M{n(p % grid[1] * w)} {n(p // grid[1] * h)}h{n(w)}v{n(h)}h{n(-w)}z" for p in where[state])

    image = f'<image href="{uri}" width="{n(width)}" height="{n(height)}" preserveAspectRatio="none"'
    corners = ((p % grid[1] * w, p // grid[1] * h) for p in where[DROPPED])
    strokes = "".join(f"M{n(x + 0.2 * w)} {n(y + 0.8 * h)}l{n(0.6 * w)} {n(-0.6 * h)}" for x, y in corners)
    rim = max(2.0, min(w, h) / 8)
    gone = (
        f'<clipPath id="dp-gone"><path d="{cells(DROPPED)}"/></clipPath>'
        f'<g clip-path="url(#dp-gone)">{image} filter="url(#dp-grey)"/>'
        f'<rect width="{n(width)}" height="{n(height)}" fill="#000" opacity="0.6"/></g>'
        f'<path d="{strokes}" stroke="#000" stroke-opacity="0.8" stroke-width="{n(rim)}"/>'
        f'<path d="{strokes}" stroke="#fff" stroke-opacity="0.85" stroke-width="{n(rim / 2.5)}"/>'
        if where[DROPPED]
        else ""
    )
    body = (
        f"<defs>{GREY_FILTER}{''.join(_hatch(how, w, h) for how in FROZEN)}</defs>{image}/>{gone}"
        + "".join(f'<path d="{cells(state)}" fill="url(#dp-{how})"/>' for how, state in FROZEN.items() if where[state])
        + _lines(width, height, grid)
    )
    return svg(width, height, body)


def heat_map(uri: str, size: tuple[int, int], grid: tuple[int, int], values: Float[np.ndarray, "P"]) -> str:
    """The score of each patch in colours, from dark (low) to yellow (high), over the grey picture."""
    width, height = _fitted(size)
    low, high = heat_range(values)
    place = np.clip((values - low) / (high - low) if high > low else np.zeros_like(values), 0, 1) * (len(VIRIDIS) - 1)
    anchors = np.asarray(VIRIDIS, dtype=np.float64)
    colours = np.stack([np.interp(place, np.arange(len(VIRIDIS)), anchors[:, c]) for c in range(3)], axis=-1)
    map_uri = data_uri(Image.fromarray(colours.round().astype(np.uint8).reshape(*grid, 3)))
    box = f'width="{n(width)}" height="{n(height)}" preserveAspectRatio="none"'
    body = (
        f"<defs>{GREY_FILTER}</defs>"
        f'<image href="{uri}" {box} filter="url(#dp-grey)"/>'
        f'<image href="{map_uri}" {box} opacity="0.82" style="image-rendering:pixelated"/>'
    )
    return svg(width, height, body)


def heat_range(values: Float[np.ndarray, "P"]) -> tuple[float, float]:
    """What the darkest and the lightest colour mean."""
    low, high = np.percentile(values, MIDDLE)
    return float(low), float(high)


def _fitted(size: tuple[int, int]) -> tuple[float, float]:
    """The size of a drawing with this shape; a very flat picture is drawn less flat, so that its patches are seen."""
    scale = SIDE / max(size)
    return max(size[0] * scale, SIDE / 4), max(size[1] * scale, SIDE / 4)


def _hatch(how: str, w: float, h: float) -> str:
    """A pattern of one patch, blue lines with a white rim: diagonals, level lines, or diagonals both ways."""
    up, level, down = f"M0 {n(h)}L{n(w)} 0", f"M0 {n(h / 2)}H{n(w)}", f"M0 0L{n(w)} {n(h)}"
    way = {"write": up, "mean": level, "skip": up + down}[how]
    return (
        f'<pattern id="dp-{how}" width="{n(w)}" height="{n(h)}" patternUnits="userSpaceOnUse">'
        f'<rect width="{n(w)}" height="{n(h)}" fill="#0072b2" fill-opacity="0.28"/>'
        f'<path d="{way}" stroke="#fff" stroke-opacity="0.75" stroke-width="{n(max(1.6, w / 14))}"/>'
        f'<path d="{way}" stroke="#00507e" stroke-width="{n(max(0.8, w / 28))}"/></pattern>'
    )


def _lines(width: float, height: float, grid: tuple[int, int]) -> str:
    """Thin lines between the patches."""
    ways = [f"M{n(width * c / grid[1])} 0v{n(height)}" for c in range(1, grid[1])]
    ways += [f"M0 {n(height * r / grid[0])}h{n(width)}" for r in range(1, grid[0])]
    return f'<path d="{"".join(ways)}" stroke="#fff" stroke-opacity="0.25" stroke-width="1"/>'
