"""`deltaprune calibrate`."""

from dataclasses import replace
from typing import Annotated, Any, cast

import typer

from deltaprune.cli._common import check_target, check_whole, print_json, write
from deltaprune.cli._freezing import frozen, frozen_in_place
from deltaprune.cli._loading import ModelOptions, PlaceOptions, load_to_measure
from deltaprune.cli._measuring import Measuring, drawn_benchmark, plan_in_place
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
    if budget is None and (one_shot or unit != "macs"):
        option = "--one-shot" if one_shot else "--in"
        raise UserError(f"{option} says how a budget is met: add one, such as --budget 0.6, or leave {option} out.")
    if out is not None:
        check_target("--out", out)
    with Working("starting") as working:
        from deltaprune.benchmarks import one_of_each
        from deltaprune.calibrate import divergence, fitting, measure, plan, plan_document, save_plan
        from deltaprune.calibrate.contribution import contribution as contribution_by_layer
        from deltaprune.calibrate.frozen import check_budget
        from deltaprune.calibrate.plans import check_rule
        from deltaprune.calibrate.withdrawal import check_eta
        from deltaprune.hosted.model import Hosted

        check_rule(rule)
        check_eta(eta)
        if budget is not None:
            check_budget(budget, unit, "--budget")
        chosen = drawn_benchmark(benchmark)
        asked = one_of_each(chosen, split, seed, samples)
        options = ModelOptions(model, None, towers, tokenizer, dtype, quantize)
        where = PlaceOptions(engine, address, workers, device)
        vlm, processor, run = load_to_measure(options, where, working)
        on, pictures = Measuring(vlm, processor, chosen, asked, working, run), (split, seed, samples)
        if isinstance(vlm, Hosted):
            if one_shot or contribution or fitprune or unit != "macs":
                raise UserError(
                    f"{model} is a model of transformers' own: leave out --one-shot, --contribution, --fitprune and "
                    "--in."
                )
            found = plan_in_place(on, rule, eta, {"benchmark": benchmark, "split": split, "seed": seed})
            if budget is not None:
                found = frozen_in_place(found, on, pictures, budget)
        else:
            curves = on.measured("spread and withdrawal", measure)
            moved = on.measured("divergence", divergence) if rule == "js" else None
            found = plan(curves.spread, rule, benchmark, split, seed, curves.withdrawal, eta, moved)
            if budget is not None:
                found = frozen(found, on, pictures, (budget, cast(Any, unit)), one_shot, out)
        if contribution:
            by_layer = on.measured("each layer's contribution", contribution_by_layer)
            found = replace(found, found={**found.found, "shortv": by_layer})
        if fitprune:
            found = replace(found, found={**found.found, **on.measured("attention", fitting)})
    if out is not None:
        write("--out", out, lambda path: save_plan(found, vlm.config, path))
    document = plan_document(found, vlm.config)
    print_json(document) if json else show(plan_table(model, document))
