"""VQA accuracy under every protocol, by hand, and what holds for every panel of annotators."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deltaprune.benchmarks import Sample
from deltaprune.benchmarks.graders import lenient, vqa_accuracy
from deltaprune.benchmarks.graders.protocols import OKVQA, TEXTVQA, VIZWIZ, VQAV2
from deltaprune.benchmarks.graders.vqa_accuracy import leave_one_out
from deltaprune.errors import UserError

Grade = Callable[[Sample, str], float]

GRADES = {
    f"{name} {protocol}": rules.grade
    for name, protocols in {"vqav2": VQAV2, "textvqa": TEXTVQA, "vizwiz": VIZWIZ, "okvqa": OKVQA}.items()
    for protocol, rules in protocols.items()
}
answers = st.sampled_from(
    ["yes", "Yes.", "no", "two", "2", "the dog", "a black-white dog", "dont", "1,000", "", "unanswerable"]
)
panels = st.lists(answers, min_size=10, max_size=10)


def asked(*answers: str, confidences: tuple[str, ...] = ()) -> Sample:
    return Sample("1", "1", lambda: Image.new("RGB", (2, 2)), "What?", answers[0], "other", answers, (), confidences)


def panel(**counts: int) -> Sample:
    """`panel(two=8, dog=2)`: eight said two, two said dog."""
    return asked(*(answer for answer, n in counts.items() for _ in range(n)))


@pytest.mark.parametrize(
    ("matches", "score"),
    [
        (0, 0.0),
        (1, 0.3),  # the one who agrees sees 0 others: 0; the nine others see 1: 9 * 1/3 / 10
        (2, 0.6),  # two see 1: 2 * 1/3; eight see 2: 8 * 2/3; (2/3 + 16/3) / 10
        (3, 0.9),  # three see 2: 3 * 2/3; seven see 3: 7; (2 + 7) / 10
        (4, 1.0),
        (10, 1.0),
    ],
)
def test_ten_annotators_by_hand(matches: int, score: float) -> None:
    assert leave_one_out(matches) == pytest.approx(score, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_the_closed_form_is_the_definition(agrees: list[bool]) -> None:
    others = [agrees[:i] + agrees[i + 1 :] for i in range(len(agrees))]
    mean = sum(min(1, sum(rest) / 3) for rest in others) / len(agrees)
    assert leave_one_out(sum(agrees), len(agrees)) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize(
    ("grade", "sample", "prediction", "score"),
    [
        # official: both sides are normalised where the annotators differ ...
        (vqa_accuracy.official, panel(two=8, dog=2), "Two.", 1.0),
        (vqa_accuracy.official, panel(two=1, dog=9), "2", 0.3),
        (vqa_accuracy.official, asked("the dog", "dog", "A dog", *["cat"] * 7), "dog", 0.9),
        # ... and compared as they stand where all ten are the same
        (vqa_accuracy.official, panel(yes=10), "yes", 1.0),
        (vqa_accuracy.official, panel(yes=10), "Yes", 0.0),
        (vqa_accuracy.official, panel(yes=10), " yes\n", 1.0),
        (vqa_accuracy.official, asked(*["yes", " yes "] * 5), "Yes", 0.0),  # spaces alone make no difference
        # cobra: the annotators' words are left: "two" is not "2", "Two" not "two"
        (vqa_accuracy.cobra, panel(two=10), "two", 0.0),
        (vqa_accuracy.cobra, panel(yes=10), "Yes.", 1.0),
        (vqa_accuracy.cobra, asked(*["t-shirt"] * 10), "T-shirt", 1.0),  # both become "t shirt"
        # MMF: both sides always
        (vqa_accuracy.evalai, panel(two=10), "Two.", 1.0),
        (vqa_accuracy.evalai, asked(*["dog's"] * 2, *["cat"] * 8), "Dog 's", 0.6),
        # lmms-eval's VQAv2: without MMF's first step, so a comma in "1,000-2" deletes the hyphen
        (vqa_accuracy.lmms_vqav2, asked(*["10002"] * 10), "1,000-2", 1.0),
        (vqa_accuracy.evalai, asked(*["10002"] * 10), "1,000-2", 0.0),
        # VizWiz: the annotators' side is left as it is, the prediction's contractions get a backtick
        (vqa_accuracy.vizwiz, asked(*["Unanswerable"] * 10), "unanswerable", 0.0),
        (vqa_accuracy.vizwiz, panel(unanswerable=3, soup=7), "Unanswerable.", 0.9),
        (vqa_accuracy.vizwiz, asked(*["don't"] * 10), "dont", 0.0),
        (vqa_accuracy.vizwiz, asked(*["don`t"] * 10), "dont", 1.0),
        (vqa_accuracy.vizwiz, asked(*["let's"] * 10), "let's", 1.0),  # an apostrophe stays one
        (vqa_accuracy.vizwiz, asked(*["couldn`t`ve"] * 10), "couldn'tve", 1.0),
        # RoboMamba, lenient: begins with, or holds all words as substrings
        (lenient.vqa, panel(two=10), "There are 12 birds", 1.0),
        (vqa_accuracy.official, panel(two=9, pair=1), "There are 12 birds", 0.0),
        (lenient.vqa, asked(*["no"] * 10), "I cannot know", 1.0),
        (lenient.vqa, asked(*["black dog"] * 10), "a dog in black", 1.0),
        (lenient.vqa, asked(*["black dog"] * 10), "a dog", 0.0),
        (lenient.vqa, asked("the", *["cat"] * 9), "dog", 0.3),  # "the" becomes nothing, and everything begins with it
        (lenient.vqa, panel(cat=10), "dog Answer: cat", 0.0),  # what follows a second "Answer:" is cut off
    ],
)
def test_grades_by_hand(grade: Grade, sample: Sample, prediction: str, score: float) -> None:
    assert grade(sample, prediction) == pytest.approx(score, abs=1e-12)


def test_robomamba_leaves_out_everybody_who_said_the_same_as_surely() -> None:
    """Ten said soup, all sure: whoever is left out, all are, so nobody agrees. By index they would make it 1."""
    unanimous = asked(*["soup"] * 10, confidences=("yes",) * 10)
    assert lenient.vizwiz(unanimous, "soup") == 0
    assert vqa_accuracy.vizwiz(unanimous, "soup") == 1
    # Four sure and two unsure of six said soup, four sure said can: leaving out a sure soup leaves 2: 2/3 each; an
    # unsure soup leaves 4: 1 each; a can leaves all six: 1 each. (4 * 2/3 + 2 + 4) / 10.
    mixed = asked(*["soup"] * 6, *["can"] * 4, confidences=("yes",) * 4 + ("maybe",) * 2 + ("yes",) * 4)
    assert lenient.vizwiz(mixed, "Soup!") == pytest.approx((4 * 2 / 3 + 6) / 10)


def test_robomamba_on_vizwiz_needs_the_confidences() -> None:
    with pytest.raises(UserError, match="lacks the annotators' confidences, which protocol robomamba needs"):
        lenient.vizwiz(panel(soup=10), "soup")


@pytest.mark.parametrize("name", GRADES)
def test_hidden_answers_cannot_be_graded(name: str) -> None:
    hidden = Sample("7", "1", lambda: Image.new("RGB", (2, 2)), "What?", "", "other")
    with pytest.raises(UserError, match="Question '7' has no annotators' answers"):
        GRADES[name](hidden, "yes")


@pytest.mark.parametrize("name", GRADES)
@settings(deadline=None)
@given(panel=panels, prediction=answers, seed=st.integers(0, 999))
def test_the_order_of_the_annotators_is_nothing(name: str, panel: list[str], prediction: str, seed: int) -> None:
    sure = tuple("yes" if len(answer) % 2 else "maybe" for answer in panel)
    shuffled = random.Random(seed).sample(list(zip(panel, sure, strict=True)), 10)
    first, second = asked(*panel, confidences=sure), asked(*(a for a, _ in shuffled))
    second = asked(*second.answers, confidences=tuple(c for _, c in shuffled))
    score = GRADES[name](first, prediction)
    assert 0 <= score <= 1
    assert GRADES[name](second, prediction) == pytest.approx(score, abs=1e-12)


@settings(deadline=None)
@given(panel=panels, prediction=answers)
def test_one_more_who_agrees_never_costs(panel: list[str], prediction: str) -> None:
    more = [prediction, *panel[1:]]
    assert vqa_accuracy.evalai(asked(*more), prediction) >= vqa_accuracy.evalai(asked(*panel), prediction) - 1e-12


@settings(deadline=None)
@given(panel=panels, prediction=answers)
def test_the_lenient_judge_is_never_stricter(panel: list[str], prediction: str) -> None:
    strict = OKVQA["lmms-eval"].grade(asked(*panel), prediction)
    assert lenient.vqa(asked(*panel), prediction) >= strict - 1e-12
