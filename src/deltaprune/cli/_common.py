"""What the commands share: checks that need no torch, a model's configuration, writing."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltaprune.cli._manner import manner
from deltaprune.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from deltaprune.hosted.config import HostedConfig
    from deltaprune.mllm.network import MLLMConfig

MOST = 10**9
DEVICES = ("cpu", "cuda", "auto")
DTYPES = ("float32", "bfloat16", "float16")
QUANTIZE = ("int8", "int4")


def check_whole(option: str, value: int, least: int = 1) -> None:
    """Check that an option's number is in a sensible range, else a `UserError`."""
    if not least <= value <= MOST:
        nearest = min(max(value, least), MOST)
        raise UserError(
            f"{option} {value} is out of range: it is a whole number from {least} to {MOST} (try {nearest})."
        )


def check_target(option: str, path: str, suffixes: set[str] | None = None) -> None:
    """Check, as far as possible before the work, that a file can be written there, else a `UserError`."""
    file = Path(path)
    if file.is_dir():
        raise UserError(f"{option} {path!r} is a directory: give the name of a file in it.")
    if not file.parent.is_dir():
        raise UserError(f"{option} {path!r}: the folder {str(file.parent)!r} does not exist, so create it first.")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f"{option} {path!r} cannot be written: you lack the permission.")
    if suffixes is not None and file.suffix.lower() not in suffixes:
        raise UserError(f"{option} {path!r}: the name ends in the format, so choose .png or .jpg.")


def write(option: str, path: str, save: Callable[[Path], object]) -> None:
    """Call `save(path)`; a full disk and similar errors become a `UserError`."""
    try:
        save(Path(path))
    except OSError as error:
        raise UserError(f"{option} {path!r} could not be written: {error.strerror or error}.") from error


def check_device(device: str, here: bool = True) -> None:
    """Check for a known device, which this machine has unless it is for another one; else a `UserError`."""
    if device not in DEVICES:
        raise UserError(f"There is no device {device!r}: {did_you_mean(device, DEVICES)}.")
    if device == "auto" and not here:
        raise UserError("--device auto looks for a GPU on this machine: with --engine ray take cpu or cuda.")
    if here and device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                "--device cuda: torch sees no GPU here, so use --device cpu or install a CUDA build of torch."
            )


def check_dtype(dtype: str | None) -> None:
    """Check for a known dtype, or None for the checkpoint's own; else a `UserError`."""
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"There is no dtype {dtype!r}: {did_you_mean(dtype, DTYPES)}.")


def check_quantize(quantize: str | None, device: str) -> None:
    """Check for known bits and the device that they run on, or None; else a `UserError`."""
    if quantize is None:
        return
    if quantize not in QUANTIZE:
        raise UserError(f"--quantize {quantize!r} is unknown: {did_you_mean(quantize, QUANTIZE)}.")
    if device == "cuda":
        raise UserError(f"--quantize {quantize} runs on the CPU: leave it or --device cuda out.")


def read_towers(words: list[str] | None) -> str | dict[str, str] | None:
    """--towers as `load` takes it: one folder, or NAME=FILE for each tower."""
    if not words:
        return None
    if all("=" in word for word in words):
        return dict(word.split("=", 1) for word in words)
    if len(words) > 1:
        raise UserError(f"--towers {' '.join(words)!r}: give one folder, or NAME=FILE for each tower.")
    return words[0]


def quiet_transformers() -> None:
    """Switch off transformers' progress bars and messages, so that stderr has only the command's own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def read_model_config(
    model: str, plan: str | None = None, towers: list[str] | None = None, tokenizer: str | None = None
) -> "MLLMConfig | HostedConfig":
    """The configuration of a known model, a folder (ours or of a transformers model) or a published checkpoint.

    Its weights are not read.

    Args:
        model, towers, tokenizer: the options.
        plan: a plan file, which takes the place of the model's own plan.
    """
    from deltaprune.hosted.recognise import is_hosted

    if is_hosted(model):
        from deltaprune.hosted.folder import read_hosted_config

        quiet_transformers()
        config: MLLMConfig | HostedConfig = read_hosted_config(model)
    else:
        config = read_own_config(model, towers, tokenizer)
    if plan is None:
        return config
    from dataclasses import replace

    from deltaprune.calibrate import load_plan

    return replace(config, plan=load_plan(plan, config))


def read_own_config(model: str, towers: list[str] | None = None, tokenizer: str | None = None) -> "MLLMConfig":
    """The same for a model that is not a transformers model."""
    from deltaprune.checkpoints.folder import read_config
    from deltaprune.models import registry

    path = Path(model)
    if any(registry[name].recognises(path) for name in registry.names()):
        from deltaprune.checkpoints.sources import open_source

        return open_source(path, read_towers(towers), tokenizer).config
    if path.is_dir():
        return read_config(path)
    if model in registry.names():
        return registry[model].config()
    known = did_you_mean(model, registry.names())
    raise UserError(f"There is no model {model!r}: it is neither a folder nor a known name; {known}.")


def with_visual_tokens(config: "MLLMConfig | HostedConfig", n: int | None) -> "MLLMConfig | HostedConfig":
    """The configuration for images of `n` visual tokens, if they depend on the image; None for the default."""
    if n is None:
        return config
    from deltaprune.hosted.config import HostedConfig

    check_whole("--visual-tokens", n)
    if not isinstance(config, HostedConfig):
        raise UserError(
            f"{config.name} has {config.n_visual} visual tokens, whatever the image: leave out --visual-tokens."
        )
    return config.with_visual(n)


def print_json(document: Any) -> None:
    """One document on stdout, as JSON or, if that is asked for, as CSV."""
    if manner().form == "csv":
        from deltaprune.cli._forms import csv

        print(csv(document), end="")
    else:
        print(json.dumps(document, indent=2))
