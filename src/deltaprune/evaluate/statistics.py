"""Uncertainty of results: a bootstrap over pictures, and paired tests of two methods on the same questions.

Answers about one picture are correlated, so whole pictures are drawn, not questions: the cluster bootstrap (Davison and
Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). The draws are the same for all methods.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from scipy.stats import binomtest

from deltaprune.benchmarks import Graded, Sample, Summary, mean_of_questions, mean_of_skills
from deltaprune.evaluate.results import Record

RESAMPLES = 2000
BLOCK = 2**22  # draws in one block of resamples: 32 MB
PROBES = 10  # resamples on which a protocol's own headline must equal a mean to be treated as that mean
SLACK = 0.0051  # points; official scorers round to two decimals

Summarise = Callable[[Sequence[Graded]], Summary]


@dataclass(frozen=True)
class Change:
    """One method's headline less another's, on the questions that both answered.

    Attributes:
        points: the difference in percentage points; negative is a loss.
        low, high: its 95 % bootstrap interval; None with fewer than two pictures.
        p: two-sided, by the paired bootstrap; at least 2 / (resamples + 1); None with fewer than two pictures.
        mcnemar: two-sided, exact; None where an answer can be partly right.
        n: questions that both answered.
    """

    points: float
    low: float | None
    high: float | None
    p: float | None
    mcnemar: float | None
    n: int


def interval(
    records: Sequence[Record], summary: Summarise, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % percentile interval of the headline, in percent; None with fewer than two pictures.

    It estimates how much the number would vary over other sets of as many pictures. If every answer is right (or wrong)
    its width is 0.
    """
    if len({record.image_id for record in records}) < 2:
        return None
    low, high = np.quantile(bootstrap(records, summary, resamples, seed), (0.025, 0.975))
    return float(low), float(high)


