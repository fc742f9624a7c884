"""Measurements in parts: a function of the model and one batch, run in this process or by an engine.

`evaluate.measuring` hands it to the processes of an engine. What a batch gives does not depend on where it ran.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from deltaprune.vlm import VLM

Work = Callable[[VLM, Any], Iterable[Any]]
"""Gives the parts of one batch; can be pickled: a function of a module, or a partial of one."""

Run = Callable[[VLM, Work, Iterable[Any]], Iterator[tuple[int, Any]]]
"""Yields (place of the batch, part) as parts come, in any order of batches; one batch's parts in their order."""


def here(vlm: VLM, work: Work, batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """See `Run`: in this process, one batch after the other; no batch is made before its turn."""
    for i, batch in enumerate(batches):
        for part in work(vlm, batch):
            yield i, part


def parts_of(
    vlm: VLM, work: Work, batches: Iterable[Any], run: Run = here, on_part: Callable[[int], None] | None = None
) -> list[list[Any]]:
    """Every batch's parts, in the order of the batches.

    Args:
        vlm: the model.
        work: what is done with it and each batch.
        batches: what `work` takes.
        run: where.
        on_part: called with the number of parts so far.
    """
    found: dict[int, list[Any]] = {}
    for done, (i, part) in enumerate(run(vlm, work, batches), start=1):
        found.setdefault(i, []).append(part)
        if on_part is not None:
            on_part(done)
    return [found[i] for i in sorted(found)]
