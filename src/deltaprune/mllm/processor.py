"""Images and questions -> the tensors `generate` takes, and ids back to text."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.mllm.network import MLLMConfig
from deltaprune.mllm.pictures import Pictures, read_pictures
from deltaprune.mllm.prompts import IMAGES, Conversation, ask_in, opening, parts, render
from deltaprune.mllm.templates import template_text
from deltaprune.vision.pixels import normalise, resize

EOS = "<|endoftext|>"
GLUED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
Prompt = str | Conversation  # a question, or a chat whose last message is the user's


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
    """Resizes and normalises for each tower, wraps questions in the model's template, tokenizes.

    Attributes:
        chat_template: the template's Jinja text: the model folder's own, else the one that `config.template` names.
    """

    def __init__(self, config: MLLMConfig, tokenizer: Tokenizer, eos: str = EOS, chat_template: str | None = None):
        self.config = config
        self.tokenizer = tokenizer
        self.chat_template = template_text(config.template) if chat_template is None else chat_template
        eos_id = tokenizer.token_to_id(eos)
        if eos_id is None:
            raise UserError(f"The tokenizer has no {eos!r} token, which ends every answer.")
        self.eos_id = eos_id

    def __call__(
        self,
        images: Pictures | None = None,
        text: Prompt | Sequence[Prompt] = "",
        image_index: Sequence[int] | None = None,
        return_tensors: str = "pt",
    ) -> Inputs:
        """One row per text. A single image serves every row; else images and texts go in pairs or by `image_index`.

        Args:
            images: one or several pictures: paths, PIL images, arrays or tensors (shapes and levels: `array_image`).
            text: questions. A row may also be a chat, `[{"role": "user", "content": "What is this?"}, {"role":
                "assistant", "content": "A cup"}, {"role": "user", "content": "Which colour?"}]`, with contents that are
                text or lists of parts; a part `{"type": "image"}` in its first message is the row's image.
            image_index: the image of each row.
            return_tensors: "pt".

        Raises:
            UserError: an empty question, a chat the template cannot hold, or images that do not fit the rows.
        """
        if return_tensors != "pt":
            raise UserError(f'return_tensors={return_tensors!r} is not supported: only "pt" is.')
        texts = _rows(text)
        inputs = self.encode_text(texts)
        if images is None:
            return inputs
        pictures = read_pictures(images)
        if image_index is None:
            if len(pictures) not in (1, len(texts)):
                rule = "give one image, one per question, or image_index"
                raise UserError(f"{len(pictures)} images for {len(texts)} questions: {rule}.")
            image_index = [0] * len(texts) if len(pictures) == 1 else range(len(texts))
        inputs["image_index"] = torch.tensor(list(image_index))
        inputs.update(self.encode_images(pictures))
        return inputs

    def encode_text(self, texts: Sequence[Prompt]) -> Inputs:
        """Questions or chats -> `input_ids` and `attention_mask`, padded on the left."""
        return self.encode_prompts([self.prompt(row) for row in texts])

    def prompt(self, row: Prompt) -> str:
        """A question or a chat in the model's template; a text that begins like the template is left unchanged.

        Raises:
            UserError: a chat the template cannot hold, or one that brings its own pictures.
        """
        if isinstance(row, str):
            return row if row.startswith(opening(self.chat_template)) else ask_in(self.chat_template, row)
        prompt = render(row, self.chat_template)
        if any(len(part) > 1 for message in row for part in parts(message) if part["type"] in IMAGES):
            raise UserError("A part of the chat holds a picture: write {'type': 'image'} there and pass it as images=.")
        return prompt

    def encode_prompts(self, prompts: Sequence[str]) -> Inputs:
        """Prompts in the model's template -> `input_ids` and `attention_mask`, padded on the left."""
        return self.pad([self.tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts])

    def pad(self, rows: Sequence[Sequence[int]]) -> Inputs:
        """Rows of ids -> `input_ids` and `attention_mask`, padded on the left."""
        longest = max(map(len, rows))
        ids = [[self.eos_id] * (longest - len(row)) + list(row) for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        return Inputs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))

    def encode_images(self, images: Pictures) -> Inputs:
        """Pictures, as in `__call__`, -> `pixel_values_<tower>` and `image_key`."""
        return encode_images(self.config, images)

    def decode(self, ids: Int[Tensor, "L"] | Sequence[int]) -> str:
        """Ids up to the first end-of-text -> text, with `clean_up` applied and without spaces at the ends."""
        return clean_up(self.untidied(ids)).strip()

    def untidied(self, ids: Int[Tensor, "L"] | Sequence[int]) -> str:
        """Ids up to the first end-of-text -> text as the tokenizer gives it."""
        row = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        row = row[: row.index(self.eos_id)] if self.eos_id in row else row
        return self.tokenizer.decode(row, skip_special_tokens=True)

    def batch_decode(self, ids: Int[Tensor, "B L"]) -> list[str]:
        """`decode` of every row."""
        return [self.decode(row) for row in ids]


def clean_up(text: str) -> str:
    """Remove the spaces in "a ." and "it 's": those of each entry of `GLUED`, one entry after the other.

    Cobra and RoboMamba decode with `clean_up_tokenization_spaces` switched on, and their published answers were graded
    in this form. transformers has since switched the option off, because it is destructive for such tokenizers.
    """
    for marks in GLUED:
        text = text.replace(marks, marks.strip())
    return text


def _rows(text: Any) -> list[Prompt]:
    """One or several questions or chats, none of them empty."""
    several = isinstance(text, Iterable) and not isinstance(text, str | Mapping) and not _is_chat(text)
    rows: list[Any] = list(text) if several else [text]
    for row in rows:
        if not isinstance(row, str) and not _is_chat(row):
            raise UserError(f"A row of `text` is a question or a chat (a list of messages), not {row!r:.60}.")
    if not rows or not all(row.strip() for row in rows if isinstance(row, str)):
        raise UserError("A question is empty: give text=QUESTION, and no row of it empty.")
    return rows


def _is_chat(row: Any) -> bool:
    return isinstance(row, list | tuple) and len(row) > 0 and all(isinstance(message, Mapping) for message in row)


def encode_images(config: MLLMConfig, images: Any) -> Inputs:
    """Pictures -> `pixel_values_<tower>`, resized and normalised as each tower wants them, and `image_key`.

    Raises:
        UserError: see `read_pictures`, and `vision.pixels.resize` for shapes that a tower cannot take.
    """
    rgb = read_pictures(images)
    inputs = Inputs(image_key=torch.tensor([zlib.crc32(image.tobytes()) for image in rgb]))
    for name, tower in config.towers.items():
        pixels = torch.stack([resize(image, tower) for image in rgb])
        inputs[f"pixel_values_{name}"] = normalise(pixels, tower)
    return inputs
