"""`Processor` as transformers sees it: a `ProcessorMixin` that gives a `BatchFeature` and reads chats."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

from deltaprune.errors import UserError
from deltaprune.hf.config import DeltapruneConfig
from deltaprune.hf.pictures import picture_of, read_all
from deltaprune.mllm.pictures import Picture
from deltaprune.mllm.processor import EOS, Processor, Prompt
from deltaprune.mllm.prompts import IMAGES, Conversation, parts, render
from deltaprune.mllm.templates import template_text

HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")  # where files come from


class DeltapruneProcessor(ProcessorMixin):
    """Images and questions, or chats, to what `generate` takes; ids back to text.

    Args:
        tokenizer: with `<|endoftext|>` as its end and padding.
        config: the model's.
        chat_template: a Jinja text; by default the one that the configuration names.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: DeltapruneConfig, chat_template: str | None = None):
        super().__init__(tokenizer, chat_template=chat_template or template_text(config.mllm.template))
        self.config = config
        tokenizer.chat_template = self.chat_template
        tokenizer.clean_up_tokenization_spaces = True  # as the originals decode, see `clean_up`
        tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output = True

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> "DeltapruneProcessor":
        """From a model folder or a repository; the configuration is the processor's own, else the model's."""
        hub = {name: kwargs[name] for name in HUB if name in kwargs}
        saved, _ = cls.get_processor_dict(pretrained_model_name_or_path, **hub)
        if "config" in saved:
            config = DeltapruneConfig(**saved["config"])
        else:
            config = DeltapruneConfig.from_pretrained(pretrained_model_name_or_path, **hub)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            pretrained_model_name_or_path, eos_token=EOS, pad_token=EOS, padding_side="left", **hub
        )
        template = saved.get("chat_template")  # a mapping where a folder holds several
        return cls(tokenizer, config, template.get("default") if isinstance(template, Mapping) else template)

    @property
    def template(self) -> str:
        """The name of the prompt's form."""
        return self.config.mllm.template

    @property
    def _text(self) -> str:
        """The chat template, which may be set anew."""
        if not isinstance(self.chat_template, str):
            raise UserError("processor.chat_template is no Jinja text: set one, or load the processor again.")
        return self.chat_template

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        images: Picture | Sequence[Picture] | Sequence[Sequence[Picture]] | None = None,
        text: Prompt | Sequence[Prompt] = "",
        *,
        image_index: Sequence[int] | None = None,
        return_tensors: str = "pt",
        padding: bool | str = True,
        **unknown: Any,
    ) -> BatchFeature:
        """One row per text, padded on the left; see `Processor`.

        Args:
            images: paths, web addresses, base64 texts, PIL images, arrays or tensors: one for all rows, one for each
                (also as lists of one), or as many as `image_index` names.
            text: questions, chats, or prompts that `apply_chat_template` gave.
            image_index: the image of each row.
            return_tensors: "pt".
            padding: rows are always padded to the longest.

        Raises:
            UserError: an unknown argument, an empty text, or images that do not fit the texts.
        """
        for name in (name for name, value in unknown.items() if value is not None):
            raise UserError(f"The processor has no argument {name!r}: it takes images, text and image_index.")
        if padding not in (True, False, "longest"):
            raise UserError(f"padding={padding!r} is not supported: rows are padded to the longest, padding=True.")
        inner = Processor(self.config.mllm, self.tokenizer.backend_tokenizer, chat_template=self._text)
        inputs = inner(None if images is None else read_all(images), text, image_index, return_tensors)
        if "image_index" in inputs and torch.equal(inputs["image_index"], torch.arange(len(inputs["input_ids"]))):
            del inputs["image_index"]  # one image per row needs no index, and such batches can be put together
        return BatchFeature(dict(inputs))

    def apply_chat_template(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        conversation: Conversation | Sequence[Conversation],
        chat_template: str | None = None,
        *,
        continue_final_message: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = "pt",
        processor_kwargs: dict[str, Any] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: Any,
    ) -> Any:
        """A chat, or several -> prompts in the model's template, or with `tokenize` what `generate` takes.

        Args:
            conversation: messages `{"role": ..., "content": text or parts}`; the first may hold an image, as
                `{"type": "image", "image": picture}` or with a path, an address or base64 text.
            chat_template: the template is the model's.
            continue_final_message: go on writing the assistant's last message.
            tokenize: ids instead of text; with `return_dict` masks and images as well.
            return_tensors: "pt".
            processor_kwargs, kwargs: for `__call__`.
            add_generation_prompt: the prompt always opens the assistant's turn.

        Raises:
            UserError: a chat the template cannot hold, or images in some chats only.
        """
        if chat_template is not None:
            raise UserError(f"chat_template cannot be chosen: the model was trained on its {self.template!r} template.")
        single = len(conversation) == 0 or isinstance(conversation[0], Mapping)
        chats: list[Any] = [conversation] if single else list(conversation)
        prompts = [render(chat, self._text, continue_final_message) for chat in chats]
        if not tokenize:
            return prompts[0] if single else prompts
        images = [picture_of(part) for chat in chats for part in parts(chat[0]) if part["type"] in IMAGES]
        if len(images) not in (0, len(chats)):
            raise UserError(
                f"{len(images)} of {len(chats)} chats hold an image: give one to each of them, or none at all."
            )
        inputs = self(
            images or None,
            prompts,
            return_tensors="pt" if return_tensors in (None, "auto") else return_tensors,
            **{**(processor_kwargs or {}), **kwargs},
        )
        return inputs if return_dict else inputs["input_ids"]
