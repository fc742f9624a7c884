"""How many rows a method's steps leave in each layer, and what share of the MACs that is."""

import math
from collections.abc import Sequence

from deltaprune.plan import LayerTimes, Shape
from deltaprune.steps import Step, passes_of, seen_by_towers, stages_of

TEXT_TOKENS = 22  # of a short question in its template, where no other number is known


def visual_tokens_per_layer(steps: Sequence[Step], shape: Shape) -> list[int]:
    """Visual tokens that enter each of the LM's layers, for one image.

    With candidates="all" this is the number of rows minus that of text tokens. Text may have been dropped in favour of
    visual tokens; a later stage that drops all visual tokens then leaves less text than is counted here.
    """
    due = {stage.after: stage for stage in stages_of(steps)}
    image = live = seen_by_towers(steps, shape).n_visual
    counts = []
    for l in range(shape.n_layers):
        if l in due:
            (live,) = due[l].counts((image,), (live,))
        counts.append(live)
    return counts


def tokens_kept(steps: Sequence[Step], shape: Shape) -> list[int]:
    """Visual tokens left after each stage, for one image."""
    counts = visual_tokens_per_layer(steps, shape)
    return [counts[stage.after] for stage in stages_of(steps)]


def updated_and_written(steps: Sequence[Step], shape: Shape, text_tokens: float) -> tuple[float, float]:
    """Rows that a layer updates, and rows that only write its state, each summed over the layers of one prompt."""
    passes, image = passes_of(steps), visual_tokens_per_layer(steps, shape)
    updated = sum(n for l, n in enumerate(image) if l not in passes)
    written = sum(n for l, n in enumerate(image) if passes.get(l) == "write")
    return updated + shape.n_layers * text_tokens, written


def share_of_steps(steps: Sequence[Step], shape: Shape, text_tokens: float = TEXT_TOKENS) -> float:
    """LM-prefill MACs under these steps over those without any, a fraction."""
    updated, written = updated_and_written(steps, shape, text_tokens)
    return (updated + shape.write * written) / (shape.n_layers * (shape.n_visual + text_tokens))


def rounded_up(cost: float) -> str:
    """A share or a time in three digits behind the point, such that a budget of this much is not below it."""
    return f"{math.ceil(1000 * cost + 1e-6) / 1000:.3f}"


def ms_of_steps(steps: Sequence[Step], shape: Shape, times: LayerTimes) -> float:
    """Milliseconds of the LM's prefill under these steps by a table of layer times, without choosing rows.

    Where fewer image rows are left, a layer's time lies on the straight line from that with the text alone.
    """
    passes = passes_of(steps)

    def layer(l: int, n: int) -> float:
        how = passes.get(l, "full")
        if n == 0 or how == "skip":
            return times.skip
        if how == "mean":
            return times.mean
        whole = times.full if how == "full" else times.write
        return times.skip + (whole - times.skip) * n / shape.n_visual

    return sum(layer(l, n) for l, n in enumerate(visual_tokens_per_layer(steps, shape)))
