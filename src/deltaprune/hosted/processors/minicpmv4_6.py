"""MiniCPM-V 4.6: the processor reads settings of its part for video."""

from typing import Any

from transformers import ProcessorMixin

from deltaprune.hosted.processors import PicturesOnly, registry

TOKENS = ("image", "image_start", "image_end", "slice_start", "slice_end", "image_id_start", "image_id_end")


@registry.register("minicpmv4_6")
class MiniCPMV46Pictures(PicturesOnly):
    """The whole picture, then its slices, with marks around each; one visual token for 16 patches, or 4.

    Args:
        image_processor, tokenizer: the parts.
        chat_template: the folder's.
    """

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None):
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
        self.slice_mode = image_processor.slice_mode
        self.default_use_image_id = image_processor.use_image_id
        self.image_token_id = tokenizer.image_token_id
        for name in TOKENS:
            setattr(self, f"{name}_token", getattr(tokenizer, f"{name}_token"))
