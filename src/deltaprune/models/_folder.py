"""A model as a folder: `config.json`, `model.safetensors`, `tokenizer.json`."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from deltaprune._registry import UserError
from deltaprune.models._mllm import MLLM, MLLMConfig
from deltaprune.models._processor import Processor

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"


def read_config(folder: Path) -> MLLMConfig:
    """The configuration of a model folder."""
    missing = [name for name in (CONFIG, WEIGHTS, TOKENIZER) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} is not a model folder: it lacks {', '.join(missing)}.")
    try:
        return MLLMConfig.from_dict(json.loads((folder / CONFIG).read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG} is not a model's configuration ({_words(error)}): restore it.") from error


def load_folder(folder: Path) -> tuple[MLLM, Processor]:
    """Module (in evaluation mode, without gradients) and processor of a model folder."""
    config = read_config(folder)
    with torch.device("meta"):
        model = MLLM(config)
    try:
        weights = load_file(folder / WEIGHTS)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS} is damaged or cut short ({_words(error)}): copy it again.") from error
    except Exception as error:  # tokenizers raises nothing narrower
        raise UserError(f"{folder / TOKENIZER} is not a tokenizer ({_words(error)}): restore it.") from error
    _check_shapes(folder / WEIGHTS, model, weights)
    result = model.load_state_dict(weights, strict=False, assign=True)
    if result.missing_keys or result.unexpected_keys:
        raise UserError(
            f"{folder / WEIGHTS} does not fit its config: missing {result.missing_keys or 'nothing'}, "
            f"unexpected {result.unexpected_keys or 'nothing'}."
        )
    restore_buffers(model)
    return model.eval().requires_grad_(False), Processor(config, tokenizer)


def save_folder(folder: Path, model: MLLM, tokenizer: Tokenizer, config: MLLMConfig | None = None) -> None:
    """Write a model folder; the weights come last and under their final name only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps((config or model.config).to_dict(), indent=2) + "\n")
    tokenizer.save(str(folder / TOKENIZER))
    partial = folder / (WEIGHTS + ".partial")
    save_file({key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}, partial)
    partial.replace(folder / WEIGHTS)


def _check_shapes(file: Path, model: MLLM, weights: dict[str, torch.Tensor]) -> None:
    """Every tensor has the shape its config asks for, else a `UserError` lists those that do not."""
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    wrong = [
        f"{key} {tuple(value.shape)} instead of {wanted[key]}"
        for key, value in weights.items()
        if key in wanted and tuple(value.shape) != wanted[key]
    ]
    if wrong:
        raise UserError(f"{file} does not fit its config: {'; '.join(wrong)}.")


def _words(error: Exception) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")


def restore_buffers(model: MLLM) -> None:
    """Buffers that no checkpoint holds (SigLIP's position ids) get their values back after building on "meta"."""
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            if not name.endswith("position_ids"):
                raise RuntimeError(f"Buffer {name} has no stored value.")
            parent = model.get_submodule(name.rpartition(".")[0])
            parent.position_ids = torch.arange(buffer.shape[-1]).expand(buffer.shape)
