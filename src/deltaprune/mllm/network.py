"""A Mamba MLLM of Cobra's kind: towers side by side -> projector -> Mamba LM, the image before all text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.mamba_lm import kept_in_float32
from deltaprune.kernels import without_autocast
from deltaprune.kernels.quantized import FORMS
from deltaprune.mllm.lm import MambaLM
from deltaprune.steps import Plan, Shape
from deltaprune.vision.pixels import shrink
from deltaprune.vision.towers import TOWERS, TowerConfig


@dataclass(frozen=True)
class MLLMConfig:
    """A model's sizes, template and plan.

    Attributes:
        name: what the model is called.
        towers: the vision towers by name; their features are concatenated along channels in this order.
        projector: output widths of its linear layers (GELU between them); the last is the LM's width.
        lm: the Mamba LM.
        template: the name of the chat template, see `templates.template_text`.
        plan: where to prune, if known.
        quantize: "int8" or "int4" where the LM's large matrices are quantized, see `blocks/quantized.py`.
    """

    name: str
    towers: Mapping[str, TowerConfig]
    projector: tuple[int, ...]
    lm: MambaConfig
    template: str
    plan: Plan | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    quantize: str | None = None

    @property
    def n_visual(self) -> int:
        """Visual tokens per image."""
        return next(iter(self.towers.values())).n_patches

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches, which all towers share."""
        tower = next(iter(self.towers.values()))
        side = tower.image_size // tower.patch_size
        return side, side

    @property
    def shape(self) -> Shape:
        """What a pruning method can know about the model."""
        return Shape(self.lm.n_layers, self.n_visual, self.plan, self.lm.write_share)

    def shrunk(self, side: int | None) -> "MLLMConfig":
        """The same model for pictures of side x side patches; None changes nothing."""
        if side is None:
            return self
        towers = {name: replace(tower, image_size=side * tower.patch_size) for name, tower in self.towers.items()}
        return replace(self, towers=towers)

    @property
    def vision_width(self) -> int:
        """Channels of the concatenated features."""
        return sum(tower.width for tower in self.towers.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; "quantize" only where it is set, so that other models keep their fingerprints."""
        raw = {**asdict(replace(self, plan=None)), "plan": None if self.plan is None else self.plan.to_dict()}
        return {key: value for key, value in raw.items() if key != "quantize" or value is not None}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "MLLMConfig":
        """The inverse of `to_dict`, also after a round trip through JSON; other libraries' keys are left out."""
        towers = {
            name: TowerConfig(**{**tower, "mean": tuple(tower["mean"]), "std": tuple(tower["std"])})
            for name, tower in raw["towers"].items()
        }
        if raw.get("quantize") not in (None, *FORMS):
            raise ValueError(f"quantize is {raw['quantize']!r}, not {' or '.join(FORMS)}")
        plan = None if raw.get("plan") is None else Plan(**raw["plan"])
        rest = {"towers": towers, "projector": tuple(raw["projector"]), "lm": MambaConfig(**raw["lm"]), "plan": plan}
        known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
        return cls(**{**known, **rest})


class MLLM(nn.Module):
    """The network. It knows nothing of pruning: `prefill.py` combines the two."""

    def __init__(self, config: MLLMConfig):
        super().__init__()
        self.config = config
        self.vision = nn.ModuleDict({name: TOWERS[tower.kind](tower) for name, tower in config.towers.items()})
        self.projector = projector(config.vision_width, config.projector)
        self.lm = MambaLM(config.lm)
        if config.quantize is not None:
            self.lm.prepare_quantized(config.quantize)

    def features(self, pixels: Mapping[str, Float[Tensor, "B 3 _ _"]]) -> Float[Tensor, "B P f"]:
        """Patch features of all towers, concatenated along channels."""
        dtype = next(self.projector.parameters()).dtype
        return torch.cat([tower(pixels[name].to(dtype)) for name, tower in self.vision.items()], dim=-1)

    @without_autocast
    def encode(self, pixels: Mapping[str, Float[Tensor, "B 3 _ _"]], side: int | None = None) -> Float[Tensor, "B P d"]:
        """Images -> visual tokens in the LM's space, row by row, float32.

        Args:
            pixels: of each tower, at its own size.
            side: shrink them to so many patches a side, P = side * side; None leaves them as they are.
        """
        if side is not None and side**2 != self.config.n_visual:
            towers = self.config.shrunk(side).towers
            pixels = {name: shrink(image, towers[name].image_size) for name, image in pixels.items()}
        return self.projector(self.features(pixels)).float()


def projector(width: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Linear, GELU, Linear, ... with bias; keys `0`, `2`, `4` as in the official checkpoints."""
    linears = [nn.Linear(a, b) for a, b in pairwise((width, *widths))]
    modules: list[nn.Module] = []
    for linear in linears:
        modules += [linear, nn.GELU()]
    return nn.Sequential(*modules[:-1])


def blank(config: MLLMConfig) -> MLLM:
    """The network on "meta": every name and shape, and no memory."""
    with torch.device("meta"):
        return MLLM(config)


def restore_buffers(model: MLLM) -> None:
    """Buffers that no checkpoint holds (position ids of SigLIP and CLIP) get their values back after `blank`."""
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            if not name.endswith("position_ids"):
                raise RuntimeError(f"Buffer {name} has no stored value.")
            parent = model.get_submodule(name.rpartition(".")[0])
            parent.position_ids = torch.arange(buffer.shape[-1]).expand(buffer.shape)


def weight_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a tensor in a model of this dtype: float32 for what the LM computes in float32 anyway."""
    return torch.float32 if name.startswith("lm.") and kept_in_float32(name) else dtype
