"""`deltaprune budget`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune.cli._common import check_whole, print_json, read_model_config, with_visual_tokens
from deltaprune.cli._options import (
    ConventionOption,
    JsonOption,
    ModelOption,
    PlanOption,
    TextTokensOption,
    VisualTokensOption,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import budget_table, show

if TYPE_CHECKING:
    from deltaprune.hosted.config import HostedConfig
    from deltaprune.mllm.network import MLLMConfig

DEFAULT = ("dtp",)


def budget(
    macs: Annotated[float, typer.Option("--macs", metavar="SHARE", help="Share of the prefill's MACs, such as 0.48.")],
    model: ModelOption = "cobra",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help=f"name:field=value,... without its keep; repeatable. [default: {' and '.join(DEFAULT)}]",
        ),
    ] = None,
    text_tokens: TextTokensOption = 22,
    visual_tokens: VisualTokensOption = None,
    convention: ConventionOption = "full",
    plan: PlanOption = None,
    json: JsonOption = False,
) -> None:
    """Find the keep that meets a share of the MACs.

    With it methods can be compared at the same cost. It is the most visual tokens that stay within the share; for vtw
    the nearest layer. Needs no weights.
    """
    check_whole("--text-tokens", text_tokens)
    with Working("starting"):
        from deltaprune.calibrate.budget import check_share

        check_share("--macs", macs)
        config = with_visual_tokens(read_model_config(model, plan), visual_tokens)
        rows = [_row(config, text, macs, text_tokens, convention) for text in method or DEFAULT]
    print_json(rows) if json else show(budget_table(rows))


def _row(
    config: "MLLMConfig | HostedConfig", text: str, share: float, text_tokens: int, convention: str
) -> dict[str, Any]:
    """One method within the budget."""
    from deltaprune.calibrate.budget import budget
    from deltaprune.cost import macs
    from deltaprune.hosted.config import about_images

    met = budget(config, text, share, text_tokens)
    return {
        "model": config.name,
        "method": met.label,
        "convention": convention,
        "text_tokens": text_tokens,
        "budget": share,
        "share": met.share,
        met.knob: met.value,
        "kept": met.kept or None,
        "macs": macs(config, met.method, text_tokens, convention).components,
        **about_images(config, [met.method]),
    }
