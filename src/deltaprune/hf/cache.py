"""What `generate` hands from step to step: a `Prefilled`, whose size does not grow with the tokens."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast

from deltaprune.errors import UserError
from deltaprune.generate import NonFiniteLogits, finite, overflowed
from deltaprune.prefill import Prefilled
from deltaprune.prefix import ImagePrefix
from deltaprune.protocols import Step
from deltaprune.vlm import VLM
from deltaprune.walk import prepared

NAMES = ("cache", "past_key_values")  # transformers renamed the second to the first in 5.24
NAME = next(name for name in NAMES if name in {field.name for field in fields(CausalLMOutputWithPast)})


@dataclass
class StateCache:
    """The `cache` of a recurrent model; before transformers 5.24 its `past_key_values`.

    Attributes:
        prefilled: the state after all columns seen, None before the first. A single step leaves its `hidden` as it was:
            nothing reads it again.
        length: columns of `input_ids` seen, padding included.
        waits: whether the logits of a step are checked at the next one, by when a GPU has them: `generate` waits for it
            once per token anyway, and twice would hold it up.
    """

    prefilled: Prefilled | None = None
    length: int = 0
    waits: bool = False
    _finite: Bool[Tensor, ""] | None = None
    _step: Step | None = None  # within `generating`, where the weights stay what they are

    is_compileable = False  # asked by `generate`: there is nothing to gain from compiling a step,
    is_croppable = False  # and a recurrence cannot forget its last token
    is_linear = (False,)  # where all layers are, `generate` of 5.24 gives again the columns that the cache has seen

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns of `input_ids` that need not be given again."""
        return self.length

    def reorder_cache(self, beam_idx: Int[Tensor, "B"]) -> None:
        """Row b goes on from what row `beam_idx[b]` was (beam search)."""
        assert self.prefilled is not None
        self.prefilled = self.prefilled.repeat(beam_idx)

    def extend(self, vlm: VLM, inputs: Mapping[str, Tensor], prefix: ImagePrefix | None = None) -> Float[Tensor, "B V"]:
        """Read a prompt, or what follows it; gives the logits after each row's last token.

        Raises:
            UserError: inputs that do not fit the model, the prefix or what the cache holds.
            NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
        """
        self.check(vlm)
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        if self.prefilled is None:
            self.prefilled = vlm.start(inputs, prefix, text_follows=True)
        elif inputs.keys() - {"input_ids", "attention_mask"} or prefix is not None:
            raise UserError("The cache already holds the image and some text: give input_ids alone.")
        elif ids.shape[1] > 1 or (mask is not None and not bool(mask.all())):
            self.prefilled = vlm.start(inputs, text_follows=True, resume=self.prefilled)
        else:
            logits, states = (self._step or vlm.model.lm.step)(ids[:, 0], list(self.prefilled.states))
            seen = tuple(n + 1 for n in self.prefilled.seen)
            self.prefilled = replace(self.prefilled, states=tuple(states), seen=seen)
            self.length += 1
            rows = finite(logits)
            self._finite = rows.all()
            if not self.waits:
                self.check(vlm)
            return torch.where(rows[:, None], logits, 0)  # a GPU could not go on after drawing from NaN
        self.length += ids.shape[1]
        logits = vlm.next_logits(self.prefilled)
        self.prefilled = replace(self.prefilled, checks=())
        return logits

    @contextmanager
    def generating(self, vlm: VLM) -> Iterator[None]:
        """Within it steps look up their weights once, and each is checked at the next one, see `waits`."""
        self.waits, self._step = _on_a_gpu(vlm), prepared(vlm.model.lm)
        try:
            yield
        finally:
            self.waits, self._step = False, None
        self.check(vlm)

    def check(self, vlm: VLM) -> None:
        """The logits of the last step were finite, else a `NonFiniteLogits`."""
        flag, self._finite = self._finite, None
        if flag is not None and not bool(flag):
            raise NonFiniteLogits(overflowed(vlm.model.lm))


def take_cache(arguments: dict[str, Any]) -> StateCache | None:
    """The cache among `arguments`, under either of its names; both are removed.

    Raises:
        UserError: two of them, or one that is not an earlier output's.
    """
    given = [cache for name in NAMES if (cache := arguments.pop(name, None)) is not None]
    if len(given) > 1:
        raise UserError(f"cache and past_key_values are two names of one argument: give {NAME} alone.")
    if given and not isinstance(given[0], StateCache):
        raise UserError(f"A {type(given[0]).__name__} is no cache of this model: give {NAME} of an earlier output.")
    return given[0] if given else None


def _on_a_gpu(vlm: VLM) -> bool:
    return vlm.device.type != "cpu"
