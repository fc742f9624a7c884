"""The tiny model as a folder, opened through transformers' doors."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

import deltaprune as dp
from deltaprune.checkpoints.folder import save_folder
from deltaprune.hf import DeltapruneForConditionalGeneration, DeltapruneProcessor
from deltaprune.mllm.processor import Processor


@pytest.fixture(scope="session")
def folder(tiny: tuple[dp.VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as `convert` and training write it: three files."""
    folder = tmp_path_factory.mktemp("tiny")
    save_folder(folder, tiny[0].model, tiny[1].tokenizer)
    assert len(list(folder.iterdir())) == 4
    return folder


@pytest.fixture(scope="session")
def model(folder: Path) -> DeltapruneForConditionalGeneration:
    return AutoModelForImageTextToText.from_pretrained(folder)


@pytest.fixture(scope="session")
def processor(folder: Path) -> DeltapruneProcessor:
    return AutoProcessor.from_pretrained(folder)
