"""The unit of work: a few whole pictures with all their questions, and the answers that come back.

Which questions share a unit depends only on the benchmark and the batch size, never on what is answered already: a
resumed run answers in the same groups.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from deltaprune.benchmarks import Sample
from deltaprune.errors import UserError

FAILURES = (UserError, OSError, ArithmeticError, RuntimeError)  # what a sample can cause; a bug ends the run


@dataclass(frozen=True)
class Unit:
    """Neighbouring samples, whole pictures at a time; `methods` are the places of those that still have to answer."""

    samples: tuple[Sample, ...]
    methods: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one sample, or why there is none.

    Attributes:
        id: the sample's.
        prediction: the text; empty where there is an error.
        choices: under `FirstToken`, each choice's probability.
        error: what went wrong, on one line.
    """

    id: str
    prediction: str
    choices: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Done:
    """One method's answers to one unit, in the order of its samples, and how long they took."""

    method: int
    answers: tuple[Answer, ...]
    ms: float


def group(samples: Sequence[Sample], size: int) -> Iterator[tuple[Sample, ...]]:
    """Whole pictures at a time: at most `size` questions, more only where a single picture has more."""
    batch: list[Sample] = []
    for _, about_one in groupby(samples, key=lambda sample: sample.image_id):
        picture = list(about_one)
        if batch and len(batch) + len(picture) > size:
            yield tuple(batch)
            batch = []
        batch += picture
    if batch:
        yield tuple(batch)
