"""The map of early and late layers."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from deltaprune.analysis.figures._page import RED, page, style
from deltaprune.errors import UserError

MOST_TICKS = 10


@style()
def sensitivity_map(
    js: Float[np.ndarray, "E K"],
    early: Sequence[int],
    late: Sequence[int],
    depth: int,
    marked: tuple[int, int] | None = None,
    title: str | None = None,
) -> Figure:
    """JS of the next token over the early and the late layer, on a logarithmic scale; darker is less.

    Args:
        js: nats; NaN where there is no such pair.
        early, late: the layers; a late one equal to `depth` is written "none".
        depth: of the model.
        marked: a pair to mark, such as the plan's.
        title: above the figure.

    Raises:
        UserError: no pair at all, or sizes that do not fit.
    """
    if js.shape != (len(early), len(late)) or not np.isfinite(js).any():
        raise UserError(f"A map of {js.shape} has {len(early)} early and {len(late)} late layers: give some pairs.")
    values = np.maximum(js, 1e-9)
    figure = page(2.9, title)
    axes = figure.subplots()
    drawn = axes.imshow(
        values, norm=LogNorm(np.nanmin(values), np.nanmax(values)), origin="lower", aspect="auto", cmap="viridis"
    )
    bar = figure.colorbar(drawn, ax=axes, pad=0.02, aspect=24)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.set_label("JS of the next token, nats")
    bar.outline.set_visible(False)
    for layers, axis in ((late, axes.xaxis), (early, axes.yaxis)):
        places = list(range(0, len(layers), -(-len(layers) // MOST_TICKS)))
        if layers[-1] == depth and places[-1] != len(layers) - 1:
            if len(layers) - 1 - places[-1] < 2 and len(places) > 1:
                places.pop()
            places.append(len(layers) - 1)
        axis.set_ticks(places, ["none" if layers[i] == depth else str(layers[i]) for i in places])
    if marked is not None and marked[0] in early and marked[1] in late:
        axes.plot(late.index(marked[1]), early.index(marked[0]), "o", color=RED, markersize=5, markerfacecolor="none")
    axes.set_xlabel("late layer")
    axes.set_ylabel("early layer")
    axes.spines[:].set_visible(False)
    return figure
