"""Cobra-3B (Zhao et al., AAAI 2025): DINOv2 + SigLIP at 384 -> MLP -> mamba-2.8b-zephyr."""

from pathlib import Path

from deltaprune._registry import UserError
from deltaprune.mamba import MambaConfig
from deltaprune.models import Family, registry
from deltaprune.models._mllm import MLLM, MLLMConfig
from deltaprune.models._processor import Processor
from deltaprune.stages import Plan
from deltaprune.vision.towers import TowerConfig

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def dino(image_size: int, patch_size: int, width: int, n_blocks: int, n_heads: int) -> TowerConfig:
    """DINOv2 with four registers and a class token, MLP ratio 4."""
    return TowerConfig("dinov2", image_size, patch_size, width, n_blocks, n_heads, 4 * width, n_prefix=5, **IMAGENET)


def siglip(image_size: int, patch_size: int, width: int, n_blocks: int, n_heads: int, mlp_width: int) -> TowerConfig:
    """SigLIP: no class token."""
    return TowerConfig("siglip", image_size, patch_size, width, n_blocks, n_heads, mlp_width, n_prefix=0, **HALF)


COBRA = MLLMConfig(
    name="cobra",
    towers={"dino": dino(384, 14, 1024, 24, 16), "siglip": siglip(384, 14, 1152, 27, 16, 4304)},
    projector=(4 * (1024 + 1152), 2560, 2560),
    lm=MambaConfig(),
    template="zephyr",
    plan=Plan(early=15, late=45, source={"paper": "DTP, section 4.2", "samples": "VQAv2 subset"}),
)


class Cobra(Family):
    """The published checkpoint's shape."""

    def config(self) -> MLLMConfig:
        return COBRA

    def load(self, source: Path | None = None) -> tuple[MLLM, Processor]:
        raise UserError(
            "Loading Cobra's published weights is not built yet: this version runs `bundled` and counts Cobra's cost."
        )


registry.register("cobra")(Cobra())
