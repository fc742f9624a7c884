"""A model as a folder: `config.json`, `model.safetensors`, `tokenizer.json`."""

import json
from pathlib import Path

import torch
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
    return MLLMConfig.from_dict(json.loads((folder / CONFIG).read_text()))


def load_folder(folder: Path) -> tuple[MLLM, Processor]:
    """Module (in evaluation mode, without gradients) and processor of a model folder."""
    config = read_config(folder)
    with torch.device("meta"):
        model = MLLM(config)
    weights = load_file(folder / WEIGHTS)
    result = model.load_state_dict(weights, strict=False, assign=True)
    if result.missing_keys or result.unexpected_keys:
        raise UserError(
            f"{folder / WEIGHTS} does not fit its config: missing {result.missing_keys or 'nothing'}, "
            f"unexpected {result.unexpected_keys or 'nothing'}."
        )
    restore_buffers(model)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    return model.eval().requires_grad_(False), Processor(config, tokenizer)


def save_folder(folder: Path, model: MLLM, tokenizer: Tokenizer, config: MLLMConfig | None = None) -> None:
    """Write a model folder; the weights come last and under their final name only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps((config or model.config).to_dict(), indent=2) + "\n")
    tokenizer.save(str(folder / TOKENIZER))
    partial = folder / (WEIGHTS + ".partial")
    save_file({key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}, partial)
    partial.replace(folder / WEIGHTS)


def restore_buffers(model: MLLM) -> None:
    """Buffers that no checkpoint holds (SigLIP's position ids) get their values back after building on "meta"."""
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            if not name.endswith("position_ids"):
                raise RuntimeError(f"Buffer {name} has no stored value.")
            parent = model.get_submodule(name.rpartition(".")[0])
            parent.position_ids = torch.arange(buffer.shape[-1]).expand(buffer.shape)
