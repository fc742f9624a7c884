"""What the commands share: options, checks that need no torch, loading, writing."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune._registry import UserError, did_you_mean
from deltaprune.cli._progress import Working

if TYPE_CHECKING:
    from deltaprune.models._mllm import MLLMConfig
    from deltaprune.models._processor import Processor
    from deltaprune.vlm import VLM

MOST = 10**9
DEFAULT_METHODS = ("none", "dtp:keep=0.5")

ModelOption = Annotated[str, typer.Option("--model", metavar="NAME|FOLDER", help="A known model or a model folder.")]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help=f"name:field=value,...; repeatable. [default: {' and '.join(DEFAULT_METHODS)}]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to run.")]
BenchmarkOption = Annotated[str, typer.Option("--benchmark", metavar="NAME", help="Whose pictures and questions.")]
SplitOption = Annotated[str, typer.Option("--split", metavar="NAME", help="Which part of the benchmark.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of the benchmark's split, from 0 up.")]


def check_whole(option: str, value: int, least: int = 1) -> None:
    """An option's number lies in a sensible range, else a `UserError`."""
    if not least <= value <= MOST:
        nearest = min(max(value, least), MOST)
        raise UserError(
            f"{option} {value} is out of range: it is a whole number from {least} to {MOST} (try {nearest})."
        )


def check_target(option: str, path: str, suffixes: set[str] | None = None) -> None:
    """A file can be written there, as far as can be told before the work, else a `UserError`."""
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
    """Call `save(path)`; a full disk and its like are told in a `UserError`."""
    try:
        save(Path(path))
    except OSError as error:
        raise UserError(f"{option} {path!r} could not be written: {error.strerror or error}.") from error


def check_device(device: str) -> None:
    """A known device that is there, else a `UserError`."""
    if device not in ("cpu", "cuda"):
        raise UserError(f"There is no device {device!r}: {did_you_mean(device, ('cpu', 'cuda'))}.")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                "--device cuda: torch sees no GPU here, so use --device cpu or install a CUDA build of torch."
            )


def load_model(model: str, device: str, working: Working) -> "tuple[VLM, Processor]":
    """A model on its device, with progress."""
    from deltaprune.vlm import load

    check_device(device)
    working.say(f"loading {model}")
    vlm, processor = load(model)
    return vlm.to(device=device), processor


def read_model_config(model: str) -> "MLLMConfig":
    """The configuration of a known model or of a model folder; no weights are read."""
    from deltaprune.models import registry
    from deltaprune.models._folder import read_config

    if Path(model).is_dir():
        return read_config(Path(model))
    if model in registry.names():
        return registry[model].config()
    known = did_you_mean(model, registry.names())
    raise UserError(f"There is no model {model!r}: it is neither a folder nor a known name; {known}.")


def print_json(document: Any) -> None:
    """One document on stdout."""
    print(json.dumps(document, indent=2))
