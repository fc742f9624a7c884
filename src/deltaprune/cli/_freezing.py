"""The part of `deltaprune calibrate` that finds the order of `Freeze`, with progress."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from deltaprune.cli._measuring import Measuring

if TYPE_CHECKING:
    from PIL import Image

    from deltaprune.calibrate.frozen import Unit
    from deltaprune.hosted.model import Hosted
    from deltaprune.plan import Plan


def frozen(
    plan: "Plan",
    on: Measuring,
    where: tuple[str, int, int],
    budget: tuple[float, "Unit"],
    one_shot: bool,
    out: str | None,
) -> "Plan":
    """The plan with the order of `Freeze`.

    Args:
        plan: of the model, without that order.
        on: the model and the benchmark; its samples are not used.
        where: split, seed and number of pictures; every question about each is asked.
        budget: how much, and its unit.
        one_shot: try each layer once, alone.
        out: where the plan will be written; until the search ends, what it has found is kept in `out` + ".partial".
    """
    from deltaprune.benchmarks import messages_about
    from deltaprune.calibrate import asked_together, with_freezing

    def counted() -> "Iterator[tuple[Image.Image, list[str]]]":
        for i, picture in enumerate(messages_about(on.benchmark, *where)):
            on.working.count(i, where[2])
            yield picture

    source: dict[str, Any] = {"benchmark": on.benchmark.name, "split": where[0], "seed": where[1]}
    partial = None if out is None else f"{out}.partial"
    asked = asked_together(on.vlm, on.processor, counted())
    return with_freezing(plan, on.vlm, asked, budget[0], one_shot, source, partial, on.working.say, budget[1], on.run)


def frozen_in_place(plan: "Plan", on: Measuring, where: tuple[str, int, int], budget: float) -> "Plan":
    """As `frozen`, of a model of transformers' own (a `Hosted`); `budget` is a share of the MACs."""
    from deltaprune.benchmarks import messages_about
    from deltaprune.calibrate.frozen import with_freezing_in_place

    vlm = cast("Hosted", on.vlm)
    samples = [
        on.processor(images=image, text=text).to(vlm.device)
        for image, texts in messages_about(on.benchmark, *where)
        for text in texts
    ]
    return with_freezing_in_place(plan, vlm, samples, budget, on.working.say)
