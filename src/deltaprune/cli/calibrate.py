"""`deltaprune calibrate`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from deltaprune.cli._common import check_target, check_whole, print_json, write
from deltaprune.cli._freezing import frozen, frozen_in_place
from deltaprune.cli._measuring import load_to_measure
from deltaprune.cli._options import (
    AddressOption,
    BenchmarkOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    JsonOption,
    ModelOption,
    QuantizeOption,
    SeedOption,
    SplitOption,
    TokenizerOption,
    TowersOption,
    UnitOption,
    WorkersOption,
    local,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import plan_table, show
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.analysis.parts import Run
    from deltaprune.benchmarks import Benchmark, Sample
    from deltaprune.calibrate import Curves, Divergence
    from deltaprune.hosted.model import Hosted
    from deltaprune.mllm.processor import Inputs, Processor
    from deltaprune.plan import Plan
    from deltaprune.vlm import VLM

BATCH = 8  # pictures that run at once


def calibrate(
    model: ModelOption = "bundled",
    benchmark: BenchmarkOption = "scenes",
    samples: Annotated[int, typer.Option("--samples", help="How many pictures.")] = 32,
    rule: Annotated[
        str, typer.Option("--rule", metavar="first_peak|argmin|js", help="How the early layer is chosen.")
    ] = "first_peak",
    eta: Annotated[float, typer.Option("--eta", help="VTW's threshold: the next token's KL divergence, nats.")] = 0.003,
    budget: Annotated[
        float | None,
        typer.Option("--budget", help="Also find which layers freeze visual rows, down to this much of the prefill."),
    ] = None,
    unit: UnitOption = "macs",
    one_shot: Annotated[
        bool, typer.Option("--one-shot", help="With --budget: try each layer once, alone; for large models.")
    ] = False,
    contribution: Annotated[
        bool, typer.Option("--contribution", help="Measure each layer for shortv too: a prefill for every layer.")
    ] = False,
    fitprune: Annotated[
        bool, typer.Option("--fitprune", help="Measure attention for fitprune too: quadratic in the tokens.")
    ] = False,
    seed: SeedOption = 0,
    split: SplitOption = "val",
    out: Annotated[
        str | None, typer.Option("--out", callback=local, metavar="PLAN.json", help="Where to write the plan.")
    ] = None,
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
    """Find the layers to prune after, for dtp and for vtw; with --budget those that freeze may freeze.

    In one pass over some pictures. dtp's follow from how the scores spread; vtw's is the first layer whose withdrawal
    does not change the answer. freeze's are found one by one, by what moves the model's own answers least per MAC.
    """
    check_whole("--samples", samples)
    check_whole("--seed", seed, least=0)
    check_whole("--workers", 1 if workers is None else workers)
    if engine != "local" and budget is not None and (unit == "ms" or not one_shot):
        raise UserError(
            "--budget searches, and times layers, in one process: leave out --engine, or rank with --one-shot by MACs."
        )
    if out is not None:
        check_target("--out", out)
    with Working("starting") as working:
        from deltaprune.benchmarks import one_of_each, registry
        from deltaprune.calibrate import plan, plan_document, save_plan
        from deltaprune.calibrate.frozen import check_budget
        from deltaprune.calibrate.plans import check_rule
        from deltaprune.calibrate.withdrawal import check_eta
        from deltaprune.hosted.model import Hosted

        check_rule(rule)
        check_eta(eta)
        if budget is not None:
            check_budget(budget, unit, "--budget")
        chosen = registry[benchmark]()
        asked = one_of_each(chosen, split, seed, samples)
        where = address, workers, device
        vlm, processor, run = load_to_measure(engine, where, model, working, None, towers, tokenizer, dtype, quantize)
        if isinstance(vlm, Hosted):
            if one_shot or contribution or unit != "macs":
                raise UserError(
                    f"{model} is a model of transformers' own: leave out --one-shot, --contribution and --in."
                )
            found = hosted(vlm, processor, chosen, asked, (rule, eta), (benchmark, split, seed), working)
            if budget is not None:
                found = frozen_in_place(found, vlm, processor, chosen, (split, seed, samples), budget, working)
        else:
            curves = measured(vlm, processor, chosen, asked, working, run)
            moved = pruned(vlm, processor, chosen, asked, working, run) if rule == "js" else None
            found = plan(curves.spread, rule, benchmark, split, seed, curves.withdrawal, eta, moved)
        if budget is not None and not isinstance(vlm, Hosted):
            pictures, spent = (split, seed, samples), (budget, cast(Any, unit))
            found = frozen(found, vlm, processor, chosen, pictures, spent, one_shot, out, working, run)
        if contribution:
            lc = contributions(vlm, processor, chosen, asked, working, run)
            found = replace(found, found={**found.found, "shortv": lc})
        if fitprune:
            fitted = fitted_curves(vlm, processor, chosen, asked, working, run)
            found = replace(found, found={**found.found, **fitted})
    if out is not None:
        write("--out", out, lambda path: save_plan(found, vlm.config, path))
    document = plan_document(found, vlm.config)
    print_json(document) if json else show(plan_table(model, document))


def measured(
    vlm: "VLM",
    processor: "Processor",
    benchmark: "Benchmark",
    asked: "Sequence[Sample]",
    working: Working,
    run: "Run",
) -> "Curves":
    """The curves of one unpruned pass, with progress."""
    from deltaprune.calibrate import measure

    working.say("measuring spread and withdrawal")
    return measure(vlm, batches(vlm, processor, benchmark, asked, working), run)


def hosted(
    vlm: "Hosted",
    processor: "Processor",
    benchmark: "Benchmark",
    asked: "Sequence[Sample]",
    by: tuple[str, float],
    where: tuple[str, str, int],
    working: Working,
) -> "Plan":
    """The plan of a model of transformers' own, with progress.

    Args:
        by: the rule for the early layer, and VTW's threshold.
        where: benchmark, split and seed of the samples.
    """
    from deltaprune.calibrate.hosted import hosted_curves, hosted_plan

    working.say("measuring spread and withdrawal, a run for each layer")
    prompts = (processor(images=sample.image, text=benchmark.rules.message(sample)) for sample in asked)
    curves = hosted_curves(vlm, prompts, by[0] == "js", lambda done: working.count(done, len(asked)))
    named: dict[str, object] = dict(zip(("benchmark", "split", "seed"), where, strict=True))
    return hosted_plan(curves, len(vlm.config.layers), by[0], named, by[1])


def pruned(
    vlm: "VLM",
    processor: "Processor",
    benchmark: "Benchmark",
    asked: "Sequence[Sample]",
    working: Working,
    run: "Run",
) -> "Divergence":
    """The curve of rule "js", a pruned prefill for each early layer, with progress."""
    from deltaprune.calibrate import divergence

    working.say("measuring divergence")
    return divergence(vlm, batches(vlm, processor, benchmark, asked, working), run=run)


def contributions(
    vlm: "VLM",
    processor: "Processor",
    benchmark: "Benchmark",
    asked: "Sequence[Sample]",
    working: Working,
    run: "Run",
) -> tuple[float, ...]:
    """ShortV's number for each layer, with progress."""
    from deltaprune.calibrate import contribution

    working.say("measuring each layer's contribution")
    return contribution(vlm, batches(vlm, processor, benchmark, asked, working), run)


def fitted_curves(
    vlm: "VLM",
    processor: "Processor",
    benchmark: "Benchmark",
    asked: "Sequence[Sample]",
    working: Working,
    run: "Run",
) -> dict[str, tuple[float, ...]]:
    """FitPrune's statistics, with progress."""
    from deltaprune.calibrate import fitting

    working.say("measuring attention")
    return fitting(vlm, batches(vlm, processor, benchmark, asked, working), run)


def batches(
    vlm: "VLM", processor: "Processor", benchmark: "Benchmark", asked: "Sequence[Sample]", working: Working
) -> "Iterator[Inputs]":
    """The questions as the model takes them, a few pictures at a time."""
    for i in range(0, len(asked), BATCH):
        working.count(i, len(asked))
        batch = asked[i : i + BATCH]
        texts = [benchmark.rules.message(sample) for sample in batch]
        yield processor(images=[sample.image for sample in batch], text=texts).to(vlm.device)
