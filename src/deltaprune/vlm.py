"""What users hold in their hands: `load()` gives a `VLM` and its processor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from deltaprune._registry import UserError, did_you_mean
from deltaprune.generate import Sample, Sampler, generate, greedy
from deltaprune.models import registry
from deltaprune.models._folder import load_folder
from deltaprune.models._mllm import MLLM, MLLMConfig
from deltaprune.models._processor import Processor
from deltaprune.prefill import Prefilled, prefill
from deltaprune.stages import Method, Shape, Stage
from deltaprune.tokens import Tokens

PIXELS = "pixel_values_"


class VLM:
    """A model, its end-of-text id and the active method.

        with dp.DTP(keep=0.5)(model):
            ids = model.generate(**processor(images=image, text=question), max_new_tokens=16)

    Attributes:
        method: the active pruning method, None for none; set it through `with method(model):`.
        last: the `Prefilled` of the last `generate`: which tokens were kept, for who wants to look.
    """

    def __init__(self, model: MLLM, eos_id: int):
        self.model = model
        self.eos_id = eos_id
        self.method: Method | None = None
        self.last: Prefilled | None = None

    @property
    def config(self) -> MLLMConfig:
        """Sizes and plan."""
        return self.model.config

    @property
    def shape(self) -> Shape:
        """What a method may know."""
        return self.config.shape

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.lm.backbone.embedding.weight.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "VLM":
        """Move or cast the weights in place; A, D and the scan stay in float32 arithmetic."""
        self.model.to(device=device, dtype=dtype)
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The active method's stages on this model."""
        return () if self.method is None else self.method.checked_stages(self.shape)

    @torch.no_grad()
    def see(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """The images' visual tokens `(I, P, d_model)`, or None where there is no image."""
        pixels = {key.removeprefix(PIXELS): value for key, value in inputs.items() if key.startswith(PIXELS)}
        return self.model.encode(pixels) if pixels else None

    @torch.no_grad()
    def pack(self, inputs: Mapping[str, Tensor], visual: Tensor | None = None) -> Tokens:
        """Processor outputs -> packed tokens: each row's image, then its text; padding is left behind.

        Args:
            inputs: what the processor gave.
            visual: the result of `see`, if it is at hand.
        """
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        text = [self.model.lm.embed(row[keep]) for row, keep in zip(ids, mask, strict=True)]
        visual = self.see(inputs) if visual is None else visual
        if visual is None:
            return Tokens.pack([rows[:0] for rows in text], text)
        index = inputs.get("image_index", torch.arange(len(ids)))
        key = inputs.get("image_key", torch.zeros(len(visual), dtype=torch.int64, device=ids.device))
        return Tokens.pack([visual[i] for i in index.tolist()], text, key[index])

    def prefill(self, tokens: Tokens, resume: Prefilled | None = None) -> Prefilled:
        """Run packed tokens with the active method."""
        return prefill(self.model.lm, tokens, self.stages, resume)

    @torch.no_grad()
    def encode_image(self, inputs: Mapping[str, Tensor], visual: Tensor | None = None) -> Prefilled:
        """Run the images alone, pruned by the active method: what every later question can start from.

        Args:
            inputs: what the processor gave; only pixels and image keys are read.
            visual: the result of `see`, if it is at hand.
        """
        visual = self.see(inputs) if visual is None else visual
        if visual is None:
            raise UserError("encode_image was given no image: pass the processor's output for at least one.")
        empty = visual.new_zeros(0, visual.shape[-1])
        tokens = Tokens.pack(list(visual), [empty] * len(visual), inputs.get("image_key"))
        return prefill(self.model.lm, tokens, self.stages, awaits_text=True)

    def generate(
        self,
        max_new_tokens: int = 16,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        prefix: Prefilled | None = None,
        **inputs: Any,
    ) -> Int[Tensor, "B L"]:
        """Answer: new ids `(B, L)`, rows that end early filled up with end-of-text.

        Args:
            max_new_tokens: upper bound of L.
            do_sample, temperature, top_k, top_p: sampling; greedy when `do_sample` is off.
            prefix: `encode_image`'s result under the same method; `inputs` then hold no pixels and `image_index`
                tells which image each question is about.
            inputs: the processor's output.
        """
        if "input_ids" not in inputs:
            raise UserError("generate needs input_ids: pass the processor's output, model.generate(**inputs).")
        sampler: Sampler = Sample(temperature, top_k, top_p) if do_sample else greedy
        if prefix is not None:
            index = inputs.pop("image_index", torch.zeros(len(inputs["input_ids"]), dtype=torch.int64))
            prefix = prefix.repeat(index)
        self.last = self.prefill(self.pack(inputs), prefix)
        return generate(self.model.lm, self.last, self.eos_id, max_new_tokens, sampler)


def load(source: str | Path = "bundled") -> tuple[VLM, Processor]:
    """A model and its processor, from a known name or from a model folder.

    Raises:
        UserError: neither a known name nor a folder.
    """
    if str(source) and Path(source).is_dir():
        model, processor = load_folder(Path(source))
    elif str(source) in registry.names():
        model, processor = registry[str(source)].load()
    else:
        known = did_you_mean(str(source), registry.names())
        raise UserError(f"There is no model {str(source)!r}: it is neither a folder nor a known name; {known}.")
    return VLM(model, processor.eos_id), processor
