"""LLaVA-OneVision, attention alone; the newline tokens of a picture count as visual tokens."""

from deltaprune.inplace.families import Family, registry


@registry.register("llava_onevision")
class LlavaOnevision(Family):
    """Nothing is special."""
