"""The training as a figure: accuracy over pictures, by skill, and what pruning costs the model meanwhile.

    python -m training.curves                      # from numbers/bundled_training.jsonl to docs/training.png
    python -m training.curves log.txt --out so_far.png

Reads the log of a finished run or what a run has printed so far: JSON lines, other lines are passed over.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from deltaprune.analysis.figures import COLOURS, GREY, page, save, style
from deltaprune.benchmarks.scenes import SKILLS
from deltaprune.errors import UserError
from runs.provenance import NUMBERS, ROOT
from training.recipe import Recipe

KEEP = "0.5"  # the share of the early panel
SHADES = ("#440154", "#3b528b", "#21918c", "#5ec962", "#d9a520")  # from the least depth to the greatest

Entry = Mapping[str, Any]


def entries(text: str) -> list[Entry]:
    """The log's entries by pictures; what a run that was taken up again did twice counts once, as it was done last.

    Raises:
        UserError: no entry, or none that looked at validation.
    """
    found: list[Entry] = []
    for line in text.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            while found and found[-1]["pictures"] > entry["pictures"]:
                found.pop()
            found.append(entry)
    if not any("methods" in entry for entry in found) or not any("answers" in entry for entry in found):
        raise UserError("This is no log of a training: it has no line with 'answers' or none with 'methods'.")
    return found


@style()
def curves(log: Sequence[Entry], recipe: Recipe) -> Figure:
    """Three panels over the pictures seen: skills, withdrawal by depth, DTP and random choice by early layer."""
    figure = page(6.6, None)
    skills, late, early = figure.subplots(3, sharex=True)
    learnt, watched = ([entry for entry in log if key in entry] for key in ("answers", "methods"))
    for colour, skill in zip(COLOURS, SKILLS, strict=False):
        right = [100 * entry.get(skill, math.nan) for entry in learnt]
        skills.plot([entry["pictures"] for entry in learnt], right, color=colour, label=skill)
    depths = _named(watched, "vtw ")
    _draw(late, watched, {f"vtw:after={name.split()[1]}": name for name in depths}, SHADES, "-")
    layers = [name.split()[1] for name in _named(watched, "dtp ") if name.endswith(f" {KEEP}")]
    for method, line in (("dtp", "-"), ("random", ":")):
        _draw(early, watched, {f"{method}, early={k}": f"{method} {k} {KEEP}" for k in layers}, COLOURS, line)
    _set(skills, "unpruned: answer tokens, new pictures")
    for axes, what in ((late, "no image after so many layers"), (early, f"keep={KEEP} after early layers")):
        axes.plot(*_line(watched, "none"), color="#000000", linestyle="--", label="none")
        _set(axes, f"validation: {what}")
    last = max(log[-1]["pictures"], recipe.vary_from)
    begins = {"sizes vary": recipe.vary_from, "rate falls": round((1 - recipe.anneal) * recipe.pictures)}
    for what, begin in begins.items():
        for axes in (skills, late, early) if begin <= last else ():
            axes.axvline(begin, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
            axes.text(begin, 2, what, rotation=90, color=GREY, fontsize=6, ha="right", va="bottom")
    early.set_xlabel("pictures seen, thousands")
    early.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}"))
    early.set_xlim(0, last)
    return figure


def _named(watched: Sequence[Entry], prefix: str) -> list[str]:
    """The methods of a kind, in the order in which they were watched."""
    return list(dict.fromkeys(name for entry in watched for name in entry["methods"] if name.startswith(prefix)))


def _line(watched: Sequence[Entry], name: str) -> tuple[list[int], list[float]]:
    """A method's accuracy over pictures."""
    return [entry["pictures"] for entry in watched], [entry["methods"].get(name, math.nan) for entry in watched]


def _draw(axes: Axes, watched: Sequence[Entry], methods: Mapping[str, str], colours: Sequence[str], line: str) -> None:
    """A line for each method; `methods` maps its label to its name in the log."""
    for colour, (label, name) in zip(itertools.cycle(colours), methods.items(), strict=False):
        axes.plot(*_line(watched, name), color=colour, linestyle=line, label=label)


def _set(axes: Axes, title: str) -> None:
    """Title, scale and legend of a panel."""
    axes.set_title(title, loc="left")
    axes.set_ylabel("right, %")
    axes.set_ylim(0, 101)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=1.6)


def main(
    log: Annotated[Path, typer.Argument(help="JSON lines.", exists=True)] = NUMBERS / "bundled_training.jsonl",
    out: Annotated[Path, typer.Option(help=".png, .svg or .pdf.")] = ROOT / "docs" / "training.png",
) -> None:
    """Draw a training from its log."""
    try:
        files = save(curves(entries(log.read_text(encoding="utf-8")), Recipe()), out)
    except UserError as error:
        raise SystemExit(str(error)) from None
    print(*files, sep="\n")


if __name__ == "__main__":
    typer.run(main)
