"""What every model family promises, without its weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from deltaprune.checkpoints.folder import open_folder, save_folder
from deltaprune.checkpoints.random import random_mllm
from deltaprune.mllm.network import MLLMConfig
from deltaprune.mllm.processor import Processor
from deltaprune.mllm.prompts import ask_in, opening, render
from deltaprune.mllm.templates import template_text
from deltaprune.models import registry
from deltaprune.vlm import VLM

PAPER = {"cobra": (729, 64, 15, 45), "robomamba": (256, 64, 15, 45)}


@pytest.fixture(params=registry.names())
def config(request: pytest.FixtureRequest) -> MLLMConfig:
    return registry[request.param].config()


def test_its_config_survives_json(config: MLLMConfig) -> None:
    assert MLLMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_its_parts_fit(config: MLLMConfig) -> None:
    assert config.projector[-1] == config.lm.d_model
    assert len({tower.n_patches for tower in config.towers.values()}) == 1
    if config.plan is not None:
        assert 0 < config.plan.early < config.plan.late < config.lm.n_layers


def test_its_template_holds_the_question_and_then_opens_the_answer(config: MLLMConfig) -> None:
    template, question = template_text(config.template), "What is to the left of it?"
    before, _, after = ask_in(template, question).partition(question)
    assert ask_in(template, "Where?") == before + "Where?" + after
    assert after.strip()
    assert opening(template) == before
    asked = [{"role": "user", "content": question}, {"role": "assistant", "content": "A cup and"}]
    assert render(asked, template, go_on=True) == before + question + after + "A cup and"


def small(config: MLLMConfig, tokenizer: Tokenizer) -> MLLMConfig:
    """Towers and LM of the same kinds, a few thousand weights."""
    sizes = {"image_size": 16, "patch_size": 8, "width": 16, "n_blocks": 2, "n_heads": 2, "mlp_width": 16}
    towers = {name: replace(tower, **sizes) for name, tower in config.towers.items()}
    lm = replace(config.lm, d_model=16, n_layers=2, vocab_size=tokenizer.get_vocab_size(), dt_rank=None)
    return replace(config, towers=towers, projector=(16,) * len(config.projector), lm=lm, plan=None)


def test_a_saved_folder_has_its_configuration_and_template(
    config: MLLMConfig, tiny: tuple[VLM, Processor], tmp_path: Path
) -> None:
    config = small(config, tiny[1].tokenizer)
    save_folder(tmp_path / "saved", random_mllm(config), tiny[1].tokenizer)
    found = open_folder(tmp_path / "saved")
    assert found.config == config
    assert found.chat_template == template_text(config.template)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_models_have_the_papers_sizes(name: str) -> None:
    config = registry[name].config()
    assert config.plan is not None
    assert (config.n_visual, config.lm.n_layers, config.plan.early, config.plan.late) == PAPER[name]
    assert (config.lm.d_inner, config.lm.rank, config.lm.padded_vocab) == (5120, 160, 50280)
