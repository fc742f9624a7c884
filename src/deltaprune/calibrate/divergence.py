"""A rule of ours for the early layer: prune where the next token's distribution moves least.

    JS_k = mean over samples of JS(P_k, P)    P: next token, unpruned; P_k: DTP's early stage after layer k, no late one
    JS(P, Q) = KL(P || M) / 2 + KL(Q || M) / 2,  M = (P + Q) / 2, at most log 2

The samples need no answers. The paper's two rules read the spread of the scores and never look at the output; this one
does, and costs one pruned prefill for each k beside the unpruned one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.analysis.drift import jensen_shannon
from deltaprune.analysis.parts import Run, here, parts_of
from deltaprune.calibrate.spread import Choice, check_some
from deltaprune.methods.dtp import DTP
from deltaprune.methods.none import NoPruning
from deltaprune.prefill import NonFiniteScore, prefill
from deltaprune.vlm import VLM

KEEP = 0.5  # the share at which the layers are compared


@dataclass(frozen=True)
class Divergence:
    """How far the next token's distribution moves when DTP's early stage comes after layer k.

    Attributes:
        js: JS_k in nats for k = 1 .. len(js), mean over samples; the range is the poster's, 0 <= l <= 0.25 L.
        keep: the share of the visual tokens that was kept.
        samples: over how many.
    """

    js: tuple[float, ...]
    keep: float
    samples: int


def divergence(vlm: VLM, inputs: Iterable[Mapping[str, Tensor]], keep: float = KEEP, run: Run = here) -> Divergence:
    """Measure the curve, whatever method is active.

    Args:
        vlm: the model.
        inputs: processor outputs, each with one or more rows; every row is a sample.
        keep: the share of the visual tokens that the early stage keeps.
        run: where each batch is measured.

    Raises:
        UserError: no samples.
        NonFiniteScore: the weights or activations overflowed.
    """
    per_batch = [part for (part,) in parts_of(vlm, partial(_of_batch, keep=keep), inputs, run)]
    check_some(per_batch)
    js = torch.cat(per_batch, dim=1)
    return Divergence(js=tuple(js.mean(dim=1).tolist()), keep=keep, samples=js.shape[1])


def _of_batch(vlm: VLM, batch: Mapping[str, Tensor], keep: float) -> Iterator[Tensor]:
    yield js_of(vlm, batch, keep)


@torch.no_grad()
def js_of(vlm: VLM, inputs: Mapping[str, Tensor], keep: float) -> Float[Tensor, "K B"]:
    """JS_k of each k and each sample, float64, in nats."""
    lm, top = vlm.model.lm, vlm.shape.n_layers // 4 + 1
    with vlm.pruned_by(NoPruning()):
        tokens = vlm.pack(inputs)

    def log_p(method: DTP | None) -> Float[Tensor, "B V"]:
        steps = () if method is None else method.checked_steps(vlm.shape)
        return lm.logits(prefill(lm, tokens, steps).checked().hidden).double().log_softmax(-1)

    unpruned = log_p(None)
    js = torch.stack([jensen_shannon(log_p(DTP(keep, k, None)), unpruned) for k in range(1, top + 1)]).cpu()
    if not js.isfinite().all():
        raise NonFiniteScore("The next token's logits are not finite (NaN or infinite): the weights are broken.")
    return js


def least(found: Divergence) -> Choice:
    """The early layer with the least JS_k; ties go to the earlier layer."""
    index = min(range(len(found.js)), key=found.js.__getitem__)
    return Choice(
        index + 1,
        f"JS is least, {found.js[index]:.2g} nats, at k={index + 1} of 1 <= k <= {len(found.js)} (keep={found.keep:g})",
    )
