"""FitPrune's statistics: how many visual tokens each layer can lose for a share of its attention.

    t_l(alpha) = mean over samples of |T_self & T_cross| / N
    T_self, T_cross: the most tokens of least attention that together have at most alpha of all the attention that
    visual rows (self) or text rows (cross) pay to visual tokens in layer l

Attention is the recurrence's implicit one, |K| of eqs. 3-5, of which every row is made to sum to 1, as a softmax does.
It is the mean over some channels, since all of them are quadratic work: L^2 N exponentials for each channel, layer and
sample. The samples need no answers. Source: FitPrune (arXiv 2409.10197), which takes the largest of the heads instead.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deltaprune.analysis.attention import NEEDS, implicit_attention
from deltaprune.analysis.layers import traces
from deltaprune.analysis.parts import Run, here, parts_of
from deltaprune.calibrate.spread import check_some
from deltaprune.errors import UserError
from deltaprune.kernels import without_autocast
from deltaprune.methods.fitprune import LEVELS, key
from deltaprune.methods.none import NoPruning
from deltaprune.vlm import VLM

CHANNELS = 32  # that are looked at, evenly spread


def fitting(vlm: VLM, inputs: Iterable[Mapping[str, Tensor]], run: Run = here) -> dict[str, tuple[float, ...]]:
    """t_l(alpha) for each alpha of `LEVELS`, layers first to last, whatever method is active.

        plan = replace(model.config.plan, found=fitting(model, batches))
        model.use_plan(plan)  # which `FitPrune` reads

    Args:
        vlm: the model.
        inputs: processor outputs, each with one or more rows; every row is a sample.
        run: where each batch is measured.

    Returns:
        By the names under which a plan holds them.

    Raises:
        UserError: no samples, or a sample without an image or without text.
    """
    per_batch = [part for (part,) in parts_of(vlm, _of_batch, inputs, run)]
    check_some(per_batch)
    shares = torch.cat(per_batch, dim=2).mean(dim=2)
    return {key(level): tuple(curve.tolist()) for level, curve in zip(LEVELS, shares, strict=True)}


def _of_batch(vlm: VLM, batch: Mapping[str, Tensor]) -> Iterator[Tensor]:
    yield removable_of(vlm, batch)


@torch.no_grad()
@without_autocast
def removable_of(vlm: VLM, inputs: Mapping[str, Tensor]) -> Float[Tensor, "A L B"]:
    """The share of the visual tokens that may go, for each alpha, layer and sample; float64 on the CPU."""
    with vlm.pruned_by(NoPruning()):
        rows = vlm.pack(inputs)
    if not all(0 < n < total for n, total in zip(rows.n_visual, rows.lengths, strict=True)):
        raise UserError("A sample lacks an image or a question: attention statistics need both in each.")
    found = []
    for _, _, trace in traces(vlm, rows, NEEDS):
        step = max(1, trace["delta"].shape[1] // CHANNELS)
        layer = []
        for b, (start, end) in enumerate(rows.spans):
            some = trace["delta"][start:end, ::step], trace["decay"][::step]
            read = (trace[role][start:end].float() for role in ("key", "query"))
            attention = implicit_attention(*some, *read)
            image, text = rows.visual_rows(b) - start, rows.text_rows(b) - start
            layer.append(_shares(attention / attention.sum(1, keepdim=True).clamp(min=1e-30), image, text))
        found.append(torch.stack(layer, dim=1))
    return torch.stack(found, dim=1).cpu()


def _shares(attention: Float[Tensor, "R R"], image: Tensor, text: Tensor) -> Float[Tensor, "A"]:
    """For each alpha the share of tokens that have too little attention from either side."""
    paid = attention[:, image].double()
    gone = _least(paid[image].sum(0)) & _least(paid[text].sum(0))
    return gone.double().mean(1)


def _least(received: Float[Tensor, "P"]) -> Bool[Tensor, "A P"]:
    """For each alpha, which tokens of least attention together have at most that share of it."""
    order = torch.sort(received, stable=True).indices
    levels = torch.tensor(LEVELS, dtype=received.dtype, device=received.device)
    fits = received[order].cumsum(0) <= levels[:, None] * received.sum()
    return torch.zeros_like(fits).index_copy_(1, order, fits)
