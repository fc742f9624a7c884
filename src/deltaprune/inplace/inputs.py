"""The arguments of a model's forward call as pruning reads them, and what of them cannot work, in a sentence."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.inplace.families import Family

PACKED = ("cu_seq_lens_q", "seq_idx")


@dataclass(frozen=True)
class Inputs:
    """One call.

    Attributes:
        ids: token ids, `(B, T)`.
        lengths: how many of each sample's T are no pads; pads are on the left.
        visual: which are visual tokens, `(B, T)`; None where there are none.
        earlier: which rows before these are no pads, `(B, n)`; None where nothing is told about them.
        logits: of how many rows at the end logits are asked for; 0 for all.
    """

    ids: Int[Tensor, "B T"]
    lengths: tuple[int, ...]
    visual: Bool[Tensor, "B T"] | None
    earlier: Bool[Tensor, "B n"] | None
    logits: int = 0

    @classmethod
    def of(cls, model: Any, family: Family, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Inputs":
        """What a call of `model` was given; a step of decoding reads nothing from the device.

        Raises:
            UserError: something that cannot be pruned, or not rightly.
        """
        given = {**inspect.signature(model.forward).bind_partial(*args).arguments, **kwargs}
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        if ids is None:
            raise UserError("A pruned model needs input_ids, which tell its visual tokens: inputs_embeds do not.")
        if isinstance(mask, dict) or (mask is not None and mask.ndim != 2):
            raise UserError(
                "A pruned model makes its own masks for the rows that are left: give a 2-D attention_mask, ones for "
                "tokens and zeros for pads on the left, and no static cache."
            )
        if any(given.get(name) is not None for name in PACKED):
            raise UserError("Packed samples (cu_seq_lens_q, seq_idx) cannot be pruned in place: give a padded batch.")
        batch, total = ids.shape
        mask = None if mask is None else mask.to(ids.device).bool()
        earlier = None if mask is None or mask.shape[1] == total else mask[:, :-total]
        if total == 1:
            return cls(ids, (1,) * batch, None, earlier)
        visual = torch.isin(ids, torch.tensor(family.visual_ids(model.config), device=ids.device))
        lengths = (total,) * batch if mask is None else _left_padded(mask[:, -total:])
        if not visual.any():
            return cls(ids, lengths, None, earlier)
        _check_prompt(visual, given)
        return cls(ids, lengths, visual, earlier, given.get("logits_to_keep", 0))


def _left_padded(mask: Tensor) -> tuple[int, ...]:
    """The lengths of samples with their pads on the left, else a `UserError`."""
    if not bool((mask[:, 1:] >= mask[:, :-1]).all()):
        raise UserError("A pruned batch has its pads on the left: set processor.tokenizer.padding_side = 'left'.")
    return tuple(mask.sum(1).tolist())


def _check_prompt(visual: Tensor, given: Mapping[str, Any]) -> None:
    if given.get("labels") is not None:
        raise UserError("Logits of a pruned prompt are those of the rows that are left, which labels do not fit.")
    keep = given.get("logits_to_keep", 0)
    if isinstance(keep, Tensor):
        raise UserError("logits_to_keep counts rows from the end; places in the prompt do not fit a pruned one.")
    if bool(visual[:, -1].any()):
        raise UserError(
            "The prompt ends within an image, as with prefill_chunk_size: a pruned prompt is run in one piece and ends "
            "with text."
        )
    if keep > 1 and bool(visual[:, -keep:].any()):
        raise UserError(f"logits_to_keep={keep} reaches into an image, of which not all rows are left.")
