"""RoboMamba (Liu et al., NeurIPS 2024): CLIP ViT-L/14 at 224 -> MLP -> mamba-2.8b."""

from pathlib import Path

from deltaprune._registry import UserError
from deltaprune.mamba import MambaConfig
from deltaprune.models import Family, registry
from deltaprune.models._mllm import MLLM, MLLMConfig
from deltaprune.models._processor import Processor
from deltaprune.stages import Plan
from deltaprune.vision.towers import TowerConfig

CLIP = TowerConfig(
    kind="clip",
    image_size=224,
    patch_size=14,
    width=1024,
    n_blocks=24,
    n_heads=16,
    mlp_width=4096,
    n_prefix=1,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)

ROBOMAMBA = MLLMConfig(
    name="robomamba",
    towers={"clip": CLIP},
    projector=(4096, 2560, 2560),
    lm=MambaConfig(),
    template="robomamba",
    plan=Plan(early=15, late=45, source={"paper": "DTP, appendix A"}),
)


class RoboMamba(Family):
    """The published checkpoint's shape (CLIP224 + mamba-2.8b)."""

    def config(self) -> MLLMConfig:
        return ROBOMAMBA

    def load(self, source: Path | None = None) -> tuple[MLLM, Processor]:
        raise UserError(
            "Loading RoboMamba's weights is not built yet: this version runs `bundled` and counts RoboMamba's cost."
        )


registry.register("robomamba")(RoboMamba())
