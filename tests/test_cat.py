"""Batches that were read one by one and put together are the batch that was read at once."""

import pytest
import torch
from PIL import Image

from deltaprune.methods import parse
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.prefill import Prefilled
from deltaprune.prefix import ImagePrefix
from deltaprune.vlm import VLM

COLOURS = ("orange", "navy", "white")
METHODS = ("none", "dtp:keep=0.5", "dtp:keep=0.25,candidates=all", "stateful:keep=0.5", "vtw")


def same(one: Prefilled, other: Prefilled) -> None:
    torch.testing.assert_close(one.hidden, other.hidden)
    assert (one.depth, one.seen, one.tokens.lengths) == (other.depth, other.seen, other.tokens.lengths)
    for first, second in zip(one.states, other.states, strict=True):
        for name, tensor in first.tensors().items():
            torch.testing.assert_close(tensor, second.tensors()[name])
    for first, second in zip(one.kept, other.kept, strict=True):
        assert (first.after, first.read, first.counts) == (second.after, second.read, second.counts)
        for mine, theirs in zip(first.origin, second.origin, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("method", METHODS)
def test_prefixes_put_together_are_those_of_all_pictures(tiny: tuple[VLM, Processor], method: str) -> None:
    vlm, processor = tiny
    pictures = [Image.new("RGB", (40, 32), colour) for colour in COLOURS]
    together = vlm.encode_image(pictures, method=method)
    joined = ImagePrefix.cat([vlm.encode_image(picture, method=method) for picture in pictures])
    same(joined.prefilled, together.prefilled)
    inputs = Inputs(**processor.encode_text(["One?", "And what is two?", "Three?"]))
    same(vlm.start(inputs, joined, method), vlm.start(inputs, together, method))


def test_prompts_put_together_answer_as_before(tiny: tuple[VLM, Processor]) -> None:
    vlm, processor = tiny
    parts = [vlm.start(processor(text=text)) for text in ("One?", "And what is two?")]
    joined = Prefilled.cat(parts)
    assert torch.equal(vlm.continue_from(joined, 6), torch.cat([vlm.continue_from(part, 6) for part in parts]))


def test_what_does_not_belong_together_is_refused(tiny: tuple[VLM, Processor]) -> None:
    vlm, picture = tiny[0], Image.new("RGB", (32, 32))
    none, half = vlm.encode_image(picture), vlm.encode_image(picture, method=parse("dtp:keep=0.5"))
    with pytest.raises(ValueError, match="pruned by"):
        ImagePrefix.cat([none, half])
    with pytest.raises(ValueError, match="stages"):
        Prefilled.cat([none.prefilled, half.prefilled])
