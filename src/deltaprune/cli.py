"""The command line: argument parsing only. Whatever is slow to import is imported inside the command that needs it."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune import __version__
from deltaprune._registry import UserError, did_you_mean

if TYPE_CHECKING:
    from deltaprune.models._mllm import MLLMConfig
    from deltaprune.models._processor import Processor
    from deltaprune.vlm import VLM

MOST = 10**9
UsageError = typer.BadParameter.__mro__[1]  # typer brings its own click since 0.26: take the class from where it is

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Model = Annotated[str, typer.Option("--model", metavar="NAME|FOLDER", help="A known model or a model folder.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="METHOD", help="name:field=value,...; repeatable. [default: none, dtp:keep=0.5]"),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of a table.")]
Device = Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to run.")]
Benchmark = Annotated[str, typer.Option("--benchmark", metavar="NAME", help="Where questions and pictures come from.")]
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="Which part of the benchmark.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the benchmark's split, from 0 up.")]
DEFAULT_METHODS = ["none", "dtp:keep=0.5"]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Visual-token pruning for Mamba-based multimodal LLMs.

    \b
    deltaprune ask photo.png "How many red circles are there?" --overlay kept.png
    deltaprune cost --model cobra --method none --method dtp:keep=0.5
    deltaprune evaluate --method none --method dtp:keep=0.25 --limit 200
    """
    if version:
        print(f"deltaprune {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command("ask")
def ask_command(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file.")],
    question: Annotated[list[str], typer.Argument(metavar="QUESTION...", help="One or more, each in quotes.")],
    model: Model = "bundled",
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help="name:field=value,...")] = "dtp:keep=0.5",
    overlay: Annotated[str | None, typer.Option("--overlay", metavar="OUT.png", help="Draw the kept patches.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Upper bound of an answer's length.")] = 16,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Ask about a picture: the unpruned answer beside the pruned one."""
    from deltaprune._tables import Working, ask_table, show

    _whole("--max-new-tokens", max_new_tokens)
    with Working("starting") as working:
        from deltaprune.ask import ask, check_questions
        from deltaprune.methods import parse
        from deltaprune.vision.images import open_image

        check_questions(question)
        parse(method)
        if overlay is not None:
            _check_target(overlay, image)
        picture = open_image(image)
        vlm, processor = _load(model, device, working)
        rows = ask(vlm, processor, picture, question, method, max_new_tokens, working.say)
        if overlay is not None:
            _draw(overlay, picture, vlm, rows[-1 if len(question) == 1 else len(rows) // len(question) - 1])
    dicts = [row.to_dict() for row in rows]
    _print_json(dicts) if as_json else show(ask_table(dicts, device))


@app.command("cost")
def cost_command(
    model: Model = "cobra",
    method: Methods = None,
    text_tokens: Annotated[int, typer.Option("--text-tokens", help="Of the prompt, template included.")] = 22,
    convention: Annotated[
        str,
        typer.Option("--convention", metavar="full|paper", help="What is counted: everything, or as the paper does."),
    ] = "full",
    as_json: Json = False,
) -> None:
    """Count a prefill's multiply-accumulates in closed form; needs no weights."""
    from deltaprune._tables import Working, cost_table, show

    _whole("--text-tokens", text_tokens)
    with Working("starting"):
        from deltaprune.cost import macs, tokens_kept
        from deltaprune.methods import parse

        config = _config(model)
        rows: list[dict[str, Any]] = []
        for text in method or DEFAULT_METHODS:
            chosen = parse(text)
            cost = macs(config, chosen, text_tokens, convention)
            rows.append(
                {
                    "model": config.name,
                    "method": text,
                    "convention": convention,
                    "text_tokens": text_tokens,
                    "share": cost.share,
                    "kept": tokens_kept(chosen.checked_stages(config.shape), config.shape),
                    "macs": cost.components,
                }
            )
    _print_json(rows) if as_json else show(cost_table(rows))


@app.command("evaluate")
def evaluate_command(
    model: Model = "bundled",
    benchmark: Benchmark = "scenes",
    method: Methods = None,
    limit: Annotated[int, typer.Option("--limit", help="How many questions.")] = 500,
    seed: Seed = 0,
    split: Split = "test",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Questions that run at once.")] = 32,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Score methods on a benchmark; all of them answer the same questions."""
    from deltaprune._tables import Working, evaluate_table, show

    _whole("--limit", limit)
    _whole("--batch-size", batch_size)
    _whole("--seed", seed, least=0)
    with Working("starting") as working:
        from deltaprune.benchmarks import registry
        from deltaprune.evaluate import evaluate
        from deltaprune.methods import parse

        methods = method or DEFAULT_METHODS
        for text in methods:
            parse(text)
        chosen = registry[benchmark]()
        next(iter(chosen.samples(split, seed, 1)), None)  # an unknown split is refused before the model is loaded
        vlm, processor = _load(model, device, working)
        working.say("answering")
        done = evaluate(vlm, processor, chosen, methods, split, seed, limit, batch_size, working.count)
    rows = [row.to_dict() for row in done]
    _print_json(rows) if as_json else show(evaluate_table(rows, split))


@app.command("calibrate")
def calibrate_command(
    model: Model = "bundled",
    benchmark: Benchmark = "scenes",
    samples: Annotated[int, typer.Option("--samples", help="How many pictures.")] = 32,
    rule: Annotated[
        str, typer.Option("--rule", metavar="first_peak|argmin", help="How the early layer is chosen.")
    ] = "first_peak",
    seed: Seed = 0,
    split: Split = "val",
    out: Annotated[str | None, typer.Option("--out", metavar="PLAN.json", help="Where to write the plan.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Find the layers to prune after, from the spread of the scores over some pictures."""
    from deltaprune._tables import Working, plan_table, show

    _whole("--samples", samples)
    _whole("--seed", seed, least=0)
    with Working("starting") as working:
        from itertools import groupby, islice

        from deltaprune.benchmarks import registry
        from deltaprune.calibrate import RULES, plan, spread

        if rule not in RULES:
            raise UserError(f"There is no rule {rule!r} for the early layer: {did_you_mean(rule, RULES)}.")
        if out is not None:
            _check_folder(out)
        chosen = registry[benchmark]()
        pictures = groupby(chosen.samples(split, seed), key=lambda sample: sample.image_id)
        firsts = [next(group) for _, group in islice(pictures, samples)]
        vlm, processor = _load(model, device, working)

        def inputs() -> Any:
            for i, sample in enumerate(firsts):
                working.count(i, len(firsts))
                yield processor(images=sample.image, text=chosen.message(sample)).to(vlm.device)

        working.say("measuring the spread")
        found = asdict(plan(spread(vlm, inputs()), rule, benchmark, split, seed))
    if out is not None:
        _write(out, lambda path: path.write_text(json.dumps(found, indent=2) + "\n"))
    _print_json(found) if as_json else show(plan_table(vlm.config.name, found))
