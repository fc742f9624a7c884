"""What `ask` says is what the model does."""

import time

import numpy as np
import pytest
from PIL import Image

from deltaprune.ask import ask
from deltaprune.ask.repeated import repeated
from deltaprune.benchmarks.scenes import Scene
from deltaprune.cost import share_of
from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

QUESTIONS = ["How many red circles are there?", "What color is the star?"]
IMAGE = Scene.from_seed(7).image
KEYS = {"question", "method", "answer", "kept", "macs_share", "ms"}


def test_each_question_has_an_unpruned_and_a_pruned_row(tiny: tuple[VLM, Processor]) -> None:
    rows = ask(*tiny, IMAGE, QUESTIONS, "dtp:keep=0.5", max_new_tokens=4)
    assert [(row.question, row.method) for row in rows] == [
        (question, method) for question in QUESTIONS for method in ("none", "dtp:keep=0.5")
    ]
    assert [row.kept for row in rows] == [None, [8, 0]] * 2
    assert [row.after for row in rows] == [[], [1, 3]] * 2
    for row in rows:
        assert row.to_dict().keys() >= KEYS
        assert row.ms.keys() == {"vision", "prefill", "decode"}
        assert all(isinstance(ms, float) and ms > 0 for ms in row.ms.values())
    assert len({row.ms["vision"] for row in rows}) == 1


def test_the_answers_are_those_of_generate(tiny: tuple[VLM, Processor]) -> None:
    vlm, processor = tiny
    method = parse("dtp:keep=0.25")
    rows = ask(vlm, processor, IMAGE, QUESTIONS, method, max_new_tokens=6)
    for question, (unpruned, pruned) in zip(QUESTIONS, (rows[:2], rows[2:]), strict=True):
        inputs = processor(images=IMAGE, text=question)
        ids = vlm.generate(**inputs, max_new_tokens=6)
        assert unpruned.answer == processor.decode(ids[0])
        assert unpruned.new_tokens == ids.shape[1]
        with method(vlm):
            assert pruned.answer == processor.decode(vlm.generate(**inputs, max_new_tokens=6)[0])
            kept = vlm.start(inputs).kept
        assert [k.tolist() for k in pruned.kept_origin] == [k.origin[0].tolist() for k in kept]
        assert pruned.method == repr(method)
    assert vlm.method is None


def test_the_share_counts_the_prompts_own_length(tiny: tuple[VLM, Processor]) -> None:
    vlm, processor = tiny
    for row in ask(vlm, processor, IMAGE, QUESTIONS, "dtp", max_new_tokens=2):
        assert row.text_tokens == processor.encode_text([row.question])["input_ids"].shape[1]
        assert row.macs_share == share_of(vlm.config, parse(row.method), row.text_tokens)


def test_none_beside_none_is_one_row(tiny: tuple[VLM, Processor]) -> None:
    assert [row.method for row in ask(*tiny, IMAGE, QUESTIONS, "none", max_new_tokens=2)] == ["none", "none"]


def test_a_16_bit_picture_is_seen_as_it_is(tiny: tuple[VLM, Processor]) -> None:
    grey = np.asarray(IMAGE.convert("L"))
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    narrow, same = (ask(*tiny, image, QUESTIONS[:1], "none", 8)[0] for image in (Image.fromarray(grey), wide))
    assert narrow.answer == same.answer


def test_progress_is_told(tiny: tuple[VLM, Processor]) -> None:
    said: list[str] = []
    ask(*tiny, IMAGE, QUESTIONS, "none", 2, said.append)
    assert "compiles" in said[0]
    assert said[1:] == ["answering question 1 of 2", "answering question 2 of 2"]


@pytest.mark.parametrize(("each", "runs"), [(1.0, 5), (150.0, 4), (3000.0, 1)])
def test_a_slow_run_is_timed_less_often(each: float, runs: int) -> None:
    assert repeated(lambda: each, lambda ms: ms) == [each] * runs


def test_a_time_is_the_median_of_several_runs(tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(np.cumsum([0, *([0.002] * 3), 0.03, *([0.001] * 200)]))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    (row,) = ask(*tiny, IMAGE, QUESTIONS[:1], "none", max_new_tokens=2)
    assert row.ms == {part: pytest.approx(1.0) for part in ("vision", "prefill", "decode")}


@pytest.mark.parametrize(
    ("questions", "method", "sentence"),
    [
        ([], "none", "no question"),
        (["What?", "  "], "none", "Question 2 is empty"),
        (["\udcff"], "none", "not valid UTF-8"),
        ("What?", "none", "give a list"),
        (["What?"], "dtp:keep=1.5", "between 0 and 1"),
        (["What?"], "dtp:early=9", "lies beyond the model"),
    ],
)
def test_mistakes_are_told(tiny: tuple[VLM, Processor], questions: list[str], method: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ask(*tiny, IMAGE, questions, method)


def test_an_image_without_pixels_is_refused(tiny: tuple[VLM, Processor]) -> None:
    with pytest.raises(UserError, match="no pixels"):
        ask(*tiny, Image.new("RGB", (0, 5)), ["What?"], "none")
