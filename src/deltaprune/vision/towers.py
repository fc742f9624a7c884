"""The vision towers of Cobra (DINOv2 with registers, SigLIP) and RoboMamba (CLIP), from transformers, at any size.

All yield the output of their second-to-last block, without the final norm and without prefix tokens (Cobra and
RoboMamba read there), so the last block is neither built nor run. Activations and the eps of the norms are timm's, as
the published MLLMs run them, and written out also where they are transformers' defaults.

A picture of another size than the tower's is taken with position embeddings interpolated to its grid (bicubic), as
transformers does it for each of the three.

Attention is `kernels.softmax_attention`, which transformers' modules find under the name that is registered here.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deltaprune.kernels import softmax_attention

ATTENTION = "deltaprune"  # our attention among transformers'
ROOM = 2**22  # numbers in a block's widest rows on a CPU; memory of more is given back and cleared anew for every block


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of one vision transformer.

    Attributes:
        kind: "dinov2", "siglip" or "clip".
        image_size, patch_size: pixels; the image is square.
        width, n_blocks, n_heads, mlp_width: of the transformer; `n_blocks` as published, the last is never run.
        n_prefix: class and register tokens in front of the patches.
        mean, std: pixel statistics of the tower's training.
        resize: "naive" stretches an image to the square (Cobra), "crop" scales its short side and cuts out the middle
            (RoboMamba); see `vision/pixels.py`.
    """

    kind: Literal["dinov2", "siglip", "clip"]
    image_size: int
    patch_size: int
    width: int
    n_blocks: int
    n_heads: int
    mlp_width: int
    n_prefix: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["naive", "crop"] = "naive"

    @property
    def n_patches(self) -> int:
        """Visual tokens per image, row by row; pixels beyond the last whole patch are not seen (384 = 27 x 14 + 6)."""
        return (self.image_size // self.patch_size) ** 2


def _in_parts(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator of a tower's `forward`: without gradients a CPU takes only as many pictures at once as `ROOM` holds."""

    @functools.wraps(forward)
    def run(self: Any, pixels: Tensor) -> Tensor:
        most = max(1, ROOM // (self.config.n_patches * self.config.mlp_width))
        if pixels.device.type != "cpu" or torch.is_grad_enabled() or len(pixels) <= most:
            return forward(self, pixels)
        return torch.cat([forward(self, part) for part in pixels.split(most)])

    return run


class DinoTower(nn.Module):
    """DINOv2 with registers, LayerScale and exact GELU (timm: vit_large_patch14_reg4_dinov2)."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

        self.config, self.n_prefix = config, config.n_prefix
        self.vit = Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(
                hidden_size=config.width,
                num_hidden_layers=config.n_blocks - 1,
                num_attention_heads=config.n_heads,
                mlp_ratio=config.mlp_width // config.width,
                image_size=config.image_size,
                patch_size=config.patch_size,
                num_register_tokens=config.n_prefix - 1,
                hidden_act="gelu",
                layer_norm_eps=1e-6,
            )
        )
        self.vit.layernorm = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.vit.set_attn_implementation(_registered())

    @_in_parts
    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B P d"]:
        hidden = self.vit.embeddings(pixels)
        return self.vit.encoder(hidden).last_hidden_state[:, self.n_prefix :]


class SiglipTower(nn.Module):
    """SigLIP with exact GELU, as timm's vit_so400m_patch14_siglip_384 runs it."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.config = config
        from transformers import SiglipVisionConfig, SiglipVisionModel

        self.vit = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=config.width,
                intermediate_size=config.mlp_width,
                num_hidden_layers=config.n_blocks - 1,
                num_attention_heads=config.n_heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_act="gelu",
                layer_norm_eps=1e-6,
                vision_use_head=False,
            )
        )
        self.vit.post_layernorm = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.vit.set_attn_implementation(_registered())

    @_in_parts
    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B P d"]:
        hidden = self.vit.embeddings(pixels, interpolate_pos_encoding=_other_grid(pixels, self.config))
        return self.vit.encoder(inputs_embeds=hidden).last_hidden_state


class ClipTower(nn.Module):
    """OpenAI's CLIP with quick GELU and a norm before the blocks (timm: vit_large_patch14_clip_224)."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        self.config, self.n_prefix = config, config.n_prefix
        self.vit = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=config.width,
                intermediate_size=config.mlp_width,
                num_hidden_layers=config.n_blocks - 1,
                num_attention_heads=config.n_heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_act="quick_gelu",
                layer_norm_eps=1e-5,
            )
        )
        self.vit.post_layernorm = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.vit.set_attn_implementation(_registered())

    @_in_parts
    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B P d"]:
        other = _other_grid(pixels, self.config)
        hidden = self.vit.pre_layrnorm(self.vit.embeddings(pixels, interpolate_pos_encoding=other))
        return self.vit.encoder(inputs_embeds=hidden).last_hidden_state[:, self.n_prefix :]


def _registered() -> str:
    """The name of our attention, known to transformers from now on."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)
    return ATTENTION


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """One layer's attention as transformers calls it; no tower has a mask or drops weights."""
    return softmax_attention(query, key, value, scaling), None


def _other_grid(pixels: Tensor, config: TowerConfig) -> bool:
    """Whether these pixels hold another number of patches than the tower's own picture."""
    return (pixels.shape[-1] // config.patch_size) ** 2 != config.n_patches


TOWERS: dict[str, type[nn.Module]] = {"dinov2": DinoTower, "siglip": SiglipTower, "clip": ClipTower}
