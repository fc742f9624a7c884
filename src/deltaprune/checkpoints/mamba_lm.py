"""Published Mamba-1 checkpoints: their sizes and names, read from the tensors themselves.

mamba_ssm, and with it Cobra, says `backbone.embedding`; transformers and RoboMamba say `backbone.embeddings`; every
other name is the same. Names may have any prefix (`llm.`, `llm.mamba.`). The head is tied to the embedding.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import mode

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.errors import UserError
from deltaprune.tensors import Sizes

EMBEDDING = "backbone.embedding.weight"
HEAD = "lm_head.weight"
FLOAT32 = ("mixer.A_log", "mixer.D", "mixer.dt_proj.bias", "norm.weight", "norm_f.weight")


def kept_in_float32(name: str) -> bool:
    """Whether a tensor of the LM stays in float32 when the model is cast.

    A layer computes with A, D, dt's bias and the norms in float32 anyway: rounding them loses digits and saves 0.2 % of
    the memory. The originals round them (`vlm.to(dtype=bf16)`); from a checkpoint in bfloat16 nothing changes.
    """
    return name.endswith(FLOAT32)


def read_config(found: Mapping[str, Sizes], vocab_size: int) -> MambaConfig:
    """The LM's sizes, read from its tensors' shapes; where layers differ, the commonest size counts.

    Args:
        found: the checkpoint's names and shapes.
        vocab_size: how many tokens the tokenizer knows. The embedding has this many rows, or the next multiple of 8.

    Raises:
        UserError: these are not the tensors of a Mamba-1 LM, or the tokenizer belongs to another one.
    """
    d_model = _size(found, "mixer.in_proj.weight", 1)
    rank = _size(found, "mixer.dt_proj.weight", 1)
    config = MambaConfig(
        d_model=d_model,
        n_layers=1 + max(int(number) for name in found for number in re.findall(r"layers\.(\d+)\.mixer\.", name)),
        vocab_size=vocab_size,
        d_state=_size(found, "mixer.A_log", 1),
        d_conv=_size(found, "mixer.conv1d.weight", 2),
        expand=_size(found, "mixer.in_proj.weight", 0) // (2 * d_model),
    )
    config = config if config.rank == rank else replace(config, dt_rank=rank)
    embedding = find_embedding(found)
    rows = found[embedding][0] if embedding in found else vocab_size
    if rows not in (vocab_size, config.padded_vocab):
        raise UserError(
            f"The tokenizer knows {vocab_size} tokens, but the checkpoint's {embedding} has {rows} rows instead of "
            f"{config.padded_vocab}: give the tokenizer with which this LM was trained."
        )
    return config


def find_embedding(found: Iterable[str]) -> str:
    """The checkpoint's name for the embedding; if it has none, the name that is expected, with its prefix."""
    found = list(found)
    here = (name for name in found if re.search(r"(^|\.)backbone\.embeddings?\.weight$", name))
    return next(here, _prefix(found) + EMBEDDING)


def source_names(ours: Iterable[str], found: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor of the LM -> the checkpoint's name for it, in its own style and with its own prefix."""
    found = list(found)
    embedding, prefix = find_embedding(found), _prefix(found)
    return {name: embedding if name == EMBEDDING else prefix + name for name in ours}


def untie(config: MambaConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the head, and with the embedding padded by zero rows where it has the bare vocabulary.

    Raises:
        UserError: there is a head that differs from the embedding.
    """
    kept = dict(tensors)
    embedding = find_embedding(tensors)
    name = _prefix(tensors) + HEAD
    head = kept.pop(name, None)
    if embedding not in kept:
        return kept
    if head is not None and not _same_bits(head, kept[embedding]):
        raise UserError(
            f"{name} differs from {embedding}: this library runs LMs whose head is tied to the embedding, as Cobra's "
            "and RoboMamba's are."
        )
    missing = config.padded_vocab - len(kept[embedding])
    if len(kept[embedding]) == config.vocab_size and missing:
        kept[embedding] = F.pad(kept[embedding], (0, 0, 0, missing))
    return kept


def _prefix(found: Iterable[str]) -> str:
    """The prefix of mamba_ssm's names."""
    return next((match[1] for name in found if (match := re.match(r"((?:.*\.)?)backbone\.", name))), "")


def _same_bits(a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."]) -> bool:
    """Equal in shape, dtype and every bit, so that a NaN equals itself."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    same_memory = a.data_ptr() == b.data_ptr() and a.stride() == b.stride()  # saved while tied
    return same_memory or torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def _size(found: Mapping[str, Sizes], ending: str, axis: int) -> int:
    """The commonest size along an axis of the tensors of this name."""
    sizes = [shape[axis] for name, shape in found.items() if name.endswith(ending) and len(shape) > axis]
    if not sizes:
        raise UserError(
            f"The checkpoint holds no Mamba-1 LM: no tensor's name ends in {ending} with at least {axis + 1} axes."
        )
    return mode(sizes)
