"""Sizes and schedule of the bundled model."""

from dataclasses import dataclass
from math import ceil
from typing import Any

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
    bfloat16: bool = False  # of the matrix products; five times as fast where a CPU has them (avx512_bf16)

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


HYBRID = Recipe(pictures=60_000, vary=1.0, first_exit=0.66, bfloat16=True)


@dataclass(frozen=True)
class HybridStart:
    """Where the hybrid's text model starts."""

    embedding: float = 0.1  # standard deviation
    step: float = 0.0  # dt_bias
    decay: tuple[float, float] = (0.003, 0.1)  # -g of a row, log-spaced over the heads; Qwen3.5's start: up to 20


HYBRID_START = HybridStart()


def hybrid_config() -> Any:
    """A Qwen3.5 of twelve layers, every fourth attention; 256 visual tokens of a picture of 128 x 128 pixels."""
    from transformers import Qwen3_5Config

    rope = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [4, 2, 2], "partial_rotary_factor": 0.5}
    text = {
        "vocab_size": 512,
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "rope_parameters": rope,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "eos_token_id": 0,
        "pad_token_id": None,
    }
    vision = {
        "depth": 3,
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_heads": 3,
        "hidden_act": "gelu",
        "patch_size": 8,
        "spatial_merge_size": 1,
        "temporal_patch_size": 1,
        "out_hidden_size": 96,
        "num_position_embeddings": 256,
        "rope_parameters": {"rope_type": "axial", "rope_theta": 1e24},
    }
    return Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True)
