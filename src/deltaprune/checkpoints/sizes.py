"""Sizes of towers and projector, read from the tensors' shapes, under timm's or transformers' names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isqrt

from deltaprune.errors import UserError
from deltaprune.tensors import Sizes
from deltaprune.vision.towers import TowerConfig
from deltaprune.vision.weights import PATCHES

_PROJECTOR = re.compile(r"((?:.*\.)?)projector\.(\d+)\.(?:weight|bias)")
HEAD_WIDTHS = {1152: 72}  # SigLIP so400m; every other published ViT of these families has heads of 64


def tower_sizes(
    published: TowerConfig, found: Mapping[str, Sizes], where: str, image_size: int | None = None
) -> TowerConfig:
    """A tower like `published`, with the sizes of these tensors.

    The width of a head cannot be read from a shape: it is 64, as in OpenAI's CLIP and DINOv2, and 72 in SigLIP so400m.

    Args:
        published: kind and pixel statistics.
        found: the tower's names and shapes.
        where: the file, for the message.
        image_size: pixels; None reads it from the table of positions.

    Raises:
        UserError: these are not the tensors of a vision transformer.
    """
    prefix = next((match[1] or "" for name in found if (match := PATCHES.fullmatch(name))), "")
    found = {name.removeprefix(prefix): shape for name, shape in found.items() if name.startswith(prefix)}
    patches = [shape for shape in found.values() if len(shape) == 4]
    blocks = [int(n) for name in found for n in re.findall(r"(?:^|\.)(?:blocks|layers?)\.(\d+)\.", name)]
    inner = [shape[0] for name, shape in found.items() if name.endswith("mlp.fc1.weight")]
    positions = [shape[-2] for name, shape in found.items() if re.search(r"pos_embed|position_embedding", name)]
    if not (len(patches) == 1 and blocks and inner and positions):
        raise UserError(
            f"{where} holds no vision transformer: a patch embedding, blocks with mlp.fc1 and a table of positions "
            "are needed, under timm's or transformers' names."
        )
    width, patch_size = patches[0][0], patches[0][-1]
    head_width = HEAD_WIDTHS.get(width, 64)
    if width % head_width:
        raise UserError(f"{where} is {width} wide, which is no multiple of {head_width}, the width of a head.")
    registers = [shape[-2] for name, shape in found.items() if name.endswith(("reg_token", "register_tokens"))]
    side = isqrt(positions[0] - (published.kind == "clip"))
    return replace(
        published,
        image_size=side * patch_size if image_size is None else image_size,
        patch_size=patch_size,
        width=width,
        n_blocks=1 + max(blocks),
        n_heads=width // head_width,
        mlp_width=inner[0],
        n_prefix=1 + sum(registers) if published.kind == "dinov2" else published.n_prefix,
    )


def projector_prefix(found: Iterable[str]) -> str:
    """The prefix of `projector.0.weight` in a checkpoint's names."""
    return next((match[1] for name in found if (match := _PROJECTOR.fullmatch(name))), "")


def projector_widths(found: Mapping[str, Sizes], where: str) -> tuple[int, ...]:
    """Output widths of the projector's linear layers.

    Raises:
        UserError: there is no projector.
    """
    widths = {int(match[2]): shape[0] for name, shape in found.items() if (match := _PROJECTOR.fullmatch(name))}
    if not widths:
        raise UserError(f"{where} holds no projector: its tensors are called projector.0.weight, projector.0.bias, ...")
    return tuple(widths[number] for number in sorted(widths))
