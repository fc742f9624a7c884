"""From a processor's tensors and an image's visual tokens to packed rows."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.mllm.inputs import PIXELS, check_names, real_tokens, which_image
from deltaprune.prefix import ImagePrefix
from deltaprune.protocols import Model
from deltaprune.rows import Rows


def check_images(inputs: Mapping[str, Any], prefix: object, visual: Tensor | None, towers: Iterable[str]) -> None:
    """Check that the images come once, as pixels of every tower, visual tokens or a prefix, else a `UserError`."""
    if prefix is not None and not isinstance(prefix, ImagePrefix):
        raise UserError(f"prefix={prefix!r:.60} is not an ImagePrefix: encode_image makes one, method= prunes.")
    pixels = any(key.startswith(PIXELS) for key in inputs)
    if prefix is not None and pixels:
        raise UserError("A prefix stands in place of pixels: with prefix=..., pass processor(text=...) alone.")
    seen = prefix is not None or (visual is not None and not pixels)
    check_names(inputs, () if seen else towers)


def prompt_rows(lm: Model, inputs: Mapping[str, Any], visual: Float[Tensor, "I P d"] | None) -> Rows:
    """The rows of every prompt, where the LM is: its image first, then its text, without padding.

    Args:
        lm: embeds the text.
        inputs: `input_ids`, and where there are any `attention_mask`, `image_index` and `image_key`.
        visual: the images' visual tokens; None without images.

    Raises:
        UserError: padding between tokens, or an `image_index` that does not fit the images.
    """
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    mask = real_tokens(ids, mask).to(lm.device)
    ids = ids.to(lm.device)
    text = list(lm.embed(ids[mask]).split(mask.sum(1).tolist()))
    if visual is None:
        return Rows.pack([rows[:0] for rows in text], text)
    index = which_image(inputs.get("image_index"), len(visual), len(ids))
    key = inputs.get("image_key", torch.zeros(len(visual), dtype=torch.int64, device=ids.device))
    return Rows.pack([visual[i] for i in index.tolist()], text, key[index.to(key.device)].to(lm.device))


def image_rows(visual: Float[Tensor, "I P d"], key: Int[Tensor, "I"] | None) -> Rows:
    """The rows of every image alone, without text; `key` is the processor's `image_key`."""
    no_text = visual.new_zeros(0, visual.shape[-1])
    return Rows.pack(list(visual), [no_text] * len(visual), None if key is None else key.to(visual.device))
