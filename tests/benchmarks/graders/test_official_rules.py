"""The VQA graders against the scorers' rules, written out a second time and in another way.

Here a text is walked letter by letter, annotators are left out one by one, and VizWiz's table is written as its script
has it: with backticks for apostrophes, in keys, too.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deltaprune.benchmarks import Sample
from deltaprune.benchmarks.graders import lenient, vqa_accuracy
from deltaprune.benchmarks.graders.contractions import CONTRACTIONS

MARKS = set(';/[]"{}()=+\\_-><@`,?!')
COUNT = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(COUNT)}
TYPED = {"couldn'tve", "hadn'tve"}
STRAIGHT = {"aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove"}
VIZWIZ = {
    key if key in TYPED else key.replace("'", "`"): value if key in STRAIGHT else value.replace("'", "`")
    for key, value in CONTRACTIONS.items()
}


def stripped(text: str) -> str:
    return "".join(" " if letter in "\n\t" else letter for letter in text).strip()


def unmarked(text: str, number: str = r"\d,\d") -> str:
    """A mark becomes a space; it vanishes where a number has a comma, or where that mark stands beside a space."""
    beside = {letter for pair in pairwise(text) if " " in pair for letter in pair}
    gone = MARKS if re.search(number, text) else beside & MARKS
    spaced = "".join(" " if letter in MARKS else letter for letter in text if letter not in gone)
    kept, periods = "", 0
    for letter, following in zip(spaced, spaced[1:] + " ", strict=False):
        drop = letter == "." and not following.isdecimal() and periods < 32
        periods += drop
        kept += "" if drop else letter
    return kept


def words(text: str, table: dict[str, str] = CONTRACTIONS) -> str:
    found = []
    for word in text.lower().split():
        number = DIGITS.get(word, word)
        if number not in ("a", "an", "the"):
            found.append(table.get(number, number))
    return " ".join(found)


def api(text: str) -> str:
    return words(unmarked(stripped(text)))


def mmf(text: str) -> str:
    quiet = re.sub("[,?]", "", text.lower())
    return words(unmarked(stripped(quiet.replace("'s", " 's")), r"\d,+\d"))


def lmms(text: str) -> str:
    return words(unmarked(stripped(text), r"\d,+\d"))


def share(agrees: Sequence[bool]) -> float:
    """Each annotator is left out once; three of the others make a whole point."""
    points = [min(3, sum(agrees[:i]) + sum(agrees[i + 1 :])) for i in range(len(agrees))]
    return sum(points) / 3 / len(agrees)


def official(answers: Sequence[str], said: str) -> float:
    tidy = stripped if len({stripped(answer) for answer in answers}) == 1 else api
    return share([tidy(answer) == tidy(said) for answer in answers])


def cobra(answers: Sequence[str], said: str) -> float:
    return share([unmarked(answer) == api(said) for answer in answers])


def vizwiz(answers: Sequence[str], said: str) -> float:
    return share([answer == words(unmarked(stripped(said)), VIZWIZ) for answer in answers])


def evalai(answers: Sequence[str], said: str) -> float:
    return share([mmf(answer) == mmf(said) for answer in answers])


def lmms_vqav2(answers: Sequence[str], said: str) -> float:
    return share([lmms(answer) == lmms(said) for answer in answers])


def robomamba(answers: Sequence[str], said: str) -> float:
    heard = api(re.split("Answer:", said.strip().replace("\n", " "))[0])
    return share(
        [
            heard.startswith(answer) or all(word in heard for word in answer.lower().split())
            for answer in map(api, answers)
        ]
    )


RULES: dict[str, tuple[Callable[[Sample, str], float], Callable[[Sequence[str], str], float]]] = {
    "official": (vqa_accuracy.official, official),
    "cobra": (vqa_accuracy.cobra, cobra),
    "vizwiz": (vqa_accuracy.vizwiz, vizwiz),
    "evalai": (vqa_accuracy.evalai, evalai),
    "lmms_vqav2": (vqa_accuracy.lmms_vqav2, lmms_vqav2),
    "robomamba": (lenient.vqa, robomamba),
}
ODD = ["1,000", "1,,0", "2.5", "v.2", ". " * 20, "." * 40, "U.S.A.", "Dog", "dog's", "Answer:", "\n", "\t", ":"]
pieces = st.sampled_from(
    [*CONTRACTIONS, *CONTRACTIONS.values(), *VIZWIZ, *VIZWIZ.values(), *DIGITS, "a", "an", "The", *sorted(MARKS), *ODD]
)
texts = st.lists(st.tuples(pieces, st.sampled_from(["", " "])), max_size=6).map(
    lambda found: "".join(piece + space for piece, space in found)
)


@pytest.mark.parametrize("name", RULES)
@settings(deadline=None, max_examples=300)
@given(
    said=texts,
    others=st.lists(texts, min_size=1, max_size=2),
    agree=st.lists(st.integers(0, 5), min_size=10, max_size=10),
)
def test_graders_follow_the_rules(name: str, said: str, others: list[str], agree: list[int]) -> None:
    """Annotators say the prediction, one of its tidied forms, or something else."""
    grade, rule = RULES[name]
    pool = [said, api(said), words(unmarked(stripped(said)), VIZWIZ), mmf(said), *others]
    answers = tuple(pool[i % len(pool)] for i in agree)
    sample = Sample("1", "1", lambda: Image.new("RGB", (2, 2)), "What?", answers[0], "other", answers)
    assert grade(sample, said) == pytest.approx(rule(answers, said), abs=1e-12)


def test_an_apostrophe_stays_one_in_vizwiz() -> None:
    assert vizwiz(["let's"] * 10, "let's") == 1
    assert vizwiz(["let`s"] * 10, "let's") == 0
