"""Commands run in this process, on the tiny model and a small picture."""

from pathlib import Path

import pytest
from running import cli as cli
from running import scene as scene

from deltaprune.checkpoints.folder import save_folder
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


@pytest.fixture(scope="session")
def model(tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(folder, tiny[0].model, tiny[1].tokenizer)
    return folder
