"""Engines: where the units of work run. One file each; an engine takes a worker and units and yields finished units.

A worker is a frozen dataclass with the model, `vlm`, and `answer(unit)`: `work.Worker` for questions, and
`measuring.Measurer` for what `analysis` and `calibrate` measure.

Units may come back in any order; the answers are the same with every engine.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from deltaprune.errors import UserError
from deltaprune.registry import Registry
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class Place:
    """Where an engine finds its machines.

    Attributes:
        address: of a running cluster; None starts one on this machine, if the engine has such a thing.
        workers: how many processes; None takes one per GPU, or per CPU where the model is on the CPU.
        device: where the processes put the model; None takes the device it is on.
    """

    address: str | None = None
    workers: int | None = None
    device: str | None = None


@runtime_checkable
class Answers(Protocol):
    """A worker."""

    @property
    def vlm(self) -> VLM:
        """The model."""
        ...

    def answer(self, unit: Any) -> Iterable[Any]:
        """The results of one unit, in order."""
        ...


Engine = Callable[[Answers, Sequence[Any], Place], Generator[list[Any], None, None]]
"""Runs units, each to its end or not at all; yields all that the worker gives of a unit as units are finished.

A generator, because it may hold processes: closing it, which the run does however it ends, lets them go.
"""


def check_here(place: Place) -> None:
    """Only this process was asked for, else a `UserError`."""
    if place not in (Place(), Place(workers=1)):
        raise UserError('The engine "local" is one process on this machine: for an address or workers take "ray".')


registry: Registry[Engine] = Registry("engine", "deltaprune.evaluate.engines")
