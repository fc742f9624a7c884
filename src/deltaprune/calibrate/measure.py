"""Every curve of calibration from the same samples, in one unpruned pass."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from deltaprune.analysis.parts import Run, here, parts_of
from deltaprune.calibrate._full_pass import full_pass
from deltaprune.calibrate.spread import Spread, mean_std, std_of
from deltaprune.calibrate.withdrawal import Withdrawal, kl_of, mean_kl
from deltaprune.vlm import VLM


class Curves(NamedTuple):
    """What `plan` chooses from."""

    spread: Spread
    withdrawal: Withdrawal


def measure(vlm: VLM, inputs: Iterable[Mapping[str, Tensor]], run: Run = here) -> Curves:
    """`spread` and `withdrawal` at the price of one of them plus the text rows.

    Args:
        vlm: the model; its active method is ignored.
        inputs: processor outputs, each with one or more rows; every row is a sample.
        run: where each batch is measured.

    Raises:
        UserError: no samples, or a sample without an image.
        NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
    """
    return curves_from([part for (part,) in parts_of(vlm, curves_of, inputs, run)])


def curves_of(vlm: VLM, batch: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Both of one batch, `(L, B)` each."""
    full = full_pass(vlm, batch)
    yield std_of(full), kl_of(vlm, full)


def curves_from(parts: Sequence[tuple[Tensor, Tensor]]) -> Curves:
    """The means over all samples of all batches."""
    return Curves(mean_std([std for std, _ in parts]), mean_kl([kl for _, kl in parts]))
