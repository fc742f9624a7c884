"""A vision transformer written out over timm's names, to hold the towers against."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from deltaprune.vision.towers import TowerConfig

STATISTICS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
DINO = TowerConfig("dinov2", 30, 8, 24, n_blocks=4, n_heads=3, mlp_width=96, n_prefix=5, **STATISTICS)
SIGLIP = TowerConfig("siglip", 30, 8, 16, n_blocks=3, n_heads=2, mlp_width=40, n_prefix=0, **STATISTICS)
CLIP = TowerConfig("clip", 30, 8, 24, n_blocks=4, n_heads=4, mlp_width=50, n_prefix=1, **STATISTICS)
CONFIGS = {"dinov2": DINO, "siglip": SIGLIP, "clip": CLIP}  # 30 = 3 x 8 + 6: the last six pixels are not seen


def timm_tensors(config: TowerConfig, side: int | None = None, seed: int = 0) -> dict[str, Tensor]:
    """A published tower, also what is never read of it; its positions are those of a `side` x `side` grid."""
    generator = torch.Generator().manual_seed(seed)
    width, inner = config.width, config.mlp_width
    side = config.image_size // config.patch_size if side is None else side
    sizes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, side * side + (config.kind == "clip"), width),
        "patch_embed.proj.weight": (width, 3, config.patch_size, config.patch_size),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if config.kind != "siglip":
        sizes["cls_token"] = (1, 1, width)
    if config.kind == "dinov2":
        sizes["reg_token"] = (1, config.n_prefix - 1, width)
    if config.kind == "clip":
        sizes |= {"norm_pre.weight": (width,), "norm_pre.bias": (width,), "head.weight": (5, width), "head.bias": (5,)}
    else:
        sizes["patch_embed.proj.bias"] = (width,)
    if config.kind == "siglip":
        sizes |= {"attn_pool.latent": (1, 1, width), "attn_pool.kv.weight": (2 * width, width)}
    for i in range(config.n_blocks):
        linears = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (inner, width)}
        linears["mlp.fc2"] = (width, inner)
        for name, size in linears.items():
            sizes |= {f"blocks.{i}.{name}.weight": size, f"blocks.{i}.{name}.bias": size[:1]}
        for name in ("norm1", "norm2"):
            sizes |= {f"blocks.{i}.{name}.weight": (width,), f"blocks.{i}.{name}.bias": (width,)}
        if config.kind == "dinov2":
            sizes |= {f"blocks.{i}.ls1.gamma": (width,), f"blocks.{i}.ls2.gamma": (width,)}
    return {name: torch.randn(size, generator=generator) / math.sqrt(max(size[-1], 4)) for name, size in sizes.items()}


def plain_vit(config: TowerConfig, tensors: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """One image `(3, H, W)` -> `(n_patches, width)`, computed in float64 with nothing but loops and products."""
    held = {name: tensor.double() for name, tensor in tensors.items()}
    eps = 1e-5 if config.kind == "clip" else 1e-6
    x = embed(config, held, pixels.double())
    if config.kind == "clip":
        x = layer_norm(x, held["norm_pre.weight"], held["norm_pre.bias"], eps)
    for i in range(config.n_blocks - 1):
        block = {name.removeprefix(f"blocks.{i}."): t for name, t in held.items() if name.startswith(f"blocks.{i}.")}
        attended = attention(config, block, layer_norm(x, block["norm1.weight"], block["norm1.bias"], eps))
        x = x + attended * block.get("ls1.gamma", 1.0)
        inner = layer_norm(x, block["norm2.weight"], block["norm2.bias"], eps) @ block["mlp.fc1.weight"].T
        inner = activation(config, inner + block["mlp.fc1.bias"])
        x = x + (inner @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]) * block.get("ls2.gamma", 1.0)
    return x[config.n_prefix :]


def embed(config: TowerConfig, held: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """Patches, positions and prefix tokens; timm gives DINOv2's prefix no position, and CLIP's class token one."""
    size, side = config.patch_size, config.image_size // config.patch_size
    kernel = held["patch_embed.proj.weight"].flatten(1)
    patches = torch.stack(
        [
            kernel @ pixels[:, row * size : (row + 1) * size, column * size : (column + 1) * size].flatten()
            for row in range(side)
            for column in range(side)
        ]
    )
    patches = patches + held.get("patch_embed.proj.bias", 0.0)
    positions = held["pos_embed"][0]
    if config.kind == "siglip":
        return patches + positions
    if config.kind == "clip":
        return torch.cat((held["cls_token"][0], patches)) + positions
    return torch.cat((held["cls_token"][0], held["reg_token"][0], patches + positions))


def attention(config: TowerConfig, block: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Heads side by side; the rows of qkv are query, key, value, and in each of them the heads."""
    qkv = x @ block["attn.qkv.weight"].T + block["attn.qkv.bias"]
    width, head = config.width, config.width // config.n_heads
    heads = []
    for n in range(config.n_heads):
        query, key, value = (qkv[:, k * width + n * head : k * width + (n + 1) * head] for k in range(3))
        weights = (query @ key.T / math.sqrt(head)).exp()
        heads.append(weights / weights.sum(-1, keepdim=True) @ value)
    return torch.cat(heads, -1) @ block["attn.proj.weight"].T + block["attn.proj.bias"]


def activation(config: TowerConfig, x: Tensor) -> Tensor:
    """Exact GELU, and CLIP's quick one."""
    return x / (1 + (-1.702 * x).exp()) if config.kind == "clip" else x * (1 + (x / math.sqrt(2)).erf()) / 2


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias
