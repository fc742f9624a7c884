"""Published checkpoints of a small size, and no network."""

import pytest
from checkpoints import Published, cut_off, write_cobra, write_robomamba

from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)


@pytest.fixture(scope="session")
def cobra(tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_cobra(tmp_path_factory.mktemp("cobra"), tiny[1].tokenizer)


@pytest.fixture(scope="session")
def robomamba(tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_robomamba(tmp_path_factory.mktemp("robomamba"), tiny[1].tokenizer)
