"""Sweeps: where each method is placed, that a sweep is evaluations side by side, and that it resumes."""

import json
from pathlib import Path
from typing import Any

import pytest

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.cost import share_of
from deltaprune.errors import UserError
from deltaprune.evaluate import evaluate, sweep
from deltaprune.evaluate.sweep import points
from deltaprune.methods import parse, registry
from deltaprune.mllm.processor import Processor
from deltaprune.models.cobra import COBRA


def test_every_method_is_placed_at_the_same_cost() -> None:
    methods = ["dtp:late=none", "none", "freeze", "fitprune", "shortv", " dart "]
    labels, left_out = points(COBRA, methods, (), (0.6, 0.9), 22)
    named = [label.split(":")[0].strip() for label in labels]
    assert named == ["dtp", "dtp", "freeze", "freeze", "fitprune", "fitprune", "shortv", "shortv", "dart", "dart"]
    assert left_out == ()
    for i, label in enumerate(labels):
        cost, wanted = share_of(COBRA, parse(label), 22), (0.6, 0.9)[i % 2]
        assert wanted - 0.02 < cost <= wanted


def test_over_the_tokens_a_method_without_a_keep_spends_that_share_of_the_macs() -> None:
    labels, _ = points(COBRA, ["dtp", "freeze", "vtw"], (0.7, 0.75, 0.9), (), 22)
    assert labels[:3] == ["dtp:keep=0.7", "dtp:keep=0.75", "dtp:keep=0.9"]
    assert [label.split("=")[0] for label in labels[3:]] == ["freeze:budget"] * 3 + ["vtw:after"] * 3
    for label, share in zip(labels[3:], (0.7, 0.75, 0.9) * 2, strict=True):
        assert abs(share_of(COBRA, parse(label), 22) - share) < 0.02


def test_what_is_out_of_reach_is_told_and_the_rest_is_run() -> None:
    labels, left_out = points(COBRA, ["dtp", "freeze"], (), (0.05, 0.7), 22)
    assert [label.split(":")[0] for label in labels] == ["dtp", "freeze"]
    assert [sentence.split()[0] for sentence in left_out] == ["dtp", "freeze"]
    assert all("cannot meet a MACs share of 0.05" in sentence for sentence in left_out)


def test_all_is_every_method_whose_cost_can_be_set() -> None:
    labels, left_out = points(COBRA, ["all", "dtp:late=none"], (), (0.45, 0.7), 22)
    named = list(dict.fromkeys(label.split(":")[0] for label in labels))
    assert set(registry.names()) - set(named) == {"chosen", "none"}
    assert labels[-1].startswith("dtp:late=none,keep=")
    missed = {sentence.split()[0] for sentence in left_out}
    assert missed
    assert missed < set(named)


@pytest.mark.parametrize(
    ("methods", "keep", "share", "sentence"),
    [
        (["dtp"], (), (), "give either keep or share"),
        (["dtp"], (0.5,), (0.5,), "give either keep or share"),
        (["none"], (0.5,), (), 'name at least one beside "none"'),
        (["dtp"], (), (0.05,), "cannot meet a MACs share of 0.05"),
        (["dtp:keep=0.3"], (0.5,), (), "already gives keep"),
        (["dtq"], (0.5,), (), "There is no method 'dtq'"),
        (["dtp"], (1.5,), (), "keep=1.5 is not a share"),
        (["dtp"], (), (50.0,), "is no share of the MACs"),
    ],
)
def test_mistakes(methods: list[str], keep: tuple[float, ...], share: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        points(COBRA, methods, keep, share, 22)


def test_a_sweep_is_its_evaluations_and_goes_on_where_it_stopped(
    tiny: tuple[dp.VLM, Processor], tmp_path: Path
) -> None:
    vlm, processor = tiny
    how: dict[str, Any] = {"limit": 12, "batch_size": 4}
    calls: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        if 0 < done < total:
            raise KeyboardInterrupt

    asked = (vlm, processor, Scenes(), ["dtp", "dart"], (0.25, 0.75))
    with pytest.raises(KeyboardInterrupt):
        sweep(*asked, out=tmp_path, on_progress=stop, **how)
    there = len((tmp_path / "answers.jsonl").read_text().splitlines())
    assert 0 < there < 5 * 12
    again: list[tuple[int, int]] = []
    done = sweep(*asked, out=tmp_path, on_progress=lambda *counts: again.append(counts), **how)
    assert again[0] == (there, 5 * 12)
    assert [row.method for row in done.rows] == [
        "none",
        "dtp:keep=0.25",
        "dtp:keep=0.75",
        "dart:keep=0.25",
        "dart:keep=0.75",
    ]
    alone = evaluate(vlm, processor, Scenes(), [row.method for row in done.rows], **how)
    assert done.rows == alone
    more = sweep(vlm, processor, "scenes", ["dtp"], (0.25, 0.5), out=tmp_path, **how)
    assert [row.n for row in more.rows] == [12] * 3
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 6 * 12  # only the new point was answered
