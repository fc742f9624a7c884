"""A model small enough to count by hand, and methods of every kind on it."""

import pytest

from deltaprune import DTP, NoPruning, RandomPruning
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models.cobra import dino, siglip

TINY = MLLMConfig(
    name="tiny",
    towers={"dino": dino(32, 8, 32, 3, 2), "siglip": siglip(32, 8, 48, 4, 2, 80)},
    projector=(64, 40, 24),
    lm=MambaConfig(d_model=24, n_layers=6, vocab_size=50, d_state=5, d_conv=3, dt_rank=7),
    template="zephyr",
)
METHODS = [
    NoPruning(),
    DTP(keep=0.4, early=2, late=4),
    DTP(keep=0.7, early=1, late=None),
    DTP(keep=0.3, early=3, late=None, candidates="all"),
    RandomPruning(keep=0.0, early=0, late=1),
]
by_method = pytest.mark.parametrize("method", METHODS, ids=repr)
