"""Names of published towers: both spellings, other grids, and one sentence for everything that does not fit."""

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from plain_vit import CLIP, CONFIGS, DINO, SIGLIP, timm_tensors
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.vision.towers import TOWERS, TowerConfig
from deltaprune.vision.weights import resample_positions, tower_weights


def sentence(config: TowerConfig, tensors: dict[str, Tensor]) -> str:
    with pytest.raises(UserError) as error:
        tower_weights(config, tensors)
    assert re.fullmatch(r"[^\n]+\.", str(error.value))
    return str(error.value)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_result_is_the_state_dict_of_the_tower(kind: str) -> None:
    weights = tower_weights(CONFIGS[kind], timm_tensors(CONFIGS[kind]))
    wanted = TOWERS[kind](CONFIGS[kind]).state_dict()
    assert {name: tensor.shape for name, tensor in weights.items()} == {n: t.shape for n, t in wanted.items()}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("prefix", ["vision.model.", "visual.trunk.", "model."])
def test_timms_names_behind_a_prefix(kind: str, prefix: str) -> None:
    tensors = timm_tensors(CONFIGS[kind])
    prefixed = {prefix + name: tensor for name, tensor in tensors.items()}
    assert same(tower_weights(CONFIGS[kind], prefixed), tower_weights(CONFIGS[kind], tensors))


def hub_dino(name: str) -> str:
    """The names in the published files of transformers' DINOv2."""
    for ours, theirs in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
        name = name.replace(f"attention.{ours}", f"attention.attention.{theirs}")
    return name.replace("attention.o_proj", "attention.output.dense")


SPELLINGS: dict[str, list[Callable[[str], str]]] = {
    "dinov2": [str, hub_dino, lambda name: f"dinov2_with_registers.{hub_dino(name)}"],
    "siglip": [str, lambda name: f"vision_model.{name}", lambda name: f"vision.{name}"],
    "clip": [str, lambda name: f"vision_model.{name}", lambda name: f"vision.vision_model.{name}"],
}


@pytest.mark.parametrize(("kind", "spell"), [(kind, spell) for kind, spells in SPELLINGS.items() for spell in spells])
def test_transformers_names_give_the_same_tensors(kind: str, spell: Callable[[str], str]) -> None:
    weights = tower_weights(CONFIGS[kind], timm_tensors(CONFIGS[kind]))
    spelled = {spell(name.removeprefix("vit.")): tensor for name, tensor in weights.items()}
    assert same(tower_weights(CONFIGS[kind], spelled), weights)


def test_the_vision_half_of_a_whole_clip() -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    vision = CLIPVisionConfig(
        hidden_size=CLIP.width,
        intermediate_size=CLIP.mlp_width,
        num_hidden_layers=CLIP.n_blocks,
        num_attention_heads=CLIP.n_heads,
        image_size=CLIP.image_size,
        patch_size=CLIP.patch_size,
    )
    text = CLIPTextConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1)
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).state_dict()
    assert {name.partition(".")[0] for name in whole} > {"text_model", "vision_model", "logit_scale"}
    weights = tower_weights(CLIP, whole)
    name = "embeddings.class_embedding"
    assert torch.equal(weights[f"vit.{name}"], whole[f"vision_model.{name}"])


@pytest.mark.parametrize("kind", CONFIGS)
def test_nothing_is_copied_that_can_be_a_view(kind: str) -> None:
    tensors = timm_tensors(CONFIGS[kind])
    weights = tower_weights(CONFIGS[kind], tensors)
    given = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    copied = {name for name, tensor in weights.items() if tensor.untyped_storage().data_ptr() not in given}
    made = {"vit.embeddings.position_embeddings", "vit.embeddings.mask_token"}  # a class row is added, and zeros
    assert copied == (made if kind == "dinov2" else set())


def test_the_dtype_is_kept() -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in timm_tensors(DINO, side=5).items()}
    assert {tensor.dtype for tensor in tower_weights(DINO, tensors).values()} == {torch.bfloat16}


