"""The hybrid's table: rows at equal cost, a plan that is calibrated once, a page that says what the rows say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hybrid as run
from deltaprune.calibrate import load_plan
from deltaprune.cost import share_of
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.folder import read_hosted_config
from deltaprune.methods import parse
from deltaprune.plan import Change
from training.hybrid_folder import MARKS, save_hybrid
from training.hybrid_start import new_hybrid
from training.recipe import hybrid_config
from training.vocabulary import train_tokenizer

ORDER = tuple(Change(layer, "write", 0.001) for layer in range(11, 0, -1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six layers of random weights, as training saves them."""
    made = tmp_path_factory.mktemp("hybrid") / "trained"
    config = hybrid_config()
    config.text_config.num_hidden_layers = 6
    config.text_config.layer_types = config.text_config.layer_types[:6]
    tokenizer = train_tokenizer(["Is there a red star in the picture?"], 300)
    tokenizer.add_special_tokens(list(MARKS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_hybrid(made, new_hybrid(config, None), tokenizer, {"pictures": 1234, "minutes": 5.0})
    return made


def deep(folder: Path) -> HostedConfig:
    """Twelve layers with an order of freezing."""
    config = read_hosted_config(folder)
    layers = config.layers * 2
    return replace(config, layers=layers, plan=replace(config.plan, early=2, late=9, freezing=ORDER))


def test_rows_of_a_block_cost_the_same(folder: Path) -> None:
    config = deep(folder)
    entries = [*run.dtp_entries(config, 11.0), *run.freeze_entries(config, 11.0)]
    blocks = list(dict.fromkeys(entry.block for entry in entries))
    assert len(blocks) == 6
    for block in blocks:
        first, *others = [entry for entry in entries if entry.block == block]
        share = share_of(config, parse(first.method), 11.0)
        if first.label == "Freeze":
            assert share <= (share := float(block.split()[0]) / 100)
        for other in others:
            theirs = share_of(config, parse(other.method), 11.0)
            if other.method.startswith("vtw"):
                assert abs(theirs - share) < 0.05  # half a layer
            elif not other.label.endswith(", by depth"):  # rows are counted in chunks of 64, and Freeze in layers
                assert share - 0.06 < theirs <= share + 1e-9, (block, other)
    labels = [entry.label for entry in entries if entry.block == blocks[1]]
    assert labels[:4] == [
        "DTP, by depth",
        "random tokens, by depth",
        "evenly spread tokens, by depth",
        "DTP, calibrated",
    ]
    assert {entry.label for entry in entries if entry.block == blocks[4]} >= {"Freeze", "DTP", "random tokens"}


def test_a_plan_like_the_depths_has_no_rows_of_its_own(folder: Path) -> None:
    config = deep(folder)
    config = replace(config, plan=replace(config.plan, early=3, late=8))
    assert "DTP, calibrated" not in {entry.label for entry in run.dtp_entries(config, 11.0)}


def test_the_page_says_what_the_rows_say(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> None:
    monkeypatch.setattr(run, "KEEPS", (0.5,))
    monkeypatch.setattr(run, "SHARES", (0.7,))
    monkeypatch.setattr(run, "RIVALS", {"VTW, nearest layer": "vtw", "Freeze": "freeze"})
    out, numbers = tmp_path / "out", tmp_path / "numbers"
    asked = {"questions": 4, "samples": 2, "pictures": 1, "out": out, "numbers": numbers}
    run.main(folder, **asked)
    held, text = json.loads((numbers / "hybrid.json").read_text()), (numbers / "hybrid.md").read_text()
    assert held["training"]["pictures"] == 1234
    assert "trained on 1,234 pictures" in text
    for entry, row in zip(held["entries"], held["rows"], strict=True):
        assert entry["method"] == row["method"]
        assert f"| {entry['label']} | `{row['method']}` | {100 * row['macs_share']:.1f} % |" in text
    assert all(line in text for line in held["said"])
    plan = load_plan(out / "plan.json", read_hosted_config(folder))
    assert plan.freezing
    before = (out / "plan.json").stat().st_mtime_ns
    run.main(folder, **asked)
    assert (out / "plan.json").stat().st_mtime_ns == before
    again = json.loads((numbers / "hybrid.json").read_text())
    assert [row["mean"] for row in again["rows"]] == [row["mean"] for row in held["rows"]]
