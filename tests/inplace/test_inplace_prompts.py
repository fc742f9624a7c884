"""Ways to use a pruned model that `generate` on one prompt does not show: chats, manual loops, beams, no cache."""

import asyncio
import copy
import threading
from typing import Any

import pytest
import torch
import written_out
from cuts import Cuts, generated, kept, pruned
from families import IMAGE, ONE, make, one, prompt
from test_families import NOISE, family, same
from torch import Tensor

import deltaprune as dp
from deltaprune.inplace.cache import PrunedLayer

pytestmark = pytest.mark.usefixtures("unchecked")
some = pytest.mark.parametrize("name", ["qwen3_5", "nemotron_h_omni", "lfm2_vl", "qwen3_vl", "smolvlm"])
CUTS = {2: 0.5, 5: 0.25}
METHOD = Cuts(tuple(CUTS.items()))


def wanted(model: Any, inputs: dict[str, Tensor], tokens: int = 4) -> tuple[list[int], Tensor, dict[int, list[int]]]:
    return written_out.greedy(model, inputs, CUTS, written_out.loudness, tokens)


@some
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_without_a_cache(name: str, attention: str) -> None:
    model, inputs = make(name, attention), one(name)
    with METHOD(model), torch.no_grad():
        logits = model(**inputs, use_cache=False).logits
    torch.testing.assert_close(logits[0, -1], wanted(model, inputs, 1)[1][0], rtol=0, atol=NOISE)
    assert logits.shape[1] == inputs["input_ids"].shape[1] - 12


@some
def test_a_loop_of_ones_own(name: str) -> None:
    """Without position_ids, which the model then counts from its cache."""
    model, inputs = make(name), one(name)
    tokens, logits, _ = wanted(model, inputs)
    with METHOD(model), torch.no_grad():
        out = model(**inputs)
        got = [out.logits[0, -1]]
        for token in tokens[:-1]:
            out = model(input_ids=torch.tensor([[token]]), cache=out.cache)
            got.append(out.logits[0, -1])
    torch.testing.assert_close(torch.stack(got), logits, rtol=0, atol=NOISE)


@some
@pytest.mark.parametrize("after", [1, 4])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_chat_goes_on_from_its_cache(name: str, attention: str, after: int) -> None:
    """The second question is answered as if the first turn had been recomputed with the same rows."""
    model, inputs = make(name, attention), one(name)
    method, cuts = Cuts(((after, 0.25),)), {after: 0.25}
    tokens, _, rows = written_out.greedy(model, inputs, cuts, written_out.loudness, 3)
    question = [*tokens, 14, 15, 16]
    longer = written_out.extended(inputs, question)
    for mask in (True, False):
        with method(model) as target:
            _, _, cache = generated(model, inputs, 3)
            assert kept(target) == rows
            text = {"input_ids": longer["input_ids"]} | ({"attention_mask": longer["attention_mask"]} if mask else {})
            if "mm_token_type_ids" in longer and not mask:
                text = {key: value for key, value in longer.items() if key != "attention_mask"}
                text.pop("pixel_values")
            ids, logits, _ = generated(model, text, 3, cache=copy.deepcopy(cache))
        stay = {l: torch.tensor(sorted(written_rows(inputs, left))) for l, left in rows.items()}
        for i in range(3):
            more = [*question, *ids[0, :i].tolist()]
            steps = written_out.logits(model, inputs, more, cuts, written_out.loudness, dict(stay))
            torch.testing.assert_close(logits[0, i], steps, rtol=0, atol=NOISE)


def written_rows(inputs: dict[str, Tensor], visual: list[int]) -> list[int]:
    """All rows of the prompt that are left, text among them."""
    return [*visual, *(inputs["input_ids"][0] != IMAGE).nonzero()[:, 0].tolist()]


