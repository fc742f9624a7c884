"""The part of `deltaprune calibrate` that finds the order of `Freeze`: which pictures, and progress."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deltaprune.cli._progress import Working

if TYPE_CHECKING:
    from PIL import Image

    from deltaprune.analysis.parts import Run
    from deltaprune.benchmarks import Benchmark
    from deltaprune.calibrate.frozen import Unit
    from deltaprune.hosted.model import Hosted
    from deltaprune.mllm.processor import Processor
    from deltaprune.plan import Plan
    from deltaprune.vlm import VLM


def frozen(
    plan: "Plan",
    vlm: "VLM",
    processor: "Processor",
    benchmark: "Benchmark",
    where: tuple[str, int, int],
    budget: tuple[float, "Unit"],
    one_shot: bool,
    out: str | None,
    working: Working,
    run: "Run",
) -> "Plan":
    """The plan with the order of `Freeze`, with progress.

    Args:
        budget: how much, and of what.
        where: split, seed and number of pictures; every question about each is asked.
        out: of the plan; what is found is kept beside it until the search ends.
    """
    from deltaprune.benchmarks import messages_about
    from deltaprune.calibrate import asked_together, with_freezing

    def counted() -> "Iterator[tuple[Image.Image, list[str]]]":
        for i, picture in enumerate(messages_about(benchmark, *where)):
            working.count(i, where[2])
            yield picture

    source: dict[str, Any] = {"benchmark": benchmark.name, "split": where[0], "seed": where[1]}
    partial = None if out is None else f"{out}.partial"
    asked = asked_together(vlm, processor, counted())
    return with_freezing(plan, vlm, asked, budget[0], one_shot, source, partial, working.say, budget[1], run)


def frozen_in_place(
    plan: "Plan",
    vlm: "Hosted",
    processor: "Processor",
    benchmark: "Benchmark",
    where: tuple[str, int, int],
    budget: float,
    working: Working,
) -> "Plan":
    """The same on a model of transformers' own; takes what `frozen` takes."""
    from deltaprune.benchmarks import messages_about
    from deltaprune.calibrate.frozen import with_freezing_in_place

    samples = [
        processor(images=image, text=text).to(vlm.device)
        for image, texts in messages_about(benchmark, *where)
        for text in texts
    ]
    return with_freezing_in_place(plan, vlm, samples, budget, working.say)
