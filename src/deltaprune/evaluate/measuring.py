"""Measurements on the engines of `evaluate`: a batch is a unit of work, and what it gives comes back to the caller.

found = sensitivity(model, batches, run=run_on("ray", Place(workers=8)))
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from deltaprune.analysis.parts import Run, Work, here
from deltaprune.evaluate.engines import Place, check_here
from deltaprune.evaluate.engines import registry as engines
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class Measurer:
    """Measures batches. It can be sent to another process.

    Args:
        vlm: the model.
        work: what is done with it and each batch.
    """

    vlm: VLM
    work: Work

    def answer(self, unit: tuple[int, Mapping[str, Tensor]]) -> Iterator[tuple[int, Any]]:
        """The parts of one batch, each with the batch's place; the batch is moved to the model's device."""
        place, batch = unit
        moved = {name: tensor.to(self.vlm.device) for name, tensor in batch.items()}
        for part in self.work(self.vlm, moved):
            yield place, part


def run_on(engine: str, place: Place) -> Run:
    """What the measurements of `analysis` and `calibrate` take as `run`.

    Args:
        engine, place: as for `evaluate`.

    Raises:
        UserError: an unknown engine, or a place that it does not have.
    """
    run_units = engines[engine]
    if engine == "local":
        check_here(place)
        return here  # which gives each part as it is measured, not a batch's parts together

    def run(vlm: VLM, work: Work, batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        units: list[Any] = list(enumerate(batches))
        with closing(run_units(Measurer(vlm, work), units, place)) as finished:
            for parts in cast(Iterator[list[tuple[int, Any]]], finished):
                yield from parts

    return run
