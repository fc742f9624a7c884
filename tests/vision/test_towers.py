"""The towers equal a ViT that is written out, and the libraries from which their weights come."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from plain_vit import CONFIGS, plain_vit, timm_tensors
from torch import Tensor, nn
from torch.func import functional_call

from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.vision import towers
from deltaprune.vision.towers import TOWERS, TowerConfig
from deltaprune.vision.weights import tower_weights

PUBLISHED = {**COBRA.towers, **ROBOMAMBA.towers}


def built(config: TowerConfig, weights: dict[str, Tensor]) -> nn.Module:
    tower = TOWERS[config.kind](config).eval().requires_grad_(False)
    tower.load_state_dict(weights)
    return tower


def images(config: TowerConfig, n: int = 2) -> Tensor:
    size = (n, 3, config.image_size, config.image_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_tower_from_timms_tensors_is_the_written_out_vit(kind: str) -> None:
    config = CONFIGS[kind]
    tensors = timm_tensors(config)
    pixels = images(config)
    ours = built(config, tower_weights(config, tensors))(pixels)
    theirs = torch.stack([plain_vit(config, tensors, image) for image in pixels])
    assert ours.shape == (2, config.n_patches, config.width)
    assert relative_error(ours, theirs) <= 1e-5


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_published_tensor_up_to_the_last_block_counts(kind: str) -> None:
    config = CONFIGS[kind]
    tensors = {name: tensor.requires_grad_() for name, tensor in timm_tensors(config).items()}
    features = functional_call(TOWERS[kind](config), tower_weights(config, tensors), images(config, 1))
    features.square().sum().backward()
    read = {name for name, tensor in tensors.items() if tensor.grad is not None and tensor.grad.any()}
    last = f"blocks.{config.n_blocks - 1}."
    assert tensors.keys() - read == {n for n in tensors if n.startswith((last, "norm.", "head.", "attn_pool."))}


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_norms_have_timms_eps(kind: str) -> None:
    norms = [module for module in TOWERS[kind](CONFIGS[kind]).modules() if isinstance(module, nn.LayerNorm)]
    built_blocks = CONFIGS[kind].n_blocks - 1
    assert len(norms) == 2 * built_blocks + (kind == "clip")
    assert {norm.eps for norm in norms} == {1e-5 if kind == "clip" else 1e-6}


def test_the_published_configurations_are_timms() -> None:
    """timm: vit_large_patch14_reg4_dinov2, vit_so400m_patch14_siglip_384, vit_large_patch14_clip_224."""
    sizes = {
        name: (c.kind, c.image_size, c.patch_size, c.width, c.n_blocks, c.n_heads, c.mlp_width, c.n_prefix, c.n_patches)
        for name, c in PUBLISHED.items()
    }
    assert sizes == {
        "dino": ("dinov2", 384, 14, 1024, 24, 16, 4096, 5, 729),
        "siglip": ("siglip", 384, 14, 1152, 27, 16, int(3.7362 * 1152), 0, 729),
        "clip": ("clip", 224, 14, 1024, 24, 16, 4096, 1, 256),
    }
    assert {name: c.resize for name, c in PUBLISHED.items()} == {"dino": "naive", "siglip": "naive", "clip": "crop"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_image_sizes_give_the_published_number_of_tokens(name: str) -> None:
    """384 is no multiple of 14: the towers take it all the same, and see 27 x 14 = 378 pixels of it."""
    published = PUBLISHED[name]
    config = replace(published, width=8, n_heads=1, mlp_width=32, n_blocks=2)
    pixels = images(config, 1)
    tower = built(config, tower_weights(config, timm_tensors(config)))
    features = tower(pixels)
    assert features.shape == (1, published.n_patches, 8)
    seen = config.image_size // 14 * 14
    pixels[..., seen:] = 9.0
    pixels[..., seen:, :] = 9.0
    assert torch.equal(tower(pixels), features)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_cpu_takes_as_many_pictures_at_once_as_there_is_room_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, taken = CONFIGS[kind], list[int]()
    tower = built(config, tower_weights(config, timm_tensors(config)))
    pixels = images(config, 5)
    embed = tower.vit.embeddings
    assert isinstance(embed, nn.Module)
    embed.register_forward_pre_hook(lambda module, given: taken.append(len(given[0])))
    with torch.no_grad():
        whole = tower(pixels)
        monkeypatch.setattr(towers, "ROOM", 2 * config.n_patches * config.mlp_width)
        parts = tower(pixels)
    graded = tower(pixels)
    assert taken == [5, 2, 2, 1, 5]
    assert relative_error(parts, whole.double()) <= 1e-6
    assert torch.equal(graded, whole)


def transformers_model(config: TowerConfig) -> nn.Module:
    """The whole model as transformers builds it by itself, last block, final norm and pooling included."""
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": config.width,
        "num_hidden_layers": config.n_blocks,
        "num_attention_heads": config.n_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
    }
    if config.kind == "dinov2":
        dino = transformers.Dinov2WithRegistersConfig(**sizes, mlp_ratio=4, num_register_tokens=config.n_prefix - 1)
        model = transformers.Dinov2WithRegistersModel(dino)
    elif config.kind == "siglip":
        siglip = transformers.SiglipVisionConfig(**sizes, intermediate_size=config.mlp_width, hidden_act="gelu")
        model = transformers.SiglipVisionModel(siglip)
    else:
        model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes, intermediate_size=config.mlp_width))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_tower_from_transformers_tensors_is_its_second_to_last_hidden_state(kind: str) -> None:
    config = CONFIGS[kind]
    model = transformers_model(config)
    pixels = images(config)
    ours = built(config, tower_weights(config, model.state_dict()))(pixels)
    with torch.no_grad():
        theirs = model(pixels, output_hidden_states=True).hidden_states[-2][:, config.n_prefix :]
    assert relative_error(ours, theirs.double()) <= 1e-6


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_tower_is_timms_second_to_last_block(kind: str) -> None:
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    config = CONFIGS[kind]
    eps = 1e-5 if kind == "clip" else 1e-6
    options: dict[str, Any] = {
        "dinov2": {"init_values": 1e-5, "reg_tokens": config.n_prefix - 1, "no_embed_class": True},
        "siglip": {"class_token": False, "global_pool": "map"},
        "clip": {"pre_norm": True, "act_layer": "quick_gelu"},
    }[kind]
    vit = vision_transformer.VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.n_blocks,
        num_heads=config.n_heads,
        mlp_ratio=config.mlp_width / config.width,
        num_classes=0,
        norm_layer=lambda width: nn.LayerNorm(width, eps=eps),
        **options,
    ).eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in vit.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    pixels = images(config)
    ours = built(config, tower_weights(config, vit.state_dict()))(pixels)
    with torch.no_grad():
        theirs = vit.get_intermediate_layers(pixels, n={config.n_blocks - 2})[0]
    assert relative_error(ours, theirs.double()) <= 1e-5
