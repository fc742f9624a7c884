"""The VQA normalisers: vectors worked out by hand from the official steps, and what holds for every text.

The steps: whitespace; each mark is deleted where it stands beside a space (or a comma stands between digits), else it
becomes a space; periods not before a digit are deleted; lower case, numbers, articles, contractions.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaprune.benchmarks.graders.contractions import CONTRACTIONS, VIZWIZ_CONTRACTIONS
from deltaprune.benchmarks.graders.normalise import (
    COMMAS_IN_NUMBER,
    PUNCTUATION,
    normalise_evalai,
    normalise_vqa,
    normalise_words,
    strip_punctuation,
)


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("black-white", "black white"),  # no space beside the hyphen: it becomes one
        ("no, thanks", "no thanks"),  # ", " occurs: the comma is deleted
        ("1,000", "1000"),  # a comma between digits: every mark is deleted
        ("1,000-2", "10002"),  # so the hyphen is deleted as well
        ("x-b -c", "xb c"),  # " -" occurs somewhere, so every hyphen is deleted
        ("50%", "50%"),  # % $ : ' are kept
        ("3:15", "3:15"),
        ("$5", "$5"),
        ("2.5", "2.5"),  # a period before a digit stays
        ("2.", "2"),  # any other goes
        ("U.S.A.", "usa"),
        ("v.2", "v.2"),  # the lookbehind is misspelt: only what follows counts
        (" \n two\tdogs ", "2 dogs"),
        ("none", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("The cat and a dog", "cat and dog"),
        ("a", ""),  # an article alone is nothing
        ("dont", "don't"),
        ("Im", "im"),  # the table's "Im" is never met in lower case
        ("somebody'd", "somebodyd"),  # the table's own mistake
        ("", ""),
    ],
)
def test_the_vqa_api_by_hand(text: str, tidied: str) -> None:
    assert normalise_vqa(text) == tidied


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("1,000-2", "1000 2"),  # commas go first, so no comma stands between digits when the marks are looked at
        ("the dog's bone", "dog 's bone"),  # "'s" is split off
        ("Stop?Go", "stopgo"),  # a question mark is deleted, not turned into a space
        ("black-white", "black white"),
        ("What's,", "what 's"),
        ("TWO", "2"),
    ],
)
def test_mmf_by_hand(text: str, tidied: str) -> None:
    assert normalise_evalai(text) == tidied


def test_only_the_first_32_periods_go() -> None:
    """The source passes re.UNICODE, which is 32, as the count."""
    assert strip_punctuation("." * 40) == "." * 8
    assert strip_punctuation("." * 32) == ""


def test_the_two_comma_patterns_differ_on_doubled_commas() -> None:
    """Between "1" and "2" stand two commas: no digit-comma-digit, but commas between digits."""
    assert strip_punctuation("1,,2-3") == "1  2 3"
    assert strip_punctuation("1,,2-3", COMMAS_IN_NUMBER) == "123"


def test_the_table_of_contractions() -> None:
    assert len(CONTRACTIONS) == 120
    assert CONTRACTIONS["couldn'tve"] == "couldn't've"
    assert (VIZWIZ_CONTRACTIONS["dont"], VIZWIZ_CONTRACTIONS["cant"]) == ("don`t", "can't")
    kept = {key for key, value in VIZWIZ_CONTRACTIONS.items() if "'" in value}
    assert kept == {"aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove"}


def test_vizwiz_looks_up_two_contractions_that_have_an_apostrophe() -> None:
    """Its script has backticks in all other keys, which the normaliser removes, so "let's" is never found there."""
    assert {key for key in VIZWIZ_CONTRACTIONS if "'" in key} == {"couldn'tve", "hadn'tve"}
    assert normalise_vqa("let's", VIZWIZ_CONTRACTIONS) == "let's"
    assert normalise_vqa("hadn'tve", VIZWIZ_CONTRACTIONS) == "hadn`t`ve"


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters=PUNCTUATION + ".")))
def test_a_text_without_marks_is_tidied_once_and_for_all_but_for_contractions(text: str) -> None:
    """A contraction may make another's key; without them words are settled after one round.

    The number words become digits and articles go, neither of which yields a new word of either kind.
    """
    once = normalise_words(text, {})
    assert normalise_words(once, {}) == once


@settings(deadline=None)
@given(st.text())
def test_what_comes_out(text: str) -> None:
    for tidied in (normalise_vqa(text), normalise_evalai(text)):
        assert tidied == " ".join(tidied.split())
        assert not set(tidied) & set(PUNCTUATION)
        assert not {"a", "an", "the"} & set(tidied.split())
