"""Logits that are not finite end `forward` and `generate` in one sentence; on a GPU without a wait of their own."""

from typing import Any

import pytest
import torch
from hf_samples import QUESTIONS, pictures

from deltaprune.generate import NonFiniteLogits
from deltaprune.hf import DeltapruneForConditionalGeneration, DeltapruneProcessor
from deltaprune.hf.cache import NAME
from deltaprune.mllm.lm import MambaLM

Model, HFProcessor = DeltapruneForConditionalGeneration, DeltapruneProcessor
SENTENCE = "logits of the next token are not finite"


@pytest.fixture
def inputs(processor: HFProcessor) -> dict[str, Any]:
    return dict(processor(pictures()[0], QUESTIONS))


def break_step(monkeypatch: pytest.MonkeyPatch, which: int, value: float) -> list[int]:
    """The logits of the decode step number `which` hold one such value; gives a list that counts the steps."""
    step, prepared, steps = MambaLM.step, MambaLM.prepared_step, []

    def breaking(step: Any) -> Any:
        def broken(*args: Any) -> Any:
            logits, states = step(*args)
            steps.append(len(steps) + 1)
            if len(steps) == which:
                logits[0, 3] = value
            return logits, states

        return broken

    monkeypatch.setattr(MambaLM, "step", breaking(step))
    monkeypatch.setattr(MambaLM, "prepared_step", lambda lm: breaking(prepared(lm)))
    return steps


def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache takes it that the model is on a GPU."""
    monkeypatch.setattr("deltaprune.hf.cache._on_a_gpu", lambda vlm: True)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_after_a_prompt(model: Model, inputs: dict, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    logits = MambaLM.logits

    def broken(lm: MambaLM, x: torch.Tensor) -> torch.Tensor:
        given = logits(lm, x)
        given[-1, 3] = value
        return given

    monkeypatch.setattr(MambaLM, "logits", broken)
    with pytest.raises(NonFiniteLogits, match=SENTENCE):
        model(**inputs)
    for cache in (True, False):
        with pytest.raises(NonFiniteLogits, match="the weights or the activations are broken"):
            model.generate(**inputs, max_new_tokens=1, use_cache=cache)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("which", [1, 2, 3])
def test_at_any_step_of_generate(
    model: Model, inputs: dict, monkeypatch: pytest.MonkeyPatch, which: int, sampled: bool, device: str
) -> None:
    steps = break_step(monkeypatch, which, torch.nan)
    if device == "cuda":
        on_a_gpu(monkeypatch)
    with pytest.raises(NonFiniteLogits, match=SENTENCE):
        model.generate(**inputs, max_new_tokens=4, eos_token_id=[], do_sample=sampled)
    assert len(steps) == which  # nothing was decoded from it
    assert model.generate(**inputs, max_new_tokens=4, eos_token_id=[]).shape[1] == inputs["input_ids"].shape[1] + 4


def test_a_gpu_is_asked_at_the_next_step(model: Model, inputs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, one = model(**inputs)[NAME], {"input_ids": torch.full((3, 1), 5)}
    break_step(monkeypatch, 1, torch.nan)
    on_a_gpu(monkeypatch)
    with cache.generating(model.vlm):
        logits = cache.extend(model.vlm, one)
        assert not logits[0].any()  # a GPU could not go on after drawing from NaN
        assert logits[1:].all()
        with pytest.raises(NonFiniteLogits, match=SENTENCE):
            cache.extend(model.vlm, one)


def test_forward_alone_asks_at_once(model: Model, inputs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = model(**inputs)[NAME]
    break_step(monkeypatch, 1, torch.inf)
    on_a_gpu(monkeypatch)
    with pytest.raises(NonFiniteLogits, match=SENTENCE):
        model(torch.full((3, 1), 5), **{NAME: cache})
