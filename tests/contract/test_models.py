"""What every model family promises, without its weights."""

import json

import pytest

from deltaprune.mllm.network import MLLMConfig
from deltaprune.models import registry

PAPER = {"cobra": (729, 64, 15, 45), "robomamba": (256, 64, 15, 45)}


@pytest.fixture(params=registry.names())
def config(request: pytest.FixtureRequest) -> MLLMConfig:
    return registry[request.param].config()


def test_its_config_survives_json(config: MLLMConfig) -> None:
    assert MLLMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_its_parts_fit(config: MLLMConfig) -> None:
    assert config.projector[-1] == config.lm.d_model
    assert len({tower.n_patches for tower in config.towers.values()}) == 1
    assert config.plan is not None
    assert 0 < config.plan.early < config.plan.late < config.lm.n_layers


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_models_have_the_papers_sizes(name: str) -> None:
    config = registry[name].config()
    assert config.plan is not None
    assert (config.n_visual, config.lm.n_layers, config.plan.early, config.plan.late) == PAPER[name]
    assert (config.lm.d_inner, config.lm.rank, config.lm.padded_vocab) == (5120, 160, 50280)
