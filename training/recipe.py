"""Sizes and schedule of the bundled model."""

from dataclasses import dataclass
from math import ceil

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models.cobra import dino, siglip

CONFIG = MLLMConfig(
    name="bundled",
    towers={"dino": dino(128, 8, 96, 4, 3), "siglip": siglip(128, 8, 96, 4, 3, 384)},
    projector=(768, 96, 96),
    lm=MambaConfig(d_model=96, n_layers=20, vocab_size=512),
    template="zephyr",
)


SCENES = 2  # the version of `scenes` that is drawn from


@dataclass(frozen=True)
class Recipe:
    """What was found to work: everything jointly, with drills, exits and a dense loss on the towers' patches.

    The answer is also read off after every layer from `first_exit` of the depth on (early-exit loss, Elhoushi et al.
    2024, arXiv 2404.16710), through the same norm and head. So it has formed before the last quarter, as in a deep
    pretrained LM, and the layers behind it need not see the image again. Nothing is pruned in training.
    """

    seed: int = 0
    pictures: int = 112_000
    batch: int = 16  # pictures a step
    vary: float = 0.43  # the share of the pictures after which their sizes and shapes vary, see `frames.py`
    anneal: float = 0.25  # the last share of the pictures, over which the rate falls to zero
    rate: float = 3e-3
    warm_up: int = 100  # steps
    decay: float = 0.02
    average: float = 0.99  # decay a step of the running average of the weights, which validation looks at
    dense_weight: float = 0.3
    drift_weight: float = 0.1
    first_exit: float = 0.7  # of the depth
    exit_weight: float = 1.0  # of the exits' mean loss, beside the last layer's
    reading_weight: float = 3.0  # of an answer token that spells a sign, of which there are few
    questions: int = 8  # per picture
    drills: int = 32  # per picture, at most

    def rate_at(self, seen: int) -> float:
        """The learning rate after so many pictures: warm-up, constant, a linear fall to zero."""
        warm = min(1.0, (seen / self.batch + 1) / self.warm_up)
        return self.rate * warm * min(1.0, (1 - seen / self.pictures) / self.anneal)

    @property
    def vary_from(self) -> int:
        """The first picture whose size and shape vary."""
        return round(self.vary * self.pictures)

    def exits(self, n_layers: int) -> range:
        """After how many layers an answer is read off besides the last."""
        return range(ceil(self.first_exit * n_layers - 1e-6), n_layers)


@dataclass(frozen=True)
class Start:
    """Where the LM starts; with mamba_ssm's own start, made for text, the state hardly speaks and forgets the image."""

    embedding: float = 0.1  # standard deviation
    b_and_c: float = 3.0  # times mamba_ssm's
    a: tuple[float, float] = (0.01, 1.0)  # -A, log-spaced over the states; mamba_ssm: 1 to 16
    delta: tuple[float, float] = (0.01, 0.3)  # log-uniform over the channels; mamba_ssm: 0.001 to 0.1
