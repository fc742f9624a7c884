"""`deltaprune score`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltaprune.cli._accuracy_tables import score_table
from deltaprune.cli._common import print_json
from deltaprune.cli._options import DataOption, HubOption, JsonOption, ProtocolOption, local
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import show
from deltaprune.cli.evaluate import open_benchmark

if TYPE_CHECKING:
    from deltaprune.benchmarks import Benchmark


def score(
    predictions: Annotated[
        str, typer.Argument(metavar="PREDICTIONS", callback=local, help="A JSON list, or one object a line.")
    ],
    benchmark: Annotated[str, typer.Option("--benchmark", metavar="NAME", help="The benchmark that was answered.")],
    data: DataOption = None,
    hub: HubOption = None,
    protocol: ProtocolOption = "official",
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Which part. [default: the one the field reports]")
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Grade the given answers even if questions are missing.")
    ] = False,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="METHOD", help="The method, in an answers.jsonl of evaluate --out."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Grade the answers of any system by the official rules.

    Each answer is {"question_id": ..., "answer": ...}, or a line of the answers.jsonl that evaluate --out writes;
    pictures are not needed.
    """
    with Working("grading"):
        from deltaprune.benchmarks.graders import scoring
        from deltaprune.methods import parse

        names = () if method is None else (method, repr(parse(method)))
        chosen = _without_pictures(open_benchmark(benchmark, data, hub, protocol, allow_partial), data)
        result = scoring.score(chosen, split or chosen.split, Path(predictions), allow_partial, names).to_dict()
    print_json(result) if json else show(score_table(result))


def _without_pictures(benchmark: "Benchmark", data: str | None) -> "Benchmark":
    """The benchmark with questions and answers only: no picture is opened, so any folder may be given as theirs."""
    from deltaprune.benchmarks import OfficialBenchmark

    if isinstance(benchmark, OfficialBenchmark) and (data is not None or not benchmark.hub_has_images):
        benchmark = replace(benchmark, images=data or ".")
    return replace(benchmark, ocr=False) if "ocr" in benchmark.__dataclass_fields__ else benchmark
