"""Figure 4 (and 7): where a score is high in the picture, and how it is distributed, layer by layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from deltaprune.analysis.figures._page import BLUE, GREY, RED, page, scaled, style
from deltaprune.errors import UserError

ROW = 1.05  # inches
FENCE, LEAST = 3.0, 1 / 3  # of the distance between the quartiles; of the range


@style()
def score_maps(
    image: Image.Image,
    scores: Sequence[Float[np.ndarray, "P"]],
    kept: Sequence[Bool[np.ndarray, "P"]],
    after: Sequence[int],
    grid: tuple[int, int],
    name: str = "score",
    title: str | None = None,
) -> Figure:
    """A row per layer: the scores over the picture's patches, and token by token, the best share in red.

    Every layer has its own range of colours, shown by a bar beside the dots. An outlier does not stretch the range (see
    `shown`): it has the colour of the range's end, and a triangle there.

    Args:
        image: the picture, shown on top.
        scores: of each layer, the visual tokens' scores, row by row.
        kept: of each layer, which tokens are among the best share.
        after: the layers' names, counted as stages count them.
        grid: rows and columns of patches.
        name: of the score, for the axis.
        title: above the figure.

    Raises:
        UserError: no layers, not one name and one mask for each, or not one score for each patch.
    """
    n = grid[0] * grid[1]
    if not scores or not len(scores) == len(after) == len(kept):
        raise UserError(f"{len(scores)} layers of scores, {len(kept)} masks and {len(after)} names: give one of each.")
    if any(row.shape != (n,) for row in (*scores, *kept)):
        raise UserError(f"A layer has {len(scores[0])} scores for {grid[0]} x {grid[1]} = {n} patches: give one each.")
    figure = page(0.4 + ROW * (len(scores) + 1), title)
    cells = figure.subplots(len(scores) + 1, 2, width_ratios=(1, 2.2))
    patches: dict[str, Any] = {"aspect": "auto", "extent": (0, grid[1], grid[0], 0)}
    cells[0, 0].imshow(image.convert("RGB"), **patches)
    cells[0, 0].set_title("picture", pad=2)
    cells[0, 1].set_axis_off()
    every, unit = scaled(np.stack(scores), max(abs(end) for row in scores for end in shown(row)))
    beyond = False
    for (where, dots), values, best, k in zip(cells[1:], every, kept, after, strict=True):
        low, high = shown(values)
        drawn = where.imshow(values.reshape(grid), vmin=low, vmax=high, **patches)
        where.set_title(f"layer {k}", pad=2)
        beyond |= _draw_dots(dots, values, best, low, high)
        bar = figure.colorbar(drawn, ax=dots, location="left", aspect=14, pad=0.02)  # is the dots' axis, too
        bar.set_label(f"{name}{unit}")
        bar.outline.set_visible(False)
        dots.set_ylim(bar.ax.get_ylim())
        dots.set_xticklabels([]) if k != after[-1] else dots.set_xlabel("visual token, row by row")
    for axes in cells[:, 0]:
        axes.set_box_aspect(image.height / image.width)
        axes.spines[:].set_visible(False)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, _ = cells[1, 1].get_legend_handles_labels()
    names = [f"best {100 * kept[0].mean():.0f} %", "the others"]
    if beyond:
        handles.append(Line2D([], [], color=GREY, marker="^", linestyle="", markersize=2))
        names.append("beyond the scale")
    cells[0, 1].legend(handles, names, loc="lower left", frameon=False, markerscale=2)
    return figure


def shown(values: Float[np.ndarray, "P"]) -> tuple[float, float]:
    """The ends of the drawn range: all values, unless a few outliers would compress the others.

    Outliers lie beyond Tukey's outer fences, three times the distance between the quartiles below the first or above
    the third; they are left out where the others would have less than `LEAST` of the range.
    """
    first, third = np.percentile(values, (25, 75))
    reach = FENCE * (third - first)
    inside = values[(first - reach <= values) & (values <= third + reach)] if reach > 0 else values
    whole = values if np.ptp(inside) >= LEAST * np.ptp(values) else inside
    return float(whole.min()), float(whole.max())


def _draw_dots(axes: Axes, values: np.ndarray, best: np.ndarray, low: float, high: float) -> bool:
    """Score over token, the best in red; the values are read from the colour bar beside. Whether any lie beyond it."""
    index, within = np.arange(len(values)), (low <= values) & (values <= high)
    for mask, colour, label in ((best, RED, "best"), (~best, BLUE, "rest")):
        here = mask & within
        axes.scatter(index[here], values[here], s=3, color=colour, linewidths=0, label=label, clip_on=False)
        for out, end, marker in ((mask & (values > high), high, "^"), (mask & (values < low), low, "v")):
            if out.any():
                ends = np.full(out.sum(), end)
                axes.scatter(index[out], ends, s=9, color=colour, marker=marker, linewidths=0, clip_on=False)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    return not within.all()
