"""What keeping less does: the next token above, the spread of the scores below."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from deltaprune.analysis.figures._page import BLUE, GREY, RED, page, scaled, style
from deltaprune.errors import UserError


@style()
def keep_curves(
    keep: Sequence[float],
    js: Sequence[float] | Float[np.ndarray, "R"],
    std: Sequence[float] | Float[np.ndarray, "R"],
    full: float,
    title: str | None = None,
) -> Figure:
    """Two panels over the share of the visual tokens that is kept.

    Args:
        keep: the shares.
        js: of the next token, nats.
        std: eq. 7 of the tokens that are left.
        full: the same without pruning.
        title: above the figure.

    Raises:
        UserError: no share, or not one value for each.
    """
    if not len(keep) or not len(keep) == len(js) == len(std):
        raise UserError(f"{len(keep)} shares, {len(js)} divergences and {len(std)} spreads: give one of each.")
    order = np.argsort(keep)
    x = 100 * np.asarray(keep)[order]
    spread, unit = scaled(np.append(np.asarray(std, dtype=np.float64)[order], full))
    figure = page(3.2, title)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(x, np.asarray(js)[order], color=RED, marker="o", markersize=2.5)
    above.set_ylabel("JS, nats")
    below.plot(x, spread[:-1], color=BLUE, marker="o", markersize=2.5)
    below.axhline(spread[-1], color=GREY, linestyle="--", linewidth=0.9)
    below.annotate(
        "all tokens", (x[-1], spread[-1]), (0, -9), textcoords="offset points", ha="right", color=GREY, fontsize=7
    )
    below.set_ylabel(f"std of scores{unit}")
    below.set_xlabel("visual tokens kept, %")
    for axes, values in ((above, js), (below, spread)):
        axes.set_ylim(0, 1.1 * np.nanmax(values) or 1)
    return figure
