"""VTW's criterion: after which layer the visual tokens can leave without changing the next token.

    KL_k = mean over samples of KL(P_k || P)    P: next token, unpruned; P_k: visual tokens withdrawn after layer k

VTW chooses the smallest k whose KL_k is at most eta (arXiv 2405.05803; github.com/lzhxmu/VTW, `--findk`). The original
runs the whole model once for every k. Here one pass is enough: `VTW(k)` keeps the layers below k as they are, and the
layers from k on see text alone and start from nothing. So what enters layer k in the full pass is saved, and only its
text rows run through layers k .. L-1, all k side by side.

eta is 0.003 in the original's default, for LLaVA-1.5-7B; its scripts take 0.0005 for 13B and 0.0001 for LLaVA-v1.6.
There is none for Mamba models, so the default is kept.

Deviations: every k from 0 on is tried (the original starts at 5), and when none passes the answer is k = L, no
withdrawal (the original fails).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.analysis.withdrawn import withdrawn_rows
from deltaprune.calibrate._full_pass import FullPass, full_pass
from deltaprune.calibrate.spread import Choice, check_some
from deltaprune.errors import UserError
from deltaprune.generate import NonFiniteLogits, overflowed
from deltaprune.kernels import without_autocast
from deltaprune.vlm import VLM

ETA = 0.003  # nats; the official default (LLaVA-1.5-7B)


@dataclass(frozen=True)
class Withdrawal:
    """How far the next token's distribution moves when the visual tokens are withdrawn.

    Attributes:
        kl: KL_k in nats for k = 0 .. L-1, mean over samples.
        samples: over how many.
    """

    kl: tuple[float, ...]
    samples: int


def withdrawal(vlm: VLM, inputs: Iterable[Mapping[str, Tensor]]) -> Withdrawal:
    """Measure the curve from one unpruned pass over the samples, whatever method is active.

    Args:
        vlm: the model.
        inputs: processor outputs, each with one or more rows; every row is a sample.

    Raises:
        UserError: no samples, or a sample without an image.
        NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
    """
    return mean_kl([kl_of(vlm, full_pass(vlm, batch)) for batch in inputs])


@torch.no_grad()
@without_autocast
def kl_of(vlm: VLM, full: FullPass) -> Float[Tensor, "L B"]:
    """KL(P_k || P) of each k = 0 .. L-1 and each sample, float64, in nats."""
    lm, tokens = vlm.model.lm, full.tokens
    words = tuple(total - n for total, n in zip(tokens.lengths, tokens.n_visual, strict=True))

    rows = withdrawn_rows(lm, dict(enumerate(full.text)), words)
    unpruned = _log_p(vlm, tokens.x, tokens.cu_seqlens)
    withdrawn = lm.logits(torch.stack([each[-1] for k in sorted(rows) for each in rows[k]])).double().log_softmax(-1)
    withdrawn = withdrawn.unflatten(0, (len(lm.blocks), len(words)))
    kl = (withdrawn.exp() * (withdrawn - unpruned)).sum(-1).cpu()
    if not kl.isfinite().all():
        raise NonFiniteLogits(overflowed(lm))
    return kl


def _log_p(vlm: VLM, rows: Tensor, boundaries: Tensor) -> Tensor:
    """Log-probabilities of the token after each sample's last row, float64."""
    return vlm.model.lm.logits(rows[boundaries[1:].long() - 1]).double().log_softmax(-1)


def mean_kl(per_batch: Sequence[Float[Tensor, "L _"]]) -> Withdrawal:
    """The mean over all samples of all batches."""
    check_some(per_batch)
    kl = torch.cat(list(per_batch), dim=1)
    return Withdrawal(kl=tuple(kl.mean(dim=1).tolist()), samples=kl.shape[1])


def earliest(kl: Sequence[float], eta: float = ETA) -> Choice:
    """The smallest k with KL_k <= eta, as the layers that see any visual token; L where no k passes."""
    check_eta(eta)
    for k, value in enumerate(kl):
        if value <= eta:
            return Choice(k, f"mean KL is {value:.2g} at k={k}, the first of at most eta={eta:g}")
    least = min(range(len(kl)), key=kl.__getitem__)
    return Choice(len(kl), f"no withdrawal: mean KL is never at most eta={eta:g}, least {kl[least]:.2g} at k={least}")


def check_eta(eta: float) -> None:
    """A threshold of the divergence, finite and above 0, else a `UserError`."""
    if not 0 < eta < math.inf:
        raise UserError(f"eta={eta:g} is no threshold: it lies above 0, such as VTW's own {ETA:g}.")
