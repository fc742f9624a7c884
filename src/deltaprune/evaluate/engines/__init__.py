"""Engines: where the units of work run. One file each; an engine takes a worker and units and yields finished units.

Units may come back in any order; the answers are the same with every engine.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from deltaprune.evaluate.work import Done, Unit, Worker
from deltaprune.registry import Registry


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


Engine = Callable[[Worker, Sequence[Unit], Place], Generator[list[Done], None, None]]
"""Runs units, each to its end or not at all; yields what a unit's methods answered as units are finished.

A generator, because it may hold processes: closing it, which the run does however it ends, lets them go.
"""

registry: Registry[Engine] = Registry("engine", "deltaprune.evaluate.engines")
