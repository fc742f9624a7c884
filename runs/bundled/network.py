"""The differentiable forward pass of the library's own modules, on a forest of images and questions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundled.lessons import PATCH_CLASSES, Lesson
from bundled.recipe import Start
from bundled.scan import conv_silu, gated_scan
from deltaprune.mamba import Layer, MambaLM
from deltaprune.models._mllm import MLLM
from deltaprune.vision.pixels import normalise


@torch.no_grad()
def begin(lm: MambaLM, start: Start) -> None:
    """Random weights: mamba_ssm's start, but with louder B and C, slower decay and longer steps (see `Start`)."""
    lm.reset_parameters()
    nn.init.normal_(lm.backbone.embedding.weight, std=start.embedding)
    low, high = map(math.log, start.delta)
    slow, fast = map(math.log, start.a)
    decay = torch.linspace(slow, fast, lm.config.d_state)
    for layer in lm.layers:
        m = layer.mixer
        m.x_proj.weight[lm.config.rank :] *= start.b_and_c
        m.A_log.copy_(decay.expand_as(m.A_log))
        m.dt_proj.bias.copy_(torch.empty_like(m.dt_proj.bias).uniform_(low, high).exp().expm1().log())


def block(layer: Layer, x: Tensor, cu_seqlens: Tensor, parent: Tensor) -> Tensor:
    """`Layer.prefill` with gradients: `x` (T, d) packed rows of the forest."""
    m, cfg = layer.mixer, layer.config
    x_in, z = m.in_proj(layer.norm(x)).split(cfg.d_inner, dim=-1)
    u = conv_silu(x_in, m.conv1d.weight[:, 0], m.conv1d.bias, cu_seqlens, parent)
    dt, b, c = m.x_proj(u).split([cfg.rank, cfg.d_state, cfg.d_state], dim=-1)
    dt = F.linear(dt, m.dt_proj.weight)
    return x + m.out_proj(gated_scan(u, dt, m.A_log, b, c, m.D, z, m.dt_proj.bias, cu_seqlens, parent))


class Classroom(nn.Module):
    """The model and, for training only, linear heads that name what lies under each patch."""

    def __init__(self, model: MLLM):
        super().__init__()
        self.model = model
        width = model.config.vision_width
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in PATCH_CLASSES.items()})

    def forward(self, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns (loss on answers, dense loss on patches, drift of the image rows, which answer tokens are right).

        The drift, (log rms)^2 of the rows that enter the LM, keeps them at the scale of a layer's output: the norm in
        front of every layer hides their scale, so it grows unchecked until no layer can change an image row any more.
        """
        model = self.model
        image, dense, drift = self.see(lesson)
        text = model.lm.backbone.embedding(lesson.ids)
        x = torch.cat([image, text])[lesson.order]
        for layer in model.lm.layers:
            x = block(layer, x, lesson.cu_seqlens, lesson.parent)
        place = torch.empty_like(lesson.order)
        place[lesson.order] = torch.arange(len(lesson.order), device=place.device)
        asked = (lesson.targets >= 0).nonzero()[:, 0]
        rows = x[place[len(image) + asked]]
        logits = F.linear(model.lm.backbone.norm_f(rows), model.lm.backbone.embedding.weight)
        target = lesson.targets[asked]
        return F.cross_entropy(logits, target), dense, drift, logits.argmax(-1) == target

    def see(self, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
        """The image rows (G * P, d), the dense loss, the drift."""
        pixels = {name: normalise(lesson.pixels, tower) for name, tower in self.model.config.towers.items()}
        features = self.model.features(pixels)
        image = self.model.projector(features).flatten(0, 1)
        drift = (0.5 * image.pow(2).mean(-1).log()).pow(2).mean()
        return image, self.patch_loss(features.flatten(0, 1), lesson.patches), drift

    def patch_loss(self, features: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of every head, background weighted by 0.2. `features` (G * P, f)."""
        losses = []
        for name, head in self.heads.items():
            weight = torch.full((PATCH_CLASSES[name],), 1.0, device=features.device)
            weight[0] = 0.2
            losses.append(F.cross_entropy(head(features), labels[name], weight=weight))
        return torch.stack(losses).sum()
