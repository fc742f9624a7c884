"""`deltaprune cost`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune.cli._common import check_whole, print_json, read_model_config, with_visual_tokens
from deltaprune.cli._cost_tables import cost_table
from deltaprune.cli._options import (
    DEFAULT_METHODS,
    ConventionOption,
    JsonOption,
    MethodsOption,
    ModelOption,
    PlanOption,
    TextTokensOption,
    VisualTokensOption,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import show

if TYPE_CHECKING:
    from deltaprune.hosted.config import HostedConfig
    from deltaprune.mllm.network import MLLMConfig


def cost(
    model: ModelOption = "cobra",
    method: MethodsOption = None,
    text_tokens: TextTokensOption = 22,
    visual_tokens: VisualTokensOption = None,
    convention: ConventionOption = "full",
    flops: Annotated[bool, typer.Option("--flops", help="Show FLOPs, 2 for each multiply-accumulate.")] = False,
    plan: PlanOption = None,
    json: JsonOption = False,
) -> None:
    """Count a prefill's operations in closed form.

    Also those of each decoded token. Needs no weights; the unit is multiply-accumulates.
    """
    check_whole("--text-tokens", text_tokens)
    with Working("starting"):
        from deltaprune.hosted.config import suited

        config = with_visual_tokens(read_model_config(model, plan), visual_tokens)
        rows = [_row(config, text, text_tokens, convention) for text in method or suited(DEFAULT_METHODS, config)]
    print_json(rows) if json else show(cost_table(rows, flops))


def _row(config: "MLLMConfig | HostedConfig", text: str, text_tokens: int, convention: str) -> dict[str, Any]:
    """One method's cost."""
    from deltaprune.cost import decode_macs, macs, tokens_kept
    from deltaprune.hosted.config import about_images
    from deltaprune.methods import parse

    method = parse(text)
    prefill = macs(config, method, text_tokens, convention)
    decode = decode_macs(config, convention, method, text_tokens)
    return {
        "model": config.name,
        "method": text,
        "convention": convention,
        "text_tokens": text_tokens,
        "share": prefill.share,
        "kept": tokens_kept(method.checked_steps(config.shape), config.shape) or None,  # null: nothing is pruned
        "macs": prefill.components,
        "flops": prefill.flops,
        "decode_macs": decode.components,
        "decode_flops": decode.flops,
        **about_images(config, [method]),
    }