@some
def test_return_sequences_and_beams(name: str) -> None:
    model, inputs = make(name), one(name)
    with METHOD(model) as target, torch.no_grad():
        out = model.generate(
            **inputs,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            suppress_tokens=[IMAGE],
            num_beams=3,
            num_return_sequences=2,
            length_penalty=0.0,
            return_dict_in_generate=True,
            output_scores=True,
        )
    assert [len(one.origin) for one in target.kept] == [3, 3]
    assert kept(target, 1) == wanted(model, inputs, 1)[2]
    values = torch.tensor([log_probability(model, inputs, ids) for ids in out.sequences[:, -4:].tolist()])
    torch.testing.assert_close(out.sequences_scores, values, rtol=0, atol=NOISE)


def log_probability(model: Any, inputs: dict[str, Tensor], tokens: list[int]) -> float:
    """Of an answer, written out."""
    stay: dict[int, Tensor] = {}
    total = 0.0
    for i, token in enumerate(tokens):
        logits = written_out.logits(model, inputs, tokens[:i], CUTS, written_out.loudness, stay)
        total += float(logits.log_softmax(-1)[token])
    return total


@family
def test_logits_to_keep(name: str) -> None:
    model, inputs = make(name), one(name)
    with METHOD(model), torch.no_grad():
        whole = model(**inputs).logits
        if name in ("minicpmv4_6", "nemotron_h_omni"):
            return  # they have no logits_to_keep
        last = model(**inputs, logits_to_keep=3).logits
        with pytest.raises(dp.UserError, match="reaches into an image"):
            model(**inputs, logits_to_keep=5)
    torch.testing.assert_close(whole[:, -3:], last, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["nemotron_h_omni", "lfm2_vl", "internvl", "smolvlm"])
def test_a_new_image_in_a_chat_is_pruned_among_the_new_rows(name: str) -> None:
    model, first = make(name), one(name)
    tokens, _, rows = wanted(model, first, 3)
    both = prompt(name, (*ONE, *tokens, 13, (4, 4), 7, 8))
    start = first["input_ids"].shape[1] + len(tokens)
    new = prompt(name, (13, (4, 4), 7, 8), seed=1)
    new["input_ids"], new["attention_mask"] = both["input_ids"], both["attention_mask"]
    with METHOD(model) as target:
        cache = cache_without_last(model, first, tokens)
        ids, logits, _ = generated(model, new, 3, cache=cache)
    assert [one.counts for one in target.kept] == [(8,), (4,)]
    answer = range(first["input_ids"].shape[1], start)
    stay = {l: torch.tensor(sorted([*written_rows(first, left), *answer])) for l, left in rows.items()}
    found: dict[int, Tensor] = {}
    for i in range(3):
        steps = written_out.logits(
            model, both, ids[0, :i].tolist(), CUTS, written_out.loudness, found, (start - 1, stay)
        )
        torch.testing.assert_close(logits[0, i], steps, rtol=0, atol=NOISE)


def cache_without_last(model: Any, first: dict[str, Tensor], tokens: list[int]) -> Any:
    """The cache behind a prompt and all its answer but the last token, which the next turn brings."""
    with torch.no_grad():
        out = model(**first)
        for token in tokens[:-1]:
            out = model(input_ids=torch.tensor([[token]]), cache=out.cache)
    return out.cache


def test_logits_to_keep_where_text_is_pruned_too() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    with dp.DTP(candidates="all")(model), pytest.raises(dp.UserError, match="only its last row is sure"):
        model(**inputs, logits_to_keep=2)


def test_text_alone_is_left_as_it_is() -> None:
    model, inputs = make("qwen3_5"), prompt("qwen3_5", (5, 6, 7), (8, 9))
    plain = generated(model, inputs)
    _, logits, target = pruned(model, METHOD, inputs)
    assert torch.equal(logits, plain[1])
    assert target.kept == []


def test_a_sample_without_an_image_beside_one_with() -> None:
    model = make("qwen3_5")
    got = pruned(model, METHOD, prompt("qwen3_5", ONE, (8, 9, 3)))
    same(got, wanted(model, one("qwen3_5")))
    alone = generated(model, prompt("qwen3_5", (8, 9, 3)))
    torch.testing.assert_close(got[1][1], alone[1][0], rtol=0, atol=NOISE)


