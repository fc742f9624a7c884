"""MiniCPM-V 4.6: the text model of Qwen3.5."""

from deltaprune.inplace.families import Family, registry


@registry.register("minicpmv4_6")
class MiniCPMV46(Family):
    """Nothing is special."""
