"""The floors run exactly the products and read exactly the bytes that they claim."""

import time
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import deltaprune as dp
from deltaprune.cost import floors, macs
from deltaprune.cost.floors import copy_bandwidth, products, rows_per_layer, weight_bytes
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


@pytest.mark.parametrize(
    "method",
    [dp.NoPruning(), dp.DTP(0.5), dp.Freeze(write=(1, 3), skip=(2,)), dp.Freeze(write=(2,), keep=0.5, early=1)],
)
def test_the_products_are_those_that_the_closed_form_counts(tiny: tuple[VLM, Processor], method: dp.Method) -> None:
    vlm = tiny[0]
    run = products(vlm.model.lm, rows_per_layer(method.checked_steps(vlm.shape), vlm.shape, 7, 3))
    with FlopCounterMode(display=False) as counted:
        run()
    assert counted.get_total_flops() == 3 * 2 * macs(vlm.config, method, 7).linear


def test_rows_of_each_layer(tiny: tuple[VLM, Processor]) -> None:
    shape = tiny[0].shape
    assert rows_per_layer(dp.DTP(0.5).checked_steps(shape), shape, 7, 2) == [(46, 0), (30, 0), (30, 0), (14, 0)]
    frozen = dp.Freeze(write=(1,), skip=(3,)).checked_steps(shape)
    assert rows_per_layer(frozen, shape, 7, 2) == [(46, 0), (14, 32), (46, 0), (14, 0)]


def test_weight_bytes(tiny: tuple[VLM, Processor]) -> None:
    lm = tiny[0].model.lm
    assert weight_bytes(lm) == 4 * sum(p.numel() for p in lm.parameters())


@pytest.mark.parametrize(("device", "copies"), [("cpu", 1), ("cuda", floors.COPIES)])
def test_bandwidth_by_a_clock_of_our_own(device: str, copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes read and written over the time that they took, the median of all rounds but the first.

    On a GPU many copies are timed at once: one takes little longer there than its launch.
    """
    copied: list[int] = []
    rounds = iter([100.0, 1.0, 2.0, 9.0])  # milliseconds a copy

    class Memory:
        def __init__(self, floats: int):
            self.bytes = 4 * floats

        def copy_(self, source: "Memory") -> None:
            assert source is not self
            copied.append(source.bytes)

    def timed(run: Callable[[], None], device: torch.device) -> tuple[None, float]:
        before = len(copied)
        return run(), next(rounds) * (len(copied) - before)

    monkeypatch.setattr(floors, "timed", timed)
    monkeypatch.setattr(torch, "ones", lambda size, device: Memory(size))
    monkeypatch.setattr(torch, "empty_like", lambda source: Memory(source.bytes // 4))
    assert copy_bandwidth(torch.device(device), rounds=3) == 2 * floors.COPIED / 2e-3
    assert copied == 4 * copies * [floors.COPIED]


def test_bandwidth_is_that_of_this_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the time of one such copy here; both by the process's own clock, which other programs do not turn."""

    def timed(run: Callable[[], object], device: torch.device) -> tuple[None, float]:
        start = time.process_time()
        run()
        return None, 1000 * (time.process_time() - start)

    source = torch.ones(floors.COPIED // 4)
    target = source.clone()
    beside = 2 * floors.COPIED / (min(timed(lambda: target.copy_(source), source.device)[1] for _ in range(3)) / 1000)
    monkeypatch.setattr(floors, "timed", timed)
    assert beside / 4 < copy_bandwidth(torch.device("cpu"), rounds=1) < 2 * beside
