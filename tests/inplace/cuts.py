"""A method of any stages, and what a pruned `generate` gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from families import IMAGE
from jaxtyping import Float
from torch import Tensor

import deltaprune as dp
from deltaprune.inplace.target import Target
from deltaprune.rows import Rows
from deltaprune.steps import Method, Pass, Score, Shape, Stage, Step
from deltaprune.trace import Trace


@dataclass(frozen=True)
class Loud(Score):
    """The norm of the stream: a score that every model can give. Shape (T,). Sees text: no."""

    needs = frozenset()
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return rows.x.norm(dim=-1)


@dataclass(frozen=True)
class Cuts(Method):
    """(after, keep) of each stage, all by one score."""

    cuts: tuple[tuple[int, float], ...] = ((2, 0.5), (4, 0.0))
    score: Score = Loud()
    skipped: tuple[int, ...] = ()
    written: tuple[int, ...] = ()

    def steps(self, shape: Shape) -> tuple[Step, ...]:
        stages = [Stage(after, keep, self.score if 0 < keep < 1 else None) for after, keep in self.cuts]
        return (*stages, Pass(self.skipped, "skip"), Pass(self.written, "write"))


def generated(model: Any, inputs: Mapping[str, Tensor], tokens: int = 4, **more: Any) -> tuple[Tensor, Tensor, Any]:
    """New tokens `(B, L)`, their logits `(B, L, V)` and the cache."""
    with torch.no_grad():
        out = model.generate(
            **inputs,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            suppress_tokens=[IMAGE],
            **more,
        )
    return out.sequences[:, -tokens:], torch.stack(out.logits, 1), out.cache


def pruned(model: Any, method: Method, inputs: Mapping[str, Tensor], **more: Any) -> tuple[Tensor, Tensor, Target]:
    """The same under a method, and what it tells."""
    with method(model) as target:
        ids, logits, _ = generated(model, inputs, **more)
    return ids, logits, target


def kept(target: Target, b: int = 0, pads: int = 0) -> dict[int, list[int]]:
    """after -> the columns of sample b's visual rows that are left."""
    return {one.after: (one.origin[b] + pads).tolist() for one in target.kept}


__all__ = ["Cuts", "Loud", "dp", "generated", "kept", "pruned"]
