"""Sizes and schedule of the bundled model."""

from dataclasses import dataclass

from deltaprune.mamba import MambaConfig
from deltaprune.models._mllm import MLLMConfig
from deltaprune.models.cobra import dino, siglip

CONFIG = MLLMConfig(
    name="bundled",
    towers={"dino": dino(80, 8, 96, 4, 3), "siglip": siglip(80, 8, 96, 4, 3, 384)},
    projector=(768, 96, 96),
    lm=MambaConfig(d_model=96, n_layers=16, vocab_size=512),
    template="zephyr",
)


@dataclass(frozen=True)
class Recipe:
    """What the CPU probe found to work: everything jointly, with a dense loss on the towers' patches."""

    seed: int = 0
    rate: float = 2e-3
    warm_up: int = 400  # steps
    decay: float = 0.02
    dense_weight: float = 0.3
    drift_weight: float = 0.1
    questions: int = 10  # per picture
