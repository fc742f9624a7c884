"""Published vision towers -> the state dict of ours, whether timm or transformers named the tensors.

Ours have transformers' names (5.18 and later). Other names occur only in the tables below.
"""

import re
from collections.abc import Iterable, Mapping
from math import isqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from deltaprune.tensors import Sizes, check_tensors, shapes
from deltaprune.vision.towers import TOWERS, TowerConfig

Names = Mapping[str, str]

TIMM_SIGLIP = {  # ours -> timm's; of qkv, query, key and value are a third each
    "embeddings.patch_embedding": "patch_embed.proj",
    "embeddings.position_embedding.weight": "pos_embed",
    "encoder.layers.{i}.layer_norm1": "blocks.{i}.norm1",
    "encoder.layers.{i}.self_attn.q_proj": "blocks.{i}.attn.qkv",
    "encoder.layers.{i}.self_attn.k_proj": "blocks.{i}.attn.qkv",
    "encoder.layers.{i}.self_attn.v_proj": "blocks.{i}.attn.qkv",
    "encoder.layers.{i}.self_attn.out_proj": "blocks.{i}.attn.proj",
    "encoder.layers.{i}.layer_norm2": "blocks.{i}.norm2",
    "encoder.layers.{i}.mlp": "blocks.{i}.mlp",
}
TIMM_CLIP = {
    "embeddings.class_embedding": "cls_token",
    "pre_layrnorm": "norm_pre",
    **TIMM_SIGLIP,
}
TIMM_DINO = {
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "encoder.layer.{i}.norm1": "blocks.{i}.norm1",
    "encoder.layer.{i}.attention.q_proj": "blocks.{i}.attn.qkv",
    "encoder.layer.{i}.attention.k_proj": "blocks.{i}.attn.qkv",
    "encoder.layer.{i}.attention.v_proj": "blocks.{i}.attn.qkv",
    "encoder.layer.{i}.attention.o_proj": "blocks.{i}.attn.proj",
    "encoder.layer.{i}.layer_scale1.lambda1": "blocks.{i}.ls1.gamma",
    "encoder.layer.{i}.norm2": "blocks.{i}.norm2",
    "encoder.layer.{i}.mlp": "blocks.{i}.mlp",
    "encoder.layer.{i}.layer_scale2.lambda1": "blocks.{i}.ls2.gamma",
}
HUB_DINO = {  # ours -> transformers' before 5.18, as the files on the Hub have it
    "encoder.layer.{i}.attention.q_proj": "encoder.layer.{i}.attention.attention.query",
    "encoder.layer.{i}.attention.k_proj": "encoder.layer.{i}.attention.attention.key",
    "encoder.layer.{i}.attention.v_proj": "encoder.layer.{i}.attention.attention.value",
    "encoder.layer.{i}.attention.o_proj": "encoder.layer.{i}.attention.output.dense",
}
SAME: Names = {}
SPELLINGS: dict[str, tuple[Names, ...]] = {
    "dinov2": (TIMM_DINO, HUB_DINO, SAME),
    "siglip": (TIMM_SIGLIP, SAME),
    "clip": (TIMM_CLIP, SAME),
}

PATCHES = re.compile(r"(.*\.)?(patch_embed\.proj|embeddings\.patch_embeddings?(\.projection)?)\.weight")
BLOCKS = ("blocks.", "encoder.layer.", "encoder.layers.")
UNREAD = (  # parts after the second-to-last block, or for training only
    *("norm.", "attn_pool.", "head.", "mask_token"),  # timm
    *("layernorm.", "post_layernorm.", "embeddings.mask_token", "embeddings.position_ids"),  # transformers
)
TEXT = ("text", "visual_projection.", "logit_")  # the other half of a whole CLIP or SigLIP


