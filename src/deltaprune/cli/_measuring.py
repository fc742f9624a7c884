"""A model and where it is measured, for the commands that measure it."""

from typing import TYPE_CHECKING

from deltaprune.cli._progress import Working
from deltaprune.cli.evaluate import load_for
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.analysis.parts import Run
    from deltaprune.mllm.processor import Processor
    from deltaprune.vlm import VLM


def load_to_measure(
    engine: str,
    place: tuple[str | None, int | None, str],
    model: str,
    working: Working,
    plan: str | None,
    towers: list[str] | None,
    tokenizer: str | None,
    dtype: str | None,
    quantize: str | None = None,
) -> "tuple[VLM, Processor, Run]":
    """A model, and what hands its measurements to an engine.

    Args:
        place: address, workers and device.

    Raises:
        UserError: an unknown engine, a place that it does not have, or a model that runs in one process only.
    """
    from deltaprune.evaluate.engines import Place
    from deltaprune.evaluate.measuring import run_on
    from deltaprune.hosted.model import Hosted

    vlm, processor, where = load_for(engine, Place(*place), model, working, plan, towers, tokenizer, dtype, quantize)
    if isinstance(vlm, Hosted) and engine != "local":
        raise UserError(f"{model} is a model of transformers' own, which runs in one process: leave out --engine.")
    return vlm, processor, run_on(engine, where)
