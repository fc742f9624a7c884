"""`evaluate` with a progress bar, as every table of accuracies runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

import deltaprune as dp
from deltaprune.benchmarks import Benchmark
from deltaprune.evaluate import MethodResult, evaluate

BATCH = 96


def answered(
    vlm: Any,
    processor: Any,
    benchmark: Benchmark,
    methods: Sequence[str | dp.Method],
    split: str,
    questions: int,
    label: str,
    out: Path | None = None,
    batch_size: int = BATCH,
    seed: int = 0,
) -> list[MethodResult]:
    """A row per method on the same questions; with `out` the answers are kept there and a later call goes on.

    `vlm` is what `load` gives, a model of transformers' own too.
    """
    with Progress() as progress:
        task = progress.add_task(label)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        asked = {
            "split": split,
            "seed": seed,
            "limit": questions,
            "batch_size": batch_size,
            "on_progress": report,
            "out": out,
        }
        return evaluate(vlm, processor, benchmark, methods, **asked)
