"""Stops, fills, samples."""

import pytest
import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.errors import UserError
from deltaprune.generate import Sampling, generate, greedy
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows


@pytest.fixture(scope="module")
def lm() -> MambaLM:
    torch.manual_seed(1)
    return MambaLM(MambaConfig(d_model=16, n_layers=2, vocab_size=32, d_state=4)).eval().requires_grad_(False)


def start(lm: MambaLM, *prompts: list[int]) -> Rows:
    text = [lm.embed(torch.tensor(p)) for p in prompts]
    return Rows.pack([rows[:0] for rows in text], text)


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
    for sampler in (Sampling(temperature=1e-4), Sampling(top_k=1), Sampling(top_p=1e-6)):
        assert torch.equal(sampler(logits), greedy(logits))


def test_samples_follow_the_distribution_inside_the_nucleus() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draw = Sampling(top_p=0.9, generator=torch.Generator().manual_seed(0))
    seen = torch.bincount(draw(p.log().expand(20_000, 4)), minlength=4) / 20_000
    torch.testing.assert_close(seen, torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95, atol=0.01, rtol=0)


def kept_by_hand(logits: torch.Tensor, sample: Sampling) -> torch.Tensor:
    """The tokens that can be drawn, from the definition: the likeliest k, of these the first that reach the mass p."""
    scaled, ids = (logits / sample.temperature).sort(dim=-1, descending=True, stable=True)
    if sample.top_k:
        scaled[:, sample.top_k :] = -torch.inf
    p = scaled.softmax(-1)
    if sample.top_p < 1:
        p = p.masked_fill(p.cumsum(-1) - p >= sample.top_p, 0.0)  # the token that crosses top_p is still in
    return torch.zeros_like(p).scatter(-1, ids, p / p.sum(-1, keepdim=True))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 7, 500])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 1.0])
def test_what_can_be_drawn_and_how_often(temperature: float, top_k: int, top_p: float) -> None:
    logits = 3 * torch.randn(20, 60, generator=torch.Generator().manual_seed(0))
    sample = Sampling(temperature, top_k, top_p)
    p = sample.narrowed(logits.clone()).softmax(-1)
    expected = kept_by_hand(logits.double(), sample)
    assert torch.equal(p > 0, expected > 0)
    torch.testing.assert_close(p.double(), expected, rtol=1e-5, atol=1e-9)


def test_the_logits_themselves_are_left_alone() -> None:
    logits = torch.randn(3, 20)
    before = logits.clone()
    Sampling(0.7, 5, 0.5)(logits)
    assert torch.equal(logits, before)


def test_a_generator_makes_it_repeatable() -> None:
    logits = torch.randn(50, 40)
    first, again = (Sampling(generator=torch.Generator().manual_seed(3))(logits) for _ in range(2))
    assert torch.equal(first, again)
    torch.manual_seed(0)
    held = torch.get_rng_state()
    Sampling(generator=torch.Generator())(logits)
    assert torch.equal(torch.get_rng_state(), held)


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [({"temperature": 0.0}, "above 0"), ({"top_p": 0.0}, "above 0"), ({"top_k": -1}, "positive count")],
)
def test_impossible_sampling_is_refused(kwargs: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Sampling(**kwargs)


def test_at_least_one_token(lm: MambaLM) -> None:
    with pytest.raises(UserError, match="at least 1"):
        generate(lm, prefill(lm, start(lm, [1])), eos_id=0, max_new_tokens=0)
