"""One model, several threads and tasks: each gets its own answers, pruned as it asked."""

import asyncio
import threading
from itertools import product
from typing import Any

import pytest
import torch
from in_threads import wrong_in_threads
from PIL import Image

import deltaprune as dp
from deltaprune.active import _ON
from deltaprune.mllm.processor import Processor
from deltaprune.registry import Registry

QUESTIONS = ["How many red circles are there?", "What?", "Is there a star in the picture?"]
METHODS = [
    None,
    dp.DTP(0.5),
    dp.DTP(0.25, late=None),
    dp.RandomPruning(0.3),
    dp.DTP(0.5, candidates="all"),
    dp.DART(0.5, after=1),
    dp.MTR(0.5),
]
CASES = list(product(QUESTIONS, METHODS))
PICTURE = Image.effect_noise((50, 40), 90.0).convert("RGB")
Told = tuple[list[list[int]], list[list[int]]]


def told(vlm: dp.VLM, prefilled: Any) -> Told:
    """Ids, and the tokens that each stage left."""
    ids = vlm.continue_from(prefilled, max_new_tokens=4)
    return ids.tolist(), [kept.origin[0].tolist() for kept in prefilled.kept]


def ask(tiny: tuple[dp.VLM, Processor], case: tuple[str, dp.Method | None], call: int) -> Told:
    """In one of the ways in which a method can be chosen."""
    (vlm, processor), (question, method) = tiny, case
    inputs, text = processor(PICTURE, question), processor(text=question)
    if method is None:
        prefix = vlm.encode_image(PICTURE) if call % 2 else None
        return told(vlm, vlm.start(text if prefix else inputs, prefix))
    if call % 3 == 0:
        return told(vlm, vlm.start(inputs, method=method))
    with method(vlm):
        if call % 3 == 1:
            return told(vlm, vlm.start(inputs))
        return told(vlm, vlm.start(text, vlm.encode_image(PICTURE)))


@pytest.mark.parametrize("calls", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_eight_threads_with_mixed_methods(tiny: tuple[dp.VLM, Processor], calls: int) -> None:
    vlm, processor = tiny
    expected = {}
    for question, method in CASES:
        expected[question, method] = told(vlm, vlm.start(processor(PICTURE, question), method=method))
    assert len({repr(each) for each in expected.values()}) > len(QUESTIONS) * 4  # the methods do answer differently
    assert wrong_in_threads(CASES, lambda case, call: ask(tiny, case, call), expected.__getitem__, calls) == []
    assert vlm.method is None


def test_generate_in_eight_threads_of_one_block_each(tiny: tuple[dp.VLM, Processor]) -> None:
    vlm, processor = tiny
    inputs = processor(PICTURE, QUESTIONS)
    expected = {method: vlm.generate(**inputs, method=method).tolist() for method in METHODS}

    def ask(method: dp.Method | None, call: int) -> list[list[int]]:
        with (method or dp.NoPruning())(vlm):
            return vlm.generate(**inputs).tolist()

    assert wrong_in_threads(METHODS, ask, expected.__getitem__, 3) == []


def test_a_call_leaves_nothing_on_the_model(tiny: tuple[dp.VLM, Processor]) -> None:
    """What another thread could read: the window between writing and reading a result is too short for chance."""
    vlm, processor = tiny
    known = vlm.fingerprint
    before = {name: id(value) for name, value in vars(vlm).items()}
    with dp.DTP(0.5)(vlm):
        vlm.generate(**processor(PICTURE, QUESTIONS), max_new_tokens=3, do_sample=True)
        vlm.generate(**processor(text=QUESTIONS), prefix=vlm.encode_image(PICTURE), max_new_tokens=3)
        assert {name: id(value) for name, value in vars(vlm).items()} == before
    assert vlm.fingerprint == known


def test_a_block_prunes_nothing_in_another_thread(tiny: tuple[dp.VLM, Processor]) -> None:
    vlm, processor = tiny
    inputs, seen = processor(PICTURE, QUESTIONS[0]), []
    with dp.DTP(0.5)(vlm):
        thread = threading.Thread(target=lambda: seen.extend([vlm.method, vlm.start(inputs).kept]))
        thread.start()
        thread.join()
        assert vlm.method == dp.DTP(0.5)
        assert vlm.start(inputs).kept
    assert seen == [None, ()]


def test_tasks_are_independent_and_inherit(tiny: tuple[dp.VLM, Processor]) -> None:
    vlm, processor = tiny
    inputs = processor(PICTURE, QUESTIONS[0])

    async def pruned(method: dp.Method) -> list[tuple[int, ...]]:
        with method(vlm):
            await asyncio.sleep(0)
            found = [kept.counts for kept in vlm.start(inputs).kept]
            await asyncio.sleep(0)
            assert vlm.method is method
        return found

    async def plain() -> list[tuple[int, ...]]:
        await asyncio.sleep(0)
        return [kept.counts for kept in vlm.start(inputs).kept]

    async def main() -> list[list[tuple[int, ...]]]:
        found = await asyncio.gather(pruned(dp.DTP(0.5)), plain(), pruned(dp.DTP(0.25)))
        with dp.DTP(0.75)(vlm):
            inherits = asyncio.create_task(plain())
        return [*found, await inherits, await plain()]

    assert asyncio.run(main()) == [[(8,), (0,)], [], [(4,), (0,)], [(12,), (0,)], []]
    assert vlm.method is None


def test_two_models_at_once(tiny: tuple[dp.VLM, Processor]) -> None:
    first, second = tiny[0], dp.VLM(tiny[0].model, tiny[0].eos_id)
    with dp.DTP(0.5)(first), dp.VTW(2)(second):
        assert (first.method, second.method) == (dp.DTP(0.5), dp.VTW(2))
    one, other = dp.DTP(0.5)(first), dp.VTW(2)(second)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)  # not in the order of entering
    assert (first.method, second.method) == (None, dp.VTW(2))
    other.__exit__(None, None, None)
    assert second.method is None


