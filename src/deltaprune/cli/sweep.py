"""`deltaprune sweep`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from deltaprune.cli._accuracy_tables import sweep_table
from deltaprune.cli._common import check_target, check_whole, print_json, write
from deltaprune.cli._loading import ModelOptions, PlaceOptions, load_for
from deltaprune.cli._options import (
    AddressOption,
    AnswersOption,
    AnySplitOption,
    BatchSizeOption,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    HubOption,
    ImagesOption,
    JsonOption,
    LimitOption,
    ModelOption,
    OcrOption,
    PartialOption,
    PlanOption,
    PlotOption,
    ProtocolOption,
    QuantizeOption,
    SeedOption,
    TokenizerOption,
    TowersOption,
    WorkersOption,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._ranges import numbers_of
from deltaprune.cli._tables import show
from deltaprune.cli.evaluate import check_questions, failed, open_benchmark
from deltaprune.errors import UserError

DEFAULT = ("dtp", "fastv", "dart", "freeze")
SHARES = "0.4:0.9:6"


def sweep(
    model: ModelOption = "bundled",
    benchmark: BenchmarkOption = "scenes",
    data: DataOption = None,
    images: ImagesOption = None,
    hub: HubOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help=f"name:field=value,... without its keep, or all; repeatable. [default: {', '.join(DEFAULT)}]",
        ),
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="A:B:N|A,B,...", help="Shares of the visual tokens.")
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            "--share", metavar="A:B:N|A,B,...", help=f"Shares of the MACs, the same for all. [default: {SHARES}]"
        ),
    ] = None,
    plot: PlotOption = None,
    protocol: ProtocolOption = "official",
    no_ocr: OcrOption = False,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    split: AnySplitOption = None,
    allow_partial: PartialOption = False,
    out: AnswersOption = None,
    batch_size: BatchSizeOption = 32,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = None,
    plan: PlanOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
    json: JsonOption = False,
) -> int:
    """Accuracy over cost: every method at several costs on the same questions.

    With --keep a method that has no keep gets these shares of the MACs. With --out an interrupted sweep can be resumed,
    and further methods or points can be added.
    """
    for option, value in (("--limit", limit), ("--batch-size", batch_size), ("--workers", workers)):
        check_whole(option, 1 if value is None else value)
    check_whole("--seed", seed, least=0)
    if keep and share:
        raise UserError("--keep and --share are two ways to choose the points of a sweep: give one of them.")
    kept, spent = numbers_of("--keep", keep), numbers_of("--share", share if keep or share else SHARES)
    with Working("starting") as working:
        from deltaprune.evaluate import sweep
        from deltaprune.evaluate.report import document, write_report
        from deltaprune.hosted.config import suited

        check_figure(plot)
        chosen = open_benchmark(benchmark, data, hub, protocol, allow_partial, images, no_ocr)
        split, limit = check_questions(chosen, split, seed, limit)
        options = ModelOptions(model, plan, towers, tokenizer, dtype, quantize)
        vlm, processor, place = load_for(options, PlaceOptions(engine, address, workers, device), working)
        working.say("answering")
        done = sweep(
            vlm,
            processor,
            chosen,
            method or suited(DEFAULT, vlm.config),
            kept,
            spent,
            split=split,
            seed=seed,
            limit=limit,
            batch_size=batch_size,
            on_progress=working.count,
            out=None if out is None else Path(out),
            engine=engine,
            place=place,
        )
        working.say("intervals")
        rows = document(done.rows)["rows"]
        if out is not None:
            write("--out", out, lambda folder: write_report(folder, done.rows))
        if plot is not None:
            _draw(plot, rows)
    print_json(rows) if json else show(sweep_table(rows, split))
    for sentence in done.left_out:
        print(f"Left out: {sentence}", file=sys.stderr)
    return failed(done.rows)


def check_figure(plot: str | None) -> None:
    """Check that figures can be drawn and this one written, else a `UserError`."""
    if plot is None:
        return
    from deltaprune.analysis import figures

    for file in figures.paths(plot):
        check_target("--plot", str(file))


def _draw(plot: str, rows: list[dict[str, Any]]) -> None:
    """The curves of all methods as a figure."""
    from deltaprune.analysis import figures
    from deltaprune.cli._reports import curves, heading

    methods, unpruned = curves(rows)
    drawn = figures.tradeoff_curves(methods, unpruned, heading(rows))
    write("--plot", plot, lambda path: figures.save(drawn, path))
