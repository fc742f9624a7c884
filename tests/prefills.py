"""Small models, random prompts and a comparison of all that a prefill returns, for the tests of replayed prefills."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cuda_graphs.captured import flatten
from deltaprune.methods import parse
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import Prefilled
from deltaprune.rows import Rows
from deltaprune.steps import Plan, Score, Shape, Stage

SHAPE = Shape(n_layers=4, n_visual=9, plan=Plan(early=1, late=3))
SAMPLES = ((9, 4), (5, 3))
ROWS = ((9, 4),)


def small(device: str = "cpu") -> MambaLM:
    with torch.device(device):
        model = MambaLM(MambaConfig(d_model=32, n_layers=4, vocab_size=50))
    model.reset_parameters()
    for layer in model.blocks:
        layer.mixer.out_proj.weight.data.mul_(20)
    return model.requires_grad_(False)


def stages_of(text: str) -> tuple[Stage, ...]:
    after = {"fastv": ":after=1", "dart": ":after=1", "pyramid": ":early=1"}.get(text, "")
    return parse(text + after).checked_steps(SHAPE)


def drawn(samples: tuple[tuple[int, int], ...] = SAMPLES, device: str = "cpu") -> Rows:
    """Random rows: images, and texts."""
    key = torch.randint(1 << 40, (len(samples),), device=device)
    image = [torch.randn(v, 32, device=device) for v, _ in samples]
    return Rows.pack(image, [torch.randn(t, 32, device=device) for _, t in samples], key)


def parts(done: Prefilled) -> tuple[object, list[Tensor]]:
    tensors: list[Tensor] = []
    return flatten(replace(done, replayed=False), tensors), tensors


def same(done: Prefilled, want: Prefilled) -> bool:
    """Every tensor and every host value."""
    (layout, tensors), (wanted_layout, wanted) = parts(done), parts(want)
    return layout == wanted_layout and all(torch.equal(a, b) for a, b in zip(tensors, wanted, strict=True))


@dataclass(frozen=True)
class Reading(Score):
    """Delta, and what no score may do: it asks the device for a value."""

    needs = frozenset({"step"})
    sees_text = False

    def __call__(self, tokens, trace):
        return trace["step"] * float(trace["step"].max())
