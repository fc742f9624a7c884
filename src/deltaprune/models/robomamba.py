"""RoboMamba (Liu et al., NeurIPS 2024): CLIP ViT-L/14 at 224 -> MLP -> mamba-2.8b."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.checkpoint import Checkpoint
from deltaprune.checkpoints.files import WRAPPERS, named_tensors, read_pickle, read_tensors
from deltaprune.checkpoints.official import Tower, assemble
from deltaprune.checkpoints.parts import Part, Towers, find_parts, read_tokenizer, refuse_parts
from deltaprune.checkpoints.sizes import tower_sizes
from deltaprune.errors import UserError
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models import Family, registry
from deltaprune.steps import Plan
from deltaprune.tensors import fold, shapes
from deltaprune.vision.towers import TowerConfig
from deltaprune.vision.weights import tower_names

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
    resize="crop",
)

ROBOMAMBA = MLLMConfig(
    name="robomamba",
    towers={"clip": CLIP},
    projector=(4096, 2560, 2560),
    lm=MambaConfig(),
    template="robomamba",
    plan=Plan(early=15, late=45, source={"paper": "DTP, appendix A"}),
)

TOKENIZER = Part("tokenizer", "state-spaces/mamba-2.8b-hf", "tokenizer.json")
TOWER = Part("clip", "timm/vit_large_patch14_clip_224.openai")
GROUPS = ("state_dict", "model")  # where checkpoints of Lightning and others keep the weights
VISION = "vision.model."  # the prefix of timm's names in the checkpoint
_LOG = logging.getLogger("deltaprune.models")


class RoboMamba(Family):
    """Published as one flat state dict in a pickle, without a tokenizer and perhaps without its vision tower."""

    def config(self) -> MLLMConfig:
        return ROBOMAMBA

    def recognises(self, path: Path) -> bool:
        return path.is_file() and path.suffix in (".pth", ".pt", ".bin")

    def open(
        self, source: Path | None, towers: Towers | None = None, tokenizer: str | Path | None = None
    ) -> Checkpoint:
        if source is None:
            raise UserError(
                "RoboMamba's weights are on no Hub: download CLIP224+Mamba2.8b (the link ends the readme of branch "
                "`test` of https://github.com/lmzpai/roboMamba) and load the file, such as robomamba.pth."
            )
        tensors = _read(source)
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(VISION)}
        complete = _is_complete(own)
        if complete:
            refuse_parts(str(source), towers, None)
        parts = find_parts((TOKENIZER,) if complete else (TOKENIZER, TOWER), source.parent, towers, tokenizer)
        tower = _tower(own, source, parts.get(TOWER.name))
        words = read_tokenizer(parts["tokenizer"])
        return assemble(ROBOMAMBA, {TOWER.name: tower}, tensors, words, {"checkpoint": source, **parts})


def _read(file: Path) -> dict[str, Tensor]:
    """The flat state dict; Cobra's pickle, which holds groups, is recognised and refused."""
    content = read_pickle(file)
    model = content.get("model") if isinstance(content, dict) else None
    if isinstance(model, dict) and "llm_backbone" in model:
        raise UserError(
            f"{file} is a part of a Cobra checkpoint: load the folder that holds config.json and "
            "checkpoints/latest-checkpoint.pt."
        )
    if isinstance(content, dict):  # a training run's checkpoint: the weights beside the optimizer's state
        content = next((held for key in GROUPS if isinstance(held := content.get(key), dict)), content)
    tensors = named_tensors(file, content)
    wrapped = [name for name in tensors if name.startswith(WRAPPERS)]
    if wrapped:  # otherwise its tower would not be found and a download would replace it
        raise UserError(
            f"{file}: {len(wrapped)} of {len(tensors)} names begin with {' or '.join(WRAPPERS)}, the others do not "
            f"(the first is {wrapped[0]!r}): save all tensors under their own names."
        )
    return tensors


def _sizes(tensors: Mapping[str, Tensor], where: str) -> TowerConfig:
    """The tower's sizes; ViT-L has 24 blocks, even if a checkpoint leaves out the last ones."""
    sizes = tower_sizes(CLIP, shapes(tensors), where)
    return replace(sizes, n_blocks=CLIP.n_blocks) if sizes.width == CLIP.width else sizes


def _is_complete(own: Mapping[str, Tensor]) -> bool:
    """Whether all tensors of a tower are there."""
    try:
        sizes = _sizes(own, "it")
    except UserError:  # too few tensors to read its sizes from
        return False
    return own.keys() >= set(tower_names(sizes, own).values())


def _tower(own: Mapping[str, Tensor], source: Path, other: Path | None) -> Tower:
    """The checkpoint's own tensors, and from the tower's other file the ones it lacks; a warning lists them."""
    tensors, files = dict(own), dict.fromkeys(own, source)
    if other is not None:
        published = read_tensors(other)
        if own:
            published = {VISION + name: tensor for name, tensor in published.items()}
        taken = [name for name in published if name not in own]
        what = ", ".join(fold(taken)) if own else "the whole tower"
        _LOG.warning("%s lacks vision tensors; taken from %s: %s.", source, other, what)
        tensors |= {name: published[name] for name in taken}
        files |= dict.fromkeys(taken, other)
    return Tower(_sizes(tensors, str(other or source)), tensors, files)


registry.register("robomamba")(RoboMamba())
