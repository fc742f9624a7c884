"""`deltaprune plot`."""

from pathlib import Path
from typing import Annotated

import typer

from deltaprune.cli._common import check_target, check_whole, write
from deltaprune.cli._loading import ModelOptions
from deltaprune.cli._options import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    PlanOption,
    QuantizeOption,
    TokenizerOption,
    TowersOption,
    local,
)
from deltaprune.cli._plot_options import QUESTION, PlotOptions
from deltaprune.cli._plots import DRAW
from deltaprune.cli._progress import Working
from deltaprune.errors import UserError, did_you_mean

TAKES = {  # the options that a figure takes, beside --out and what every model takes
    "spread": {"--benchmark", "--samples", "--rule"},
    "scores": {"--image", "--question", "--method", "--layers", "--plan"},
    "attention": {"--image", "--question", "--layers", "--plan"},
    "tokens": {"--image", "--question", "--method", "--plan"},
    "tradeoff": {"REPORT"},
    "growth": {"REPORT"},
}
FigureArgument = Annotated[str, typer.Argument(metavar="|".join(TAKES), help="What to draw.")]


def plot(
    context: typer.Context,
    figure: FigureArgument,
    report: Annotated[
        list[str] | None, typer.Argument(metavar="REPORT", callback=local, help="Files for tradeoff and growth.")
    ] = None,
    model: ModelOption = "bundled",
    image: Annotated[
        str | None,
        typer.Option(
            "--image", callback=local, metavar="FILE", help="A picture. [default: the first of benchmark scenes]"
        ),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option("--question", metavar="TEXT", help=f"[default: the scene's own; of a picture {QUESTION!r}]"),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="METHOD", help="name:field=value,... [default: dtp:keep=0.5]")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option("--layers", metavar="K,K,...|all", help="Counted from 1, as in after=K. [default: four]"),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", metavar="NAME", help="The pictures. [default: scenes]")
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="How many pictures. [default: 32]")] = None,
    rule: Annotated[
        str | None,
        typer.Option("--rule", metavar="first_peak|argmin", help="Marks the early layer. [default: first_peak]"),
    ] = None,
    plan: PlanOption = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            callback=local,
            metavar="FILE",
            help=".png, .svg or .pdf; no suffix: PNG and SVG. [default: the figure's name]",
        ),
    ] = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
) -> None:
    """Draw figures of scores, attention, kept tokens and results.

    \b
    spread     std of the scores by layer, and where dtp's rules prune: --benchmark --samples --rule
    scores     a method's score over the picture, layer by layer: --image --question --method --layers
    attention  implicit attention, layer by layer: --image --question --layers
    tokens     the patches that a method keeps: --image --question --method
    tradeoff   accuracy against MACs, from reports of evaluate --out: REPORT
    growth     time and memory against tokens, measured now or from a file of bench --growth --json: REPORT
    """
    values = (image, question, method, layers, benchmark, samples, rule)
    names = ("--image", "--question", "--method", "--layers", "--benchmark", "--samples", "--rule", "--plan")
    given = {name for name, value in zip(names, (*values, plan), strict=True) if value is not None}
    if figure == "tradeoff":  # no model runs
        given |= {
            f"--{name}"
            for name in ("model", "device", "dtype", "quantize", "towers", "tokenizer")
            if _is_given(context, name)
        }
    _check_options(figure, given | ({"REPORT"} if report else set()))
    if samples is not None:
        check_whole("--samples", samples)
    target, written = out or figure, list[Path]()
    with Working("starting") as working:
        from deltaprune.analysis import figures

        for file in figures.paths(target):
            check_target("--out", str(file))
            if image is not None and file.exists() and Path(image).exists() and file.samefile(image):
                raise UserError(f"--out {target!r} is the picture itself and would replace it: choose another name.")
        options = ModelOptions(model, plan, towers, tokenizer, dtype, quantize)
        drawn = DRAW[figure](PlotOptions(options, device, *values, tuple(report or ())), working)
        write("--out", target, lambda path: written.extend(figures.save(drawn, path)))
    for file in written:
        print(file)


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option was given on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _check_options(figure: str, given: set[str]) -> None:
    """Check for a known figure and only options that it takes, else a `UserError`."""
    if figure not in TAKES:
        raise UserError(f"There is no figure {figure!r}: {did_you_mean(figure, TAKES)}.")
    for option in sorted(given - TAKES[figure]):
        raise UserError(f"{option} is not for plot {figure}: it takes {', '.join(sorted(TAKES[figure]))}.")
