"""This process, one unit after the other."""

from collections.abc import Generator, Sequence

from deltaprune.errors import UserError
from deltaprune.evaluate.engines import Place, registry
from deltaprune.evaluate.work import Done, Unit, Worker


@registry.register("local")
def local(worker: Worker, units: Sequence[Unit], place: Place) -> Generator[list[Done], None, None]:
    """See `Engine`."""
    if place not in (Place(), Place(workers=1)):
        raise UserError('The engine "local" is one process on this machine: for an address or workers take "ray".')
    for unit in units:
        yield list(worker.answer(unit))
