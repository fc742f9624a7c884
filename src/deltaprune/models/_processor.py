"""Images and questions -> the tensors `generate` takes, and ids back to text."""

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from deltaprune._registry import UserError
from deltaprune.models._mllm import MLLMConfig
from deltaprune.models._prompts import TEMPLATES
from deltaprune.vision.images import check_image, to_rgb
from deltaprune.vision.pixels import normalise, resize_naive


class Inputs(dict[str, Any]):
    """The keyword arguments of `generate`; `.to(device)` moves its tensors.

    Keys: `input_ids`, `attention_mask` `(B, L)` (text only, padded on the left; the image comes first implicitly),
    `image_index (B,)` (the image each row asks about), `image_key (I,)` (a seed from each image's content), and
    `pixel_values_<tower> (I, 3, H, W)` float32.
    """

    def to(self, device: torch.device | str) -> "Inputs":
        """The same inputs on another device."""
        return Inputs({key: value.to(device) for key, value in self.items()})


class Processor:
    """Resizes and normalises for each tower, wraps questions in the model's template, tokenizes."""

    def __init__(self, config: MLLMConfig, tokenizer: Tokenizer, eos: str = "<|endoftext|>"):
        self.config = config
        self.tokenizer = tokenizer
        eos_id = tokenizer.token_to_id(eos)
        if eos_id is None:
            raise UserError(f"The tokenizer has no {eos!r} token, which ends every answer.")
        self.eos_id = eos_id

    def __call__(
        self,
        images: Image.Image | Sequence[Image.Image] | None = None,
        text: str | Sequence[str] = "",
        image_index: Sequence[int] | None = None,
        return_tensors: str = "pt",
    ) -> Inputs:
        """One row per text. A single image serves every row; else images and texts go in pairs or by `image_index`."""
        if return_tensors != "pt":
            raise UserError(f'return_tensors={return_tensors!r} is not supported: only "pt" is.')
        texts = [text] if isinstance(text, str) else list(text)
        if not texts or not all(t.strip() for t in texts):
            raise UserError("A question is empty: every row of `text` must say something.")
        inputs = self.encode_text(texts)
        if images is None:
            return inputs
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        if image_index is None:
            if len(pictures) not in (1, len(texts)):
                rule = "give one image, one per question, or image_index"
                raise UserError(f"{len(pictures)} images for {len(texts)} questions: {rule}.")
            image_index = [0] * len(texts) if len(pictures) == 1 else range(len(texts))
        inputs["image_index"] = torch.tensor(list(image_index))
        inputs.update(self.encode_images(pictures))
        return inputs

    def encode_text(self, texts: Sequence[str]) -> Inputs:
        """Questions -> `input_ids` and `attention_mask`, padded on the left."""
        template = TEMPLATES[self.config.template]
        rows = [self.tokenizer.encode(template(text), add_special_tokens=False).ids for text in texts]
        longest = max(map(len, rows))
        ids = [[self.eos_id] * (longest - len(row)) + row for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        return Inputs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))

    def encode_images(self, images: Sequence[Image.Image]) -> Inputs:
        """RGB images -> `pixel_values_<tower>` and `image_key`."""
        for image in images:
            check_image(image)
        rgb = [to_rgb(image) for image in images]
        inputs = Inputs(image_key=torch.tensor([zlib.crc32(image.tobytes()) for image in rgb]))
        for name, tower in self.config.towers.items():
            pixels = torch.stack([resize_naive(image, tower.image_size) for image in rgb])
            inputs[f"pixel_values_{name}"] = normalise(pixels, tower)
        return inputs

    def decode(self, ids: Int[Tensor, "L"] | Sequence[int]) -> str:
        """Ids up to the first end-of-text -> text."""
        row = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        row = row[: row.index(self.eos_id)] if self.eos_id in row else row
        return self.tokenizer.decode(row, skip_special_tokens=True).strip()

    def batch_decode(self, ids: Int[Tensor, "B L"]) -> list[str]:
        """`decode` of every row."""
        return [self.decode(row) for row in ids]
