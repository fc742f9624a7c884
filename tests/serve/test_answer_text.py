"""The parts of an answer are together its text, whatever the ids are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaprune.mllm.processor import Processor
from deltaprune.serve.text import AnswerText
from deltaprune.vlm import VLM

WORDS = (" a", " .", " n't", " '", "'", " ' s", "s", " 's", "n", "t", " ", "\n", " ?", "é", "ab")


def decoded(processor: Processor, text: str) -> list[int]:
    return processor.tokenizer.encode(text, add_special_tokens=False).ids


@given(words=st.lists(st.sampled_from(WORDS), max_size=12), noise=st.lists(st.integers(0, 319), max_size=6))
def test_parts_are_together_the_text(tiny: tuple[VLM, Processor], words: list[str], noise: list[int]) -> None:
    processor = tiny[1]
    ids = [i for word in words for i in decoded(processor, word)] + noise
    text = AnswerText(processor.untidied)
    parts = [text.add([token], False) for token in ids]
    assert "".join([*parts, text.add([], True)]) == processor.decode(ids)


@given(words=st.lists(st.sampled_from(WORDS), max_size=12), stop=st.sampled_from(("ab", "a.", "n't", "s", " a a", "é")))
def test_a_stop_text_is_found_wherever_the_ids_cut_it(tiny: tuple[VLM, Processor], words: list[str], stop: str) -> None:
    processor = tiny[1]
    ids = [i for word in words for i in decoded(processor, word)]
    text, said = AnswerText(processor.untidied, ("never there", stop)), ""
    for token in ids:
        said += text.add([token], False)
        if text.stopped:
            break
    if not text.stopped:
        said += text.add([], True)
    assert (said, text.stopped) == (processor.decode(ids).partition(stop)[0], stop in processor.decode(ids))


def test_nothing_is_kept_back_for_long(tiny: tuple[VLM, Processor]) -> None:
    processor = tiny[1]
    text = AnswerText(processor.untidied, ("stop",))
    said = "".join(text.add([token], False) for token in decoded(processor, "one two three"))
    assert said == "one two three"
    ids = decoded(processor, "é")
    assert len(ids) > 1
    assert [text.add([token], False) for token in ids] == [""] * (len(ids) - 1) + ["é"]


@pytest.mark.parametrize("mark", [" ", "s", "st", "sto"])
def test_the_beginning_of_a_stop_text_waits(tiny: tuple[VLM, Processor], mark: str) -> None:
    processor = tiny[1]
    text = AnswerText(processor.untidied, ("stop",))
    assert text.add(decoded(processor, f"a {mark}"), False).strip() == "a"
