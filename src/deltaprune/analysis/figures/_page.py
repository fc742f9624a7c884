"""The page that every figure is drawn on: size, type, colours, and how it is written."""

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from deltaprune.errors import UserError, did_you_mean

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
except ImportError as error:
    raise UserError("Figures need matplotlib, which is not installed: run pip install 'deltaprune[plot]'.") from error

WIDTH = 3.4  # inches, one column
LINE, LETTERS = 0.14, 54  # a title line's height in inches and length in letters
SUFFIXES = (".png", ".svg", ".pdf")
BLUE, RED, GREY = "#0072b2", "#d55e00", "#666666"  # distinct for colour-blind readers and in grey print
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "image.cmap": "viridis",  # sequential, perceptually uniform
    "savefig.dpi": 300,
    "svg.hashsalt": "deltaprune",  # the same figure, the same file
    "pdf.fonttype": 42,
}


def page(height: float, title: str | None) -> Figure:
    """An empty figure, one column wide and `height` inches high below its title; draw on it within `style()`."""
    lines = [] if title is None else [part for line in title.splitlines() for part in textwrap.wrap(line, LETTERS)]
    figure = Figure(figsize=(WIDTH, height + LINE * len(lines)), layout="constrained")
    if lines:
        figure.suptitle("\n".join(lines), parse_math=False)  # a question may hold dollar signs
    return figure


def style():
    """The context in which figures are drawn and saved; also a decorator."""
    return mpl.rc_context(STYLE)


def scaled(values: np.ndarray, top: float | None = None) -> tuple[np.ndarray, str]:
    """Values in a power of ten that makes them easy to read, and that power for the label, such as " (10⁻³)".

    Args:
        values: the drawn values.
        top: the largest that is read, from 0 up; by default of all of them.
    """
    top = float(np.abs(values).max(initial=0)) if top is None else top
    power = math.floor(math.log10(top)) if top > 0 else 0
    if -2 < power < 4:
        return values, ""
    return values / 10.0**power, rf" ($10^{{{power}}}$)"


def paths(out: str | Path) -> list[Path]:
    """The files that `save` writes: the named one, or PNG and SVG where the name has no suffix.

    Raises:
        UserError: a suffix that is no format.
    """
    path = Path(out)
    if not path.suffix:
        return [path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES[:2]]
    if path.suffix.lower() not in SUFFIXES:
        known = did_you_mean(path.suffix.lower(), SUFFIXES)
        raise UserError(f"{str(out)!r} does not end in a format for figures: {known}; no suffix writes PNG and SVG.")
    return [path]


@style()
def save(figure: Figure, out: str | Path) -> list[Path]:
    """Write a figure, see `paths`; PNG at 300 dots per inch.

    Raises:
        UserError: a suffix that is no format.
        OSError: the file cannot be written.
    """
    files = paths(out)
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    for file in files:
        figure.savefig(file, metadata=dated.get(file.suffix.lower()))
    return files
