"""`generate` as everywhere in transformers, and the same answers as a VLM's."""

from threading import Thread

import pytest
import torch
from hf_samples import QUESTIONS, pictures, unreadable
from transformers import DynamicCache, GenerationConfig, TextIteratorStreamer, TextStreamer

import deltaprune as dp
from deltaprune.hf import DeltapruneForConditionalGeneration, DeltapruneProcessor
from deltaprune.hf.cache import NAME, NAMES
from deltaprune.mllm.processor import Processor

Model, HFProcessor = DeltapruneForConditionalGeneration, DeltapruneProcessor
METHODS = [dp.NoPruning(), dp.DTP(0.5), dp.RandomPruning(0.3), dp.DTP(0.5, candidates="all")]


@pytest.fixture
def inputs(processor: HFProcessor) -> dict:
    """Three ragged questions about two pictures."""
    return dict(processor(pictures(), QUESTIONS, image_index=[0, 1, 0]))


def new(out: torch.Tensor, inputs: dict) -> torch.Tensor:
    """What was added to the prompts."""
    assert torch.equal(out[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    return out[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_it_answers_like_a_vlm(model: Model, tiny: tuple[dp.VLM, Processor], inputs: dict, method: dp.Method) -> None:
    vlm, processor = tiny
    with method(model):
        ours = model.generate(**inputs, max_new_tokens=6, return_dict_in_generate=True)
    prefilled = vlm.start(processor(pictures(), QUESTIONS, image_index=[0, 1, 0]), method=method)
    assert torch.equal(new(ours.sequences, inputs), vlm.continue_from(prefilled, max_new_tokens=6))
    cache = ours[NAME]
    assert [kept.counts for kept in cache.prefilled.kept] == [kept.counts for kept in prefilled.kept]


def test_text_alone(model: Model, tiny: tuple[dp.VLM, Processor], processor: HFProcessor) -> None:
    inputs = processor(text=QUESTIONS)
    theirs = tiny[0].generate(**tiny[1](text=QUESTIONS), max_new_tokens=5)
    assert torch.equal(new(model.generate(**inputs, max_new_tokens=5), inputs), theirs)
    with dp.DTP(0.5)(model):
        assert torch.equal(new(model.generate(**inputs, max_new_tokens=5), inputs), theirs)


@pytest.mark.parametrize("method", METHODS[:2], ids=repr)
def test_without_a_cache_it_says_the_same(model: Model, inputs: dict, method: dp.Method) -> None:
    with method(model):
        cached = model.generate(**inputs, max_new_tokens=5)
        assert torch.equal(model.generate(**inputs, max_new_tokens=5, use_cache=False), cached)


def test_padding_may_stand_on_either_side(model: Model, inputs: dict) -> None:
    left = new(model.generate(**inputs, max_new_tokens=5), inputs)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    shift = [int((row == 0).sum()) for row in mask]
    right = {
        **inputs,
        "input_ids": torch.stack([row.roll(-n) for row, n in zip(ids, shift, strict=True)]),
        "attention_mask": torch.stack([row.roll(-n) for row, n in zip(mask, shift, strict=True)]),
    }
    assert torch.equal(new(model.generate(**right, max_new_tokens=5), right), left)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        ([[1, 0, 1]], "padding between the tokens of row 0"),
        ([[0, 1, 1], [0, 0, 0]], "Row 1 of input_ids holds no text"),
        ([[1, 1]], r"attention_mask has shape \(1, 2\) and input_ids \(1, 3\)"),
    ],
)
def test_masks_that_mean_nothing_are_refused(model: Model, mask: list, sentence: str) -> None:
    ids = torch.full((len(mask), 3), 7)
    with pytest.raises(dp.UserError, match=sentence):
        model.generate(input_ids=ids, attention_mask=torch.tensor(mask))
    with pytest.raises(dp.UserError, match=sentence):
        model.vlm.generate(input_ids=ids, attention_mask=torch.tensor(mask))


@pytest.mark.parametrize(
    ("index", "sentence"), [([0, 2, 0], "names one of the 2 images"), ([0, 1], "for each of the 3 rows")]
)
def test_an_index_that_does_not_fit_is_refused(model: Model, inputs: dict, index: list, sentence: str) -> None:
    with pytest.raises(dp.UserError, match=sentence):
        model.generate(**{**inputs, "image_index": torch.tensor(index)})


def test_images_without_an_index_need_a_row_each(model: Model, inputs: dict) -> None:
    del inputs["image_index"]
    with pytest.raises(dp.UserError, match="2 images for 3 questions"):
        model.generate(**inputs)


def test_unknown_and_missing_inputs_are_named(model: Model, tiny: tuple[dp.VLM, Processor], inputs: dict) -> None:
    with pytest.raises(ValueError, match="max_new_token'"):
        model.generate(**inputs, max_new_token=3)
    with pytest.raises(dp.UserError, match="no input 'max_length'"):
        tiny[0].generate(**inputs, max_length=3)
    with pytest.raises(dp.UserError, match="lacks pixel_values_siglip"):
        model.vlm.generate(**{key: value for key, value in inputs.items() if key != "pixel_values_siglip"})
    with pytest.raises(dp.UserError, match="lacks pixel_values_dino and pixel_values_siglip"):
        model(**{key: inputs[key] for key in ("input_ids", "attention_mask", "image_index")})
    with pytest.raises(dp.UserError, match="needs input_ids"):
        model.generate(max_new_tokens=3)


def test_sampling(model: Model, inputs: dict) -> None:
    greedy = model.generate(**inputs, max_new_tokens=5)
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        assert torch.equal(model.generate(**inputs, max_new_tokens=5, do_sample=True, **narrow), greedy)
    torch.manual_seed(0)
    first = model.generate(**inputs, max_new_tokens=5, do_sample=True, temperature=3.0, num_return_sequences=2)
    torch.manual_seed(0)
    again = model.generate(**inputs, max_new_tokens=5, do_sample=True, temperature=3.0, num_return_sequences=2)
    assert torch.equal(first, again)
    assert len(first) == 6
    assert not torch.equal(first[0], first[1])


def test_several_sequences_of_a_row_see_its_image(model: Model, processor: HFProcessor) -> None:
    inputs = processor(pictures(), QUESTIONS[:2])
    assert "image_index" not in inputs
    one = model.generate(**inputs, max_new_tokens=4)
    two = model.generate(**inputs, max_new_tokens=4, do_sample=True, top_k=1, num_return_sequences=2)
    assert torch.equal(two, one.repeat_interleave(2, dim=0))


def test_beam_search_reorders_the_states(model: Model, inputs: dict) -> None:
    beams = model.generate(**inputs, max_new_tokens=5, num_beams=3)
    assert torch.equal(model.generate(**inputs, max_new_tokens=5, num_beams=3, use_cache=False), beams)


def test_one_or_several_ends(model: Model, inputs: dict) -> None:
    free = new(model.generate(**inputs, max_new_tokens=6, eos_token_id=[]), inputs)
    ends = [int(free[0, 1]), int(free[1, 2])]
    for eos in (ends[0], ends):
        listed = [eos] if isinstance(eos, int) else eos
        out = new(model.generate(**inputs, max_new_tokens=6, eos_token_id=eos, pad_token_id=0), inputs)
        for row, unstopped in zip(out.tolist(), free.tolist(), strict=True):
            stop = next((i + 1 for i, token in enumerate(unstopped) if token in listed), 6)
            assert row[:stop] == unstopped[:stop][: len(row)]
            assert not any(row[stop:])


def test_stop_strings(model: Model, processor: HFProcessor) -> None:
    inputs, tokenizer = processor(pictures()[0], QUESTIONS[0]), processor.tokenizer
    readable = {"max_new_tokens": 8, "suppress_tokens": unreadable(processor)}
    free = new(model.generate(**inputs, **readable), inputs)[0]
    stop = tokenizer.decode(free[1:3])
    out = new(model.generate(**inputs, **readable, stop_strings=["none such", stop], tokenizer=tokenizer), inputs)[0]
    texts = [tokenizer.decode(free[: n + 1]) for n in range(len(free))]
    assert len(out) == next(n + 1 for n, text in enumerate(texts) if stop in text) < 8
    assert torch.equal(out, free[: len(out)])


def test_a_generation_config(model: Model, inputs: dict) -> None:
    config = GenerationConfig(max_new_tokens=3, do_sample=False, eos_token_id=0, pad_token_id=0)
    assert torch.equal(model.generate(**inputs, generation_config=config), model.generate(**inputs, max_new_tokens=3))


def test_streamers_say_what_generate_returns(
    model: Model, processor: HFProcessor, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = dict(processor(pictures()[0], QUESTIONS[0]))
    answer = processor.tokenizer.decode(new(model.generate(**inputs, max_new_tokens=6), inputs)[0])
    model.generate(**inputs, max_new_tokens=6, streamer=TextStreamer(processor.tokenizer, skip_prompt=True))
    assert capsys.readouterr().out.rstrip("\n") == answer.rstrip("\n")
    streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True, timeout=60.0)
    thread = Thread(target=model.generate, kwargs={**inputs, "max_new_tokens": 6, "streamer": streamer})
    thread.start()
    assert "".join(streamer) == answer
    thread.join()


def test_chunks_of_the_prompt_are_refused_with_pruning(model: Model, inputs: dict) -> None:
    config = GenerationConfig(prefill_chunk_size=4)
    for chunked in ({"prefill_chunk_size": 4}, {"generation_config": config}):
        with dp.DTP(0.5)(model), pytest.raises(dp.UserError, match="prefill_chunk_size=4 would cut up the prompt"):
            model.generate(**inputs, **chunked)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_chunks_of_the_prompt_without_pruning(model: Model, inputs: dict, size: int) -> None:
    whole = model.generate(**inputs, max_new_tokens=4)
    assert torch.equal(model.generate(**inputs, max_new_tokens=4, prefill_chunk_size=size), whole)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_prefix_in_place_of_pixels(model: Model, processor: HFProcessor, inputs: dict, method: dp.Method) -> None:
    text = processor(text=QUESTIONS)
    with method(model):
        prefix = model.encode_image(pictures())
        for cache in (True, False):
            whole = model.generate(**inputs, max_new_tokens=5, use_cache=cache)
            later = model.generate(
                **text, prefix=prefix, image_index=torch.tensor([0, 1, 0]), max_new_tokens=5, use_cache=cache
            )
            assert torch.equal(later, whole)


def test_a_prefix_that_does_not_fit_is_refused(model: Model, processor: HFProcessor, inputs: dict) -> None:
    prefix = model.encode_image(pictures())
    with pytest.raises(dp.UserError, match="in place of pixels"):
        model.generate(**inputs, prefix=prefix, max_new_tokens=3)
    with dp.DTP(0.5)(model), pytest.raises(dp.UserError, match=r"pruned by NoPruning\(\), but DTP"):
        model.generate(**processor(text="What?"), image_index=[1], prefix=prefix, max_new_tokens=3)


@pytest.mark.parametrize("name", NAMES)
def test_a_chat_goes_on_from_its_cache(model: Model, inputs: dict, name: str) -> None:
    """Under both names, whichever of them the installed transformers uses itself."""
    with dp.DTP(0.5)(model):
        first = model.generate(**inputs, max_new_tokens=4, return_dict_in_generate=True, eos_token_id=[])
        more = torch.full((3, 2), 9)
        ids = torch.cat([first.sequences, more], dim=1)
        mask = torch.cat([inputs["attention_mask"], torch.ones(3, 6, dtype=torch.int64)], dim=1)
        fresh = model.generate(**{**inputs, "input_ids": ids, "attention_mask": mask}, max_new_tokens=4)
        cache = first[NAME]
        later = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, **{name: cache})
    assert torch.equal(later, fresh)
    with pytest.raises(dp.UserError, match="already holds the image"):
        model(**inputs, **{name: cache})


