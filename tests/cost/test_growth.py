"""Cost against tokens: rows as promised, growth within a round, and the mistakes."""

import pytest
import torch

import deltaprune as dp
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cost import growth as module
from deltaprune.cost.growth import growth
from deltaprune.mllm.lm import MambaLM
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


def test_a_row_for_each_length(tiny: tuple[VLM, Processor]) -> None:
    heard: list[tuple[int, int]] = []
    rows, ratios = growth(tiny[0].model.lm, "tiny", (4, 8, 16), 2, lambda *done: heard.append(done))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert [row["tokens"] for row in rows] == [4, 8, 16]
    assert list(ratios) == ["8/4", "16/8"]
    for row in rows:
        assert (row["name"], row["method"], row["batch"], row["kernel"]) == ("tiny", "none", 1, "numba")
        assert row["prefill_ms"] > 0 < row["decode_ms"]


def test_growth_is_a_median_within_rounds(tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    prefills = iter([9, 9, 10, 20, 10, 30, 100, 250])  # a warm-up, then 2, 3 and 2.5
    real = module.timed

    def clock(run, device):
        result, ms = real(run, device)
        return (result, next(prefills)) if hasattr(result, "hidden") else (result, ms)

    monkeypatch.setattr(module, "timed", clock)
    rows, ratios = growth(tiny[0].model.lm, "tiny", (2, 4), 3)
    assert ratios == {"4/2": 2.5}
    assert [row["prefill_ms"] for row in rows] == [10, 30]


def test_no_buffer_of_every_state_of_every_token() -> None:
    """Twice the tokens add far less than one (L, D, N) float32 buffer."""
    config = MambaConfig(d_model=256, n_layers=1, vocab_size=10, d_state=64)
    lm = MambaLM(config).requires_grad_(False)
    rows, _ = growth(lm, "one", (4096, 8192), 1)
    added = (rows[1]["peak_bytes"] - rows[0]["peak_bytes"]) / 4096
    assert added < 4 * config.d_inner * config.d_state / 2


@pytest.mark.parametrize("lengths", [(), (4, 4), (8, 4), (0, 4)])
def test_lengths_that_do_not_ascend(tiny: tuple[VLM, Processor], lengths: tuple[int, ...]) -> None:
    with pytest.raises(dp.UserError, match="must ascend from at least 1"):
        growth(tiny[0].model.lm, "tiny", lengths)
    assert torch.is_grad_enabled()
