"""Small checkpoints in the layouts in which Cobra and RoboMamba are published, with random weights."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.mllm.lm import MambaLM

WIDTH, BLOCKS = 64, 3  # of every tower: a single head of 64
D_MODEL, LAYERS = 32, 4


@dataclass(frozen=True)
class Published:
    """A checkpoint on the disk and what goes with it.

    Attributes:
        source: what `load` takes.
        file: its pickle.
        towers: a folder of towers in timm's names.
        tokenizer: a tokenizer.json.
        tensors: what the pickle holds, by name, groups merged.
    """

    source: Path
    file: Path
    towers: Path
    tokenizer: Path
    tensors: dict[str, Tensor]


def write_cobra(folder: Path, tokenizer: Tokenizer, dtype: torch.dtype = torch.float32) -> Published:
    """A run folder: 16 visual tokens at 32 pixels, 4 layers of width 32."""
    lm = {f"llm.{name}": tensor.to(dtype) for name, tensor in language_model(tokenizer).items()}
    projector = {name: tensor.to(dtype) for name, tensor in projector_tensors(2 * WIDTH).items()}
    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    ids = {
        "model_id": "cobra+tiny",
        "arch_specifier": "no-align+fused-gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-tiny-32px",
        "llm_backbone_id": "mamba-2.8b-zephyr",
        "image_resize_strategy": "resize-naive",
        "llm_max_length": 2048,
    }
    (run / "config.json").write_text(json.dumps({"model": ids, "stage": "finetune", "seed": 7}))
    file = run / "checkpoints" / "latest-checkpoint.pt"
    torch.save({"model": {"projector": projector, "llm_backbone": lm}}, file)
    towers = write_towers(folder / "towers", dino=timm_dino(), siglip=timm_siglip())
    return Published(run, file, towers, write_tokenizer(folder, tokenizer), {**projector, **lm})


def write_robomamba(folder: Path, tokenizer: Tokenizer, vision: bool = True) -> Published:
    """A flat state dict; without `vision` it holds no tower."""
    lm = {
        f"llm.mamba.{name.replace('embedding.', 'embeddings.')}": tensor
        for name, tensor in language_model(tokenizer).items()
    }
    projector = {f"projector.{name}": tensor for name, tensor in projector_tensors(WIDTH).items()}
    clip = timm_clip()
    tensors = {**{f"vision.model.{name}": tensor for name, tensor in clip.items() if vision}, **projector, **lm}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "robomamba.pth"
    torch.save(tensors, file)
    towers = write_towers(folder / "towers", clip=clip)
    return Published(file, file, towers, write_tokenizer(folder, tokenizer), tensors)


def language_model(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """A Mamba LM under mamba_ssm's names, its tied head included; loud layers, so that the image reaches the answer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = MambaLM(MambaConfig(d_model=D_MODEL, n_layers=LAYERS, vocab_size=tokenizer.get_vocab_size()))
        lm.reset_parameters()
    tensors = {name: tensor.detach().clone() for name, tensor in lm.state_dict().items()}
    for name, tensor in tensors.items():
        if name.endswith("out_proj.weight"):
            tensor.mul_(100)
        elif name.endswith("mixer.D"):
            tensor.mul_(0.01)
    return {**tensors, "lm_head.weight": tensors["backbone.embedding.weight"]}


def projector_tensors(width: int) -> dict[str, Tensor]:
    """Three linear layers."""
    random = _random(1)
    widths = (width, 4 * width, D_MODEL, D_MODEL)
    tensors = {}
    for number, (before, after) in enumerate(pairwise(widths)):
        tensors[f"projector.{2 * number}.weight"] = random(after, before)
        tensors[f"projector.{2 * number}.bias"] = random(after)
    return tensors


def timm_dino() -> dict[str, Tensor]:
    """DINOv2 with four registers, published at another size: its table of positions is 6 x 6 for a grid of 4 x 4."""
    random = _random(2)
    blocks = _blocks(random)
    scales = {f"blocks.{i}.ls{n}.gamma": random(WIDTH) for i in range(BLOCKS) for n in (1, 2)}
    return {
        "cls_token": random(1, 1, WIDTH),
        "reg_token": random(1, 4, WIDTH),
        "pos_embed": random(1, 36, WIDTH),
        **_patches(random),
        **blocks,
        **scales,
        **_norm(random, "norm"),
    }


def timm_siglip() -> dict[str, Tensor]:
    """SigLIP with the pooling head that is never used."""
    random = _random(3)
    pool = {"attn_pool.latent": random(1, 1, WIDTH), "attn_pool.q.weight": random(WIDTH, WIDTH)}
    return {"pos_embed": random(1, 16, WIDTH), **_patches(random), **_blocks(random), **_norm(random, "norm"), **pool}


