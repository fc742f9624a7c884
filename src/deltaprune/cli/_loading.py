"""Loading the model that a command's options name: here, for an engine, or to be measured."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from deltaprune.cli._common import check_device, check_dtype, check_quantize, quiet_transformers, read_towers
from deltaprune.cli._progress import Working
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.analysis.parts import Run
    from deltaprune.evaluate.engines import Place
    from deltaprune.mllm.processor import Processor
    from deltaprune.vlm import VLM


class ModelOptions(NamedTuple):
    """The options that name a model and say how it is read; `plan` is a file that replaces the model's own plan."""

    model: str
    plan: str | None = None
    towers: list[str] | None = None
    tokenizer: str | None = None
    dtype: str | None = None
    quantize: str | None = None


class PlaceOptions(NamedTuple):
    """The options that say where a model runs."""

    engine: str
    address: str | None
    workers: int | None
    device: str


def load_model(options: ModelOptions, device: str, working: Working) -> "tuple[VLM, Processor]":
    """A model on a device of this machine, with progress.

    Raises:
        UserError: an option that cannot be met, or a model or plan that cannot be read.
    """
    from deltaprune.hosted.recognise import is_hosted
    from deltaprune.load import load

    model, plan, towers, tokenizer, dtype, quantize = options
    check_device(device)
    check_dtype(dtype)
    check_quantize(quantize, device)
    working.say(f"loading {model}")
    if is_hosted(model):
        quiet_transformers()
    parts = {"towers": read_towers(towers), "tokenizer": tokenizer}
    vlm, processor = load(model, **parts, dtype=dtype, device=device, quantize=quantize)
    if plan is not None:
        from deltaprune.calibrate import load_plan

        vlm.use_plan(load_plan(plan, vlm.config))
    return vlm, processor


def loads_of(options: ModelOptions, device: str) -> dict[str, str]:
    """What differs from the defaults of `load`, for the studio's lines to share; see `studio.share.command_line`."""
    given = {"source": (options.model, "bundled"), "plan": (options.plan, None), "device": (device, "cpu")}
    given |= {"dtype": (options.dtype, None), "quantize": (options.quantize, None)}
    return {name: str(value) for name, (value, default) in given.items() if value != default}


def load_for(options: ModelOptions, where: PlaceOptions, working: Working) -> "tuple[VLM, Processor, Place]":
    """A model and the place where an engine runs it.

    For an engine other than "local" the model is read to the CPU, and each of the engine's processes moves its copy to
    the device.

    Raises:
        UserError: as `load_model`, and for an unknown engine.
    """
    from deltaprune.evaluate.engines import Place
    from deltaprune.evaluate.engines import registry as engines

    engines[where.engine]  # an unknown one is refused before the model is loaded
    elsewhere = where.engine != "local"
    check_device(where.device, here=not elsewhere)
    check_dtype(options.dtype)
    if elsewhere:
        check_quantize(options.quantize, where.device)
    vlm, processor = load_model(options, "cpu" if elsewhere else where.device, working)
    place = Place(where.address, where.workers, where.device)
    return vlm, processor, place if elsewhere else replace(place, device=None)


def load_to_measure(options: ModelOptions, where: PlaceOptions, working: Working) -> "tuple[VLM, Processor, Run]":
    """A model and the function that runs its measurements on an engine.

    Raises:
        UserError: as `load_for`, for a place that the engine does not have, and for a model that runs in one process
            only.
    """
    from deltaprune.evaluate.measuring import run_on
    from deltaprune.hosted.model import Hosted

    vlm, processor, place = load_for(options, where, working)
    if isinstance(vlm, Hosted) and where.engine != "local":
        raise UserError(
            f"{options.model} is a model of transformers' own, which runs in one process: leave out --engine."
        )
    return vlm, processor, run_on(where.engine, place)
