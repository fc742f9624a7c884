"""`deltaprune evaluate`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune.cli._common import check_device, check_dtype, check_whole, load_model, print_json, write
from deltaprune.cli._options import (
    DEFAULT_METHODS,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    HubOption,
    ImagesOption,
    JsonOption,
    MethodsOption,
    ModelOption,
    OcrOption,
    PartialOption,
    PlanOption,
    ProtocolOption,
    SeedOption,
    TokenizerOption,
    TowersOption,
    local,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import evaluate_table, show
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
    limit: Annotated[
        int | None,
        typer.Option("--limit", help="How many questions. [default: all, of scenes 500]", show_default=False),
    ] = None,
    seed: SeedOption = 0,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Which part. [default: the one the field reports]")
    ] = None,
    allow_partial: PartialOption = False,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", callback=local, metavar="DIR", help="Keep the answers there, resume after a stop, write a report."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Questions that run at once.")] = 32,
    prefix: Annotated[
        bool, typer.Option("--prefix/--no-prefix", help="Run a picture once for all its questions, or for each.")
    ] = True,
    engine: Annotated[str, typer.Option("--engine", metavar="local|ray", help="Where the work is done.")] = "local",
    address: Annotated[str | None, typer.Option("--address", help="Of a running Ray cluster.")] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Ray: how many processes. [default: one per GPU, or CPU]", show_default=False),
    ] = None,
    track: Annotated[
        str | None, typer.Option("--track", metavar="NAME[:PROJECT]", help="Tell wandb or trackio the results.")
    ] = None,
    plan: PlanOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> int:
    """Score methods on a benchmark.

    All of them answer the same questions. With --out an interrupted run is resumed.
    """
    for option, value in (("--limit", limit), ("--batch-size", batch_size), ("--workers", workers)):
        check_whole(option, 1 if value is None else value)
    check_whole("--seed", seed, least=0)
    with Working("starting") as working:
        from deltaprune.evaluate import evaluate
        from deltaprune.evaluate.engines import Place
        from deltaprune.evaluate.engines import registry as engines
        from deltaprune.evaluate.recorders import open_tracker
        from deltaprune.evaluate.report import write_report
        from deltaprune.methods import parse

        methods = method or list(DEFAULT_METHODS)
        for text in methods:
            parse(text)
        engines[engine]  # an unknown one is refused before the model is loaded
        recorders = [] if track is None else [open_tracker(track)]
        chosen = open_benchmark(benchmark, data, hub, protocol, allow_partial, images, no_ocr)
        split = split or chosen.split
        limit = 500 if limit is None and benchmark == "scenes" else limit
        next(chosen.samples(split, seed, limit), None)  # so are an unknown split and a wrong count
        elsewhere = engine != "local"  # the model is then read to the CPU, and goes to its device there
        check_device(device, here=not elsewhere)
        check_dtype(dtype)
        vlm, processor = load_model(model, "cpu" if elsewhere else device, working, plan, towers, tokenizer, dtype)
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
            place=Place(address, workers, device if elsewhere else None),
            prefix=prefix,
            recorders=recorders,
        )
        if out is not None:
            write("--out", out, lambda folder: write_report(folder, rows))
    dicts = [row.to_dict() for row in rows[: len(methods)]]
    print_json(dicts) if json else show(evaluate_table(dicts, split))
    return _failed(rows)


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


def _failed(rows: "list[MethodResult]") -> int:
    """Say on stderr what failed; the exit code."""
    failed = rows[0].failed
    if failed:
        name, why = next(iter(failed.items()))
        print(f"{len(failed)} questions failed and are left out; {name} under {why}", file=sys.stderr)
    return 1 if failed else 0