def timm_clip() -> dict[str, Tensor]:
    """CLIP with its norm before the blocks."""
    random = _random(4)
    patches = _patches(random)
    del patches["patch_embed.proj.bias"]
    return {
        "cls_token": random(1, 1, WIDTH),
        "pos_embed": random(1, 17, WIDTH),
        **patches,
        **_norm(random, "norm_pre"),
        **_blocks(random),
        **_norm(random, "norm"),
    }


def write_towers(folder: Path, **towers: Mapping[str, Tensor]) -> Path:
    """Each as a safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in towers.items():
        save_file(dict(tensors), folder / f"{name}.safetensors")
    return folder


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> Path:
    file = folder / "words" / "tokenizer.json"
    file.parent.mkdir(exist_ok=True)
    tokenizer.save(str(file))
    return file


def _random(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator) * 0.1


def _patches(random: Callable[..., Tensor]) -> dict[str, Tensor]:
    return {"patch_embed.proj.weight": random(WIDTH, 3, 8, 8), "patch_embed.proj.bias": random(WIDTH)}


def _norm(random: Callable[..., Tensor], name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": 1 + random(WIDTH), f"{name}.bias": random(WIDTH)}


def _blocks(random: Callable[..., Tensor]) -> dict[str, Tensor]:
    tensors = _timm_blocks(random, WIDTH, 4 * WIDTH, BLOCKS)
    norms = {name: 1 + tensor for name, tensor in tensors.items() if re.search(r"norm\d\.weight$", name)}
    return {**tensors, **norms}


def _timm_blocks(fill: Callable[..., Tensor], width: int, mlp_width: int, n_blocks: int) -> dict[str, Tensor]:
    """The blocks of any of the towers."""
    tensors: dict[str, Tensor] = {}
    linears = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (mlp_width, width),
        "mlp.fc2": (width, mlp_width),
    }
    for i in range(n_blocks):
        for name in ("norm1", "norm2"):
            tensors |= {f"blocks.{i}.{name}.weight": fill(width), f"blocks.{i}.{name}.bias": fill(width)}
        for name, shape in linears.items():
            tensors |= {f"blocks.{i}.{name}.weight": fill(*shape), f"blocks.{i}.{name}.bias": fill(shape[0])}
    return tensors


def edit(published: Published, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a checkpoint after `change` has had what its pickle holds; returns what `load` takes."""
    copy = (
        Path(shutil.copytree(published.source, folder / "copy")) if published.source.is_dir() else folder / "copy.pth"
    )
    content = torch.load(published.file, weights_only=True)
    change(content)
    torch.save(content, copy / published.file.relative_to(published.source) if copy.is_dir() else copy)
    return copy


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub cannot be reached, whatever this machine's network says."""

    def fail(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)


def write_paper_size(folder: Path) -> Path:
    """Cobra's published layout at the published sizes in a few kilobytes: every tensor repeats one number."""
    from deltaprune.mllm.network import blank
    from deltaprune.models.cobra import COBRA

    def constant(*shape: int) -> Tensor:
        return torch.full((), 0.5, dtype=torch.bfloat16).expand(shape)

    (folder / "checkpoints").mkdir(parents=True)
    shapes = {name: tensor.shape for name, tensor in blank(COBRA).state_dict().items() if name[:6] != "vision"}
    projector = {name: constant(*shape) for name, shape in shapes.items() if name.startswith("projector.")}
    lm = {"l" + name: constant(*shape) for name, shape in shapes.items() if name.startswith("lm.")}
    lm["llm.lm_head.weight"] = lm["llm.backbone.embedding.weight"]
    torch.save({"model": {"projector": projector, "llm_backbone": lm}}, folder / "checkpoints" / "latest-checkpoint.pt")
    ids = ("dinosiglip-vit-so-384px", "mamba-2.8b-zephyr", "resize-naive")
    keys = ("vision_backbone_id", "llm_backbone_id", "image_resize_strategy")
    (folder / "config.json").write_text(json.dumps({"model": dict(zip(keys, ids, strict=True))}))
    positions = {"dino": 37 * 37, "siglip": 27 * 27}
    for name, tower in COBRA.towers.items():
        tensors = _timm_blocks(constant, tower.width, tower.mlp_width, tower.n_blocks)
        tensors |= {"pos_embed": constant(1, positions[name], tower.width)}
        tensors |= {"patch_embed.proj.weight": constant(tower.width, 3, 14, 14)}
        tensors |= {"patch_embed.proj.bias": constant(tower.width)}
        if name == "dino":
            tensors |= {"cls_token": constant(1, 1, tower.width), "reg_token": constant(1, 4, tower.width)}
            tensors |= {f"blocks.{i}.ls{n}.gamma": constant(tower.width) for i in range(24) for n in (1, 2)}
        torch.save(tensors, folder / f"{name}.pt")
    words = {"<|endoftext|>": 0} | {f"word{i}": i for i in range(1, COBRA.lm.vocab_size)}
    Tokenizer(WordLevel(words, unk_token="<|endoftext|>")).save(str(folder / "tokenizer.json"))
    return folder