def test_a_model_that_is_gone_is_forgotten(tiny: tuple[dp.VLM, Processor]) -> None:
    vlm = dp.VLM(tiny[0].model, tiny[0].eos_id)
    vlm.method = dp.DTP(0.5)
    del vlm
    with dp.DTP(0.5)(tiny[0]):
        assert [held() for held in _ON.get()] == [tiny[0]]


def test_a_calls_own_method_takes_the_place_of_the_blocks(tiny: tuple[dp.VLM, Processor]) -> None:
    vlm, processor = tiny
    inputs = processor(PICTURE, QUESTIONS)
    none, half = vlm.generate(**inputs), vlm.generate(**inputs, method=dp.DTP(0.25))
    assert not torch.equal(none, half)
    with dp.DTP(0.75)(vlm):
        assert torch.equal(vlm.generate(**inputs, method="none"), none)
        assert torch.equal(vlm.generate(**inputs, method="dtp:keep=0.25"), half)
        with pytest.raises(dp.UserError, match="beyond the model"):
            vlm.generate(**inputs, method=dp.DTP(early=1, late=9))
        assert vlm.method == dp.DTP(0.75)
        prefix = vlm.encode_image(PICTURE, method=dp.DTP(0.25))
    again = vlm.generate(**processor(text=QUESTIONS), prefix=prefix, method=dp.DTP(0.25))
    assert torch.equal(again, half)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("dpt", "did you mean 'dtp'"),
        (dp.DTP, r"method=DTP is the class of a method: give an object, DTP\(\)"),
        (0.5, "method=0.5 is not a method: give an object such as DTP"),
    ],
)
def test_a_method_that_is_none_is_refused(tiny: tuple[dp.VLM, Processor], method: Any, sentence: str) -> None:
    with pytest.raises(dp.UserError, match=sentence):
        tiny[0].generate(**tiny[1](text="What?"), method=method)


def test_a_registry_is_whole_before_any_thread_reads_it() -> None:
    """A thread that came while another one was importing the folder saw the names found so far."""
    registry: Registry[Any] = Registry("score", "deltaprune.scores")
    importing, go_on, found = threading.Event(), threading.Event(), []

    def slowly() -> None:
        importing.set()
        go_on.wait(5)
        registry.register("late")(object)

    registry._import_folder_and_entry_points = slowly  # pyright: ignore[reportAttributeAccessIssue]
    first = threading.Thread(target=registry.names)
    second = threading.Thread(target=lambda: found.append(registry.names()))
    first.start()
    importing.wait(5)
    second.start()
    second.join(0.2)
    go_on.set()
    first.join()
    second.join()
    assert found == [["late"]]
