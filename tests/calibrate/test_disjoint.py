"""Plans from disjoint sets are those of calibrating on each set alone."""

import pytest

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scene
from deltaprune.calibrate import argmin_early, disjoint, earliest, first_peak, late, spread, withdrawal
from deltaprune.calibrate.disjoint import Found
from deltaprune.errors import UserError
from deltaprune.mllm.processor import Processor


def test_each_set_alone(tiny: tuple[dp.VLM, Processor]) -> None:
    vlm, processor = tiny
    sets = [
        [processor(images=[Scene.from_seed(10 * s + i).image for i in range(2)], text=["How many?", "a"])]
        for s in range(3)
    ]
    found = disjoint(vlm, sets, eta=1e-3)
    for inputs, each in zip(sets, found, strict=True):
        std = spread(vlm, inputs).std
        withdrawn = earliest(withdrawal(vlm, inputs).kl, 1e-3).after
        assert each == Found(first_peak(std).after, argmin_early(std).after, late(std).after, withdrawn, 2)


def test_there_is_something_to_calibrate_on(tiny: tuple[dp.VLM, Processor]) -> None:
    for sets in ([], [[]]):
        with pytest.raises(UserError, match="nothing to calibrate on"):
            disjoint(tiny[0], sets)
