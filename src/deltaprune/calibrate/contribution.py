"""ShortV's criterion: how much each layer's work on the visual rows contributes to the next token.

    LC_l = mean over samples of KL(P || P_l)    P: next token, unpruned; P_l: visual rows frozen in layer l alone

A frozen row goes through its layer unchanged and still writes the layer's state. It costs one prefill for each layer
beside the unpruned one; the samples need no answers. Source: ShortV (arXiv 2504.00502).
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.analysis.parts import Run, here, parts_of
from deltaprune.calibrate.spread import check_some
from deltaprune.generate import NonFiniteLogits, overflowed
from deltaprune.methods.none import NoPruning
from deltaprune.prefill import prefill
from deltaprune.steps import Pass
from deltaprune.vlm import VLM


def contribution(vlm: VLM, inputs: Iterable[Mapping[str, Tensor]], run: Run = here) -> tuple[float, ...]:
    """LC of every layer in nats, first to last, whatever method is active.

        plan = replace(model.config.plan, found={"shortv": contribution(model, batches)})
        model.use_plan(plan)  # which `ShortV` reads

    Args:
        vlm: the model.
        inputs: processor outputs, each with one or more rows; every row is a sample.
        run: where each batch is measured.

    Raises:
        UserError: no samples.
        NonFiniteLogits: the weights or activations overflowed.
    """
    per_batch = [part for (part,) in parts_of(vlm, _of_batch, inputs, run)]
    check_some(per_batch)
    return tuple(torch.cat(per_batch, dim=1).mean(dim=1).tolist())


def _of_batch(vlm: VLM, batch: Mapping[str, Tensor]) -> Iterator[Tensor]:
    yield contribution_of(vlm, batch)


@torch.no_grad()
def contribution_of(vlm: VLM, inputs: Mapping[str, Tensor]) -> Float[Tensor, "L B"]:
    """LC of each layer and sample, float64, in nats."""
    lm = vlm.model.lm
    with vlm.pruned_by(NoPruning()):
        tokens = vlm.pack(inputs)

    def log_p(*steps: Pass) -> Float[Tensor, "B V"]:
        return lm.logits(prefill(lm, tokens, steps).hidden).double().log_softmax(-1)

    unpruned = log_p()
    frozen = torch.stack([log_p(Pass((l,), "write")) for l in range(len(lm.blocks))])
    divergence = (unpruned.exp() * (unpruned - frozen)).sum(-1).cpu()
    if not divergence.isfinite().all():
        raise NonFiniteLogits(overflowed(lm))
    return divergence
