"""Made-up answers, records and rows, for tests of statistics and reports."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprune.benchmarks import mean_of_skills
from deltaprune.evaluate import MethodResult, Record
from deltaprune.evaluate.statistics import graded

SKILLS = ("colour", "count", "read")


def record(picture: int, skill: str, correct: float, prediction: str = "") -> Record:
    """The answer to a picture's question of one skill."""
    said = prediction or ("yes" if correct else "no")
    return Record(f"{picture}-{skill}", str(picture), "Is it?", "yes", said, skill, float(correct))


def answers(
    pictures: int, right: float, seed: int, skills: Sequence[str] = SKILLS, together: float = 0.0
) -> list[Record]:
    """One question of each skill about each picture, except that every third picture lacks the last skill.

    `right` is the share of right answers; with chance `together` a picture's answers are all alike.
    """
    rng = np.random.default_rng(seed)
    made = []
    for picture in range(pictures):
        alike, one = rng.random() < together, rng.random() < right
        for skill in skills[: -1 if picture % 3 == 2 and len(skills) > 1 else None]:
            made.append(record(picture, skill, one if alike else rng.random() < right))
    return made


def row(method: str, records: Sequence[Record], **fields: Any) -> MethodResult:
    """A row about these records under `mean_of_skills`, of a model and a benchmark that exist."""
    summary = mean_of_skills([graded(each) for each in records])
    given: dict[str, Any] = {
        "model": "bundled",
        "benchmark": "scenes",
        "method": method,
        "protocol": "official",
        "n": len(records),
        "seed": 0,
        "partial": False,
        "mean": summary.mean,
        "by_skill": summary.by_skill,
        "metrics": {},
        "floor": 30.0,
        "floor_by_skill": dict.fromkeys(summary.by_skill, 30.0),
        "agreement": 90.0,
        "macs_share": 0.5,
        "text_tokens": 21.5,
        "kept": (50, 0),
        "ms": 12.5,
        "errors": 0,
        "failed": {},
        "records": tuple(records),
        "split": "test",
    }
    return MethodResult(**given | fields)