def test_the_caches_say_what_they_hold() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    with METHOD(model), torch.no_grad():
        cache = model(**inputs).cache
    first, second = cache.layers[3], cache.layers[7]
    assert isinstance(first, PrunedLayer)
    assert isinstance(second, PrunedLayer)
    length = inputs["input_ids"].shape[1]
    assert (first.held, second.held) == (length - 8, length - 12)
    assert cache.get_seq_length() == length
    assert second.get_seq_length() == length


def hooks_of(model: Any) -> int:
    return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in model.modules())


def test_nothing_is_left_behind() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    plain, before = generated(model, inputs), hooks_of(model)
    during: list[int] = []

    def failing() -> None:
        with METHOD(model):
            during.append(hooks_of(model))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        failing()
    assert during[0] > before
    assert hooks_of(model) == before
    assert torch.equal(generated(model, inputs)[1], plain[1])


def test_after_an_exception_within_the_next_prompt_is_pruned() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")

    def broken(*given: Any) -> None:
        raise RuntimeError("mine")

    with METHOD(model) as target:
        handle = model.model.language_model.layers[4].mlp.register_forward_pre_hook(broken)
        with pytest.raises(RuntimeError, match="mine"):
            model(**inputs)
        handle.remove()
        got = (*generated(model, inputs)[:2], target)
    same(got, wanted(model, inputs))


def test_two_models_at_once() -> None:
    """A block within another: both models are pruned, and the outer one still is when the inner block has ended."""
    outer, inner = make("qwen3_5"), make("qwen3_5", seed=1)
    inputs, other = one("qwen3_5"), Cuts(((3, 0.25),))
    alone = pruned(inner, other, inputs)
    with METHOD(outer) as target:
        with other(inner) as second:
            same((*generated(outer, inputs)[:2], target), wanted(outer, inputs))
            ids, logits, _ = generated(inner, inputs)
        same((*generated(outer, inputs)[:2], target), wanted(outer, inputs))
    assert torch.equal(logits, alone[1])
    assert torch.equal(ids, alone[0])
    assert kept(second) == kept(alone[2])


def test_other_threads_are_left_as_they_are() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    plain, done = generated(model, inputs)[1], {}
    other = Cuts(((3, 0.25),))

    def unpruned() -> None:
        done["unpruned"] = generated(model, inputs)[1]

    def pruned_otherwise() -> None:
        done["otherwise"] = pruned(model, other, inputs)[1]

    with METHOD(model):
        for work in (unpruned, pruned_otherwise):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        mine = generated(model, inputs)[1]
    assert torch.equal(done["unpruned"], plain)
    torch.testing.assert_close(mine[0], wanted(model, inputs)[1], rtol=0, atol=NOISE)
    steps = written_out.greedy(model, inputs, {3: 0.25}, written_out.loudness, 4)[1]
    torch.testing.assert_close(done["otherwise"][0], steps, rtol=0, atol=NOISE)


def test_threads_at_once() -> None:
    """Each in its own `with`, both at work at the same time."""
    model, inputs = make("qwen3_5"), one("qwen3_5")
    methods = (METHOD, METHOD, Cuts(((3, 0.25),)), None)
    alone = [generated(model, inputs)[1] if one is None else pruned(model, one, inputs)[1] for one in methods]
    barrier, done = threading.Barrier(len(methods)), [torch.empty(0)] * len(methods)

    def work(i: int, method: Any) -> None:
        barrier.wait()
        for _ in range(3):
            done[i] = generated(model, inputs)[1] if method is None else pruned(model, method, inputs)[1]

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(methods)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(done, alone, strict=True))


def test_tasks() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    plain = generated(model, inputs)[1]

    async def both() -> Tensor:
        task = asyncio.create_task(unpruned())
        with METHOD(model):
            await asyncio.sleep(0)
            return await task

    async def unpruned() -> Tensor:
        return generated(model, inputs)[1]

    assert torch.equal(asyncio.run(both()), plain)


def test_bfloat16_runs() -> None:
    model, inputs = make("qwen3_5").to(torch.bfloat16), one("qwen3_5")
    _, logits, target = pruned(model, METHOD, inputs)
    assert [one.counts for one in target.kept] == [(8,), (4,)]
    assert bool(logits.isfinite().all())
