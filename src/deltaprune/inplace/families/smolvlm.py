"""SmolVLM: attention alone."""

from typing import ClassVar

from deltaprune.inplace.families import Family, registry


@registry.register("smolvlm")
class SmolVLM(Family):
    """The text model is a LLaMA."""

    text: ClassVar[str] = "model.text_model"
