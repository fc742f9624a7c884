"""`deltaprune analyse`."""

from collections.abc import Callable
from typing import Annotated

import typer

from deltaprune.cli._analyses_layers import depth_recipes, disjoint_sets, layer_map
from deltaprune.cli._analyses_scores import attention_and_score, curve_over_keep
from deltaprune.cli._asked import Asked, Done
from deltaprune.cli._common import check_whole, print_json, write
from deltaprune.cli._loading import ModelOptions, PlaceOptions, load_to_measure
from deltaprune.cli._measuring import Measuring, drawn_benchmark
from deltaprune.cli._options import (
    AddressOption,
    BenchmarkOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    JsonOption,
    ModelOption,
    PlanOption,
    PlotOption,
    QuantizeOption,
    SeedOption,
    SplitOption,
    TokenizerOption,
    TowersOption,
    WorkersOption,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._ranges import numbers_of
from deltaprune.cli._tables import show
from deltaprune.cli.sweep import check_figure
from deltaprune.errors import UserError, did_you_mean

TAKES = {  # the options that a subject takes, beside those of all
    "map": {"--keep", "--early", "--late", "--score", "--plot"},
    "keep": {"--keep", "--early", "--late", "--score", "--plot"},
    "sets": {"--sets"},
    "depth": {"--keep", "--score"},
    "attention": {"--keep", "--score", "--plot"},
}
MEASURE: dict[str, Callable[[Asked], Done]] = {
    "map": layer_map,
    "keep": curve_over_keep,
    "sets": disjoint_sets,
    "depth": depth_recipes,
    "attention": attention_and_score,
}
SubjectArgument = Annotated[str, typer.Argument(metavar="|".join(TAKES), help="What to measure.")]


def analyse(
    subject: SubjectArgument,
    model: ModelOption = "bundled",
    benchmark: BenchmarkOption = "scenes",
    samples: Annotated[int, typer.Option("--samples", help="How many pictures, with a question each.")] = 16,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="R|A:B:N", help="Share kept. [default: 0.5; of subject keep 0.05:1:20]"),
    ] = None,
    early: Annotated[
        str | None, typer.Option("--early", metavar="K,K,...|A:B:N", help="Early layers. [default: all; the plan's]")
    ] = None,
    late: Annotated[
        str | None,
        typer.Option("--late", metavar="K,K,...|A:B:N", help="Late layers; the depth is none. [default: likewise]"),
    ] = None,
    score: Annotated[str | None, typer.Option("--score", help="What ranks the tokens. [default: delta]")] = None,
    sets: Annotated[int | None, typer.Option("--sets", help="How many disjoint sets of samples. [default: 4]")] = None,
    plot: PlotOption = None,
    plan: PlanOption = None,
    seed: SeedOption = 0,
    split: SplitOption = "val",
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
    json: JsonOption = False,
) -> None:
    """Measure on a model what pruning depends on, against its own unpruned output.

    \b
    map        how far the next token moves for each early and late layer: --keep --early --late --score
    keep       the same over the share kept, and how the scores spread after pruning: --keep --early --late --score
    sets       the layers that disjoint sets of --samples pictures ask for: --sets
    depth      recipes that need the model's depth alone, beside its plan: --keep --score
    attention  rank correlation of implicit attention with the score, and its share on kept tokens: --keep --score
    """
    names = ("--keep", "--early", "--late", "--score", "--sets", "--plot")
    values = (keep, early, late, score, sets, plot)
    _check_options(subject, {name for name, value in zip(names, values, strict=True) if value is not None})
    check_whole("--samples", samples)
    check_whole("--sets", 1 if sets is None else sets)
    check_whole("--seed", seed, least=0)
    check_whole("--workers", 1 if workers is None else workers)
    shares = numbers_of("--keep", keep)
    layers = whole_of("--early", early), whole_of("--late", late)
    with Working("starting") as working:
        from deltaprune.benchmarks import one_of_each
        from deltaprune.hosted.recognise import is_hosted
        from deltaprune.scores import as_score

        if is_hosted(model):
            raise UserError(
                f"{model} is a model of transformers' own, which analyse does not take: see calibrate, sweep and plot "
                "spread."
            )

        ranks = as_score(score or "delta")
        check_figure(plot)
        chosen, n_sets = drawn_benchmark(benchmark), sets or 4 if subject == "sets" else 1
        about = one_of_each(chosen, split, seed, samples * n_sets)
        options = ModelOptions(model, plan, towers, tokenizer, dtype, quantize)
        vlm, processor, run = load_to_measure(options, PlaceOptions(engine, address, workers, device), working)
        inputs = [  # every n-th sample, so that each set has every kind of question
            list(Measuring(vlm, processor, chosen, about[i::n_sets], working, run).batches()) for i in range(n_sets)
        ]
        done = MEASURE[subject](Asked(vlm, inputs, shares, *layers, ranks, working, plot is not None, run))
        if plot is not None and done.figure is not None:
            from deltaprune.analysis import figures

            drawn = done.figure
            write("--plot", plot, lambda path: figures.save(drawn, path))
    print_json(done.rows) if json else show(done.table)


def whole_of(option: str, text: str | None) -> tuple[int, ...]:
    """A list of layers, else a `UserError`."""
    values = numbers_of(option, text)
    for value in values:
        if value != int(value):
            raise UserError(f"{option} {text!r} holds {value:g}: layers are whole numbers.")
    return tuple(int(value) for value in values)


def _check_options(subject: str, given: set[str]) -> None:
    """Check for a known subject and only options that it takes, else a `UserError`."""
    if subject not in TAKES:
        raise UserError(f"There is no subject {subject!r}: {did_you_mean(subject, TAKES)}.")
    for option in sorted(given - TAKES[subject]):
        raise UserError(f"{option} is not for analyse {subject}: it takes {', '.join(sorted(TAKES[subject]))}.")
