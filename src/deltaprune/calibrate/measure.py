"""Every curve of calibration from the same samples, in one unpruned pass."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from deltaprune.calibrate._full_pass import full_pass
from deltaprune.calibrate.spread import Spread, mean_std, std_of
from deltaprune.calibrate.withdrawal import Withdrawal, kl_of, mean_kl
from deltaprune.vlm import VLM


class Curves(NamedTuple):
    """What `plan` chooses from."""

    spread: Spread
    withdrawal: Withdrawal


def measure(vlm: VLM, inputs: Iterable[Mapping[str, Tensor]]) -> Curves:
    """`spread` and `withdrawal` at the price of one of them plus the text rows.

    Args:
        vlm: the model; its active method plays no part.
        inputs: processor outputs, each with one or more rows; every row is a sample.

    Raises:
        UserError: no samples, or a sample without an image.
        NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
    """
    stds, kls = [], []
    for batch in inputs:
        full = full_pass(vlm, batch)
        stds.append(std_of(full))
        kls.append(kl_of(vlm, full))
    return Curves(mean_std(stds), mean_kl(kls))
