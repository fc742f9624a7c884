"""Whether the plan depends on the samples: the layers that disjoint sets of them ask for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from deltaprune.analysis.parts import Run, here
from deltaprune.calibrate.measure import measure
from deltaprune.calibrate.spread import argmin_early, first_peak, late
from deltaprune.calibrate.withdrawal import ETA, earliest
from deltaprune.errors import UserError
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class Found:
    """The layers that one set of samples asks for, as stages count them.

    Attributes:
        first_peak, argmin: the paper's two rules for the early layer.
        late: its rule for the late one.
        withdrawal: VTW's; the model's depth where nothing may be withdrawn.
        samples: in the set.
    """

    first_peak: int
    argmin: int
    late: int
    withdrawal: int
    samples: int


def disjoint(
    vlm: VLM, sets: Iterable[Iterable[Mapping[str, Tensor]]], eta: float = ETA, run: Run = here
) -> list[Found]:
    """Each set's layers, whatever method is active.

    Args:
        vlm: the model.
        sets: processor outputs of each set; every row is a sample.
        eta: VTW's threshold in nats.
        run: where each batch is measured.

    Raises:
        UserError: no sets, a set without samples, or a sample without an image.
        NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
    """
    found = []
    for inputs in sets:
        curves = measure(vlm, inputs, run)
        std, samples = curves.spread.std, curves.spread.samples
        layers = (first_peak(std).after, argmin_early(std).after, late(std).after)
        found.append(Found(*layers, earliest(curves.withdrawal.kl, eta).after, samples))
    if not found:
        raise UserError("There is nothing to calibrate on: give at least one set of samples.")
    return found
