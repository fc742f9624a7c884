"""Many questions about one image: what is timed is what it says, and the mistakes."""

import pytest

import deltaprune as dp
from deltaprune.cost import questions as module
from deltaprune.cost.questions import questions
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

METHODS = {"none": dp.NoPruning(), "dtp": dp.DTP(0.5), "sees text": dp.DTP(0.5, score=dp.HiddenAttention())}


def test_a_row_for_each_method_and_count(tiny: tuple[VLM, Processor]) -> None:
    heard: list[tuple[int, int]] = []
    rows, ratios = questions(tiny[0], METHODS, (1, 3), 7, 1, lambda *done: heard.append(done))
    assert heard == [(1, 2), (2, 2)]
    assert [(row["method"], row["questions"]) for row in rows] == [(m, n) for m in METHODS for n in (1, 3)]
    assert list(ratios) == [f"{m} {n}" for m in METHODS for n in (1, 3)]
    for one, three in zip(rows[::2], rows[1::2], strict=True):
        assert min(one[part] for part in ("full_ms", "prefix_ms", "each_ms", "packed_ms")) > 0
        assert three["full_ms"] == pytest.approx(3 * one["full_ms"])
        assert three["prefix_ms"] == one["prefix_ms"]


def test_what_is_run(tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of each prefill: image and question, the image, one question, then each batch."""
    seen: list[tuple[tuple[int, ...], bool]] = []
    real = module.prefill

    def spy(lm, tokens, stages, resume=None, **rest):
        seen.append((tokens.lengths, resume is not None))
        return real(lm, tokens, stages, resume, **rest)

    monkeypatch.setattr(module, "prefill", spy)
    questions(tiny[0], {"none": dp.NoPruning()}, (1, 3), 7, 1)
    once = [((23,), False), ((16,), False), ((7,), True), ((7,), True), ((7, 7, 7), True)]
    assert seen == 2 * once


@pytest.mark.parametrize("wrong", [{"counts": (0,)}, {"rounds": 0}, {"text_tokens": 0}])
def test_nothing_to_ask(tiny: tuple[VLM, Processor], wrong: dict) -> None:
    with pytest.raises(dp.UserError, match="must be at least 1"):
        questions(tiny[0], METHODS, **wrong)