def test_a_cache_that_is_none_of_ours_or_is_given_twice_is_refused(model: Model, inputs: dict) -> None:
    cache = model(**inputs)[NAME]
    with pytest.raises(dp.UserError, match="two names of one argument"):
        model.generate(input_ids=inputs["input_ids"], cache=cache, past_key_values=cache)
    with pytest.raises(dp.UserError, match="A DynamicCache is no cache of this model"):
        model.generate(input_ids=inputs["input_ids"], **{NAME: DynamicCache()})


def test_forward_gives_the_last_rows_logits(model: Model, tiny: tuple[dp.VLM, Processor], inputs: dict) -> None:
    output = model(**inputs)
    prefilled = tiny[0].start(inputs)
    torch.testing.assert_close(output.logits[:, 0], tiny[0].model.lm.logits(prefilled.hidden))
    assert output[NAME].get_seq_length() == inputs["input_ids"].shape[1]
    assert NAME not in model(**inputs, use_cache=False)
    assert torch.equal(model(**inputs, return_dict=False)[0], output.logits)


def test_what_a_recurrence_cannot_do_is_refused(model: Model, inputs: dict) -> None:
    with pytest.raises(ValueError, match="stateful"):
        model.generate(**inputs, assistant_model=model)
    with pytest.raises(ValueError, match="inputs_embeds"):
        model.generate(**inputs, inputs_embeds=torch.zeros(3, 4, 32))
    for name in ("output_attentions", "output_hidden_states"):
        with pytest.raises(dp.UserError, match=f"{name}=True is not supported"):
            model.generate(**inputs, **{name: True})


def test_there_is_no_training(model: Model, inputs: dict) -> None:
    with pytest.raises(dp.UserError, match=r"labels= is not supported: a deltaprune model cannot be trained"):
        model(**inputs, labels=inputs["input_ids"])
    with pytest.raises(dp.UserError, match=r"train\(\) is not supported: a deltaprune model cannot be trained"):
        model.train()
    assert not model.eval().training
    assert not model.train(False).training
    assert not model(**inputs, labels=None).logits.requires_grad
