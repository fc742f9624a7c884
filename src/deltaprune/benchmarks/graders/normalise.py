"""How the VQA scorers tidy an answer before they compare it: steps, and the orders in which two scorers run them.

Worked example, `normalise_vqa`: "The black-white dog, 2 of them." -> strip; ", " occurs in the text, so every comma is
deleted; "-" never occurs beside a space, so it becomes one; the period is deleted; lower case, split; "the" is dropped
-> "black white dog 2 of them".

Sources: GT-Vision-Lab/VQA a013f00 `vqaEval.py`; `EvalAIAnswerProcessor` of MMF, as lmms-eval 0.7.3 ships it in
`tasks/_task_utils/vqa_eval_metric.py`.
"""

import re
from collections.abc import Mapping

from deltaprune.benchmarks.graders.contractions import CONTRACTIONS

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(digit) for digit, word in enumerate(_DIGITS)} | {"none": "0"}
ARTICLES = {"a", "an", "the"}

COMMA_IN_NUMBER = re.compile(r"(\d)(,)(\d)")
COMMAS_IN_NUMBER = re.compile(r"(?<=\d)(,)+(?=\d)")
"""MMF's pattern, which also finds "1,,000"."""

_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32


def normalise_vqa(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """The VQA API's order: whitespace, punctuation, words."""
    return normalise_words(strip_punctuation(strip_whitespace(text)), contractions)


def normalise_evalai(text: str) -> str:
    """MMF's order (EvalAI, TextVQA): lower case, commas and question marks deleted, "'s" split off; then as above.

    The commas are gone before the commas in numbers are looked for, so here "1,000-2" becomes "1000 2", where the VQA
    API makes it "10002".
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalise_words(strip_punctuation(strip_whitespace(text), COMMAS_IN_NUMBER))


def strip_whitespace(text: str) -> str:
    """Line breaks and tabs become spaces; none is left at the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str, comma: re.Pattern[str] = COMMA_IN_NUMBER) -> str:
    """Delete a mark that occurs beside a space anywhere in the text, turn any other mark into a space; drop periods.

    If a comma is between digits, every mark is deleted. A period goes unless a digit follows it: the source's
    lookbehind is misspelt ("(?!<=\\\\d)") and never holds anything back. Only the first 32 periods go, because the
    source passes `re.UNICODE`, which is 32, where `re.sub` takes a count.
    """
    comma_in_number = comma.search(text) is not None
    tidied = text
    for mark in PUNCTUATION:
        deleted = comma_in_number or f"{mark} " in text or f" {mark}" in text
        tidied = tidied.replace(mark, "" if deleted else " ")
    return _PERIOD.sub("", tidied, count=_PERIODS)


def normalise_words(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """Lower case; numbers up to ten as digits, articles dropped, contractions restored; one space between words."""
    numbered = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(contractions.get(word, word) for word in numbered if word not in ARTICLES)
