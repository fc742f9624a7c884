"""`deltaprune cost`."""

from typing import Annotated, Any

import typer

from deltaprune._tables import cost_table, show
from deltaprune.cli._common import (
    DEFAULT_METHODS,
    JsonOption,
    MethodsOption,
    ModelOption,
    check_whole,
    print_json,
    read_model_config,
)
from deltaprune.cli._progress import Working


def cost(
    model: ModelOption = "cobra",
    method: MethodsOption = None,
    text_tokens: Annotated[int, typer.Option("--text-tokens", help="Of the prompt, template included.")] = 22,
    convention: Annotated[
        str, typer.Option("--convention", metavar="full|paper", help="Count everything, or as the paper does.")
    ] = "full",
    json: JsonOption = False,
) -> None:
    """Count a prefill's operations in closed form.

    Needs no weights; the unit is multiply-accumulates.
    """
    check_whole("--text-tokens", text_tokens)
    with Working("starting"):
        rows = [_row(model, text, text_tokens, convention) for text in method or DEFAULT_METHODS]
    print_json(rows) if json else show(cost_table(rows))


def _row(model: str, text: str, text_tokens: int, convention: str) -> dict[str, Any]:
    """One method's cost."""
    from deltaprune.cost import macs, tokens_kept
    from deltaprune.methods import parse

    config, method = read_model_config(model), parse(text)
    counted = macs(config, method, text_tokens, convention)
    return {
        "model": config.name,
        "method": text,
        "convention": convention,
        "text_tokens": text_tokens,
        "share": counted.share,
        "kept": tokens_kept(method.checked_stages(config.shape), config.shape),
        "macs": counted.components,
    }
