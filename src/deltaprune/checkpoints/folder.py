"""A model as a folder: `config.json`, `model.safetensors` (or shards), `tokenizer.json`, `chat_template.jinja`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from huggingface_hub import StateDictSplit, split_state_dict_into_shards_factory
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from deltaprune.checkpoints.checkpoint import Checkpoint
from deltaprune.checkpoints.files import read_safetensors
from deltaprune.checkpoints.parts import read_tokenizer
from deltaprune.errors import UserError, in_words
from deltaprune.mean_states import FILE as MEANS
from deltaprune.mean_states import MeanStates
from deltaprune.mllm.network import MLLM, MLLMConfig, blank
from deltaprune.mllm.processor import EOS
from deltaprune.mllm.templates import FILE as TEMPLATE
from deltaprune.mllm.templates import template_text
from deltaprune.plan import Plan
from deltaprune.tensors import check_tensors, shapes

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
MODEL_TYPE, ARCHITECTURE = "deltaprune", "DeltapruneForConditionalGeneration"  # what transformers looks for
SHARDS, INDEX = "model{suffix}.safetensors", WEIGHTS + ".index.json"
SHARD_BYTES = 10**9  # a shard is gathered before it is written, and old versions of safetensors copy it


def read_config(folder: Path) -> MLLMConfig:
    """The configuration of a model folder.

    Raises:
        UserError: a file is missing, or the configuration is damaged.
    """
    weights = WEIGHTS if not (folder / INDEX).is_file() else INDEX
    missing = [name for name in (CONFIG, weights, TOKENIZER) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} is not a model folder: it lacks {', '.join(missing)} (and Cobra's published layout would hold "
            "checkpoints/latest-checkpoint.pt)."
        )
    try:
        raw = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = raw.get("model_type", MODEL_TYPE)
        config = MLLMConfig.from_dict(raw) if kind == MODEL_TYPE else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG} is not a model's configuration ({in_words(error)}): restore it.") from error
    if config is None:
        raise UserError(
            f"{folder} holds a model of transformers' own ({kind}), which the commands read as it is: only checkpoints "
            "of Cobra and RoboMamba are converted."
        )
    return config if config.plan is None else replace(config, plan=with_means(config.plan, folder))


def with_means(plan: Plan, folder: Path) -> Plan:
    """The plan with its mean states, read from the folder where it has any.

    Raises:
        UserError: they cannot be read, or are another plan's.
    """
    if plan.means is None:
        return plan
    return replace(plan, means=MeanStates.load(folder / MEANS, plan.means.digest))


def save_means(plan: Plan | None, folder: Path) -> None:
    """Write the plan's mean states into a model folder; without any, an older file there is removed."""
    if plan is not None and plan.means is not None:
        plan.means.save(folder / MEANS)
    else:
        (folder / MEANS).unlink(missing_ok=True)


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
    state = model.state_dict()
    weights = ((name, value.detach().cpu().contiguous()) for name, value in state.items())
    write_folder(folder, config or model.config, tokenizer, {n: value.nbytes for n, value in state.items()}, weights)


def write_folder(
    folder: Path,
    config: MLLMConfig,
    tokenizer: Tokenizer,
    sizes: Mapping[str, int],
    weights: Iterable[tuple[str, Tensor]],
    shard_bytes: int = SHARD_BYTES,
    chat_template: str | None = None,
) -> list[Path]:
    """Write a model folder from a stream of tensors, which is never held whole.

    `huggingface_hub` says which tensor goes into which shard, from the sizes alone. Its own writer
    (`save_torch_state_dict`) is not used: it holds all tensors at once.

    Args:
        folder: where to; it is made.
        config, tokenizer: what to write beside the weights.
        sizes: our name -> how many bytes its tensor has, of every tensor that comes.
        weights: our name and tensor, contiguous, on the CPU.
        shard_bytes: a shard grows no larger, unless one tensor is.
        chat_template: a Jinja text; by default the one that the configuration names.

    Returns:
        The weight files: `model.safetensors`, or shards with an index beside them as Hugging Face writes it.

    Raises:
        ValueError: a tensor of `sizes` did not come.
    """
    split = split_state_dict_into_shards_factory(
        dict(sizes), get_storage_size=lambda size: size, filename_pattern=SHARDS, max_shard_size=shard_bytes
    )
    folder.mkdir(parents=True, exist_ok=True)
    eos_id = tokenizer.token_to_id(EOS)
    about = {"model_type": MODEL_TYPE, "architectures": [ARCHITECTURE], "eos_token_id": eos_id, "pad_token_id": eos_id}
    _write_json(folder / CONFIG, {**about, **config.to_dict()})
    save_means(config.plan, folder)
    tokenizer.save(str(folder / TOKENIZER))
    template = template_text(config.template) if chat_template is None else chat_template
    (folder / TEMPLATE).write_text(template, encoding="utf-8", newline="\n")
    gathered: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights:
        file = split.tensor_to_filename[name]
        gathered.setdefault(file, {})[name] = weight
        if len(gathered[file]) == len(split.filename_to_tensors[file]):
            _write_shard(folder, file, gathered.pop(file))
    return _name_shards(folder, split)


def _write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="\n")


def _chat_template(file: Path) -> str | None:
    """The folder's own template, if it has one: folders that were written before 2026-11-27 have none."""
    if not file.is_file():
        return None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a chat template ({in_words(error)}): restore it.") from error


def _partial(folder: Path, file: str) -> Path:
    return folder / f"{file}.partial"


def _write_shard(folder: Path, file: str, tensors: dict[str, Tensor]) -> None:
    """Write one shard under a temporary name."""
    save_file(tensors, _partial(folder, file), metadata={"format": "pt"})
    _partial(folder, file).chmod((folder / CONFIG).stat().st_mode)  # safetensors makes it unreadable for others


def _name_shards(folder: Path, split: StateDictSplit) -> list[Path]:
    """Give the complete shards their final names, and write the index if there is more than one."""
    unwritten = [file for file in split.filename_to_tensors if not _partial(folder, file).is_file()]
    if unwritten:
        raise ValueError(f"Tensors of {', '.join(unwritten)} never came.")
    for file in split.filename_to_tensors:
        _partial(folder, file).replace(folder / file)
    if split.is_sharded:
        _write_json(folder / INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})
    else:
        (folder / INDEX).unlink(missing_ok=True)
    return [folder / file for file in split.filename_to_tensors]


def _weight_files(folder: Path) -> list[str]:
    """The names of the weight files, from the index if there is one."""
    if not (folder / INDEX).is_file():
        return [WEIGHTS]
    try:
        names = list(dict.fromkeys(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / INDEX} is not an index of shards ({in_words(error)}): restore it.") from error
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside or not names:
        raise UserError(f"{folder / INDEX} must name files of its own folder, but names {outside or 'none'}.")
    return names
