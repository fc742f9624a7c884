"""Figures 5 and 8: implicit attention of some layers, or of all."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deltaprune.analysis.figures._page import RED, WIDTH, page, style
from deltaprune.errors import UserError

DECADES = 4  # below the largest value; smaller values look the same


@style()
def attention_maps(
    matrices: Sequence[Float[np.ndarray, "L L"]], after: Sequence[int], n_visual: int, title: str | None = None
) -> Figure:
    """Implicit attention matrices on one logarithmic scale, so that layers can be compared.

    Args:
        matrices: one per layer, such as `Attention.matrix`: output i in row i takes from input j in column j.
        after: the layers' names, see `Attention.after`.
        n_visual: the image's tokens, which come first; lines mark where text begins.
        title: above the figure.

    Raises:
        UserError: no matrices, or not one name for each.
    """
    if not matrices or len(matrices) != len(after):
        raise UserError(
            f"{len(matrices)} matrices and {len(after)} layers: give one layer's name per matrix, at least one."
        )
    columns = next((c for c in (1, 2, 4) if len(matrices) <= c * c), 8)
    rows, roomy = -(-len(matrices) // columns), columns < 8
    figure = page(1.0 + rows * ((WIDTH - 0.5) / columns + 0.05 + 0.02 * (8 - columns)), title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(matrices) :]:
        axes.set_axis_off()
    top = max(float(matrix.max()) for matrix in matrices)
    shown = None
    for i, (axes, matrix, k) in enumerate(zip(grid.flat, matrices, after, strict=False)):
        shown = _panel(axes, matrix, top)
        axes.set_title(f"layer {k}" if roomy else f"{k}", pad=2, fontsize=7)
        _mark_text(axes, len(matrix), n_visual, roomy and i + columns >= len(matrices), roomy and i % columns == 0)
    figure.supxlabel("input token j", fontsize=8)
    figure.supylabel("output token i", fontsize=8)
    assert shown is not None
    bar = figure.colorbar(shown, ax=grid, location="top", aspect=40, shrink=0.9, pad=0.03, extend="min")
    bar.set_label("mean |K| over channels")
    return figure


def _panel(axes: Axes, matrix: Float[np.ndarray, "L L"], top: float):
    """One matrix; the part above the diagonal is left white."""
    low = top * 10.0**-DECADES if top > 0 else 1e-12
    values = np.where(np.tri(len(matrix), dtype=bool), np.maximum(matrix, low), np.nan)
    cmap = mpl.colormaps["viridis"].with_extremes(bad="white")
    return axes.imshow(values, cmap=cmap, norm="log", vmin=low, vmax=max(top, 10 * low))


def _mark_text(axes: Axes, length: int, n_visual: int, bottom: bool, left: bool) -> None:
    """Lines where the image ends and text begins; both named below the bottom row and left of the first column."""
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    if not 0 < n_visual < length:
        return
    for line in (axes.axvline, axes.axhline):
        line(n_visual - 0.5, color=RED, linewidth=0.6)
    centres, names = [(n_visual - 1) / 2, (n_visual + length - 1) / 2], ["image", "text"]
    if bottom:
        axes.set_xticks(centres, names)
    if left:
        axes.set_yticks(centres, names, rotation=90, va="center")
    axes.tick_params(length=0, pad=2)
