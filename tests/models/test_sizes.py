"""Sizes of towers and projector, read from shapes."""

from typing import Any

import pytest
import torch

from deltaprune.checkpoints.sizes import projector_prefix, projector_widths, tower_sizes
from deltaprune.errors import UserError
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.models.robomamba import _sizes as sizes_of_robomamba
from deltaprune.tensors import Sizes
from deltaprune.vision.towers import TowerConfig

DINO, SIGLIP, CLIP = COBRA.towers["dino"], COBRA.towers["siglip"], ROBOMAMBA.towers["clip"]

PUBLISHED: dict[str, tuple[TowerConfig, int | None, dict[str, Sizes]]] = {
    "timm's dino, published for 518 pixels": (
        DINO,
        384,
        {
            "reg_token": (1, 4, 1024),
            "pos_embed": (1, 1369, 1024),
            "patch_embed.proj.weight": (1024, 3, 14, 14),
            "blocks.23.mlp.fc1.weight": (4096, 1024),
        },
    ),
    "timm's siglip": (
        SIGLIP,
        384,
        {
            "pos_embed": (1, 729, 1152),
            "patch_embed.proj.weight": (1152, 3, 14, 14),
            "blocks.26.mlp.fc1.weight": (4304, 1152),
        },
    ),
    "timm's clip inside RoboMamba": (
        CLIP,
        None,
        {
            "vision.model.pos_embed": (1, 257, 1024),
            "vision.model.patch_embed.proj.weight": (1024, 3, 14, 14),
            "vision.model.blocks.23.mlp.fc1.weight": (4096, 1024),
        },
    ),
    "OpenAI's clip by transformers, text half included": (
        CLIP,
        None,
        {
            "text_model.embeddings.position_embedding.weight": (77, 768),
            "text_model.encoder.layers.30.mlp.fc1.weight": (3072, 768),
            "vision_model.embeddings.position_embedding.weight": (257, 1024),
            "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14),
            "vision_model.encoder.layers.23.mlp.fc1.weight": (4096, 1024),
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_towers_are_recognised(name: str) -> None:
    published, image_size, found = PUBLISHED[name]
    assert tower_sizes(published, found, "the file", image_size) == published


def test_a_vit_l_that_lost_its_last_blocks_still_has_24() -> None:
    shapes = PUBLISHED["timm's clip inside RoboMamba"][2]
    shapes = {name.replace(".23.", ".20."): shape for name, shape in shapes.items()}
    assert sizes_of_robomamba({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, "") == CLIP


def test_a_tower_without_registers() -> None:
    found = dict(PUBLISHED["timm's dino, published for 518 pixels"][2])
    del found["reg_token"]
    assert tower_sizes(DINO, found, "the file", 384).n_prefix == 1


@pytest.mark.parametrize("lost", list(PUBLISHED["timm's siglip"][2]))
def test_what_is_no_vision_transformer(lost: str) -> None:
    found: dict[str, Any] = dict(PUBLISHED["timm's siglip"][2])
    del found[lost]
    with pytest.raises(UserError, match="the file holds no vision transformer"):
        tower_sizes(SIGLIP, found, "the file", 384)


def test_a_width_that_heads_do_not_divide() -> None:
    found = {**PUBLISHED["timm's siglip"][2], "patch_embed.proj.weight": (1000, 3, 14, 14)}
    with pytest.raises(UserError, match="is 1000 wide, which is no multiple of 64"):
        tower_sizes(SIGLIP, found, "the file", 384)


@pytest.mark.parametrize("prefix", ["", "projector."])
def test_the_projector(prefix: str) -> None:
    shapes: dict[str, Sizes] = {"4": (2560, 2560), "0": (8704, 2176), "2": (2560, 8704)}
    found = {f"{prefix}projector.{number}.weight": shape for number, shape in shapes.items()}
    found |= {f"{prefix}projector.{number}.bias": shape[:1] for number, shape in shapes.items()}
    assert projector_widths(found, "the file") == COBRA.projector
    assert projector_prefix(found) == prefix
    with pytest.raises(UserError, match="the file holds no projector"):
        projector_widths({"projector.weight": (1, 1)}, "the file")