@pytest.mark.parametrize(("old", "new"), [(5, 3), (2, 3), (37, 27)])
def test_a_dino_table_of_another_grid_is_resampled_as_timm_does(old: int, new: int) -> None:
    config = TowerConfig("dinov2", 8 * new, 8, 12, 2, 3, 48, n_prefix=5, mean=DINO.mean, std=DINO.std)
    tensors = timm_tensors(config, side=old)
    grid = tensors["pos_embed"].reshape(1, old, old, 12).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=[new, new], mode="bicubic", antialias=True)
    expected = torch.cat((torch.zeros(1, 1, 12), grid.permute(0, 2, 3, 1).reshape(1, new * new, 12)), 1)
    found = tower_weights(config, tensors)["vit.embeddings.position_embeddings"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_class_row_of_a_table_is_not_resampled() -> None:
    tensors = timm_tensors(CLIP, side=6)
    table = tower_weights(CLIP, tensors)["vit.embeddings.position_embedding.weight"]
    assert torch.equal(table[0], tensors["pos_embed"][0, 0])
    assert torch.equal(table[1:], resample_positions(tensors["pos_embed"][0, 1:], 0, 3))
    weights = {name.removeprefix("vit."): tensor for name, tensor in tower_weights(DINO, timm_tensors(DINO)).items()}
    stored = torch.randn(1, 1 + 25, DINO.width, generator=torch.Generator().manual_seed(2))
    found = tower_weights(DINO, {**weights, "embeddings.position_embeddings": stored})
    assert torch.equal(found["vit.embeddings.position_embeddings"][0], resample_positions(stored[0], 1, 3))
    assert torch.equal(found["vit.embeddings.position_embeddings"][0, 0], stored[0, 0])


def test_resampling_keeps_what_is_the_same_everywhere_and_turns_with_the_grid() -> None:
    level = torch.full((16, 2), 0.7)
    torch.testing.assert_close(resample_positions(level, 0, 3), torch.full((9, 2), 0.7))
    table = torch.randn(25, 4, generator=torch.Generator().manual_seed(3))
    turned = table.view(5, 5, 4).transpose(0, 1).reshape(25, 4)
    rows = resample_positions(table, 0, 3).view(3, 3, 4).transpose(0, 1).reshape(9, 4)
    torch.testing.assert_close(resample_positions(turned, 0, 3), rows)
    assert resample_positions(table, 0, 5) is table


def test_resampling_a_half_precision_table_computes_in_float32() -> None:
    table = torch.randn(36, 8, generator=torch.Generator().manual_seed(4)).bfloat16()
    assert torch.equal(resample_positions(table, 0, 3), resample_positions(table.float(), 0, 3).bfloat16())


def test_a_missing_tensor_is_named_as_the_file_would_name_it() -> None:
    tensors = timm_tensors(SIGLIP)
    del tensors["blocks.0.norm1.weight"], tensors["blocks.1.norm1.weight"]
    assert "missing blocks.{0-1}.norm1.weight" in sentence(SIGLIP, tensors)
    prefixed = {f"vision.model.{name}": tensor for name, tensor in tensors.items()}
    assert "missing vision.model.blocks.{0-1}.norm1.weight" in sentence(SIGLIP, prefixed)
    assert "missing patch_embed.proj.weight, patch_embed.proj.bias, pos_embed" in sentence(SIGLIP, {})


def test_an_unexpected_tensor_is_named_with_the_nearest_missing_one() -> None:
    tensors = timm_tensors(CLIP)
    tensors["norm_prae.weight"] = tensors.pop("norm_pre.weight")
    tensors["blocks.9.norm1.weight"] = torch.ones(CLIP.width)
    text = sentence(CLIP, tensors)
    assert "norm_prae.weight (did you mean norm_pre.weight?)" in text
    assert "blocks.9.norm1.weight" in text
    assert "The clip tower" in text


def test_wrong_shapes_are_told() -> None:
    tensors = timm_tensors(DINO)
    tensors["blocks.1.attn.qkv.weight"] = torch.zeros(24, 24)
    tensors["cls_token"] = torch.zeros(24)
    text = sentence(DINO, tensors)
    assert "misshapen blocks.1.attn.qkv.weight (24, 24) instead of (72, 24)" in text
    assert "misshapen cls_token (24,) instead of (1, 1, 24)" in text


@pytest.mark.parametrize(
    ("config", "rows", "expected"),
    [(DINO, 9 + 1, "(1, 9, 24)"), (SIGLIP, 9 + 1, "(1, 9, 16)"), (CLIP, 9, "(1, 10, 24)"), (DINO, 0, "(1, 9, 24)")],
)
def test_a_table_that_is_no_square_grid(config: TowerConfig, rows: int, expected: str) -> None:
    tensors = {**timm_tensors(config), "pos_embed": torch.zeros(1, rows, config.width)}
    assert f"pos_embed (1, {rows}, {config.width}) instead of {expected}" in sentence(config, tensors)


def test_another_kind_of_tower() -> None:
    text = sentence(CLIP, timm_tensors(DINO))
    assert "missing norm_pre.weight, norm_pre.bias" in text.replace(
        "norm_pre.bias, norm_pre.weight", "norm_pre.weight, norm_pre.bias"
    )
    assert "reg_token" in text
