"""`deltaprune evaluate`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune.cli._accuracy_tables import evaluate_table
from deltaprune.cli._common import check_whole, print_json, write
from deltaprune.cli._loading import ModelOptions, PlaceOptions, load_for
from deltaprune.cli._options import (
    DEFAULT_METHODS,
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
    MethodsOption,
    ModelOption,
    OcrOption,
    PartialOption,
    PlanOption,
    ProtocolOption,
    QuantizeOption,
    SeedOption,
    TokenizerOption,
    TowersOption,
    WorkersOption,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import show
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.benchmarks import Benchmark
    from deltaprune.evaluate import MethodResult


def evaluate(
    model: ModelOption = "bundled",
    benchmark: BenchmarkOption = "scenes",
    data: DataOption = None,
    images: ImagesOption = None,
    hub: HubOption = None,
    method: MethodsOption = None,
    protocol: ProtocolOption = "official",
    no_ocr: OcrOption = False,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    split: AnySplitOption = None,
    allow_partial: PartialOption = False,
    out: AnswersOption = None,
    batch_size: BatchSizeOption = 32,
    prefix: Annotated[
        bool, typer.Option("--prefix/--no-prefix", help="Run a picture once for all its questions, or for each one.")
    ] = True,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = None,
    track: Annotated[
        str | None, typer.Option("--track", metavar="NAME[:PROJECT]", help="Log the results to wandb or trackio.")
    ] = None,
    plan: PlanOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
    json: JsonOption = False,
) -> int:
    """Score methods on a benchmark.

    All methods answer the same questions. With --out an interrupted run can be resumed.
    """
    for option, value in (("--limit", limit), ("--batch-size", batch_size), ("--workers", workers)):
        check_whole(option, 1 if value is None else value)
    check_whole("--seed", seed, least=0)
    with Working("starting") as working:
        from deltaprune.evaluate import evaluate
        from deltaprune.evaluate.recorders import open_tracker
        from deltaprune.evaluate.report import write_report
        from deltaprune.hosted.config import suited
        from deltaprune.methods import parse

        methods = method or list(DEFAULT_METHODS)
        for text in methods:
            parse(text)
        recorders = [] if track is None else [open_tracker(track)]
        chosen = open_benchmark(benchmark, data, hub, protocol, allow_partial, images, no_ocr)
        split, limit = check_questions(chosen, split, seed, limit)
        options = ModelOptions(model, plan, towers, tokenizer, dtype, quantize)
        vlm, processor, place = load_for(options, PlaceOptions(engine, address, workers, device), working)
        methods = methods if method else suited(methods, vlm.config)
        working.say("answering")
        unpruned = [] if "none" in methods else ["none"]  # it answers anyway; the report compares with it
        rows = evaluate(
            vlm,
            processor,
            chosen,
            [*methods, *unpruned],
            split=split,
            seed=seed,
            limit=limit,
            batch_size=batch_size,
            on_progress=working.count,
            out=None if out is None else Path(out),
            engine=engine,
            place=place,
            prefix=prefix,
            recorders=recorders,
        )
        if out is not None:
            write("--out", out, lambda folder: write_report(folder, rows))
    dicts = [row.to_dict() for row in rows[: len(methods)]]
    print_json(dicts) if json else show(evaluate_table(dicts, split))
    return failed(rows)


def check_questions(benchmark: "Benchmark", split: str | None, seed: int, limit: int | None) -> tuple[str, int | None]:
    """The split and the number of questions; an unknown split and a wrong count are refused before any work."""
    split = split or benchmark.split
    limit = 500 if limit is None and benchmark.name == "scenes" else limit
    next(benchmark.samples(split, seed, limit), None)
    return split, limit


def open_benchmark(
    name: str,
    data: str | None,
    hub: str | None,
    protocol: str,
    allow_partial: bool,
    images: str | None = None,
    no_ocr: bool = False,
) -> "Benchmark":
    """A benchmark with its files; options that it does not use are refused."""
    from deltaprune.benchmarks import registry

    cls: Any = registry[name]
    files = {"data": data, "images": images, "hub": hub, "allow_partial": allow_partial or None}
    given = {key: value for key, value in files.items() if value is not None}
    for key in given:
        if key not in cls.__dataclass_fields__:
            raise UserError(f"The benchmark {name!r} reads no files: leave out --{key.replace('_', '-')}.")
    if no_ocr:
        if "ocr" not in cls.__dataclass_fields__:
            raise UserError(f"The benchmark {name!r} has no OCR tokens: leave out --no-ocr.")
        given["ocr"] = False
    return cls(protocol=protocol, **given)


def failed(rows: "list[MethodResult]") -> int:
    """Say on stderr what failed; the exit code."""
    questions = rows[0].failed
    if questions:
        name, why = next(iter(questions.items()))
        print(f"{len(questions)} questions failed and are left out; {name} under {why}", file=sys.stderr)
    return 1 if questions else 0
