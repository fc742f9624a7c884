"""LLaVA: a tower, and any text model of transformers' whose mixers are known."""

from deltaprune.inplace.families import Family, registry


@registry.register("llava")
class Llava(Family):
    """LLaMA and Qwen2, and hybrids: Jamba, Bamba, Granite 4 and Qwen3-Next."""
