"""Cobra-3B (Zhao et al., AAAI 2025): DINOv2 + SigLIP at 384 -> MLP -> mamba-2.8b-zephyr."""

import json
import re
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.checkpoint import Checkpoint
from deltaprune.checkpoints.files import named_tensors, read_pickle, read_tensors
from deltaprune.checkpoints.hub import HubError, address, fetch
from deltaprune.checkpoints.official import Tower, assemble
from deltaprune.checkpoints.parts import Part, Towers, find_parts, read_tokenizer
from deltaprune.checkpoints.sizes import tower_sizes
from deltaprune.errors import UserError, in_words
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models import Family, registry
from deltaprune.steps import Plan
from deltaprune.tensors import shapes
from deltaprune.vision.towers import TowerConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


def dino(image_size: int, patch_size: int, width: int, n_blocks: int, n_heads: int) -> TowerConfig:
    """DINOv2 with four registers and a class token, MLP ratio 4."""
    sizes = (image_size, patch_size, width, n_blocks, n_heads, 4 * width)
    return TowerConfig("dinov2", *sizes, n_prefix=5, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def siglip(image_size: int, patch_size: int, width: int, n_blocks: int, n_heads: int, mlp_width: int) -> TowerConfig:
    """SigLIP: no class token."""
    sizes = (image_size, patch_size, width, n_blocks, n_heads, mlp_width)
    return TowerConfig("siglip", *sizes, n_prefix=0, mean=HALF, std=HALF)


COBRA = MLLMConfig(
    name="cobra",
    towers={"dino": dino(384, 14, 1024, 24, 16), "siglip": siglip(384, 14, 1152, 27, 16, 4304)},
    projector=(4 * (1024 + 1152), 2560, 2560),
    lm=MambaConfig(),
    template="zephyr",
    plan=Plan(early=15, late=45, source={"paper": "DTP, section 4.2", "samples": "VQAv2 subset"}),
)

REPO = "han1997/cobra"
RUN = "cobra+3b"  # the folder in the repository
CHECKPOINT = "checkpoints/latest-checkpoint.pt"
TOKENIZER = Part("tokenizer", "xiuyul/mamba-2.8b-zephyr", "tokenizer.json")
TOWERS = (
    Part("dino", "timm/vit_large_patch14_reg4_dinov2.lvd142m"),
    Part("siglip", "timm/vit_so400m_patch14_siglip_384.webli"),
)
PUBLISHED = {
    "llm_backbone_id": "mamba-2.8b-zephyr",
    "vision_backbone_id": "dinosiglip-vit-so-384px",
    "image_resize_strategy": "resize-naive",
}


class Cobra(Family):
    """Published as a folder of `config.json` and a pickle of projector and LM, without towers and tokenizer."""

    repo = REPO

    def config(self) -> MLLMConfig:
        return COBRA

    def recognises(self, path: Path) -> bool:
        return (path / CHECKPOINT).is_file() or (path / RUN / CHECKPOINT).is_file()

    def open(
        self, source: Path | None, towers: Towers | None = None, tokenizer: str | Path | None = None
    ) -> Checkpoint:
        source = _download() if source is None else source
        run = source if (source / CHECKPOINT).is_file() else source / RUN
        files = {"config": run / "config.json", "checkpoint": run / CHECKPOINT}
        backbone = _vision_backbone(files["config"])
        known = backbone == PUBLISHED["vision_backbone_id"]
        parts = TOWERS if known else tuple(replace(part, repo=None) for part in TOWERS)
        files |= find_parts((TOKENIZER, *parts), run, towers, tokenizer)
        pixels = None if known else int(backbone.rpartition("-")[2].removesuffix("px"))
        return assemble(
            COBRA,
            {name: _tower(published, files[name], pixels) for name, published in COBRA.towers.items()},
            _projector_and_lm(files["checkpoint"]),
            read_tokenizer(files["tokenizer"]),
            files,
        )


def _tower(published: TowerConfig, file: Path, image_size: int | None) -> Tower:
    """A tower from its file; if `image_size` is given, its sizes are read from its tensors."""
    tensors = read_tensors(file)
    config = published if image_size is None else tower_sizes(published, shapes(tensors), str(file), image_size)
    return Tower(config, tensors, dict.fromkeys(tensors, file))


def _download() -> Path:
    """The published run from the Hub."""
    files = [f"{RUN}/config.json", f"{RUN}/{CHECKPOINT}"]
    try:
        return fetch(REPO, files)
    except HubError as error:
        raise UserError(
            f"Cobra could not be downloaded ({error}): download {address(REPO, files[0])} and "
            f"{address(REPO, files[1])} into a folder, keeping these paths, and load that folder."
        ) from error


def _vision_backbone(file: Path) -> str:
    """The towers' id in a run's config.json, e.g. "dinosiglip-vit-so-384px"; what cannot be run is a `UserError`.

    Cobra's own loader reads these ids, too (cobra/models/load.py); all sizes but the image's come from the tensors.
    """
    try:
        model = json.loads(file.read_text(encoding="utf-8"))["model"]
        ids = {key: str(model[key]) for key in PUBLISHED}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a Cobra run's configuration ({in_words(error)}): restore it.") from error
    for key, published in PUBLISHED.items():
        pattern = r"dinosiglip-.*-\d+px" if key == "vision_backbone_id" else re.escape(published)
        if not re.fullmatch(pattern, ids[key]):
            raise UserError(f"{file} says {key} {ids[key]!r}, which is not supported: Cobra's is {published!r}.")
    return ids["vision_backbone_id"]


def _projector_and_lm(file: Path) -> dict[str, Tensor]:
    """Their tensors, from the pickle's {"model": {"projector": ..., "llm_backbone": ...}}."""
    content = read_pickle(file)
    model = content.get("model") if isinstance(content, dict) else None
    groups = ("projector", "llm_backbone")
    if not isinstance(model, dict) or set(model) != set(groups):
        held = sorted(map(str, model)) if isinstance(model, dict) else f"a {type(content).__name__}"
        raise UserError(f"{file} is not a Cobra checkpoint: it holds model: projector and llm_backbone, not {held}.")
    return {name: tensor for group in groups for name, tensor in named_tensors(file, model[group], group).items()}


registry.register("cobra")(Cobra())
