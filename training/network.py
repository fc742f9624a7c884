"""The differentiable forward pass of the library's own modules, on a forest of images and questions."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deltaprune.blocks.mamba1 import MambaBlock
from deltaprune.mllm.lm import MambaLM
from deltaprune.mllm.network import MLLM
from deltaprune.vision.pixels import normalise
from training.lessons import KINDS, PATCH_CLASSES, Lesson
from training.recipe import Recipe, Start
from training.scan import conv_silu, gated_scan


@torch.no_grad()
def begin(lm: MambaLM, start: Start) -> None:
    """Random weights: mamba_ssm's start, but with louder B and C, slower decay and longer steps (see `Start`)."""
    lm.reset_parameters()
    nn.init.normal_(lm.backbone.embedding.weight, std=start.embedding)
    low, high = map(math.log, start.delta)
    slow, fast = map(math.log, start.a)
    decay = torch.linspace(slow, fast, lm.config.d_state)
    for layer in lm.blocks:
        m = layer.mixer
        m.x_proj.weight[lm.config.rank :] *= start.b_and_c
        m.A_log.copy_(decay.expand_as(m.A_log))
        m.dt_proj.bias.copy_(torch.empty_like(m.dt_proj.bias).uniform_(low, high).exp().expm1().log())


def block(layer: MambaBlock, x: Tensor, cu_seqlens: Tensor, parent: Tensor) -> Tensor:
    """`MambaBlock.prefill` with gradients: `x` (T, d) packed rows of the forest."""
    m, cfg = layer.mixer, layer.config
    x_in, z = m.in_proj(layer.norm(x)).split(cfg.d_inner, dim=-1)
    u = conv_silu(x_in, m.conv1d.weight[:, 0], m.conv1d.bias, cu_seqlens, parent)
    dt, b, c = m.x_proj(u).split([cfg.rank, cfg.d_state, cfg.d_state], dim=-1)
    dt = F.linear(dt, m.dt_proj.weight)
    return x + m.out_proj(gated_scan(u, dt, m.A_log, b, c, m.D, z, m.dt_proj.bias, cu_seqlens, parent))


class Learner(Protocol):
    """A model as a classroom goes through it.

    Attributes:
        layers, norm: of the text model, the norm before its head.
        words: (V, d) embeddings, which are the head as well.
        vision_width: channels of the features.
    """

    layers: Any
    norm: Any
    words: Tensor
    vision_width: int

    def see(self, lesson: Lesson) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Features of patches (., f), the image rows that enter the text model (I, d), the features' labels."""
        ...

    def forest(self, lesson: Lesson) -> Any:
        """What all layers share."""
        ...

    def layer(self, layer: Any, x: Tensor, forest: Any) -> Tensor:
        """One layer on packed rows (T, d)."""
        ...


class MambaLearner:
    """The library's own network; features are those of the padding as well."""

    def __init__(self, model: MLLM):
        self.model = model
        self.layers, self.norm = model.lm.blocks, model.lm.backbone.norm_f
        # what pads the vocabulary is never answered
        self.words = model.lm.backbone.embedding.weight[: model.lm.config.vocab_size]
        self.vision_width = model.config.vision_width

    def see(self, lesson: Lesson) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        pixels = {name: normalise(lesson.pixels, tower) for name, tower in self.model.config.towers.items()}
        features = self.model.features(pixels)
        image = self.model.projector(features).flatten(0, 1)[lesson.inside]
        return features.flatten(0, 1), image, lesson.patches

    def forest(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        return lesson.cu_seqlens, lesson.parent

    def layer(self, layer: MambaBlock, x: Tensor, forest: tuple[Tensor, Tensor]) -> Tensor:
        return block(layer, x, *forest)


class Result(NamedTuple):
    """What a lesson gave: the last layer's loss, the exits' mean loss, the dense loss, the drift; all scalars.

    `right` maps a number of layers to which answer tokens `(n,)` are right when read off after so many.
    """

    answers: Tensor
    exits: Tensor
    dense: Tensor
    drift: Tensor
    right: dict[int, Tensor]


def weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    """The mean of `x` (n,) under `weight` (n,)."""
    return (x * weight).sum() / weight.sum()


class Classroom(nn.Module):
    """The model and, for training only, linear heads that name what lies under each patch."""

    def __init__(self, model: nn.Module, recipe: Recipe, learner: Callable[[Any], Learner] = MambaLearner):
        super().__init__()
        self.model, self.recipe, self._learner = model, recipe, learner
        width = learner(model).vision_width
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in PATCH_CLASSES.items()})

    def forward(self, lesson: Lesson) -> Result:
        """Losses, and which answer tokens are right after each exit and after the last layer.

        The drift, (log rms)^2 of the rows that enter the LM, keeps them at the scale of a layer's output: the norm in
        front of every layer hides their scale, so it grows unchecked until no layer can change an image row any more.
        """
        with torch.autocast(lesson.ids.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            return self._losses(lesson)

    def _losses(self, lesson: Lesson) -> Result:
        learner = self._learner(self.model)
        image, dense, drift = self.see(lesson)
        x = torch.cat([image, F.embedding(lesson.ids, learner.words)])[lesson.order]
        place = torch.empty_like(lesson.order)
        place[lesson.order] = torch.arange(len(lesson.order), device=place.device)
        asked = (lesson.targets >= 0).nonzero()[:, 0]
        n_layers, forest = len(learner.layers), learner.forest(lesson)
        rows, exits, read = place[len(image) + asked], self.recipe.exits(n_layers), {}
        for k, layer in enumerate(learner.layers, start=1):
            x = learner.layer(layer, x, forest)
            if k in exits or k == n_layers:
                read[k] = F.linear(learner.norm(x[rows]), learner.words).float()
        target, weight = lesson.targets[asked], self.token_weights(lesson.skill[asked])
        losses = {
            k: weighted_mean(F.cross_entropy(logits, target, reduction="none"), weight) for k, logits in read.items()
        }
        last = losses.pop(n_layers)
        right = {k: logits.argmax(-1) == target for k, logits in read.items()}
        return Result(last, torch.stack([*losses.values()]).mean() if losses else last * 0, dense, drift, right)

    def token_weights(self, kind: Tensor) -> Tensor:
        """`(n,)`: the weight of each answer token; `kind` indexes KINDS."""
        return torch.where(kind == KINDS.index("reading"), self.recipe.reading_weight, 1.0)

    def see(self, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
        """The image rows that enter the LM (I, d), the dense loss, the drift."""
        features, image, labels = self._learner(self.model).see(lesson)
        features, image = features.float(), image.float()
        drift = (0.5 * image.pow(2).mean(-1).log()).pow(2).mean()
        return image, self.patch_loss(features, labels), drift

    def patch_loss(self, features: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of every head, background weighted by 0.2. `features` (G * P, f)."""
        losses = []
        for name, head in self.heads.items():
            weight = torch.full((PATCH_CLASSES[name],), 1.0, device=features.device)
            weight[0] = 0.2
            losses.append(F.cross_entropy(head(features).float(), labels[name], weight=weight))
        return torch.stack(losses).sum()
