"""The floors run exactly the products and read exactly the bytes that they claim."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import deltaprune as dp
from deltaprune.cost import floors, macs
from deltaprune.cost.floors import copy_bandwidth, products, rows_per_layer, weight_bytes
from deltaprune.models._processor import Processor
from deltaprune.vlm import VLM


@pytest.mark.parametrize("method", [dp.NoPruning(), dp.DTP(0.5)])
def test_the_products_are_those_that_the_closed_form_counts(tiny: tuple[VLM, Processor], method: dp.Method) -> None:
    vlm = tiny[0]
    run = products(vlm.model.lm, rows_per_layer(method.checked_stages(vlm.shape), vlm.shape, 7, 3))
    with FlopCounterMode(display=False) as counted:
        run()
    assert counted.get_total_flops() == 3 * 2 * macs(vlm.config, method, 7).linear


def test_rows_of_each_layer(tiny: tuple[VLM, Processor]) -> None:
    shape = tiny[0].shape
    assert rows_per_layer(dp.DTP(0.5).checked_stages(shape), shape, 7, 2) == [46, 30, 30, 14]


def test_weight_bytes(tiny: tuple[VLM, Processor]) -> None:
    lm = tiny[0].model.lm
    assert weight_bytes(lm) == 4 * sum(p.numel() for p in lm.parameters())


def test_bandwidth_is_that_of_a_memory() -> None:
    assert 1e8 < copy_bandwidth(torch.device("cpu"), rounds=1) < 1e13


def test_bandwidth_on_a_gpu_is_that_of_many_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy takes little longer there than its launch: the floor would come out too high."""
    done = []

    class Source:
        def copy_(self, source: object) -> None:
            done.append(source)

    def timed(run: Callable[[], None], device: torch.device) -> tuple[None, float]:
        before = len(done)
        return run(), 1.0 * (len(done) - before)

    monkeypatch.setattr(floors, "timed", timed)
    monkeypatch.setattr(torch, "ones", lambda *size, device: Source())
    monkeypatch.setattr(torch, "empty_like", lambda source: Source())
    assert copy_bandwidth(torch.device("cuda"), rounds=1) == 2 * floors.COPIED / 1e-3
    assert len(done) == 2 * floors.COPIES
