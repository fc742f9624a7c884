"""Checkpoints whose names carry what a wrapper wrote in front: DistributedDataParallel, Lightning, torch.compile."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Published, edit

import deltaprune as dp

PREFIXES = ["module.", "model.", "_orig_mod.", "model.module.", "module._orig_mod."]


def renamed(tensors: dict[str, Any], prefix: str, share: int = 1) -> dict[str, Any]:
    """Every name, or every `share`th, with the prefix."""
    return {(name if i % share else prefix + name): tensor for i, (name, tensor) in enumerate(tensors.items())}


def options(published: Published) -> dict[str, Any]:
    complete = any(name.startswith("vision.") for name in published.tensors)
    return {"tokenizer": published.tokenizer, **({} if complete else {"towers": published.towers})}


def wrap(held: dict[str, Any], prefix: str, share: int = 1) -> None:
    """In place: Cobra's two groups, or the flat mapping."""
    groups = held.get("model", {"": held})
    for group in groups.values():
        tensors = dict(group)
        group.clear()
        group.update(renamed(tensors, prefix, share))


@pytest.mark.parametrize("family", ["cobra", "robomamba"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_every_name_is_left_out(
    family: str, prefix: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published: Published = request.getfixturevalue(family)
    plain, _ = dp.load(published.source, **options(published))
    with caplog.at_level(logging.WARNING):
        wrapped, _ = dp.load(edit(published, tmp_path, lambda held: wrap(held, prefix)), **options(published))
    assert wrapped.fingerprint == plain.fingerprint
    assert f"every name begins with {prefix!r}" in caplog.text


@pytest.mark.parametrize("family", ["cobra", "robomamba"])
@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_a_prefix_of_some_names_is_named(
    family: str, prefix: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    published: Published = request.getfixturevalue(family)
    source = edit(published, tmp_path, lambda held: wrap(held, prefix, share=3))
    with pytest.raises(dp.UserError, match=re.escape(prefix)) as error:
        dp.load(source, **options(published))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_beside_the_state_of_a_training(key: str, robomamba: Published, tmp_path: Path) -> None:
    plain, _ = dp.load(robomamba.source, **options(robomamba))
    held = torch.load(robomamba.file, weights_only=True)
    torch.save({key: renamed(held, "model."), "epoch": 3}, tmp_path / "run.pth")
    again, _ = dp.load(tmp_path / "run.pth", **options(robomamba))
    assert again.fingerprint == plain.fingerprint
