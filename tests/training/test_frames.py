"""Varied frames: nothing that is asked about is cut off or relabelled, and padding never enters the LM."""

import numpy as np
import pytest
import torch

from deltaprune.benchmarks.scenes import Scene, corpus
from training.frames import GREY, full, varied
from training.lessons import Lessons
from training.recipe import CONFIG, Recipe
from training.vocabulary import train_tokenizer

GRID = 16


def scenes(n: int = 60) -> list[Scene]:
    return [Scene.from_seed(seed, 2) for seed in range(n)]


def test_a_full_frame_is_the_picture() -> None:
    scene = scenes(1)[0]
    framed = full(scene, GRID)
    assert framed.inside.all()
    assert (framed.pixels(160) == np.asarray(scene.image, dtype=np.float32) / 255).all()
    for name, labels in framed.labels().items():
        np.testing.assert_array_equal(labels, scene.patch_labels(GRID)[name])


@pytest.mark.parametrize("seed", range(4))
def test_everything_asked_about_stays_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for scene in scenes():
        framed = varied(scene, GRID, rng)
        labels, inside = framed.labels(), framed.inside.reshape(-1)
        shown = (labels["color"] > 0) | (labels["glyph"] > 0)
        assert not (shown & ~inside).any()
        assert {*labels["color"]} == {*scene.patch_labels(GRID)["color"]}
        assert len({*labels["glyph"]} - {0}) == len({*(scene.sign.text if scene.sign else "")})


def test_sides_and_corners_stay_as_they_were() -> None:
    rng = np.random.default_rng(0)
    for scene in scenes():
        for before, after in zip(scene.things, varied(scene, GRID, rng).things, strict=True):
            assert (before.x < 80, before.y < 80) == (after.x < 80, after.y < 80)


def test_padding_is_grey_and_sizes_vary() -> None:
    rng, counts = np.random.default_rng(0), []
    for scene in scenes():
        framed = varied(scene, GRID, rng)
        patches = framed.pixels(128).reshape(GRID, 8, GRID, 8, 3).transpose(0, 2, 1, 3, 4)
        assert (patches[~framed.inside] == np.float32(GREY / 255)).all()
        counts.append(int(framed.inside.sum()))
    assert min(counts) < 130 < 220 < max(counts)


def test_the_lm_meets_the_patches_inside_alone() -> None:
    tokenizer = train_tokenizer(corpus(50, version=2))
    lessons = Lessons(CONFIG, tokenizer, 3, 2, 2, vary_from=1)
    lesson = lessons.lesson(range(3))
    per_picture = lesson.inside.unflatten(0, (3, -1)).sum(1)
    roots = lesson.cu_seqlens.diff()[lesson.parent == -1]
    assert torch.equal(roots.long(), per_picture)
    assert per_picture[0] == GRID * GRID
    assert int(lesson.order.max()) + 1 == len(lesson.order) == int(lesson.cu_seqlens[-1])


def test_validation_is_never_varied() -> None:
    tokenizer = train_tokenizer(corpus(50, version=2))
    assert Lessons(CONFIG, tokenizer, 2, 1, 1, split="val").lesson(range(2)).inside.all()


def test_the_first_varied_picture_follows_the_schedule() -> None:
    assert Recipe().vary_from == 48_160
