"""Eq. 7: how far token importance spreads at each layer, and the paper's rules from that curve to layers.

    Std_l = sqrt(1/N sum_j (s_{j,l} - mean_l)^2)      s_{j,l} = mean over channels of Delta (eq. 6), N visual tokens

The paper gives two rules for the early layer that contradict each other: its poster takes the lowest Std of the first
quarter, its text (section 4.2, Figure 3) the first peak. Both are here. `l` counts from 0; a rule that names layer l
prunes right after it, so `after = l + 1` layers see all tokens and the score is read from layer l.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.calibrate._full_pass import FullPass, full_pass
from deltaprune.errors import UserError
from deltaprune.vlm import VLM

SHALLOWEST = 4  # layers: below it, no layer l satisfies 0.7 L <= l < L - 1


@dataclass(frozen=True)
class Spread:
    """Std of the visual tokens' scores.

    Attributes:
        std: one value per layer, first to last: eq. 7, then the mean over samples (unit: Delta's, a step size).
        samples: over how many samples.
    """

    std: tuple[float, ...]
    samples: int


class Choice(NamedTuple):
    """A layer count chosen from a curve, and why."""

    after: int
    why: str


def spread(vlm: VLM, inputs: Iterable[Mapping[str, Tensor]]) -> Spread:
    """Measure the curve in one unpruned pass over the samples, whatever method is active.

    Args:
        vlm: the model.
        inputs: processor outputs, each with one or more rows; every row is a sample.

    Raises:
        UserError: no samples, or a sample without an image.
        NonFiniteScore: the weights or activations overflowed.
    """
    return mean_std([std_of(full_pass(vlm, batch)) for batch in inputs])


def std_of(full: FullPass) -> Float[Tensor, "L B"]:
    """Eq. 7 of each layer and sample, float64."""
    images = [full.tokens.visual_rows(b) for b in range(len(full.tokens.lengths))]
    stds = [[scores[image].double().std(correction=0) for image in images] for scores in full.scores]
    return torch.stack([torch.stack(layer) for layer in stds]).cpu()


def mean_std(per_batch: Sequence[Float[Tensor, "L _"]]) -> Spread:
    """The mean over all samples of all batches."""
    check_some(per_batch)
    stds = torch.cat(list(per_batch), dim=1)
    return Spread(std=tuple(stds.mean(dim=1).tolist()), samples=stds.shape[1])


def check_some(per_batch: Sequence[Tensor]) -> None:
    """There is at least one sample, else a `UserError`."""
    if not per_batch:
        raise UserError("There is nothing to calibrate on: give at least one sample with an image.")


def argmin_early(std: Sequence[float]) -> Choice:
    """The poster: k_early = argmin Std_l over 0 <= l <= 0.25 L; ties go to the earlier layer."""
    top = len(std) // 4
    l = min(range(top + 1), key=std.__getitem__)
    return Choice(l + 1, f"Std is lowest at l={l} of 0 <= l <= {top}")


def first_peak(std: Sequence[float]) -> Choice:
    """The text: the first l >= 1 with Std_{l-1} < Std_l > Std_{l+1}.

    Where the first half of the curve has no such peak, its highest value is taken instead, and `why` says so.
    """
    top = len(std) // 2
    for l in range(1, min(top, len(std) - 2) + 1):
        if std[l - 1] < std[l] > std[l + 1]:
            return Choice(l + 1, f"the first peak of Std is at l={l}")
    l = max(range(top + 1), key=std.__getitem__)
    return Choice(l + 1, f"Std has no peak up to l={top} and is highest there at l={l}")


def late(std: Sequence[float]) -> Choice:
    """k_late = argmax |Std_{l+1} - Std_l| + 1 over floor(0.7 L) <= l < L - 1; ties go to the earlier layer.

    The floor is needed for the paper's own 45: of 64 layers, 0.7 L is 44.8 and the jump it names starts at l = 44.
    """
    check_depth(std)
    low, top = 7 * len(std) // 10, len(std) - 1
    l = max(range(low, top), key=lambda l: abs(std[l + 1] - std[l]))
    return Choice(l + 1, f"Std jumps most from l={l} to {l + 1} of {low} <= l < {top}")


RULES: dict[str, Callable[[Sequence[float]], Choice]] = {"first_peak": first_peak, "argmin": argmin_early}


def check_depth(std: Sequence[float]) -> None:
    """The late rule's range holds a layer, else a `UserError`."""
    if len(std) < SHALLOWEST:
        raise UserError(f"A curve of {len(std)} layers is too short for the late rule: it takes at least {SHALLOWEST}.")
