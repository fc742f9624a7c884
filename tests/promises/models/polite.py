"""Polite: a tiny model of Cobra's kind with random weights, which is asked in a form of its own."""

from dataclasses import replace
from pathlib import Path

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.checkpoint import Checkpoint
from deltaprune.checkpoints.parts import Towers, read_tokenizer
from deltaprune.checkpoints.random import random_mllm
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models import Family, registry
from deltaprune.models.bundled import FOLDER
from deltaprune.models.cobra import COBRA, siglip
from deltaprune.steps import Plan

SIZES = replace(
    COBRA,
    name="polite",
    towers={"siglip": siglip(32, 8, 32, 3, 2, 64)},
    projector=(32, 32),
    lm=MambaConfig(d_model=32, n_layers=4, vocab_size=read_tokenizer(FOLDER / "tokenizer.json").get_vocab_size()),
    template="polite",
    plan=Plan(early=1, late=3),
)


class Polite(Family):
    """Made on the spot, so that there is nothing to download."""

    chat_template = (
        "{% for message in messages %}{{ 'Please: ' if message.role == 'user' else 'Gladly: ' }}{{ message.content }}\n"
        "{% endfor %}{% if add_generation_prompt %}Gladly: {% endif %}"
    )

    def config(self) -> MLLMConfig:
        return SIZES

    def recognises(self, path: Path) -> bool:
        return False

    def open(
        self, source: Path | None, towers: Towers | None = None, tokenizer: str | Path | None = None
    ) -> Checkpoint:
        weights = random_mllm(SIZES).state_dict()
        return Checkpoint(SIZES, read_tokenizer(FOLDER / "tokenizer.json"), weights, sources={}, files={})


registry.register("polite")(Polite())
