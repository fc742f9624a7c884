"""`deltaprune evaluate`."""

from typing import Annotated

import typer

from deltaprune._tables import evaluate_table, show
from deltaprune.cli._common import (
    DEFAULT_METHODS,
    BenchmarkOption,
    DeviceOption,
    JsonOption,
    MethodsOption,
    ModelOption,
    PlanOption,
    SeedOption,
    SplitOption,
    check_whole,
    load_model,
    print_json,
)
from deltaprune.cli._progress import Working


def evaluate(
    model: ModelOption = "bundled",
    benchmark: BenchmarkOption = "scenes",
    method: MethodsOption = None,
    limit: Annotated[int, typer.Option("--limit", help="How many questions.")] = 500,
    seed: SeedOption = 0,
    split: SplitOption = "test",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Questions that run at once.")] = 32,
    plan: PlanOption = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Score methods on a benchmark.

    All of them answer the same questions.
    """
    check_whole("--limit", limit)
    check_whole("--batch-size", batch_size)
    check_whole("--seed", seed, least=0)
    with Working("starting") as working:
        from deltaprune.benchmarks import registry
        from deltaprune.evaluate import evaluate
        from deltaprune.methods import parse

        methods = method or list(DEFAULT_METHODS)
        for text in methods:
            parse(text)
        chosen = registry[benchmark]()
        next(chosen.samples(split, seed, 1), None)  # an unknown split is refused before the model is loaded
        vlm, processor = load_model(model, device, working, plan)
        working.say("answering")
        rows = evaluate(vlm, processor, chosen, methods, split, seed, limit, batch_size, working.count)
    dicts = [row.to_dict() for row in rows]
    print_json(dicts) if json else show(evaluate_table(dicts, split))
