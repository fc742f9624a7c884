"""LFM2-VL: short convolutions and attention."""

from typing import ClassVar

from deltaprune.inplace.families import Family, registry


@registry.register("lfm2_vl")
class Lfm2VL(Family):
    """The final norm is called embedding_norm."""

    norm: ClassVar[str] = "embedding_norm"