def change(
    records: Sequence[Record],
    others: Sequence[Record],
    summary: Summarise,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Change:
    """`records` against `others`, question by question.

    `p` doubles the smaller share of resamples in which the difference lies at 0 or beyond it, the estimate counted as
    one more on either side. McNemar's test is added because readers expect it: it weighs every question equally and
    treats questions about one picture as independent. Where the headline is a mean over skills, or pictures have
    many questions, read `p`.

    Raises:
        ValueError: no question in common.
    """
    shared = {record.id for record in records} & {record.id for record in others}
    if not shared:
        raise ValueError("The two methods have no question in common.")
    ours = [record for record in records if record.id in shared]
    by_id = {record.id: record for record in others}
    theirs = [by_id[record.id] for record in ours]
    points = headline(ours, summary) - headline(theirs, summary)
    mcnemar = exact_mcnemar([r.correct for r in ours], [r.correct for r in theirs])
    if len({record.image_id for record in ours}) < 2:
        return Change(points, None, None, None, mcnemar, len(ours))
    moved = bootstrap(ours, summary, resamples, seed) - bootstrap(theirs, summary, resamples, seed)
    low, high = np.quantile(moved, (0.025, 0.975))
    beyond = min(int((moved <= 1e-9).sum()), int((moved >= -1e-9).sum()))
    p = min(1.0, 2 * (beyond + 1) / (resamples + 1))
    return Change(points, float(low), float(high), p, mcnemar, len(ours))


def exact_mcnemar(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Two-sided exact p of McNemar's test (1947): whether the questions that only one got right are split evenly.

    None where a grade is neither 0 nor 1.
    """
    if any(grade not in (0, 1) for grade in (*ours, *theirs)):
        return None
    only_ours = sum(a > b for a, b in zip(ours, theirs, strict=True))
    only_theirs = sum(a < b for a, b in zip(ours, theirs, strict=True))
    if only_ours == only_theirs:  # also where there is no such question, which scipy refuses
        return 1.0
    return float(binomtest(only_ours, only_ours + only_theirs).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several comparisons, corrected for their number (Holm, 1979), in the order given."""
    corrected, so_far = [0.0] * len(p), 0.0
    for place, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        so_far = max(so_far, min(1.0, (len(p) - place) * p[i]))
        corrected[i] = so_far
    return corrected


def headline(records: Sequence[Record], summary: Summarise) -> float:
    """The protocol's headline of some answers, percent."""
    return summary([graded(record) for record in records]).mean


def graded(record: Record) -> Graded:
    """A record in the form that the protocols' summaries read; it has no picture."""
    sample = Sample(record.id, record.image_id, _no_picture, record.question, record.answer, record.skill)
    return Graded(sample, record.prediction, record.correct, record.choices)


def bootstrap(
    records: Sequence[Record], summary: Summarise, resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "R"]:
    """The headline, percent, of sets of as many pictures drawn with replacement; the same pictures, the same draws.

    A headline that is a mean over skills or over questions comes from each picture's sums by skill. Any other, such as
    an F1, is computed by the protocol for each resample, which takes seconds to minutes.
    """
    places: dict[str, int] = {}
    for record in records:
        places.setdefault(record.image_id, len(places))
    picture = np.array([places[record.image_id] for record in records])
    draws = _draws(len(places), resamples, seed)
    answers = [graded(record) for record in records]
    mean = _known_mean(answers, summary, picture, next(_draws(len(places), PROBES, seed)))
    if mean is not None:
        right, asked = _sums(records, picture)
        return np.concatenate([mean(times @ right, times @ asked) for times in draws])
    return np.array([_asked(answers, summary, picture, row) for times in draws for row in times])


def _known_mean(
    answers: Sequence[Graded], summary: Summarise, picture: Int[np.ndarray, "N"], probes: Int[np.ndarray, "r C"]
) -> Callable[..., Float[np.ndarray, "r"]] | None:
    """The mean that a summary's headline is, or None where it is another quantity.

    A protocol that reports more, or rounds, may wrap one of the two means in its own function: it is recognised because
    it gives the same headline on every probe.
    """
    for known, mean in ((mean_of_skills, _by_skill), (mean_of_questions, _by_question)):
        if summary is known:
            return mean
        both = ((_asked(answers, summary, picture, t), _asked(answers, known, picture, t)) for t in probes)
        if all(abs(theirs - plain) <= SLACK for theirs, plain in both):
            return mean
    return None


def _by_skill(right: Float[np.ndarray, "r K"], asked: Float[np.ndarray, "r K"]) -> Float[np.ndarray, "r"]:
    """Mean over the skills that were drawn, percent."""
    each = np.divide(right, asked, out=np.zeros_like(right), where=asked > 0)
    return 100 * each.sum(1) / (asked > 0).sum(1)


def _by_question(right: Float[np.ndarray, "r K"], asked: Float[np.ndarray, "r K"]) -> Float[np.ndarray, "r"]:
    return 100 * right.sum(1) / asked.sum(1)


def _sums(
    records: Sequence[Record], picture: Int[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "C K"], Float[np.ndarray, "C K"]]:
    """Of each picture and skill: the sum of grades, and the number of questions."""
    skills = {name: i for i, name in enumerate(dict.fromkeys(record.skill for record in records))}
    shape = (int(picture.max()) + 1, len(skills))
    cell = picture * shape[1] + np.array([skills[record.skill] for record in records])
    size = shape[0] * shape[1]
    right = np.bincount(cell, weights=[record.correct for record in records], minlength=size)
    return right.reshape(shape), np.bincount(cell, minlength=size).astype(np.float64).reshape(shape)


def _draws(pictures: int, resamples: int, seed: int) -> Iterator[Int[np.ndarray, "r C"]]:
    """How often each picture is drawn, a block of resamples at a time."""
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // pictures)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(pictures, size=(size, pictures))
        drawn += pictures * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * pictures).reshape(size, pictures)


def _asked(
    answers: Sequence[Graded], summary: Summarise, picture: Int[np.ndarray, "N"], times: Int[np.ndarray, "C"]
) -> float:
    """The protocol's headline of one resample."""
    repeated = np.repeat(np.arange(len(answers)), times[picture]).tolist()
    return summary([answers[i] for i in repeated]).mean


def _no_picture() -> Image.Image:
    raise ValueError("A record keeps no picture: take the benchmark's sample.")
