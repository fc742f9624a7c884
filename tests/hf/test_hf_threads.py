"""One Hugging Face model, several threads: each gets its own answers, pruned as it asked."""

import threading
from itertools import product
from typing import Any

import pytest
from hf_samples import QUESTIONS, pictures
from in_threads import wrong_in_threads
from transformers import TextIteratorStreamer

import deltaprune as dp
from deltaprune.hf import DeltapruneForConditionalGeneration, DeltapruneProcessor
from deltaprune.hf.cache import NAME

Model, HFProcessor = DeltapruneForConditionalGeneration, DeltapruneProcessor
METHODS = [None, dp.DTP(0.5), dp.RandomPruning(0.3), dp.DTP(0.5, candidates="all"), dp.DART(0.5, after=1)]
CASES = list(product(QUESTIONS, METHODS))


def told(model: Model, **asked: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Ids, and the tokens that each stage left."""
    output = model.generate(**asked, max_new_tokens=3, return_dict_in_generate=True)
    return output.sequences.tolist(), [kept.origin[0].tolist() for kept in output[NAME].prefilled.kept]


def ask(model: Model, processor: HFProcessor, case: tuple[str, dp.Method | None], call: int) -> object:
    """In one of the ways in which a method can be chosen; every third prompt is the prefix of a picture."""
    question, method = case
    inputs = dict(processor(pictures()[0], question))
    if method is None:
        return told(model, **inputs)
    if call % 3 == 0:
        return told(model, **inputs, method=method)
    with method(model):
        if call % 3 == 2:
            inputs = {**processor(text=question), "prefix": model.encode_image(pictures()[0])}
        return told(model, **inputs)


@pytest.mark.parametrize("calls", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_eight_threads_with_mixed_methods(model: Model, processor: HFProcessor, calls: int) -> None:
    expected = {case: ask(model, processor, case, 0) for case in CASES}
    assert len({repr(each) for each in expected.values()}) > len(QUESTIONS) * 3  # the methods do answer differently
    found = wrong_in_threads(CASES, lambda case, n: ask(model, processor, case, n), expected.__getitem__, calls)
    assert found == []
    assert model.method is None


def test_a_streamers_thread_takes_the_method_along(model: Model, processor: HFProcessor) -> None:
    """A thread starts with no method on, also inside a block: it is given as an argument."""
    inputs = dict(processor(pictures()[0], QUESTIONS[0]))
    pruned = model.generate(**inputs, max_new_tokens=6, method=dp.DTP(0.25))
    plain = model.generate(**inputs, max_new_tokens=6)
    said = {}
    for name, extra in (("pruned", {"method": dp.DTP(0.25)}), ("plain", {})):
        streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True, timeout=60.0)
        asked = {**inputs, **extra, "max_new_tokens": 6, "streamer": streamer}
        with dp.DTP(0.5)(model):
            thread = threading.Thread(target=model.generate, kwargs=asked)
            thread.start()
            said[name] = "".join(streamer)
            thread.join()
    start = inputs["input_ids"].shape[1]
    assert said["pruned"] == processor.tokenizer.decode(pruned[0, start:])
    assert said["plain"] == processor.tokenizer.decode(plain[0, start:])
    assert said["pruned"] != said["plain"]


def test_a_calls_own_method(model: Model, processor: HFProcessor) -> None:
    inputs = dict(processor(pictures()[0], QUESTIONS))
    with dp.DTP(0.25)(model):
        expected = model.generate(**inputs, max_new_tokens=4)
    plain = model.generate(**inputs, max_new_tokens=4)
    with dp.RandomPruning(0.5)(model):
        assert model.generate(**inputs, max_new_tokens=4, method="dtp:keep=0.25").tolist() == expected.tolist()
        assert model.generate(**inputs, max_new_tokens=4, method=dp.NoPruning()).tolist() == plain.tolist()
        assert model.method == dp.RandomPruning(0.5)
    prefix = model.encode_image(pictures()[0], method="dtp:keep=0.25")
    later = model.generate(**processor(text=QUESTIONS), prefix=prefix, max_new_tokens=4, method=dp.DTP(0.25))
    assert later.tolist() == expected.tolist()
    with pytest.raises(dp.UserError, match="prefill_chunk_size=4 would cut up the prompt that DTP"):
        model.generate(**inputs, method=dp.DTP(0.5), prefill_chunk_size=4)
