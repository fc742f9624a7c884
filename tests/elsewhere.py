"""An engine for tests: its processes get pickles, and the last unit ends first."""

import pickle
from collections.abc import Generator, Sequence
from typing import Any

import pytest
import torch

from deltaprune.evaluate.engines import Answers, Place
from deltaprune.evaluate.engines import registry as engines
from deltaprune.evaluate.engines._parcel import Parcel


def register(monkeypatch: pytest.MonkeyPatch) -> list[Answers]:
    """Make it the engine "elsewhere" for one test; gives the list of workers that it will have been sent."""
    sent: list[Answers] = []

    def elsewhere(worker: Answers, units: Sequence[Any], place: Place) -> Generator[list[Any], None, None]:
        sent.append(worker)
        there = pickle.loads(pickle.dumps(Parcel.of(worker))).worker(torch.device("cpu"))
        for unit in reversed(units):
            yield list(there.answer(pickle.loads(pickle.dumps(unit))))

    engines["local"]  # the folder's own are there first
    monkeypatch.setitem(engines._entries, "elsewhere", elsewhere)
    return sent
