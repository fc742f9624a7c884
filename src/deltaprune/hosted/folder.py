"""A folder that transformers reads -> model and processor; nothing is downloaded and no code of the folder is run."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from deltaprune.errors import UserError, in_words
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import BROKEN, HERE, HostedProcessor
from deltaprune.hosted.recognise import CONFIG


def load_hosted(
    folder: str | Path, dtype: torch.dtype | str | None = None, device: torch.device | str | None = None
) -> tuple[Hosted, HostedProcessor]:
    """The model and its processor.

    Args:
        folder: what `save_pretrained` of both wrote, or a downloaded repository.
        dtype: of all weights; by default the one that they are stored in.
        device: where to; the CPU by default, "auto" takes a GPU when one is there.

    Raises:
        UserError: a file is missing or damaged, or this kind of processor cannot be made here.
    """
    check_whole(Path(folder))
    from transformers import AutoModelForImageTextToText

    processor = HostedProcessor.read(Path(folder))
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    try:
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=kind or "auto", **HERE)
    except SafetensorError as error:
        raise UserError(
            f"The weights in {folder} are damaged or cut short ({in_words(error)}): download them again."
        ) from error
    except (*BROKEN, ImportError, RuntimeError) as error:
        if "ignore_mismatched_sizes" in str(error):  # transformers' advice after a report of the tensors
            raise UserError(
                f"The weights in {folder} have other sizes than its {CONFIG} says: restore both."
            ) from error
        raise UserError(f"The model in {folder} cannot be loaded: {in_words(error)}.") from error
    return _hosted(model, Path(folder), device), processor


def random_hosted(
    folder: str | Path, dtype: torch.dtype | str | None = None, device: torch.device | str | None = None
) -> tuple[Hosted, HostedProcessor]:
    """The folder's sizes with random weights, of which none are read: enough to measure time."""
    check_whole(Path(folder), weights=False)
    processor = HostedProcessor.read(Path(folder))
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return _hosted(_blank(Path(folder), kind or torch.float32), Path(folder), device), processor


def check_whole(folder: Path, weights: bool = True) -> None:
    """The folder has the files that a model and its processor are read from, else a `UserError`."""
    names = [path.name for path in folder.iterdir()]
    wanted = {
        "preprocessor_config.json": ("preprocessor_config.json", "processor_config.json"),
        "tokenizer.json": ("tokenizer", "vocab."),
        **({"model.safetensors": ("model", "pytorch_model")} if weights else {}),
    }
    lacking = [name for name, beginnings in wanted.items() if not any(each.startswith(beginnings) for each in names)]
    if lacking:
        raise UserError(
            f"{folder} is not a whole model of transformers' own: it lacks {', '.join(lacking)}, so download all files."
        )


def read_hosted_config(folder: str | Path) -> HostedConfig:
    """Sizes and plan of the folder's model; no weights are read or made.

    Raises:
        UserError: config.json is damaged.
    """
    with torch.device("meta"):
        model = _blank(Path(folder), torch.float32)
    return HostedConfig.of(model, Path(folder).name)


def _blank(folder: Path, dtype: torch.dtype) -> Any:
    """A model of the folder's configuration, its weights as they are initialised."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(folder, **HERE)
        return AutoModelForImageTextToText.from_config(config, dtype=dtype)
    except (*BROKEN, ImportError) as error:
        raise UserError(f"{folder / CONFIG} is not a model's configuration ({in_words(error)}): restore it.") from error


def _hosted(model: Any, folder: Path, device: torch.device | str | None) -> Hosted:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model.requires_grad_(False)
    return Hosted(model.eval().to(device or "cpu"), HostedConfig.of(model, folder.name))
