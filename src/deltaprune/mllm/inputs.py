"""Checks of a model's input tensors: names, padding, and which image each row asks about."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from deltaprune.errors import UserError, did_you_mean

PIXELS = "pixel_values_"  # + the tower's name
SETTINGS = {"max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "prefix", "method"}  # of `VLM.generate`


def image_inputs(towers: Iterable[str]) -> set[str]:
    """The names of what describes images."""
    return {"image_key", *(PIXELS + tower for tower in towers)}


def check_names(inputs: Mapping[str, Any], towers: Iterable[str]) -> None:
    """Check that the model reads every input, and that images have the pixels of every tower, else a `UserError`."""
    known = {"input_ids", "attention_mask", "image_index"} | image_inputs(towers)
    for name in inputs:
        if name not in known:
            raise UserError(f"The model has no input {name!r}: {did_you_mean(name, known | SETTINGS)}.")
    pixels = [PIXELS + tower for tower in towers]
    missing = [name for name in pixels if name not in inputs]
    if missing and (len(missing) < len(pixels) or "image_index" in inputs):
        raise UserError(f"The image lacks {' and '.join(missing)}: pass the processor's output, generate(**inputs).")


def check_prompts(inputs: Mapping[str, Any]) -> None:
    """Check that every row of `input_ids` holds some text, else a `UserError`."""
    if inputs.get("input_ids") is None:
        raise UserError("generate needs input_ids: pass the processor's output, model.generate(**inputs).")
    empty = ~real_tokens(inputs["input_ids"], inputs.get("attention_mask")).any(1)
    if bool(empty.any()):
        raise UserError(f"Row {int(empty.int().argmax())} of input_ids holds no text: every row must say something.")


def real_tokens(ids: Int[Tensor, "B L"], mask: Tensor | None) -> Bool[Tensor, "B L"]:
    """The attention mask as booleans. Padding may come before or after a row's tokens, not between them."""
    if mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if mask.shape != ids.shape:
        raise UserError(
            f"attention_mask has shape {tuple(mask.shape)} and input_ids {tuple(ids.shape)}: they must be the same."
        )
    real = mask.bool()
    begins = real & ~torch.nn.functional.pad(real[:, :-1], (1, 0))
    split = begins.sum(1) > 1
    if bool(split.any()):
        row = int(split.int().argmax())
        raise UserError(f"attention_mask has padding between the tokens of row {row}: pad on the left or on the right.")
    return real


def which_image(index: Tensor | Sequence[int] | None, n_images: int, n_rows: int) -> Int[Tensor, "B"]:
    """The image of each row: as `image_index` says, else one image for all rows or one for each."""
    if index is None:
        if n_images not in (1, n_rows):
            raise UserError(f"{n_images} images for {n_rows} questions: give one, one per question, or image_index.")
        return torch.zeros(n_rows, dtype=torch.int64) if n_images == 1 else torch.arange(n_rows)
    index = torch.as_tensor(index)
    if len(index) != n_rows or not all(0 <= i < n_images for i in index.tolist()):
        raise UserError(
            f"image_index={index.tolist()} does not fit: for each of the {n_rows} rows it names one of the {n_images} "
            "images, counted from 0."
        )
    return index
