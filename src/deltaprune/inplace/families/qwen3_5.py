"""Qwen3.5: three layers of gated DeltaNet, then one of attention."""

from deltaprune.inplace.families import Family, registry


@registry.register("qwen3_5")
class Qwen35(Family):
    """Nothing is special."""
