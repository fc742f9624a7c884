"""Qwen3.5 with experts in place of its MLPs."""

from deltaprune.inplace.families import Family, registry


@registry.register("qwen3_5_moe")
class Qwen35Moe(Family):
    """Nothing is special."""
