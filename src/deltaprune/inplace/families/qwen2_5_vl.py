"""Qwen2.5-VL: attention alone."""

from deltaprune.inplace.families import Family, registry


@registry.register("qwen2_5_vl")
class Qwen25VL(Family):
    """Nothing is special."""
