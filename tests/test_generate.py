"""Stops, fills, samples."""

import pytest
import torch

from deltaprune._registry import UserError
from deltaprune.generate import Sample, generate, greedy
from deltaprune.mamba import MambaConfig, MambaLM
from deltaprune.prefill import prefill
from deltaprune.tokens import Tokens


@pytest.fixture(scope="module")
def lm() -> MambaLM:
    torch.manual_seed(1)
    return MambaLM(MambaConfig(d_model=16, n_layers=2, vocab_size=32, d_state=4)).eval().requires_grad_(False)


def start(lm: MambaLM, *prompts: list[int]) -> Tokens:
    text = [lm.embed(torch.tensor(p)) for p in prompts]
    return Tokens.pack([rows[:0] for rows in text], text)


def test_greedy_equals_running_everything_again(lm: MambaLM) -> None:
    ids = [3, 1, 4, 1, 5]
    out = generate(lm, prefill(lm, start(lm, ids)), eos_id=-1, max_new_tokens=6)[0].tolist()
    for _ in range(6):
        ids.append(int(lm(torch.tensor([ids]))[0, -1].argmax()))
    assert out == ids[5:]


def test_rows_stop_by_themselves_and_are_filled_up(lm: MambaLM) -> None:
    prefilled = prefill(lm, start(lm, [3, 1, 4], [9, 9], [2]))
    free = generate(lm, prefilled, eos_id=-1, max_new_tokens=8)
    eos = int(free[0, 2])
    out = generate(lm, prefilled, eos_id=eos, max_new_tokens=8)
    for row, unstopped in zip(out.tolist(), free.tolist(), strict=True):
        end = unstopped.index(eos) if eos in unstopped else len(unstopped)
        assert row[:end] == unstopped[: min(end, len(row))]
        assert all(token == eos for token in row[end:])


def test_a_cold_or_narrow_sample_is_greedy() -> None:
    logits = torch.randn(5, 40)
    for sampler in (Sample(temperature=1e-4), Sample(top_k=1), Sample(top_p=1e-6)):
        assert torch.equal(sampler(logits), greedy(logits))


def test_samples_follow_the_distribution_inside_the_nucleus() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draw = Sample(top_p=0.9, generator=torch.Generator().manual_seed(0))
    seen = torch.bincount(draw(p.log().expand(20_000, 4)), minlength=4) / 20_000
    torch.testing.assert_close(seen, torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [({"temperature": 0.0}, "above 0"), ({"top_p": 0.0}, "above 0"), ({"top_k": -1}, "positive count")],
)
def test_impossible_sampling_is_refused(kwargs: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Sample(**kwargs)


def test_at_least_one_token(lm: MambaLM) -> None:
    with pytest.raises(UserError, match="at least 1"):
        generate(lm, prefill(lm, start(lm, [1])), eos_id=0, max_new_tokens=0)
