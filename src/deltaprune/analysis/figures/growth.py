"""How time and memory of a prefill grow with its tokens, beside straight proportion."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from deltaprune.analysis.figures._page import BLUE, GREY, page, style
from deltaprune.errors import UserError


@style()
def growth_curves(
    tokens: Sequence[int], milliseconds: Sequence[float], peak_bytes: Sequence[int], title: str | None = None
) -> Figure:
    """Two panels: time on logarithmic axes beside the line of twice the tokens, twice the time; and peak memory.

    Args:
        tokens: of a prefill, ascending, at least two.
        milliseconds: what each took.
        peak_bytes: most memory during it, weights included.
        title: above the figure.

    Raises:
        UserError: fewer than two lengths, or columns of different lengths.
    """
    if len(tokens) < 2 or not len(tokens) == len(milliseconds) == len(peak_bytes):
        told = f"{len(tokens)}, {len(milliseconds)} and {len(peak_bytes)}"
        raise UserError(f"tokens, milliseconds and peak_bytes hold {told} values: give as many of each, two or more.")
    figure = page(2.0, title)
    left, right = figure.subplots(1, 2)
    x, y = np.asarray(tokens, dtype=np.float64), np.asarray(milliseconds, dtype=np.float64)
    left.plot(x, y[0] * x / x[0], color=GREY, linestyle="--", linewidth=0.9, label="proportional")
    left.plot(x, y, color=BLUE, marker="o", markersize=2.2, label="prefill")
    left.set_xscale("log", base=2)
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("ms")
    left.legend(frameon=False, loc="upper left")
    right.plot(x, np.asarray(peak_bytes, dtype=np.float64) / 1e9, color=BLUE, marker="o", markersize=2.2)
    right.set_ylabel("peak memory, GB")
    right.set_ylim(0, 1.08 * max(right.get_ylim()))
    for axes, ticks in ((left, x[:: -(-len(x) // 3)]), (right, x[[0, -1]])):
        _tokens(axes, ticks)
    return figure


def _tokens(axes: Axes, ticks: np.ndarray) -> None:
    """An axis of tokens with few ticks, so that they do not touch."""
    axes.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("tokens")
