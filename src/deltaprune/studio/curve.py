"""The spread curve as SVG, in the page's colours, dark or light."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

from deltaprune.studio.svg import n, svg

WIDTH, HEIGHT = 440.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 428.0, 34.0, 190.0  # of the axes


@dataclass(frozen=True)
class _Axes:
    """Where a layer and a value are drawn; the values may be logarithms."""

    n_layers: int
    low: float
    high: float

    def x(self, layer: float) -> float:
        return LEFT + (layer - 0.5) / self.n_layers * (RIGHT - LEFT)

    def y(self, value: float) -> float:
        return BOTTOM - (value - self.low) / ((self.high - self.low) or 1.0) * (BOTTOM - TOP)


def spread_curve(std: Float[np.ndarray, "L"], stages: Mapping[int, str], frozen: Sequence[int], layer: int) -> str:
    """How far a score spreads over the patches, layer by layer (eq. 7), with a setting's layers marked.

    The axis is logarithmic where one layer would press the others flat, as in `analysis.figures.spread_curve`.

    Args:
        std: first layer to last; a layer that does not give the score has NaN, and no dot.
        stages: `after` -> what that stage leaves, in words; "" for a line alone.
        frozen: layers counted from 1 in which visual rows are not updated.
        layer: after how many layers the patches are drawn; 0 marks none.
    """
    known = std[np.isfinite(std)] if np.isfinite(std).any() else np.zeros(1)
    steep = bool(known.min() > 0 and known.max() > 10 * np.median(known))
    shown, ends = (np.log10(std), np.log10(known)) if steep else (std, known)
    low, high = (float(ends.min()), float(ends.max())) if steep else (0.0, float(max(ends.max(), 1e-12)))
    axes = _Axes(len(std), low, high)
    marks = {n(axes.y(end) + 4): 10**end if steep else end for end in (low, high)}
    scale = "spread (std), log scale" if steep else "spread (std)"
    texts = "".join(f'<text x="{n(LEFT - 6)}" y="{y}" text-anchor="end">{end:.2g}</text>' for y, end in marks.items())
    return svg(
        WIDTH,
        HEIGHT,
        f'<path d="M{n(LEFT)} {n(TOP)}V{n(BOTTOM)}H{n(RIGHT)}" class="axis"/>'
        f"{_frozen(axes, frozen)}{_stages(axes, stages)}{_line(axes, shown, layer)}{_ticks(axes)}{texts}"
        f'<text x="{n((LEFT + RIGHT) / 2)}" y="{n(HEIGHT - 4)}" text-anchor="middle">after layer</text>'
        f'<text transform="translate(12 {n((TOP + BOTTOM) / 2)}) rotate(-90)" text-anchor="middle">{scale}</text>',
    )


def _line(axes: _Axes, values: Float[np.ndarray, "L"], layer: int) -> str:
    """The curve, a dot for each layer, a ring for the layer shown."""
    points = {k: (axes.x(k), axes.y(float(value))) for k, value in enumerate(values, start=1) if math.isfinite(value)}
    line = " ".join(f"{n(x)},{n(y)}" for x, y in points.values())
    dots = "".join(
        f'<circle cx="{n(x)}" cy="{n(y)}" r="{6 if k == layer else 2.6}" class="{"now" if k == layer else "dot"}"/>'
        for k, (x, y) in points.items()
    )
    return f'<polyline points="{line}" class="curve"/>{dots}'


def _stages(axes: _Axes, stages: Mapping[int, str]) -> str:
    """A line behind the layers that see all, with its words; near an end of the axis they grow away from it."""
    drawn = []
    for k, words in stages.items():
        x, place = n(axes.x(k + 0.5)), k / axes.n_layers
        anchor = "start" if place < 0.3 else "end" if place > 0.7 else "middle"
        drawn.append(f'<path d="M{x} {n(TOP - 4)}V{n(BOTTOM)}" class="stage"/>')
        drawn.append(f'<text x="{x}" y="{n(TOP - 10)}" text-anchor="{anchor}">{escape(words)}</text>')
    return "".join(drawn)


def _frozen(axes: _Axes, frozen: Sequence[int]) -> str:
    """A bar below the axis for each frozen layer."""
    width = n(axes.x(1) - axes.x(0) - 2)
    return "".join(
        f'<rect x="{n(axes.x(k - 0.5) + 1)}" y="{n(BOTTOM + 2)}" width="{width}" height="5" class="frozen"/>'
        for k in frozen
    )


def _ticks(axes: _Axes) -> str:
    """About ten layers' numbers."""
    step = max(1, math.ceil(axes.n_layers / 10))
    return "".join(
        f'<text x="{n(axes.x(k))}" y="{n(BOTTOM + 21)}" text-anchor="middle">{k}</text>'
        for k in range(step, axes.n_layers + 1, step)
    )
