"""What every benchmark is: a stream of samples, the message put to the model, and a grader."""

import abc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from PIL import Image


@dataclass(frozen=True)
class Sample:
    """One question about one picture.

    Args:
        id: names the question, the same in every process.
        image_id: names the picture; neighbouring samples that share it need the picture encoded only once.
        load: draws or reads the picture (nothing is decoded before it is called).
        question, answer: the question and its one right answer.
        skill: the group in which the answer is reported.
    """

    id: str
    image_id: str
    load: Callable[[], Image.Image] = field(repr=False, compare=False)
    question: str
    answer: str
    skill: str

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        return self.load()


@dataclass(frozen=True)
class Benchmark(abc.ABC):
    """A named, versioned stream of samples with its grader; a change that moves any score raises `version`."""

    name: ClassVar[str]
    version: ClassVar[int]

    @abc.abstractmethod
    def samples(self, split: str, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        """The questions of a split in a fixed order, at most `limit` of them."""

    @abc.abstractmethod
    def grade(self, sample: Sample, prediction: str) -> float:
        """How right the prediction is, in [0, 1]."""

    def message(self, sample: Sample) -> str:
        """What the user says to the model; the model wraps it into its own template."""
        return sample.question

    def floors(self, split: str, seed: int = 0, n: int = 5000) -> dict[str, float]:
        """What guessing scores: the share of the commonest answer by skill, in percent, over `n` questions."""
        answers: dict[str, Counter[str]] = defaultdict(Counter)
        for sample in self.samples(split, seed, n):
            answers[sample.skill][sample.answer] += 1
        return {skill: 100 * max(seen.values()) / seen.total() for skill, seen in answers.items()}
