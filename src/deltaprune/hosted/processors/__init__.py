"""transformers' processors for pictures alone: without their parts for video and audio, and the packages these need.

A family whose processor takes those parts for granted has a file here, found by `config.model_type`; two of them also
make their own pictures, since transformers makes them with torchvision only.
"""

from pathlib import Path
from typing import Any, ClassVar

from transformers import AutoTokenizer, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from deltaprune.registry import Registry


class PicturesOnly(ProcessorMixin):
    """Goes in front of a family's own class, which it leaves as it is but for its parts.

    Class attribute `pictures`: what makes the pictures, where it is not transformers' own.
    """

    pictures: ClassVar[type[BaseImageProcessor] | None] = None

    @classmethod
    def get_attributes(cls) -> list[str]:
        """The parts, in the order in which they are handed over."""
        return ["image_processor", "tokenizer"]

    @classmethod
    def read(cls, folder: str | Path, **how: Any) -> Any:
        """The processor of a folder, whatever version of transformers wrote it.

        Args:
            folder: with the processor's and the tokenizer's files.
            how: as for transformers' `from_pretrained`.
        """
        if cls.pictures is None:
            return cls.from_pretrained(folder, **how)
        settings, _ = cls.get_processor_dict(folder, **how)
        parts = [cls.pictures.from_pretrained(folder, **how), AutoTokenizer.from_pretrained(folder, **how)]
        return cls.from_args_and_dict(parts, settings)


registry: Registry[type[PicturesOnly]] = Registry("processor", "deltaprune.hosted.processors", PicturesOnly)


def pictures_only(kind: str) -> Any:
    """The class of a family's processor without its parts for video and audio."""
    import transformers
    from transformers.models.auto import processing_auto

    known: Any = processing_auto
    whole: Any = getattr(transformers, known.PROCESSOR_MAPPING_NAMES[kind])
    ours = registry[kind] if kind in registry.names() else PicturesOnly
    return type(whole.__name__, (ours, whole), {})


def named(tokenizer: Any, name: str, usual: str) -> str:
    """A token that the tokenizer may have under a name, else what it is usually called."""
    return getattr(tokenizer, name, None) or usual
