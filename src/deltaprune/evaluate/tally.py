"""From answers to rows: grades, sums them up, and compares with the unpruned model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from deltaprune.benchmarks import Benchmark, Graded, Sample, Summary
from deltaprune.cost import share_of, tokens_kept
from deltaprune.errors import UserError
from deltaprune.evaluate.results import MethodResult, Record
from deltaprune.evaluate.units import Answer
from deltaprune.hosted.config import HostedConfig, uncalibrated
from deltaprune.mllm.network import MLLMConfig
from deltaprune.steps import Method


@dataclass
class Sheet:
    """One method's answers so far, by sample, and the milliseconds spent on those that this run gave.

    `label` is the method as it was asked for.
    """

    method: Method
    label: str
    answers: dict[str, Answer] = field(default_factory=dict)
    ms: float = 0.0
    timed: int = 0


@dataclass(frozen=True)
class Tally:
    """All methods' answers to the same questions; the first sheet is the unpruned model's."""

    config: MLLMConfig | HostedConfig
    benchmark: Benchmark
    split: str
    seed: int
    samples: Sequence[Sample]
    text_tokens: float
    sheets: tuple[Sheet, ...]

    @cached_property
    def failed(self) -> dict[str, str]:
        """Questions that failed under some method, and why."""
        failed = {
            a.id: f"{sheet.method!r}: {a.error}" for sheet in self.sheets for a in sheet.answers.values() if a.error
        }
        if len(failed) == len(self.samples):
            raise UserError(f"Every question failed, the first under {failed[self.samples[0].id]}.")
        return failed

    @cached_property
    def guess(self) -> Summary:
        """What naming the commonest answers scores on the questions that did not fail."""
        return self.benchmark.guess(sample for sample in self.samples if sample.id not in self.failed)

    @property
    def _planned(self) -> str:
        """Where the plan comes from, if a method reads one that was not calibrated."""
        note = uncalibrated(self.config, [sheet.method for sheet in self.sheets])
        return f"plan: {note}" if note else ""

    def row(self, label: str, sheet: Sheet) -> MethodResult:
        """One method's row. Questions that failed under any method are left out under all, and counted."""
        shape = self.config.shape
        good = [
            self._graded(sample, sheet.answers[sample.id]) for sample in self.samples if sample.id not in self.failed
        ]
        summary = self.benchmark.rules.summary(good)
        same = [each.prediction == self.sheets[0].answers[each.sample.id].prediction for each in good]
        return MethodResult(
            model=self.config.name,
            benchmark=self.benchmark.name,
            method=label,
            protocol=self.benchmark.protocol,
            n=len(good),
            seed=self.seed,
            partial=self.benchmark.is_partial(self.split, len(good)),
            mean=summary.mean,
            by_skill=summary.by_skill,
            metrics=summary.metrics,
            floor=self.guess.mean,
            floor_by_skill=self.guess.by_skill,
            agreement=100 * fmean(same),
            macs_share=share_of(self.config, sheet.method, self.text_tokens),
            text_tokens=self.text_tokens,
            kept=tuple(tokens_kept(sheet.method.checked_steps(shape), shape)),
            ms=sheet.ms / sheet.timed if sheet.timed else 0.0,
            errors=len(self.failed),
            failed=self.failed,
            records=tuple(_record(each) for each in good),
            split=self.split,
            total=self.benchmark.total(self.split),
            note="; ".join(filter(None, [self.benchmark.note(self.split), self._planned])),
        )

    def _graded(self, sample: Sample, answer: Answer) -> Graded:
        grade = self.benchmark.rules.grade(sample, answer.prediction)
        return Graded(sample, answer.prediction, grade, answer.choices)


def _record(graded: Graded) -> Record:
    sample = graded.sample
    return Record(
        sample.id,
        sample.image_id,
        sample.question,
        sample.answer,
        graded.prediction,
        sample.skill,
        graded.correct,
        graded.choices,
    )
