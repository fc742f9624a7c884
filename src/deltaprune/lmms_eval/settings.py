"""`--model_args`: which model, and how it is pruned.

Pruning is set here and nowhere else. lmms-eval's response cache knows a run by its model_args and reads few generation
settings; a keep given there would be answered with another keep's answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from deltaprune.checks import check_at_least_one, check_choice
from deltaprune.errors import UserError, did_you_mean
from deltaprune.methods import parse
from deltaprune.methods import registry as methods

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """The model_args; None is the library's default.

    Attributes:
        pretrained: what `deltaprune.load` takes.
        method: a text such as "dtp:keep=0.5;early=15".
        towers, tokenizer: the parts that a published checkpoint leaves out.
        dtype: of the weights.
        device: "cpu", "cuda", "cuda:1"; by default a GPU if there is one.
        batch_size: questions that run at once, from 1 up.
        plan: a plan file of `deltaprune calibrate`.
    """

    pretrained: str = "bundled"
    method: str = "none"
    towers: str | None = None
    tokenizer: str | None = None
    dtype: str | None = None
    device: str | None = None
    batch_size: int = 1
    plan: str | None = None


def read_settings(model_args: Mapping[str, Any]) -> Settings:
    """Model_args as lmms-eval reads them, numbers and booleans already recognised, -> `Settings`.

    Raises:
        UserError: an unknown name, method or dtype, or a batch size that is no whole number.
    """
    known = [f.name for f in fields(Settings)]
    for name in model_args:
        if name not in known:
            raise UserError(_unknown(name, model_args, known))
    values: dict[str, Any] = {name: str(value) for name, value in model_args.items() if value is not None}
    if "batch_size" in values:
        size = values["batch_size"]
        values["batch_size"] = int(size) if size.isdecimal() else size
        check_at_least_one("batch_size", values["batch_size"])
    if "dtype" in values:
        check_choice("dtype", values["dtype"], DTYPES)
    settings = Settings(**values)
    parse(settings.method)
    return settings


def join(model_args: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Model_args and the command line's own `--batch_size`, `--max_batch_size` and `--device`.

    A batch size of 1 is the command line's default, so any other value replaces it.

    Raises:
        UserError: a setting is given twice, with different values.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if str(given.get("batch_size")) == "1" and "batch_size" in model_args:
        del given["batch_size"]
    for name, value in given.items():
        if name in model_args and str(model_args[name]) != str(value):
            raise UserError(f"--{name} {value} and model_args {name}={model_args[name]} differ: give one of them.")
    return {**model_args, **given}


def choose_device(asked: str | None, processes: int = 1, index: int = 0) -> torch.device:
    """Where a process runs: by default on a GPU if there is one; with several processes, each on the GPU of its index.

    Raises:
        UserError: torch knows no such device, or several processes are sent to one GPU.
    """
    try:
        device = torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"There is no device {asked!r}: it is cpu, cuda or cuda:N.") from error
    if device.type != "cuda" or processes == 1:
        return device
    if device.index is not None:
        raise UserError(f"{processes} processes cannot share {asked}: write device=cuda, and each takes its own GPU.")
    return torch.device("cuda", index)


def _unknown(name: str, model_args: Mapping[str, Any], known: list[str]) -> str:
    """One sentence; a field of the method got here because lmms-eval splits model_args at every comma."""
    method = str(model_args.get("method", "")).partition(":")[0].strip()
    cls: Any = methods[method] if method in methods.names() else None
    if cls is not None and name in [f.name for f in fields(cls)]:
        value = f"{name}={model_args[name]}"
        return f"model_args has {value!r} on its own: a method's fields are joined by ';', method={method}:...;{value}."
    return f"model_args has no {name!r}: {did_you_mean(name, known)}."
