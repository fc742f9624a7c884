"""Answers are tidied as the originals' tokenizers tidied them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import deltaprune as dp
from deltaprune.benchmarks import registry
from deltaprune.mllm.processor import GLUED, Processor, clean_up

pieces = st.sampled_from([*GLUED, " ", "'", ".", "a", "it", "do", "n't", "s", "ve", "m", "re", "\n", "!", "?", ","])
texts = st.lists(pieces, max_size=12).map("".join)


@pytest.fixture(scope="module")
def tokenizer(tiny: tuple[dp.VLM, Processor]) -> PreTrainedTokenizerFast:
    """transformers' own, told to tidy what its model decodes."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny[1].tokenizer)
    tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output = True
    return tokenizer


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("a .", "a."),
        ("it 's", "it's"),
        ("do n't , I 'm sure !", "don't, I'm sure!"),
        ("they 've said ' no '", "they've said'no '"),
        ("we 're", "we're"),
        ("5 .5", "5.5"),
    ],
)
def test_by_hand(text: str, tidied: str) -> None:
    assert clean_up(text) == tidied


@settings(deadline=None, max_examples=1000)
@given(texts)
def test_as_transformers_does_it(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert clean_up(text) == tokenizer.clean_up_tokenization(text)


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=3))
def test_every_door_decodes_as_the_originals(
    tiny: tuple[dp.VLM, Processor], tokenizer: PreTrainedTokenizerFast, answers: list[str]
) -> None:
    """`tokenizer.decode(ids, skip_special_tokens=True).strip()`, tidying on, as Cobra and RoboMamba call it."""
    from deltaprune.hf import DeltapruneConfig, DeltapruneProcessor

    vlm, ours = tiny
    theirs = DeltapruneProcessor(
        PreTrainedTokenizerFast(tokenizer_object=ours.tokenizer, eos_token="<|endoftext|>"),
        DeltapruneConfig.of(vlm.config, ours.eos_id),
    )
    rows = [[*ours.tokenizer.encode(answer).ids, ours.eos_id] for answer in answers]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [ours.eos_id] * (longest - len(row)) for row in rows])
    expected = [tokenizer.decode(row, True, clean_up_tokenization_spaces=True).strip() for row in rows]
    assert ours.batch_decode(ids) == expected
    assert [ours.decode(row) for row in ids] == expected
    assert [text.strip() for text in theirs.batch_decode(ids, skip_special_tokens=True)] == expected
    assert [text.strip() for text in theirs.post_process_image_text_to_text(ids)] == expected
    assert theirs.decode(ids[0], skip_special_tokens=True).strip() == expected[0]


def test_no_answer_to_a_scene_is_touched() -> None:
    """The bundled model decodes by the same rule, which changes nothing it has learned to say."""
    for scene in registry["scenes"]().samples("val", 0, 300):
        assert clean_up(scene.answer) == scene.answer
