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
TextTokensOption = Annotated[int, typer.Option("--text-tokens", help="Of the prompt, template included.")]
ConventionOption = Annotated[
    str, typer.Option("--convention", metavar="full|paper", help="Count everything, or as the paper does.")
]
PlanOption = Annotated[
    str | None,
    typer.Option("--plan", metavar="PLAN.json", help="Prune where this plan says, not where the model's own does."),
]
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


def load_model(model: str, device: str, working: Working, plan: str | None = None) -> "tuple[VLM, Processor]":
    """A model on its device, with progress; a plan file takes the place of its own plan."""
    from deltaprune.vlm import load

    check_device(device)
    working.say(f"loading {model}")
    vlm, processor = load(model)
    if plan is not None:
        from deltaprune.calibrate import load_plan

        vlm.use_plan(load_plan(plan, vlm.config))
    return vlm.to(device=device), processor


def read_model_config(model: str, plan: str | None = None) -> "MLLMConfig":
    """The configuration of a known model or of a model folder, no weights; a plan file replaces its own plan."""
    from deltaprune.models import registry
    from deltaprune.models._folder import read_config

    if not Path(model).is_dir() and model not in registry.names():
        known = did_you_mean(model, registry.names())
        raise UserError(f"There is no model {model!r}: it is neither a folder nor a known name; {known}.")
    config = read_config(Path(model)) if Path(model).is_dir() else registry[model].config()
    if plan is None:
        return config
    from dataclasses import replace

    from deltaprune.calibrate import load_plan

    return replace(config, plan=load_plan(plan, config))


def patch_grid(config: "MLLMConfig") -> tuple[int, int]:
    """Rows and columns of patches, which all towers share."""
    tower = next(iter(config.towers.values()))
    side = tower.image_size // tower.patch_size
    return side, side


def print_json(document: Any) -> None:
    """One document on stdout."""
    print(json.dumps(document, indent=2))
