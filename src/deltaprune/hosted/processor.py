"""transformers' own processor and chat template, with the names that the commands call."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Int
from PIL.Image import Image
from tokenizers import Tokenizer
from torch import Tensor

from deltaprune.errors import UserError, in_words
from deltaprune.mllm.pictures import Picture, read_pictures
from deltaprune.mllm.processor import Inputs, Prompt
from deltaprune.mllm.prompts import IMAGES, parts

HERE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
BROKEN = (OSError, ValueError, TypeError, KeyError, StrictDataclassError)  # what transformers raises for bad files
NOT_TAKEN = ("token_type_ids",)  # some tokenizers give them, no model here takes them


class HostedProcessor:
    """Pictures and questions, or chats, to what `Hosted` takes.

    Args:
        processor: transformers' own; texts are padded on the left from here on.
    """

    def __init__(self, processor: Any):
        self.processor = processor
        self.words.padding_side = "left"
        if processor.chat_template is None:
            raise UserError(
                "The model's folder has no chat template, so that a question cannot be put as the model expects it: "
                "add chat_template.jinja."
            )

    @classmethod
    def read(cls, folder: Path) -> "HostedProcessor":
        """The processor of a folder.

        Raises:
            UserError: files are missing or damaged, or it needs a package that is not installed.
        """
        try:
            read = _read(folder)
        except (ImportError, AttributeError) as error:
            raise UserError(f"The processor in {folder} cannot be made here: {in_words(error)}.") from error
        except BROKEN as error:
            raise UserError(f"The processor in {folder} cannot be loaded: {in_words(error)}.") from error
        return cls(read)

    @property
    def words(self) -> Any:
        """transformers' tokenizer."""
        return self.processor.tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself, as `tokenizers` has it."""
        return self.words.backend_tokenizer

    def __call__(
        self,
        images: Picture | Sequence[Picture] | None = None,
        text: Prompt | Sequence[Prompt] = "",
        return_tensors: str = "pt",
    ) -> Inputs:
        """One row per text, padded on the left. A single image serves every row, else images and texts go in pairs.

        Args:
            images: one or several pictures, see `mllm.pictures`.
            text: questions, or chats as in `mllm.Processor`.
            return_tensors: "pt".

        Raises:
            UserError: an empty question, or images that do not fit the rows or the model.
        """
        rows: list[Prompt] = [text] if isinstance(text, str) or _is_chat(text) else list(text)  # pyright: ignore
        if not rows or not all(row.strip() for row in rows if isinstance(row, str)):
            raise UserError("A question is empty: every row of `text` must say something.")
        pictures = [] if images is None else read_pictures(images)
        if pictures and len(pictures) not in (1, len(rows)):
            raise UserError(f"{len(pictures)} images for {len(rows)} questions: give one image, or one per question.")
        prompts = [self.prompt(row, bool(pictures)) for row in rows]
        return self.encode(prompts, pictures * len(rows) if len(pictures) == 1 else pictures)

    def encode(self, prompts: Sequence[str], pictures: Sequence[Image]) -> Inputs:
        """Prompts in the model's template and the picture of each, or none at all -> what the model takes."""
        shown = [[picture] for picture in pictures] or None
        try:
            given = self.processor(images=shown, text=list(prompts), padding=True, return_tensors="pt")
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(f"The model's processor does not take this picture or text: {in_words(error)}.") from error
        return Inputs({name: value for name, value in given.items() if _is_taken(name, value)})

    def prompt(self, row: Prompt, image: bool | None = None) -> str:
        """A question or a chat in the model's own chat template, up to where the answer begins.

        A template that lets a model think aloud is asked not to (`enable_thinking=False`).

        Args:
            row: the question or chat.
            image: whether an image belongs to it; it goes before the text of the first message, unless the chat says
                where. By default a question has one, and a chat those that it places.

        Raises:
            UserError: the template cannot hold the chat.
        """
        chat = [{"role": "user", "content": row}] if isinstance(row, str) else row
        messages = [
            {"role": message.get("role"), "content": [dict(part) for part in parts(message)]} for message in chat
        ]
        placed = any(part["type"] in IMAGES for message in messages for part in message["content"])
        if messages and not placed and (isinstance(row, str) if image is None else image):
            messages[0]["content"].insert(0, {"type": "image"})
        thinks = {"enable_thinking": False} if "enable_thinking" in str(self.processor.chat_template) else {}
        try:
            return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **thinks)
        except Exception as error:  # a template raises what it likes
            raise UserError(f"The model's chat template cannot hold this chat: {in_words(error)}.") from error

    def decode(self, ids: Int[Tensor, "L"] | Sequence[int]) -> str:
        """New ids -> text, without special tokens and spaces at the ends."""
        return self.untidied(ids).strip()

    def untidied(self, ids: Int[Tensor, "L"] | Sequence[int]) -> str:
        """New ids -> text, without special tokens."""
        return self.words.decode(ids, skip_special_tokens=True)

    def batch_decode(self, ids: Int[Tensor, "B L"]) -> list[str]:
        """`decode` of every row."""
        return [self.decode(row) for row in ids]


def _is_chat(text: Any) -> bool:
    return isinstance(text, list | tuple) and len(text) > 0 and all(isinstance(message, dict) for message in text)


def _is_taken(name: str, value: object) -> bool:
    return isinstance(value, torch.Tensor) and name not in NOT_TAKEN


def _read(folder: Path) -> Any:
    """transformers' own processor; without its parts for video and audio where what these need is missing."""
    from transformers import AutoConfig, AutoProcessor
    from transformers.utils.import_utils import is_torchvision_available

    from deltaprune.hosted.processors import pictures_only

    if is_torchvision_available():
        with contextlib.suppress(OSError, ValueError, ImportError):
            return AutoProcessor.from_pretrained(folder, **HERE)
    kind = AutoConfig.from_pretrained(folder, **HERE).model_type
    return pictures_only(kind).read(folder, **HERE)
