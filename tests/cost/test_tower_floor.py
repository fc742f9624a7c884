"""The towers' floor runs exactly their products, and a ratio is taken within a round."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deltaprune.cost import macs
from deltaprune.cost import towers as module
from deltaprune.cost.towers import tower_products, towers
from deltaprune.methods import parse
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


@pytest.mark.parametrize("images", [1, 3])
def test_the_products_are_those_that_the_closed_form_counts(tiny: tuple[VLM, Processor], images: int) -> None:
    vlm = tiny[0]
    with FlopCounterMode(display=False) as counted:
        for name, tower in vlm.model.vision.items():
            tower_products(tower, vlm.config.towers[name], images)()
    assert counted.get_total_flops() == images * 2 * macs(vlm.config, parse("none"), 7).vision


def test_every_tower_has_medians_and_a_ratio_within_rounds(
    tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([99.0, 1.0, 8.0, 4.0, 30.0, 10.0, 10.0, 5.0] * 2)  # a warm-up; then 2, 3, 2
    shapes: list[torch.Size] = []

    def timed(run, device):
        made = run()
        shapes.extend([] if made is None else [made.shape])
        return made, next(clock)

    monkeypatch.setattr(module, "timed", timed)
    found = towers(tiny[0], images=2, rounds=3)
    assert list(found) == list(tiny[0].config.towers)
    for name, row in found.items():
        assert (row["ms"], row["products_ms"], row["ratio"]) == (10, 5, 2)
        config = tiny[0].config.towers[name]
        assert (2, config.n_patches, config.width) in shapes
