"""Whether some layers can serve a method's steps, and which of them each stage's score reads."""

from collections.abc import Sequence

from deltaprune.errors import UserError
from deltaprune.protocols import DecaysOverGaps, Layer
from deltaprune.steps import Stage, Step, passes_of, stages_of

HIDDEN = frozenset({"hidden"})  # the one role that a layer does not fill
Layers = Sequence[Layer] | Sequence[type[Layer]]


def readers(blocks: Layers, steps: Sequence[Step]) -> dict[int, int | None]:
    """For each stage that needs a score, by its `after`: the layer whose trace the score reads.

    It is the nearest layer below the stage that fills the roles which the score needs; None where the score reads no
    layer's roles. No weights are used.

    Args:
        blocks: the model's layers, or their classes.
        steps: a method's, checked against the model's depth.

    Raises:
        UserError: no layer below a stage provides what its score reads, or the state has to decay over dropped rows
            and a layer behind the stage has no such state.
    """
    stages = stages_of(steps)
    found = {stage.after: _reader(blocks, stage, steps) for stage in stages if _scored(stage)}
    for stage in stages:
        if stage.reduce.leaves_gaps:
            _check_decays(blocks, stage)
    return found


def _reader(blocks: Layers, stage: Stage, steps: Sequence[Step]) -> int | None:
    assert stage.score is not None
    needs, passes = stage.score.needs - HIDDEN, passes_of(steps)
    if not needs:
        return None
    for l in range(stage.after - 1, -1, -1):
        how = passes.get(l)
        if how in (None, "write") and needs <= (blocks[l].offers_writing if how == "write" else blocks[l].offers):
            return l
    lacking = ", ".join(sorted(needs))
    later = next((l + 1 for l in range(stage.after, len(blocks) - 1) if needs <= blocks[l].offers), None)
    raise UserError(
        f"The score {stage.score!r} after layer {stage.after} needs {lacking}, which no layer before it provides: "
        f"choose {'' if later is None else f'a stage after {later} layers or more, '}another score, such as "
        "uniqueness, or another method."
    )


def _check_decays(blocks: Layers, stage: Stage) -> None:
    for l, block in enumerate(blocks[stage.after :], stage.after):
        if not isinstance(block, DecaysOverGaps):
            raise UserError(f"Align() needs layers that decay over dropped rows, which layer {l} does not: use Drop().")


def _scored(stage: Stage) -> bool:
    return stage.score is not None and 0 < stage.keep < 1
