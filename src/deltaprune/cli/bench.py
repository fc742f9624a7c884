"""`deltaprune bench`."""

from typing import TYPE_CHECKING, Annotated

import typer

from deltaprune._registry import UserError, did_you_mean
from deltaprune._tables import bench_table, show
from deltaprune.cli._common import (
    DEFAULT_METHODS,
    DeviceOption,
    JsonOption,
    MethodsOption,
    ModelOption,
    check_device,
    check_whole,
    load_model,
    print_json,
    read_model_config,
)
from deltaprune.cli._progress import Working

if TYPE_CHECKING:
    from deltaprune.vlm import VLM

DTYPES = ("float32", "bfloat16")


def bench(
    model: ModelOption = "bundled",
    method: MethodsOption = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="The model's sizes with random weights: nothing is downloaded.")
    ] = False,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="float32|bfloat16", help="Of the weights.")] = None,
    text_tokens: Annotated[int, typer.Option("--text-tokens", help="Of each prompt, template included.")] = 22,
    batch: Annotated[int, typer.Option("--batch", help="Prompts at once, each with its own image.")] = 1,
    rounds: Annotated[int, typer.Option("--rounds", help="Measured rounds; one more warms up.")] = 5,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Time prefill and decoding, method beside method.

    The methods take turns; times are medians over the rounds, ratios are taken within a round.
    """
    for option, value in (("--text-tokens", text_tokens), ("--batch", batch), ("--rounds", rounds)):
        check_whole(option, value)
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"There is no dtype {dtype!r}: {did_you_mean(dtype, DTYPES)}.")
    with Working("starting") as working:
        from deltaprune.cost.latency import bench as measure
        from deltaprune.methods import parse

        methods = {text: parse(text) for text in method or DEFAULT_METHODS}
        vlm = _model(model, dtype, random_weights, device, working)
        working.say("measuring (the first round compiles the kernels)")
        rows, ratios = measure(vlm, methods, text_tokens, batch, rounds, on_round=working.count)
    document = [*(row.to_dict() for row in rows), {"ratios": ratios}]
    print_json(document) if json else show(bench_table(document))


def _model(model: str, dtype: str | None, random_weights: bool, device: str, working: Working) -> "VLM":
    """The model itself, or its sizes with random weights."""
    import torch

    wanted = None if dtype is None else getattr(torch, dtype)
    if not random_weights:
        return load_model(model, device, working)[0].to(dtype=wanted)
    from deltaprune.models._random import random_mllm
    from deltaprune.vlm import VLM

    check_device(device)
    working.say(f"filling {model} with random weights")
    return VLM(random_mllm(read_model_config(model), wanted or torch.float32), eos_id=0).to(device=device)
