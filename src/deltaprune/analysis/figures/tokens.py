"""Which patches of a picture are left after each stage of a method."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from deltaprune.analysis.figures._page import WIDTH, page, style
from deltaprune.overlay import check_kept, enlarged, shaded

COLUMNS = 3


@style()
def kept_tokens(
    image: Image.Image,
    kept_origin: Sequence[np.ndarray],
    after: Sequence[int],
    grid: tuple[int, int],
    title: str | None = None,
) -> Figure:
    """The picture, and for each stage the picture with the dropped patches in grey.

    Args:
        image: the picture.
        kept_origin: for each stage, the indices `(K,)` of the visual tokens it left, row by row.
        after: for each stage, how many layers see all tokens that reach it.
        grid: rows and columns of patches.
        title: above the figure.

    Raises:
        UserError: an index outside the grid, or not one layer per stage.
    """
    n = grid[0] * grid[1]
    kept = check_kept(kept_origin, grid, after)
    picture = enlarged(image.convert("RGB"), grid)
    gone = [np.isin(np.arange(n), indices, invert=True) for indices in kept]
    panels = [(picture, f"picture\n{n} tokens")]
    for k, indices, mask in zip(after, kept, gone, strict=True):
        left = f"{len(indices)} of {n} kept" if len(indices) else "none kept"
        panels.append((shaded(picture, np.where(mask, 0, -1), grid), f"after layer {k}\n{left}"))
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    panel = WIDTH / max(columns, 2) - 0.08  # inches, without the gap
    figure = page(0.05 + rows * (panel * picture.height / picture.width + 0.3), title)
    cells = figure.subplots(rows, columns, squeeze=False)
    for axes in cells.flat:
        axes.set_axis_off()
    for axes, (drawn, name) in zip(cells.flat, panels, strict=False):
        axes.imshow(np.asarray(drawn))
        axes.set_title(name, pad=3, fontsize=7)
    return figure
