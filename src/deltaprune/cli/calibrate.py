"""`deltaprune calibrate`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune._tables import plan_table, show
from deltaprune.cli._common import (
    BenchmarkOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    SplitOption,
    check_target,
    check_whole,
    load_model,
    print_json,
    write,
)
from deltaprune.cli._progress import Working

if TYPE_CHECKING:
    from deltaprune.benchmarks import Sample
    from deltaprune.models._processor import Inputs


def calibrate(
    model: ModelOption = "bundled",
    benchmark: BenchmarkOption = "scenes",
    samples: Annotated[int, typer.Option("--samples", help="How many pictures.")] = 32,
    rule: Annotated[
        str, typer.Option("--rule", metavar="first_peak|argmin", help="How the early layer is chosen.")
    ] = "first_peak",
    seed: SeedOption = 0,
    split: SplitOption = "val",
    out: Annotated[str | None, typer.Option("--out", metavar="PLAN.json", help="Where to write the plan.")] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Find the layers to prune after.

    They follow from how the scores spread over some pictures.
    """
    check_whole("--samples", samples)
    check_whole("--seed", seed, least=0)
    if out is not None:
        check_target("--out", out)
    with Working("starting") as working:
        found = _plan(model, benchmark, samples, rule, seed, split, device, working)
    if out is not None:
        _save(out, found)
    print_json(found) if json else show(plan_table(model, found))


def _plan(
    model: str, benchmark: str, samples: int, rule: str, seed: int, split: str, device: str, working: Working
) -> dict[str, Any]:
    """Measure and choose; one question of each picture, because the spread does not depend on it."""
    from dataclasses import asdict
    from itertools import groupby, islice

    from deltaprune._registry import UserError, did_you_mean
    from deltaprune.benchmarks import registry
    from deltaprune.calibrate import RULES, plan, spread

    if rule not in RULES:
        raise UserError(f"There is no rule {rule!r} for the early layer: {did_you_mean(rule, RULES)}.")
    chosen = registry[benchmark]()
    pictures = groupby(chosen.samples(split, seed), key=lambda sample: sample.image_id)
    asked: list[Sample] = [next(about_one) for _, about_one in islice(pictures, samples)]
    vlm, processor = load_model(model, device, working)

    def inputs() -> "Iterator[Inputs]":
        for i, sample in enumerate(asked):
            working.count(i, len(asked))
            yield processor(images=sample.image, text=chosen.message(sample)).to(vlm.device)

    working.say("measuring the spread")
    return asdict(plan(spread(vlm, inputs()), rule, benchmark, split, seed))


def _save(out: str, found: dict[str, Any]) -> None:
    """Write the plan as JSON."""
    from json import dumps

    write("--out", out, lambda path: path.write_text(dumps(found, indent=2) + "\n"))
