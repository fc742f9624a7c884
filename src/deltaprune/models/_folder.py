"""A model as a folder: `config.json`, `model.safetensors` (or shards), `tokenizer.json`, `chat_template.jinja`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from deltaprune._registry import UserError, in_words
from deltaprune._tensors import check_tensors, shapes
from deltaprune.models._checkpoint import Checkpoint
from deltaprune.models._files import read_safetensors
from deltaprune.models._mllm import MLLM, MLLMConfig, blank
from deltaprune.models._parts import read_tokenizer
from deltaprune.models._processor import EOS
from deltaprune.models._templates import FILE as TEMPLATE
from deltaprune.models._templates import template_text

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
MODEL_TYPE, ARCHITECTURE = "deltaprune", "DeltapruneForConditionalGeneration"  # by these transformers knows the folder
INDEX = WEIGHTS + ".index.json"
SHARD_BYTES = 10**9  # a shard is gathered before it is written, and old versions of safetensors copy it


def read_config(folder: Path) -> MLLMConfig:
    """The configuration of a model folder.

    Raises:
        UserError: the folder lacks a file, or its configuration is damaged.
    """
    weights = WEIGHTS if not (folder / INDEX).is_file() else INDEX
    missing = [name for name in (CONFIG, weights, TOKENIZER) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} is not a model folder: it lacks {', '.join(missing)} (and Cobra's published layout would hold "
            "checkpoints/latest-checkpoint.pt)."
        )
    try:
        return MLLMConfig.from_dict(json.loads((folder / CONFIG).read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG} is not a model's configuration ({in_words(error)}): restore it.") from error


def open_folder(folder: Path) -> Checkpoint:
    """The checkpoint in a model folder.

    Raises:
        UserError: a file is missing or damaged, or the weights do not fit the configuration.
    """
    config = read_config(folder)
    tokenizer = read_tokenizer(folder / TOKENIZER)
    files = [folder / name for name in _weight_files(folder)]
    held = {file: read_safetensors(file) for file in files}
    weights = {name: tensor for tensors in held.values() for name, tensor in tensors.items()}
    wanted = shapes(blank(config).state_dict())
    check_tensors(str(folder / (WEIGHTS if len(files) == 1 else INDEX)), wanted, shapes(weights))
    return Checkpoint(
        config=config,
        tokenizer=tokenizer,
        weights={name: weights[name] for name in wanted},
        sources={name: f"{file.name}: {name}" for file, tensors in held.items() for name in tensors},
        chat_template=_chat_template(folder / TEMPLATE),
        files={"config": folder / CONFIG, "tokenizer": folder / TOKENIZER, **{file.name: file for file in files}},
    )


def save_folder(folder: Path, model: MLLM, tokenizer: Tokenizer, config: MLLMConfig | None = None) -> None:
    """Write a model folder; the weights come last and under their final name only when complete."""
    weights = ((name, value.detach().cpu().contiguous()) for name, value in model.state_dict().items())
    write_folder(folder, config or model.config, tokenizer, weights)


def write_folder(
    folder: Path,
    config: MLLMConfig,
    tokenizer: Tokenizer,
    weights: Iterable[tuple[str, Tensor]],
    shard_bytes: int = SHARD_BYTES,
    chat_template: str | None = None,
) -> list[Path]:
    """Write a model folder from a stream of tensors, which is never held whole.

    Args:
        folder: where to; it is made.
        config, tokenizer: what to write beside the weights.
        weights: our name and tensor, contiguous, on the CPU.
        shard_bytes: a shard is closed before it grows beyond this.
        chat_template: a Jinja text; by default the one that the configuration names.

    Returns:
        The weight files: `model.safetensors`, or shards with an index beside them as Hugging Face writes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    eos_id = tokenizer.token_to_id(EOS)
    about = {"model_type": MODEL_TYPE, "architectures": [ARCHITECTURE], "eos_token_id": eos_id, "pad_token_id": eos_id}
    (folder / CONFIG).write_text(json.dumps({**about, **config.to_dict()}, indent=2) + "\n")
    tokenizer.save(str(folder / TOKENIZER))
    template = template_text(config.template) if chat_template is None else chat_template
    (folder / TEMPLATE).write_text(template, encoding="utf-8")
    shards: list[dict[str, int]] = []  # name -> bytes
    gathered: dict[str, Tensor] = {}
    for name, weight in weights:
        if gathered and sum(held.nbytes for held in gathered.values()) + weight.nbytes > shard_bytes:
            shards.append(_write_shard(folder, len(shards), gathered))
            gathered = {}
        gathered[name] = weight
    shards.append(_write_shard(folder, len(shards), gathered))
    return _name_shards(folder, shards)


def _chat_template(file: Path) -> str | None:
    """The folder's own template, if it has one: folders that were written before 2026-11-27 have none."""
    if not file.is_file():
        return None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a chat template ({in_words(error)}): restore it.") from error


def _partial(folder: Path, number: int) -> Path:
    return folder / f"{WEIGHTS}.{number}.partial"


def _write_shard(folder: Path, number: int, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Write one shard under a name of its own; returns what it holds and how large each tensor is."""
    save_file(dict(tensors), _partial(folder, number), metadata={"format": "pt"})
    _partial(folder, number).chmod((folder / CONFIG).stat().st_mode)  # safetensors makes it unreadable for others
    return {name: tensor.nbytes for name, tensor in tensors.items()}


def _name_shards(folder: Path, shards: list[dict[str, int]]) -> list[Path]:
    """Give the complete shards their final names, and write the index if there is more than one."""
    if len(shards) == 1:
        (folder / INDEX).unlink(missing_ok=True)
        return [_partial(folder, 0).replace(folder / WEIGHTS)]
    files = [folder / f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for number, file in enumerate(files):
        _partial(folder, number).replace(file)
    index = {
        "metadata": {"total_size": sum(size for shard in shards for size in shard.values())},
        "weight_map": {name: file.name for file, shard in zip(files, shards, strict=True) for name in shard},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return files


def _weight_files(folder: Path) -> list[str]:
    """The names of the weight files, from the index if there is one."""
    if not (folder / INDEX).is_file():
        return [WEIGHTS]
    try:
        names = list(dict.fromkeys(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / INDEX} is not an index of shards ({in_words(error)}): restore it.") from error
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside or not names:
        raise UserError(f"{folder / INDEX} must name files of its own folder, but names {outside or 'none'}.")
    return names
