"""Grade a file of answers by a benchmark's protocol."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deltaprune.benchmarks._base import Benchmark, FirstToken, Graded, Sample
from deltaprune.benchmarks.graders.predictions import Prediction, read_predictions
from deltaprune.errors import UserError


@dataclass(frozen=True)
class Score:
    """What a file of answers scores.

    Attributes:
        benchmark, version, split, protocol, source, checked: whose questions, and whose rules.
        n: how many questions were graded.
        questions: how many the split has in the files that were read.
        unknown: how many answers were passed over because the split has no such question.
        partial: whether the graded questions are not the whole official split.
        mean, by_skill, metrics: the protocol's summary, percent.
    """

    benchmark: str
    version: int
    split: str
    protocol: str
    source: str
    checked: bool
    n: int
    questions: int
    unknown: int
    partial: bool
    mean: float
    by_skill: Mapping[str, float]
    metrics: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def score(
    benchmark: Benchmark,
    split: str,
    predictions: Path,
    allow_partial: bool = False,
    method: Collection[str] = (),
) -> Score:
    """Grade a file of answers by the benchmark's protocol.

    Args:
        benchmark: whose questions, under which protocol.
        split: which of its questions.
        predictions: the file.
        allow_partial: grade the questions that are answered, and ignore answers to unknown questions.
        method: the names of the one method whose answers are graded, in a file that holds those of several.

    Raises:
        UserError: anything wrong in the file; several methods and none named; no answer of the one that is named; a
            question answered twice; none answered; without `allow_partial`, one that is not answered, or an answer to a
            question that is not there.
    """
    given = _of_method(_of_benchmark(list(read_predictions(predictions)), benchmark, predictions), method, predictions)
    samples = {sample.id: sample for sample in benchmark.asked(split, [each.id for each in given])}
    answered: dict[str, Prediction] = {}
    unknown: list[Prediction] = []
    for each in given:
        key = each.id if each.id in samples else f"{split}/{each.id}"
        if key in answered:
            raise UserError(
                f"{predictions} answers question {each.id!r} twice, at {answered[key].place} and {each.place}: "
                "leave one of them."
            )
        if key in samples:
            answered[key] = each
        else:
            unknown.append(each)
    _check_ids(benchmark.name, split, predictions, samples, answered, unknown, allow_partial)
    graded = [_grade(benchmark, samples[key], answered[key], predictions) for key in samples if key in answered]
    summary = benchmark.rules.summary(graded)
    return Score(
        benchmark=benchmark.name,
        version=benchmark.version,
        split=split,
        protocol=benchmark.protocol,
        source=benchmark.rules.source,
        checked=benchmark.rules.checked,
        n=len(graded),
        questions=len(samples),
        unknown=len(unknown),
        partial=len(graded) < len(samples) or benchmark.is_partial(split, len(graded)),
        mean=summary.mean,
        by_skill=dict(summary.by_skill),
        metrics=dict(summary.metrics),
    )


def _of_benchmark(given: list[Prediction], benchmark: Benchmark, file: Path) -> list[Prediction]:
    """The answers to this benchmark's questions, where the file says to whose."""
    wanted = f"{benchmark.name} {benchmark.version}"
    found = [each for each in given if each.benchmark in (None, wanted)]
    if not found:
        raise UserError(f"{file} holds answers to {_listed(each.benchmark for each in given)}, not to {wanted}.")
    return found


def _of_method(given: list[Prediction], method: Collection[str], file: Path) -> list[Prediction]:
    """The answers of the one method that is named, or of the only one there is."""
    held = {each.methods[-1]: each.methods[0] for each in given if each.methods}  # in full -> as asked for
    if not method:
        if len(held) > 1:
            raise UserError(
                f"{file} holds the answers of several methods, {_listed(held.values())}: choose one (method)."
            )
        return given
    if not held:
        raise UserError(f"{file} does not say which method gave an answer: leave the method out.")
    found = [each for each in given if set(each.methods) & set(method)]
    if not found:
        raise UserError(f"{file} holds no answer of {next(iter(method))!r}: it has those of {_listed(held.values())}.")
    return found


def _listed(names: Iterable[str | None]) -> str:
    """Each name once."""
    return ", ".join(dict.fromkeys(map(str, names)))


def _grade(benchmark: Benchmark, sample: Sample, prediction: Prediction, file: Path) -> Graded:
    decoding = benchmark.rules.decoding
    wanted = decoding.choices if isinstance(decoding, FirstToken) else ()
    if prediction.choices and wanted and set(prediction.choices) != set(wanted):
        raise UserError(
            f"{file}, {prediction.place}: the choices are {', '.join(prediction.choices)}, but {benchmark.name} under "
            f"protocol {benchmark.protocol} has {', '.join(wanted)}."
        )
    choices = prediction.choices if wanted else {}
    return Graded(sample, prediction.text, benchmark.rules.grade(sample, prediction.text), choices)


def _check_ids(
    name: str,
    split: str,
    file: Path,
    samples: Mapping[str, Sample],
    answered: Mapping[str, Prediction],
    unknown: list[Prediction],
    allow_partial: bool,
) -> None:
    """Whether the answers are to these questions and to all of them, else a `UserError`."""
    of = f"{name} {split}"
    if not samples:
        raise UserError(f"{of} has no questions in the files that were read, so nothing can be graded: download them.")
    if not answered:
        raise UserError(
            f"{file} answers no question of {of}: its ids are like {unknown[0].id!r}, those of {of} like "
            f"{next(iter(samples))!r}."
        )
    if allow_partial:
        return
    if unknown:
        raise UserError(
            f"{file} answers questions that {of} does not have, {len(unknown):,} in all, the first at "
            f"{unknown[0].place}, {unknown[0].id!r}: remove them, or pass them over (allow_partial)."
        )
    missing = [key for key in samples if key not in answered]
    if missing:
        raise UserError(
            f"{file} leaves questions of {of} unanswered, {len(missing):,} of {len(samples):,}, the first is "
            f"{missing[0]!r}: answer them, or grade the others alone (allow_partial)."
        )
