"""Accuracy against the share of the MACs that a method leaves."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deltaprune.analysis.figures._page import BLUE, GREY, RED, page, style
from deltaprune.errors import UserError

COLOURS = (BLUE, RED, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito, 2008
SIZES = (7.0, 3.2)  # of the markers, first to last, points
LINES = ("-", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
ENTRY, LONG = 0.15, 24  # a line of the legend in inches; letters that still leave room for two columns

Point = Sequence[float]


@style()
def tradeoff_curves(
    methods: Mapping[str, Sequence[Point]], unpruned: Point | None = None, title: str | None = None
) -> Figure:
    """Accuracy over the share of the LM prefill's MACs, a curve per method, intervals as bars.

    Every point is drawn at its cost. Markers are hollow and each method's are smaller than the one's before, so that
    coinciding points are still visible.

    Args:
        methods: for each method's name its points (share, accuracy, low, high): the share a fraction, the others in
            percent, `low` and `high` the ends of the accuracy's interval.
        unpruned: the same of the model without pruning, drawn as a dashed line.
        title: above the figure.

    Raises:
        UserError: no point at all, or a point that is not four numbers.
    """
    every = [point for points in methods.values() for point in points]
    if not every:
        raise UserError("There is nothing to draw: give at least one method with one point.")
    for point in every if unpruned is None else [*every, unpruned]:
        if len(point) != 4:
            raise UserError(f"A point has {len(point)} numbers: give share, accuracy, low and high.")
    entries, columns = len(methods) + (unpruned is not None), 1 if max(map(len, methods)) > LONG else 2
    figure = page(2.6 + ENTRY * -(-entries // columns), title)
    axes = figure.subplots()
    if unpruned is not None:
        axes.axhspan(unpruned[2], unpruned[3], color=GREY, alpha=0.15, linewidth=0)
        axes.axhline(unpruned[1], color=GREY, linestyle="--", linewidth=0.9, label=f"none: {unpruned[1]:.1f} %")
    for i, (name, points) in enumerate(methods.items()):
        _curve(axes, name, points, SIZES[0] + (SIZES[1] - SIZES[0]) * i / max(1, len(methods) - 1), i)
    axes.set_xlabel("MACs of the LM's prefill, % of none")
    axes.set_ylabel("accuracy, % (95 % intervals)")
    axes.margins(x=0.05, y=0.06)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, handlelength=2.2, columnspacing=1.2)
    return figure


def _curve(axes: Axes, name: str, points: Sequence[Point], size: float, i: int) -> None:
    """The i-th method: its points from the cheapest to the dearest, joined by a thin line."""
    share, mean, low, high = np.array(sorted(points, key=lambda point: point[0]), dtype=np.float64).T
    axes.errorbar(
        100 * share,
        mean,
        yerr=np.maximum((mean - low, high - mean), 0),  # with few pictures a mean may be outside its interval
        color=COLOURS[i % len(COLOURS)],
        linestyle=LINES[i // len(COLOURS) % len(LINES)],
        marker=MARKERS[i % len(MARKERS)],
        markerfacecolor="none",
        label=name,
        markersize=size,
        markeredgewidth=0.7,
        linewidth=0.6,
        elinewidth=0.7,
    )
