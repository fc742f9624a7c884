"""The smallest random models of each family that can be pruned in place, and prompts for them; float32, on the CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

IMAGE, OPEN, CLOSE = 120, 122, 123
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 6,
    "vocab_size": 128,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "patch_size": 4,
    "image_size": 32,
}
DELTA_NET = {
    **TEXT,
    "num_hidden_layers": 8,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
QWEN_VISION = {
    "depth": 4,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "out_hidden_size": 32,
    "patch_size": 4,
}
QWEN3_VISION = {**QWEN_VISION, "num_position_embeddings": 64}
MROPE = {**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
QWEN2 = {**TEXT, "model_type": "qwen2", "eos_token_id": 2}


@dataclass(frozen=True)
class Tiny:
    """One family.

    Attributes:
        config: text, vision and other settings.
        picture: pixels of a picture of h x w units of 8 x 8 pixels and the number of its visual tokens; a seed.
        sizes: units of the pictures that can be told apart by their size.
        loud: what the text model's weights are multiplied by, so that pruning changes tokens.
    """

    config: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
    picture: Callable[[int, int, int], tuple[dict[str, Tensor], int]]
    sizes: tuple[tuple[int, int], ...] = ((4, 4), (2, 4), (4, 2))
    loud: float = 7.0


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid(h: int, w: int, seed: int) -> tuple[dict[str, Tensor], int]:
    """Qwen: patches in rows, a token for 2 x 2 of them."""
    return {
        "pixel_values": noise(4 * h * w, 96, seed=seed),
        "image_grid_thw": torch.tensor([[1, 2 * h, 2 * w]]),
    }, h * w


def nemotron(h: int, w: int, seed: int) -> tuple[dict[str, Tensor], int]:
    return {
        "pixel_values": noise(4 * h * w, 48, seed=seed),
        "image_grid_hw": torch.tensor([[2 * h, 2 * w]]),
    }, h * w


def minicpm(h: int, w: int, seed: int) -> tuple[dict[str, Tensor], int]:
    return {
        "pixel_values": noise(1, 3, 4, 64 * h * w, seed=seed),
        "target_sizes": torch.tensor([[4 * h, 4 * w]]),
    }, h * w


def lfm2(h: int, w: int, seed: int) -> tuple[dict[str, Tensor], int]:
    pixels = torch.zeros(1, 64, 48)
    pixels[:, : 4 * h * w] = noise(1, 4 * h * w, 48, seed=seed)
    return {
        "pixel_values": pixels,
        "spatial_shapes": torch.tensor([[2 * h, 2 * w]]),
        "pixel_attention_mask": (torch.arange(64) < 4 * h * w).long()[None],
    }, h * w


def tiles(h: int, w: int, seed: int) -> tuple[dict[str, Tensor], int]:
    return {"pixel_values": noise(1, 3, 32, 32, seed=seed)}, 16


def idefics(h: int, w: int, seed: int) -> tuple[dict[str, Tensor], int]:
    return {"pixel_values": noise(1, 1, 3, 32, 32, seed=seed)}, 16


def onevision(h: int, w: int, seed: int) -> tuple[dict[str, Tensor], int]:
    return {"pixel_values": noise(1, 5, 3, 16, 16, seed=seed), "image_sizes": torch.tensor([[32, 32]])}, 88


MOE = {**DELTA_NET, **EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 32}
NEMOTRON = {
    **TEXT,
    **EXPERTS,
    "model_type": "nemotron_h",
    "hybrid_override_pattern": "MEM*EM*E",
    "head_dim": 8,
    "ssm_state_size": 8,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "n_groups": 2,
    "chunk_size": 16,
    "n_routed_experts": 4,
    "moe_shared_expert_intermediate_size": 32,
}
SIGLIP2 = {**VISION, "model_type": "siglip2_vision_model", "num_patches": 64}
SIGLIP = {**VISION, "model_type": "siglip_vision_model", "image_size": 16}
ONE_SIZE = ((4, 4),)
FAMILIES = {
    "qwen3_5": Tiny((DELTA_NET, QWEN3_VISION, {}), grid),
    "qwen3_5_moe": Tiny((MOE, QWEN3_VISION, {}), grid),
    "minicpmv4_6": Tiny(
        ({**DELTA_NET, "model_type": "qwen3_5_text"}, {**VISION, "image_size": 64}, {"insert_layer_id": 0}), minicpm
    ),
    "nemotron_h_omni": Tiny(
        (
            NEMOTRON,
            {**VISION, "max_img_size": 64, "video_temporal_patch_size": 2},
            {"vision_hidden_size": 32, "projector_hidden_size": 32},
        ),
        nemotron,
    ),
    "lfm2_vl": Tiny(
        (
            {**TEXT, "model_type": "lfm2", "full_attn_idxs": [2, 5], "block_multiple_of": 8},
            SIGLIP2,
            {"projector_hidden_size": 32},
        ),
        lfm2,
    ),
    "qwen2_5_vl": Tiny(
        (
            {**MROPE, "eos_token_id": 2, "bos_token_id": 1},
            {**QWEN_VISION, "window_size": 16, "fullatt_block_indexes": [1]},
            {},
        ),
        grid,
    ),
    "qwen3_vl": Tiny(({**MROPE, "head_dim": 8}, {**QWEN3_VISION, "deepstack_visual_indexes": [0, 1, 2]}, {}), grid),
    "llava_onevision": Tiny((QWEN2, SIGLIP, {"image_grid_pinpoints": [[16, 16], [32, 32]]}), onevision, ONE_SIZE),
    "internvl": Tiny((QWEN2, VISION, {}), tiles, ONE_SIZE),
    "smolvlm": Tiny(({**TEXT, "model_type": "llama"}, VISION, {}), idefics, ONE_SIZE),
}
CLIP = {**VISION, "model_type": "clip_vision_model", "patch_size": 8}
SSD = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 8, "mamba_chunk_size": 16}
JAMBA = {
    **TEXT,
    "model_type": "jamba",
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
    "attn_layer_period": 3,
    "attn_layer_offset": 2,
    "num_experts": 4,
}
BAMBA = {**TEXT, **SSD, "model_type": "bamba", "attn_layer_indices": [2, 5]}
GRANITE = {
    **TEXT,
    **SSD,
    "model_type": "granitemoehybrid",
    "layer_types": ["mamba", "mamba", "attention"] * 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "shared_intermediate_size": 32,
    "position_embedding_type": "rope",
    "residual_multiplier": 0.7,
}
NEXT = {
    **DELTA_NET,
    **EXPERTS,
    "model_type": "qwen3_next",
    "num_experts": 4,
    "shared_expert_intermediate_size": 32,
}
TEXTS = {"llama": {**TEXT, "model_type": "llama"}, "jamba": JAMBA, "bamba": BAMBA, "granite": GRANITE, "next": NEXT}
LLAVAS = {
    f"llava+{name}": Tiny(({**text, "eos_token_id": IMAGE}, CLIP, {}), tiles, ONE_SIZE) for name, text in TEXTS.items()
}
HYBRIDS = ("qwen3_5", "qwen3_5_moe", "minicpmv4_6", "nemotron_h_omni", "lfm2_vl")


def make(name: str, attention: str = "sdpa", seed: int = 0) -> Any:
    """A random model; the same for the same seed, whatever the attention."""
    tiny = (FAMILIES | LLAVAS)[name]
    text, vision, more = tiny.config
    config = transformers.AutoConfig.for_model(
        name.split("+")[0], text_config=text, vision_config=vision, image_token_id=IMAGE, **more
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForImageTextToText.from_config(config, attn_implementation=attention).eval()
    for key, weight in model.named_parameters():
        weight.requires_grad_(False)
        if weight.ndim > 1 and "conv" not in key:
            weight.mul_(tiny.loud)
    return model


Part = int | tuple[int, int]  # a token, or a picture of h x w units


def prompt(name: str, *samples: Sequence[Part], seed: int = 0) -> dict[str, Tensor]:
    """A batch, padded on the left: each sample is tokens and pictures in any order."""
    found: list[dict[str, Tensor]] = []
    rows = []
    for sample in samples:
        row: list[int] = []
        for part in sample:
            if isinstance(part, int):
                row.append(part)
            else:
                pixels, n = (FAMILIES | LLAVAS)[name].picture(*part, seed + len(found))
                found.append(pixels)
                row += [OPEN, *[IMAGE] * n, CLOSE]
        rows.append(row)
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask}
    if found and "image_grid_thw" in found[0]:
        inputs["mm_token_type_ids"] = (ids == IMAGE).long()
    axis = {"minicpmv4_6": -1, "smolvlm": 1}.get(name, 0)
    for key in found[0] if found else ():
        parts = [pixels[key] for pixels in found]
        inputs[key] = torch.cat(parts, axis if key == "pixel_values" else 0)
    return inputs


ONE: tuple[Part, ...] = (5, 6, (4, 4), 9, 10, 11)


def one(name: str) -> dict[str, Tensor]:
    """Text, a picture, text."""
    return prompt(name, ONE)
