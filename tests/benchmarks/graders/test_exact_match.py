"""GQA under its four rules, by hand."""

import pytest
from PIL import Image

from deltaprune.benchmarks import Graded, Sample
from deltaprune.benchmarks.graders.exact_match import binary_and_open
from deltaprune.benchmarks.graders.protocols import GQA

RULES = ("official", "cobra", "lmms-eval", "robomamba")


def asked(answer: str, skill: str = "verify") -> Sample:
    return Sample("1", "1", lambda: Image.new("RGB", (2, 2)), "Is it?", answer, skill)


@pytest.mark.parametrize(
    ("answer", "prediction", "grades"),  # official, cobra, lmms-eval, robomamba
    [
        ("yes", "yes", (1, 1, 1, 1)),
        ("yes", "Yes.", (1, 1, 1, 1)),
        ("yes", "no", (0, 0, 0, 0)),
        ("yes", "yes, it is", (0, 0, 0, 1)),  # only RoboMamba's judge takes a beginning
        ("yes", " yes\n", (0, 1, 1, 1)),  # LLaVA's conversion strips periods only; the other harnesses strip spaces
        ("yes", "'yes'", (0, 1, 1, 0)),  # marks are deleted; RoboMamba's judge keeps them
        ("t-shirt", "T-shirt", (1, 0, 1, 1)),  # cobra makes the prediction "tshirt", lmms-eval both
        ("man", "Men", (0, 0, 0, 1)),
        ("curtains", "the drapes", (0, 0, 0, 1)),  # all of its words are among the prediction's
        ("old girl", "a woman, old", (0, 0, 0, 0)),  # "woman," with its comma is another word
        ("old girl", "a woman so old", (0, 0, 0, 1)),
        ("cat", "catfish", (0, 0, 0, 1)),  # a beginning, though another animal
        ("cat", "a catfish", (0, 0, 0, 0)),
        ("yes", "", (0, 0, 0, 0)),
    ],
)
def test_by_hand(answer: str, prediction: str, grades: tuple[int, ...]) -> None:
    assert tuple(GQA[name].grade(asked(answer), prediction) for name in RULES) == grades


def test_open_questions_are_queries_and_all_others_binary() -> None:
    kinds = (("query", 1.0), ("query", 0.0), ("verify", 1.0), ("choose", 1.0), ("compare", 0.0))
    summary = binary_and_open([Graded(asked("yes", kind), "yes", grade) for kind, grade in kinds])
    assert summary.mean == pytest.approx(60)
    assert summary.by_skill == {"query": 50, "verify": 100, "choose": 100, "compare": 0}
    assert summary.metrics == {"binary": pytest.approx(200 / 3), "open": 50}


def test_a_kind_that_was_not_asked_is_not_reported() -> None:
    assert binary_and_open([Graded(asked("yes", "query"), "yes", 1.0)]).metrics == {"open": 100}