def tower_weights(config: TowerConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `TOWERS[config.kind](config)`, every name and shape checked before any tensor is touched.

    All tensors are views of the given ones, but for a table of positions that is resampled or gets a class row, and for
    DINOv2's mask token, which only its training reads: it is zero.

    Args:
        config: the tower's sizes.
        tensors: a published tower under timm's or transformers' names, with any common prefix (`vision.model.`,
            `vision_model.`, `visual.trunk.`). Its last block, final norm, pooling, mask token and the text half of a
            whole CLIP are left out.

    Raises:
        UserError: names are missing or unexpected, or shapes are wrong; it lists all of them.
    """
    ours = _our_shapes(config)
    mask_token = ours.pop("embeddings.mask_token", None)
    found, prefix = shapes(tensors), _prefix(tensors)
    names = tower_names(config, found)
    theirs = {name: names[f"vit.{name}"] for name in ours}
    wanted = {theirs[name]: _stored_shape(config, theirs[name], shape, found) for name, shape in ours.items()}
    read = {name: shape for name, shape in found.items() if not _is_unread(config, name.removeprefix(prefix))}
    check_tensors(f"The {config.kind} tower", wanted, read)
    weights = {f"vit.{name}": _fitted(config, name, theirs[name], tensors, shape) for name, shape in ours.items()}
    if mask_token is not None:
        weights["vit.embeddings.mask_token"] = weights["vit.embeddings.cls_token"].new_zeros(mask_token)
    return weights


def tower_names(config: TowerConfig, found: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor of a tower -> the published one, in the spelling and with the prefix of `found`.

    The mask token, which only DINOv2's training reads, has none.
    """
    found = set(found)
    ours, prefix = [name for name in _our_shapes(config) if name != "embeddings.mask_token"], _prefix(found)
    spelling = max(SPELLINGS[config.kind], key=lambda s: sum(prefix + _spelled(name, s) in found for name in ours))
    return {f"vit.{name}": prefix + _spelled(name, spelling) for name in ours}


def resample_positions(table: Float[Tensor, "rows d"], n_class: int, side: int) -> Float[Tensor, "_ d"]:
    """A table of positions for another grid: bicubic with antialiasing in float32, as timm's `resample_abs_pos_embed`.

    Args:
        table: `n_class` rows that are kept, then a square grid row by row.
        n_class: rows of the class token.
        side: of the new grid; if it is the old one, the table itself is returned.
    """
    old = isqrt(len(table) - n_class)
    if old == side:
        return table
    grid = table[n_class:].float().view(old, old, -1).permute(2, 0, 1)
    grid = F.interpolate(grid[None], size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat((table[:n_class], grid[0].flatten(1).T.to(table.dtype)))


def _our_shapes(config: TowerConfig) -> dict[str, Sizes]:
    """The tower's tensors, without `vit.`."""
    with torch.device("meta"):
        tower = TOWERS[config.kind](config)
    return {name.removeprefix("vit."): shape for name, shape in shapes(tower.state_dict()).items()}


def _prefix(found: Iterable[str]) -> str:
    """The prefix of the published names."""
    return next((match[1] or "" for name in found if (match := PATCHES.fullmatch(name))), "")


def _spelled(name: str, spelling: Names) -> str:
    """Our name in another spelling."""
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    pattern = name if number is None else f"{name[: number.start()]}{{i}}{name[number.end() :]}"
    for ours, theirs in spelling.items():
        if pattern == ours or pattern.startswith(ours + "."):
            found = theirs + pattern.removeprefix(ours)
            return found if number is None else found.replace("{i}", number[0])
    return name


def _is_unread(config: TowerConfig, name: str) -> bool:
    """Whether a published tensor is one of `UNREAD`, which the tower does not have."""
    last = tuple(f"{blocks}{config.n_blocks - 1}." for blocks in BLOCKS)
    return name.startswith((*UNREAD, *TEXT, *last))


def _is_positions(name: str) -> bool:
    return re.search(r"(^|\.)(pos_embed|position_embedding\.weight|position_embeddings)$", name) is not None


def _class_rows(config: TowerConfig, name: str) -> int:
    """Rows of the class token in a table of positions; timm's DINOv2 with registers has none."""
    bare = config.kind == "siglip" or (config.kind == "dinov2" and name.endswith("pos_embed"))
    return 0 if bare else 1


def _stored_shape(config: TowerConfig, name: str, ours: Sizes, found: Mapping[str, Sizes]) -> Sizes:
    """The shape a published tensor has to have, for our tensor's shape."""
    if ".attn.qkv." in name:
        return (3 * ours[0], *ours[1:])
    if name.endswith("cls_token"):
        return (1, 1, config.width)
    if not _is_positions(name):
        return ours
    stored, n_class = found.get(name, ()), _class_rows(config, name)
    batch = (1,) if name.endswith(("pos_embed", "position_embeddings")) else ()
    grid = stored[-2] - n_class if len(stored) >= 2 else 0
    rows = grid if grid > 0 and isqrt(grid) ** 2 == grid else config.n_patches  # any square grid can be resampled
    return (*batch, n_class + rows, config.width)


def _fitted(
    config: TowerConfig, ours: str, theirs: str, tensors: Mapping[str, Tensor], shape: Sizes
) -> Shaped[Tensor, "..."]:
    """A published tensor as ours."""
    tensor = tensors[theirs]
    if ".attn.qkv." in theirs:
        return tensor.chunk(3)[["q_proj", "k_proj", "v_proj"].index(ours.split(".")[-2])]
    if not _is_positions(theirs):
        return tensor.reshape(shape)
    n_class = _class_rows(config, theirs)
    table = resample_positions(tensor.flatten(0, -2), n_class, isqrt(config.n_patches))
    if n_class < shape[-2] - config.n_patches:
        table = F.pad(table, (0, 0, 1, 0))  # timm adds no position to the class token
    return table.reshape(shape)
