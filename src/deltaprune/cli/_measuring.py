"""Measuring a model on pictures of a benchmark, with progress."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from deltaprune.cli._progress import Working
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.analysis.parts import Run
    from deltaprune.benchmarks import Benchmark, Sample
    from deltaprune.hosted.model import Hosted
    from deltaprune.mllm.processor import Inputs, Processor
    from deltaprune.plan import Plan
    from deltaprune.vlm import VLM

T = TypeVar("T")
BATCH = 8  # pictures that run at once


class Measuring(NamedTuple):
    """A model and the pictures that it is measured on.

    Attributes:
        vlm, processor: what `load` gave.
        benchmark: where the samples are from; its protocol words the questions.
        samples: pictures, with a question each.
        working: shows progress.
        run: hands the batches to an engine.
    """

    vlm: "VLM"
    processor: "Processor"
    benchmark: "Benchmark"
    samples: "Sequence[Sample]"
    working: Working
    run: "Run"

    def batches(self) -> "Iterator[Inputs]":
        """The questions as the model takes them, `BATCH` pictures at a time."""
        for i in range(0, len(self.samples), BATCH):
            self.working.count(i, len(self.samples))
            batch = self.samples[i : i + BATCH]
            texts = [self.benchmark.rules.message(sample) for sample in batch]
            yield self.processor(images=[sample.image for sample in batch], text=texts).to(self.vlm.device)

    def measured(self, what: str, measure: Callable[..., T]) -> T:
        """What a function of `deltaprune.calibrate` measures; `what` is named in the line of progress."""
        self.working.say(f"measuring {what}")
        return measure(self.vlm, self.batches(), run=self.run)


def drawn_benchmark(name: str) -> "Benchmark":
    """A benchmark that reads no files, which is what commands that only measure take; else a `UserError`."""
    from deltaprune.benchmarks import registry

    reading = {each for each in registry.names() if "data" in {field.name for field in fields(registry[each])}}
    if name in reading:
        raise UserError(
            f"{name} reads files, which this command does not take: measure on "
            f"{', '.join(sorted(set(registry.names()) - reading))}, or on a benchmark of your own, --plugin FILE.py."
        )
    return registry[name]()


def plan_in_place(on: Measuring, rule: str, eta: float, source: Mapping[str, object]) -> "Plan":
    """The plan of a model of transformers' own (a `Hosted`), with progress.

    Args:
        on: the model and its pictures.
        rule: for the early layer.
        eta: VTW's threshold in nats.
        source: benchmark, split and seed, as the plan names them.
    """
    from deltaprune.calibrate.hosted import hosted_curves, hosted_plan

    vlm = cast("Hosted", on.vlm)
    on.working.say("measuring spread and withdrawal, a run for each layer")
    prompts = (on.processor(images=sample.image, text=on.benchmark.rules.message(sample)) for sample in on.samples)
    curves = hosted_curves(vlm, prompts, rule == "js", lambda done: on.working.count(done, len(on.samples)))
    return hosted_plan(curves, len(vlm.config.layers), rule, source, eta)
