"""A short prompt: so many rows through every layer, for methods and peers alike."""

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deltaprune.cost import short
from deltaprune.cost.peers import Peer
from deltaprune.cost.short import ROWS, short_prompt
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


def test_ours_and_a_peer_run_the_same_rows(tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny[0].model.lm
    seen: list[torch.Tensor] = []
    real = short.prefill
    monkeypatch.setattr(short, "prefill", lambda lm, rows: seen.append(rows.x) or real(lm, rows))

    def theirs(x: torch.Tensor) -> tuple[torch.Tensor, None]:
        seen.append(x[0])
        return x[:, -1], None

    peer = Peer("theirs", lm.dtype, theirs, lambda ids, state: ids, lambda hidden: hidden)
    prompt = short_prompt(lm, ["none", "dtp"], [peer])
    assert list(prompt.runs) == ["none", "dtp", "theirs"]
    for label in prompt.runs:
        prompt.times(label)
    assert [x.shape for x in seen] == 3 * [(ROWS, lm.config.d_model)]
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


def test_its_products_are_those_of_its_rows(tiny: tuple[VLM, Processor]) -> None:
    lm = tiny[0].model.lm
    with FlopCounterMode(display=False) as counted:
        short_prompt(lm, ["none"]).products()
    assert counted.get_total_flops() == 2 * ROWS * sum(w.numel() for block in lm.blocks for w in block.products())


def test_the_clock_runs_over_the_one_asked_for(tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "prefill", lambda *_: time.sleep(0.01))
    times = short_prompt(tiny[0].model.lm, ["none"]).times("none")
    assert times.prefill >= 10
    assert times.products > 0
