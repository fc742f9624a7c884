"""This process, one unit after the other."""

from collections.abc import Iterator, Sequence

from deltaprune._registry import UserError
from deltaprune.evaluate.engines import Place, registry
from deltaprune.evaluate.work import Done, Unit, Worker


@registry.register("local")
def local(worker: Worker, units: Sequence[Unit], place: Place) -> Iterator[list[Done]]:
    """See `Engine`."""
    if place.address is not None or place.workers not in (None, 1):
        raise UserError('The engine "local" is one process on this machine: for an address or workers take "ray".')
    for unit in units:
        yield list(worker.answer(unit))
