"""Accuracy against the share of the MACs that a method leaves: what each method pays for what it saves."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deltaprune._registry import UserError
from deltaprune.analysis.figures._page import BLUE, GREY, RED, page, style

COLOURS = (BLUE, RED, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito, 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
STEP, GAP = 0.022, 0.03  # of the axis' width and of its height, what a marker takes
ENTRY, LONG = 0.15, 24  # a line of the legend in inches; letters that still leave room for two columns

Point = Sequence[float]


@style()
def tradeoff_curves(
    methods: Mapping[str, Sequence[Point]], unpruned: Point | None = None, title: str | None = None
) -> Figure:
    """Accuracy over the share of the LM prefill's MACs, a curve per method, intervals as bars.

    Points that would cover each other stand side by side; the axis says so.

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
    places = _places(methods)
    for i, (name, points) in enumerate(methods.items()):
        _curve(axes, name, points, places[name], i)
    moved = any(
        x != point[0] for name, points in methods.items() for x, point in zip(places[name], points, strict=True)
    )
    axes.set_xlabel("MACs of the LM's prefill, % of none" + ("\n(side by side where they coincide)" if moved else ""))
    axes.set_ylabel("accuracy, % (95 % intervals)")
    axes.margins(x=0.05, y=0.06)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, handlelength=2.2, columnspacing=1.2)
    return figure


def _curve(axes: Axes, name: str, points: Sequence[Point], places: Sequence[float], i: int) -> None:
    """The i-th method: its points from the cheapest to the dearest, joined by a thin line."""
    order = np.argsort(places)
    mean, low, high = np.array(points, dtype=np.float64)[order].T[1:]
    colour, again = COLOURS[i % len(COLOURS)], i >= len(COLOURS)
    axes.errorbar(
        100 * np.array(places)[order],
        mean,
        yerr=np.maximum((mean - low, high - mean), 0),  # of few pictures a mean may lie outside its interval
        color=colour,
        linestyle=":" if again else "-",
        marker=MARKERS[i % len(MARKERS)],
        markerfacecolor="white" if again else colour,
        label=name,
        markersize=3.2,
        markeredgewidth=0.7,
        linewidth=0.6,
        elinewidth=0.7,
    )


def _places(methods: Mapping[str, Sequence[Point]]) -> dict[str, list[float]]:
    """Where along the axis each point is drawn: at its share, or side by side with those that it would cover."""
    places = {name: [float(point[0]) for point in points] for name, points in methods.items()}
    every = [(point, name, i) for name, points in methods.items() for i, point in enumerate(points)]
    step = STEP * max(float(np.ptp([point[0] for point, _, _ in every])), 0.2)
    gap = GAP * float(np.ptp([end for point, _, _ in every for end in point[1:]]))
    crowds: list[list[tuple[Point, str, int]]] = []
    for each in sorted(every, key=lambda each: each[0][2]):
        touched = [c for c in crowds if any(_covers(each[0], other, step, gap) for other, _, _ in c)]
        crowds = [c for c in crowds if c not in touched] + [[each, *itertools.chain.from_iterable(touched)]]
    names = list(methods)
    for crowd in crowds:
        centre = float(np.mean([point[0] for point, _, _ in crowd]))
        for k, (_, name, i) in enumerate(sorted(crowd, key=lambda each: names.index(each[1]))):
            places[name][i] = centre + step * (k - (len(crowd) - 1) / 2)
    return places


def _covers(a: Point, b: Point, step: float, gap: float) -> bool:
    """Whether two points' bars or markers would lie on each other."""
    return abs(a[0] - b[0]) < step and a[2] - gap < b[3] and b[2] - gap < a[3]
