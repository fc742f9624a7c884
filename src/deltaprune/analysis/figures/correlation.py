"""How implicit attention and a score go together, layer by layer."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deltaprune.analysis.figures._page import BLUE, GREY, RED, page, style
from deltaprune.errors import UserError


@style()
def correlation_curves(
    spearman: Float[np.ndarray, "L S"], mass: Float[np.ndarray, "L S"], keep: float, title: str | None = None
) -> Figure:
    """Rank correlation above, the kept tokens' share of the attention below; bands are one standard deviation.

    Args:
        spearman, mass: of each layer and sample, see `Correlation`.
        keep: the share kept, which is what chance gives.
        title: above the figure.

    Raises:
        UserError: no layers, or two shapes.
    """
    if not spearman.size or spearman.shape != mass.shape:
        raise UserError(f"Correlations of {spearman.shape} and masses of {mass.shape}: give both for the same layers.")
    figure = page(3.2, title)
    above, below = figure.subplots(2, 1, sharex=True)
    layer = np.arange(1, len(spearman) + 1)
    for axes, values, colour, chance, name in (
        (above, spearman, BLUE, 0.0, "rank correlation"),
        (below, 100 * mass, RED, 100 * keep, "attention on kept, %"),
    ):
        mean, deviation = np.nanmean(values, axis=1), np.nanstd(values, axis=1)
        axes.fill_between(layer, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
        axes.plot(layer, mean, color=colour, marker="o", markersize=2.2)
        axes.axhline(chance, color=GREY, linestyle="--", linewidth=0.9, zorder=0)
        axes.set_ylabel(name)
    below.set_xlabel("layer (dashed: by chance)")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
