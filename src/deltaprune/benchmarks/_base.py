"""What every benchmark is: a stream of samples, and protocols that say how they are asked and graded."""

import abc
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar

from PIL import Image

from deltaprune.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Sample:
    """One question about one picture.

    Args:
        id: names the question, the same in every process.
        image_id: names the picture; neighbouring samples that share it need the picture encoded only once.
        load: draws or reads the picture (nothing is decoded before it is called).
        question: as the benchmark's files have it.
        answer: the right answer, or the commonest of several.
        skill: the group in which the answer is reported.
        answers: what each annotator said, in the files' order; empty where there is one right answer.
        context: further text that a protocol may put into the message, such as OCR tokens.
        confidences: how sure each annotator was, in the order of `answers`; empty where the files do not say.
    """

    id: str
    image_id: str
    load: Callable[[], Image.Image] = field(repr=False, compare=False)
    question: str
    answer: str
    skill: str
    answers: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    confidences: tuple[str, ...] = ()

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        return self.load()


@dataclass(frozen=True)
class Greedy:
    """The likeliest token at each step, at most `max_new_tokens` of them."""

    max_new_tokens: int


@dataclass(frozen=True)
class Sampled:
    """Rows drawn at a temperature, seeded by the question's id; at most `max_new_tokens` of them."""

    max_new_tokens: int
    temperature: float


@dataclass(frozen=True)
class FirstToken:
    """No decoding: the prediction is the choice whose first token is likeliest as the answer's first token."""

    choices: tuple[str, ...]


Decoding = Greedy | Sampled | FirstToken


@dataclass(frozen=True)
class Graded:
    """One answer and its grade.

    Attributes:
        sample: what was asked.
        prediction: what the model said.
        correct: the grade, in [0, 1].
        choices: under `FirstToken`, each choice's probability, normalised over the choices.
    """

    sample: Sample
    prediction: str
    correct: float
    choices: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What a protocol reports of a set of answers, percent.

    Attributes:
        mean: the headline.
        by_skill: the headline's parts, by `Sample.skill`, skills by name.
        metrics: whatever else the official scorer prints, by its names.
    """

    mean: float
    by_skill: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)


def mean_of_skills(graded: Sequence[Graded]) -> Summary:
    """Every skill counts alike: the mean over skills of each skill's mean grade."""
    by_skill = grade_by_skill(graded)
    return Summary(fmean(by_skill.values()), by_skill)


def mean_of_questions(graded: Sequence[Graded]) -> Summary:
    """Every question counts alike."""
    return Summary(100 * fmean(each.correct for each in graded), grade_by_skill(graded))


def grade_by_skill(graded: Sequence[Graded]) -> dict[str, float]:
    """Mean grade of each skill in percent, skills by name, so that their order does not depend on the questions."""
    grades: dict[str, list[float]] = defaultdict(list)
    for each in graded:
        grades[each.sample.skill].append(each.correct)
    return {skill: 100 * fmean(grades[skill]) for skill in sorted(grades)}


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is asked and graded: one harness's rules.

    Args:
        message: what the user says to the model; the model wraps it into its own template.
        grade: how right a prediction is, in [0, 1].
        decoding: how the answer is read off the model.
        summary: graded answers -> the reported numbers.
        source: the code or paper whose rules these are.
        checked: whether this code was compared with that scorer's own output, not only with its source.
    """

    message: Callable[[Sample], str]
    grade: Callable[[Sample, str], float]
    decoding: Decoding
    summary: Callable[[Sequence[Graded]], Summary]
    source: str
    checked: bool = False


@dataclass(frozen=True)
class Benchmark(abc.ABC):
    """A named, versioned stream of samples; a change that moves any score raises `version`.

    Args:
        protocol: whose rules; a key of `protocols`.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    split: ClassVar[str]  # the default
    protocols: ClassVar[Mapping[str, Protocol]]
    protocol: str = field(default="official", kw_only=True)

    def __post_init__(self) -> None:
        if self.protocol not in self.protocols:
            known = did_you_mean(self.protocol, self.protocols)
            raise UserError(f"{self.name} has no protocol {self.protocol!r}: {known}.")

    @property
    def rules(self) -> Protocol:
        """The chosen protocol."""
        return self.protocols[self.protocol]

    @abc.abstractmethod
    def samples(self, split: str, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        """The questions of a split in a fixed order, at most `limit`; those about one picture are neighbours."""

    def asked(self, split: str, ids: Collection[str]) -> Iterator[Sample]:
        """The questions that a file of answers with these ids should answer: all of the split."""
        return self.samples(split)

    def is_partial(self, split: str, n: int) -> bool:
        """Whether `n` questions are fewer than the split has; False for an endless stream."""
        return False

    def total(self, split: str) -> int | None:
        """How many questions the split has; None for an endless stream."""
        return None

    def note(self, split: str) -> str:
        """What a reader of a score has to know about the questions, such as "without OCR tokens"; else ""."""
        return ""

    def guess(self, samples: Iterable[Sample]) -> Summary:
        """What naming the commonest answer of each skill scores on these questions, in percent."""
        asked: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            asked[sample.skill].append(sample)
        graded = []
        for alike in asked.values():
            (commonest, _), *_ = Counter(sample.answer for sample in alike).most_common(1)
            graded += [Graded(sample, commonest, self.rules.grade(sample, commonest)) for sample in alike]
        return self.rules.summary(graded)
