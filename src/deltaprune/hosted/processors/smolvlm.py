"""SmolVLM: the processor asks for num2words, which writes out the number of a video's frames."""

from typing import Any

from transformers import ProcessorMixin

from deltaprune.hosted.processors import PicturesOnly, named, registry


@registry.register("smolvlm")
class SmolVLMPictures(PicturesOnly):
    """Tiles of a picture, each of `image_seq_len` visual tokens, then the whole picture, with marks between them.

    Args:
        image_processor, tokenizer: the parts.
        image_seq_len: visual tokens of a tile.
        chat_template: the folder's.
    """

    def __init__(
        self, image_processor: Any, tokenizer: Any, image_seq_len: int = 169, chat_template: str | None = None
    ):
        self.fake_image_token = named(tokenizer, "fake_image_token", "<fake_token_around_image>")
        self.global_image_token = named(tokenizer, "global_image_token", "<global-img>")
        self.image_token = named(tokenizer, "image_token", "<image>")
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.image_seq_len = image_seq_len
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    def apply_chat_template(self, *chat: Any, **how: Any) -> Any:
        """As any processor's; SmolVLM's own looks for videos."""
        return ProcessorMixin.apply_chat_template(self, *chat, **how)
