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
    """What was found to work: everything jointly, with drills and a dense loss on the towers' patches."""

    seed: int = 0
    rate: float = 3e-3
    warm_up: int = 100  # steps
    decay: float = 0.02
    dense_weight: float = 0.3
    drift_weight: float = 0.1
    questions: int = 8  # per picture
    drills: int = 32  # per picture, at most


@dataclass(frozen=True)
class Start:
    """Where the LM starts; with mamba_ssm's own start, made for text, the state hardly speaks and forgets the image."""

    embedding: float = 0.1  # standard deviation
    b_and_c: float = 3.0  # times mamba_ssm's
    a: tuple[float, float] = (0.01, 1.0)  # -A, log-spaced over the states; mamba_ssm: 1 to 16
    delta: tuple[float, float] = (0.01, 0.3)  # log-uniform over the channels; mamba_ssm: 0.001 to 0.1
