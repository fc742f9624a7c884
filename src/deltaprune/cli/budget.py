"""`deltaprune budget`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune.cli._common import check_whole, print_json, read_model_config, with_visual_tokens
from deltaprune.cli._cost_tables import budget_table
from deltaprune.cli._options import (
    ConventionOption,
    JsonOption,
    ModelOption,
    PlanOption,
    UnitOption,
    VisualTokensOption,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import show
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.hosted.config import HostedConfig
    from deltaprune.mllm.network import MLLMConfig

DEFAULT = ("dtp",)


def budget(
    macs: Annotated[
        float | None, typer.Option("--macs", metavar="SHARE", help="Share of the prefill's MACs, such as 0.48.")
    ] = None,
    much: Annotated[
        float | None, typer.Option("--budget", metavar="VALUE", help="The same, or milliseconds with --in ms.")
    ] = None,
    unit: UnitOption = "macs",
    model: ModelOption = "cobra",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help=f"name:field=value,... without its keep; repeatable. [default: {' and '.join(DEFAULT)}]",
        ),
    ] = None,
    text_tokens: Annotated[
        int | None,
        typer.Option(
            "--text-tokens",
            help="Of the prompt, template included. [default: 22; with --in ms as measured]",
            show_default=False,
        ),
    ] = None,
    visual_tokens: VisualTokensOption = None,
    convention: ConventionOption = "full",
    plan: PlanOption = None,
    json: JsonOption = False,
) -> None:
    """Find the keep that meets a share of the MACs, or a time.

    With it methods can be compared at the same cost. It is the most visual tokens that stay within the share; for vtw
    the nearest layer. Needs no weights. Milliseconds are counted by the layer times of a plan that
    calibrate --budget MS --in ms made on this machine.
    """
    check_whole("--text-tokens", 1 if text_tokens is None else text_tokens)
    with Working("starting"):
        from deltaprune.hosted.config import suited

        spent = _spent(macs, much, unit)
        config = with_visual_tokens(read_model_config(model, plan), visual_tokens)
        rows = [_row(config, text, spent, text_tokens, convention) for text in method or suited(DEFAULT, config)]
    print_json(rows) if json else show(budget_table(rows))


def _spent(macs: float | None, much: float | None, unit: str) -> tuple[float, str]:
    """How much may be spent, and of what; else a `UserError`."""
    from deltaprune.calibrate.budget import check_share
    from deltaprune.calibrate.frozen import check_budget

    if macs is not None and much is None and unit == "macs":
        check_share("--macs", macs)
        return macs, unit
    if macs is not None or much is None:
        raise UserError("Give one of --macs SHARE and --budget VALUE, such as --macs 0.48 or --budget 5 --in ms.")
    if unit == "macs":
        check_share("--budget", much)
    else:
        check_budget(much, unit, "--budget")
    return much, unit


def _row(
    config: "MLLMConfig | HostedConfig", text: str, spent: tuple[float, str], text_tokens: int | None, convention: str
) -> dict[str, Any]:
    """One method within the budget, which is a value and its unit."""
    from deltaprune.calibrate.budget import budget, budget_ms
    from deltaprune.cost import macs
    from deltaprune.hosted.config import about_images

    value, unit = spent
    if unit == "ms":
        met = budget_ms(config, text, value, text_tokens)
        plan = config.shape.plan
        assert plan is not None
        assert plan.times is not None
        words, timed = plan.times.text_tokens, {"unit": "ms", "ms": met.ms}
    else:
        words, timed = 22 if text_tokens is None else text_tokens, {}
        met = budget(config, text, value, words)
    return {
        "model": config.name,
        "method": met.label,
        "convention": convention,
        "text_tokens": words,
        "budget": value,
        **timed,
        "share": met.share,
        met.knob: met.value,
        "kept": met.kept or None,
        "macs": macs(config, met.method, words, convention).components,
        **about_images(config, [met.method]),
    }
