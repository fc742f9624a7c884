"""One folder, two doors: what one writes the other reads; and `with method(model):`."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hf_samples import QUESTIONS, pictures
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

import deltaprune as dp
from deltaprune.hf import DeltapruneConfig, DeltapruneForConditionalGeneration, DeltapruneProcessor
from deltaprune.mllm.processor import Processor
from deltaprune.steps import Plan, Prunable

Model = DeltapruneForConditionalGeneration


def answer(model: Model, processor: DeltapruneProcessor) -> torch.Tensor:
    return model.generate(**processor(pictures()[0], QUESTIONS), max_new_tokens=5)


def test_the_config_is_the_same(folder: Path, tiny: tuple[dp.VLM, Processor]) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert isinstance(config, DeltapruneConfig)
    assert config.mllm == tiny[0].config
    assert config.eos_token_id == config.pad_token_id == tiny[1].eos_id
    assert config.vocab_size == tiny[0].config.lm.vocab_size
    assert DeltapruneConfig.of(tiny[0].config, tiny[1].eos_id).mllm == tiny[0].config


def test_saved_by_transformers_read_by_both(
    model: Model, processor: DeltapruneProcessor, folder: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    reread = AutoProcessor.from_pretrained(tmp_path)
    assert torch.equal(answer(again, reread), answer(model, processor))
    vlm, theirs = dp.load(tmp_path)
    original, _ = dp.load(folder)
    assert vlm.config == original.config
    assert vlm.fingerprint == original.fingerprint == model.vlm.fingerprint == again.vlm.fingerprint
    inputs = theirs(pictures()[0], QUESTIONS)
    assert torch.equal(vlm.generate(**inputs), original.generate(**inputs))


def test_a_processor_is_saved_by_itself(processor: DeltapruneProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    ours, theirs = again(pictures()[0], QUESTIONS), processor(pictures()[0], QUESTIONS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_sharded_folder_is_read_by_both(
    model: Model, processor: DeltapruneProcessor, folder: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert torch.equal(answer(Model.from_pretrained(tmp_path), processor), answer(model, processor))
    assert dp.load(tmp_path)[0].fingerprint == model.vlm.fingerprint


def test_another_plan_is_saved(model: Model, tmp_path: Path) -> None:
    planned = deepcopy(model).use_plan(Plan(early=2, late=3))
    planned.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    assert again.shape.plan == planned.shape.plan == Plan(early=2, late=3)
    assert model.shape.plan == Plan(early=1, late=3)


def test_half_precision_keeps_what_is_computed_in_float32(folder: Path, processor: DeltapruneProcessor) -> None:
    half = Model.from_pretrained(folder, dtype=torch.bfloat16)
    mixer = half.lm.blocks[0].mixer
    assert mixer.in_proj.weight.dtype == half.projector[0].weight.dtype == torch.bfloat16
    assert mixer.A_log.dtype == mixer.D.dtype == mixer.dt_proj.bias.dtype == torch.float32
    with dp.DTP(0.5)(half):
        inputs = processor(pictures()[0], QUESTIONS).to(torch.bfloat16)
        assert inputs["pixel_values_dino"].dtype == torch.bfloat16
        assert half.generate(**inputs, max_new_tokens=3).shape[0] == 3


def test_a_config_without_an_end_or_a_model_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    config.eos_token_id = None
    with pytest.raises(dp.UserError, match='lacks "eos_token_id"'):
        Model(config)
    with pytest.raises(dp.UserError, match="does not describe a model"):
        _ = DeltapruneConfig(name="x").mllm


def test_methods_are_switched_on_and_off(model: Model, processor: DeltapruneProcessor) -> None:
    assert isinstance(model, Prunable)
    before = answer(model, processor)
    with dp.DTP(0.5)(model):
        pruned = answer(model, processor)
        with pytest.raises(dp.UserError, match="do not nest"), dp.DTP(0.1)(model):
            pass
        assert torch.equal(answer(model, processor), pruned)
    assert not torch.equal(pruned, before)
    with pytest.raises(KeyError), dp.DTP(0.5)(model):
        raise KeyError
    assert model.method is None
    assert torch.equal(answer(model, processor), before)
    with pytest.raises(dp.UserError, match="at most 3"), dp.DTP(early=1, late=4)(model):
        pass


def test_the_bundled_model_is_such_a_folder() -> None:
    from deltaprune.models.bundled import FOLDER

    assert json.loads((FOLDER / "config.json").read_text())["model_type"] == "deltaprune"
    assert AutoConfig.from_pretrained(FOLDER).mllm == dp.load("bundled")[0].config


def test_the_library_itself_needs_no_door() -> None:
    code = "import sys, deltaprune; deltaprune.DTP; print({'transformers', 'deltaprune.hf'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
