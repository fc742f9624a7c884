"""Figure 3 (and 6): how far the scores of the visual tokens spread, layer by layer."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deltaprune.analysis.figures._page import BLUE, GREY, RED, page, scaled, style
from deltaprune.errors import UserError


@style()
def spread_curve(
    std: Sequence[float] | Float[np.ndarray, "L"],
    early: int | None = None,
    late: int | None = None,
    title: str | None = None,
) -> Figure:
    """The curve of eq. 7 with the layers after which DTP prunes.

    Layers are counted as stages count them: the point at k is the score that a `Stage(after=k)` reads. Where one layer
    would press the others flat (above ten times the median), the axis is logarithmic and says so.

    Args:
        std: one value per layer, first to last, such as `calibrate.Spread.std`.
        early, late: DTP's two values of `after`.
        title: above the figure.

    Raises:
        UserError: no values, or a layer beyond them.
    """
    values = np.asarray(std, dtype=np.float64)
    n = len(values)
    if n == 0:
        raise UserError("There is no curve to draw: give one standard deviation per layer.")
    steep = bool(values.min() > 0 and values.max() > 10 * np.median(values))
    values, unit = (values, ", log scale") if steep else scaled(values)
    marks = {name: k for name, k in (("early", early), ("late", late)) if k is not None}
    for name, k in marks.items():
        if not 0 <= k <= n:
            raise UserError(f"{name}={k} lies beyond the curve: it has {n} layers, so give at most {n}.")
    figure = page(2.0, title)
    axes = figure.subplots()
    axes.plot(np.arange(1, n + 1), values, color=BLUE, marker="o", markersize=2.2)
    for name, k in marks.items():
        axes.axvline(k, color=RED if name == "early" else GREY, linestyle="--", linewidth=0.9, zorder=0)
    axes.set_xlabel("layer")
    axes.set_ylabel(f"std of token scores{unit}")
    axes.set_xlim(0.5, n + 0.5)
    if steep:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if marks:
        top = axes.secondary_xaxis("top")
        top.set_xticks(list(marks.values()), [f"{name} = {k}" for name, k in marks.items()])
        top.tick_params(length=0)
        top.spines["top"].set_visible(False)
        labels = top.get_xticklabels()
        if len(marks) == 2 and abs(marks["late"] - marks["early"]) < 0.25 * n:  # too near to be centred
            labels[0].set_horizontalalignment("right")
            labels[1].set_horizontalalignment("left")
    return figure
