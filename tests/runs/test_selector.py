"""The selector table: which schedules are tried, what a selector is told by, and the correlations."""

from dataclasses import replace

import numpy as np
import pytest
from answers import answers, row
from scipy.stats import kendalltau, spearmanr

import deltaprune as dp
from deltaprune.benchmarks import by_picture, messages_about, one_of_each
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import asked_together
from deltaprune.calibrate.own_answers import lesson
from deltaprune.methods import parse
from deltaprune.steps import passes_of
from selector import (
    ALL,
    FREEZING,
    Candidate,
    candidates,
    correlations,
    kendall,
    moved,
    page,
    ranked,
    schedule,
    single_questions,
    spearman,
)

GOOD = answers(120, 0.9, seed=1)


def test_every_candidate_is_what_its_method_runs() -> None:
    vlm, _ = dp.load("bundled")
    found = candidates(vlm)
    assert len({each.method for each in found}) == len(found)
    for each in found:
        steps = parse(each.method).checked_steps(vlm.shape)
        if each.family in FREEZING:
            assert passes_of(steps) == dict(each.hows)
    assert schedule({3: "skip", 1: "write", 2: "write"}) == "freeze:write=1+2;skip=3"


def test_single_questions_are_those_of_one_of_each(tiny) -> None:
    vlm, processor = tiny
    where = Scenes(), "val", 0, 5
    lessons = [lesson(vlm, asked, 2) for asked in asked_together(vlm, processor, messages_about(*where))]
    every = [sample for questions in by_picture(*where) for sample in questions]
    assert [every[i].id for i in single_questions(lessons)] == [sample.id for sample in one_of_each(*where)]
    nothing = [row for given in lessons for row in moved(vlm, given, {}, None)]
    assert len(nothing) == len(every)
    assert np.abs(nothing).max() < 1e-6


def test_a_selector_that_follows_accuracy_and_one_that_does_not() -> None:
    right, rng = np.arange(12.0), np.random.default_rng(0)
    draws = right[:, None] + rng.normal(0, 0.1, (12, 200))
    perfect, none = ranked(-right, right, draws), ranked(rng.permutation(12).astype(float), right, draws)
    assert [perfect["spearman"], perfect["kendall"]] == pytest.approx([1, 1])
    assert perfect["spearman_low"] > 0.95
    assert none["spearman_low"] < none["spearman"] < none["spearman_high"]
    assert none["spearman_high"] < 0.95
    assert "spearman" not in ranked(-right, np.ones(12), np.ones((12, 20)))


def test_both_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(6, size=(9, 4)).astype(float) for _ in range(2))  # with ties
    for of, theirs in ((spearman, spearmanr), (kendall, kendalltau)):
        want = [theirs(x, y)[0] for x, y in zip(a.T, b.T, strict=True)]
        np.testing.assert_allclose(of(a, b), want)


def test_the_table() -> None:
    told = [Candidate("single layers", f"m{i}", {0: "write"}, None, {"js": float(i)}) for i in range(5)]
    wrong = [[replace(each, correct=0.0) if j % 10 < i else each for j, each in enumerate(GOOD)] for i in range(5)]
    rows = {each.method: row(each.method, records) for each, records in zip(told, wrong, strict=True)}
    found = correlations(told, rows)
    assert [(each["family"], each["candidates"]) for each in found] == [(ALL, 5), ("single layers", 5)]
    assert found[0]["spearman"] == pytest.approx(1)
    assert found[0]["lowest"] < found[0]["highest"]
    text = page(found, 64, 120, 90.0)
    assert "| single layers (5) |" in text
    assert "1.00 [" in text
