"""InternVL: attention alone."""

from deltaprune.inplace.families import Family, registry


@registry.register("internvl")
class InternVL(Family):
    """Nothing is special."""
