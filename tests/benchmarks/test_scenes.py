"""scenes: the same everywhere, balanced, and every answer true of what is in the picture."""

import hashlib
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, islice

import numpy as np
import pytest
from PIL import Image

from deltaprune.benchmarks import registry
from deltaprune.benchmarks.scenes import SKILLS, Question, Scene, Scenes, Scenes1, corpus, scene_seed
from deltaprune.benchmarks.scenes.benchmark import SPLITS, picture
from deltaprune.benchmarks.scenes.drawing import cover
from deltaprune.benchmarks.scenes.glyphs import FACES, font
from deltaprune.benchmarks.scenes.layout import LAYOUTS
from deltaprune.benchmarks.scenes.world import COLORS, GLYPHS, SHAPES, SIDE
from deltaprune.errors import UserError

N_SCENES = 300


@pytest.fixture(scope="module", params=sorted(LAYOUTS), ids="version{}".format)
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    return [Scene.from_seed(scene_seed("train", 3, index), request.param) for index in range(N_SCENES)]


@pytest.fixture(scope="module")
def asked(scenes) -> list[tuple[Scene, Question]]:
    rng = np.random.default_rng(0)
    return [(scene, question) for scene in scenes for question in scene.questions(rng, 12)]


def fingerprint(benchmark=Scenes) -> str:
    """A hash over pictures, questions and answers."""
    digest = hashlib.sha256()
    for sample in benchmark().samples("test", seed=1, limit=30):
        digest.update(f"{sample.id} {sample.question} {sample.answer}".encode())
        digest.update(sample.image.tobytes())
    return digest.hexdigest()


def test_registry_finds_both_versions():
    assert (registry["scenes"], registry["scenes1"]) == (Scenes, Scenes1)
    assert (Scenes.version, Scenes1.version) == (2, 1)
    assert fingerprint(Scenes) != fingerprint(Scenes1)


def test_version_1_is_what_it_was():
    """Layouts, questions and answers bit for bit; of the pixels, whose last bits FreeType decides, the mean."""
    digest = hashlib.sha256()
    samples = list(Scenes1().samples("test", seed=1, limit=30))
    for sample in samples:
        digest.update(f"{sample.id} {sample.question} {sample.answer}".encode())
    assert digest.hexdigest() == "61de89c5cf0b0cfede4af5561d4bf78aa9a5c89bafdb4447fddd5be4642a70be"
    assert np.mean([np.asarray(sample.image) for sample in samples]) == pytest.approx(174.906, abs=0.05)


@pytest.mark.parametrize("salt", ["1", "2"])
def test_the_same_in_every_process(salt):
    code = "import test_scenes; print(test_scenes.fingerprint())"
    source = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint()


def test_no_two_splits_or_seeds_share_a_scene():
    seeds = [scene_seed(split, seed, i) for split in SPLITS for seed in (0, 1) for i in range(1000)]
    assert len(set(seeds)) == len(seeds)
    layouts = [{picture(split, 0, i)[0].things for i in range(100)} for split in SPLITS]
    assert not any(a & b for a, b in combinations(layouts, 2))
    assert all(picture(split, 0, i)[0].seed % 4 == k for k, split in enumerate(SPLITS) for i in range(100))


def test_ids_limit_and_shared_pictures():
    samples = list(Scenes().samples("test", limit=600))
    assert len(samples) == 600
    assert len({sample.id for sample in samples}) == 600
    assert samples[0].id == "test-0-000000-existence"
    assert samples[0].image is samples[1].image
    assert samples[0].image.size == (SIDE, SIDE)
    assert samples[0].image.mode == "RGB"
    assert Scenes().rules.message(samples[0]) == samples[0].question
    assert [s.id for s in islice(Scenes().samples("test"), 600)] == [s.id for s in samples]
    assert len({s.image_id for s in Scenes(pictures=7).samples("val")}) == 7


@pytest.mark.parametrize("benchmark", [Scenes, Scenes1])
def test_guessing_scores_little(benchmark):
    floors = benchmark().guess(benchmark().samples("test", limit=4000)).by_skill
    limits = {"existence": 53, "spatial": 53, "unanswerable": 53, "counting": 35, "attribute": 25, "reading": 8}
    assert set(floors) == set(limits)
    assert all(floors[skill] <= limits[skill] for skill in limits), floors


def count(scene: Scene, *words: str) -> int:
    """How many things answer to all the words."""
    return sum({*words} <= {thing.color, thing.shape, thing.size} for thing in scene.things)


def only(scene: Scene, *words: str):
    """The one thing that answers to all the words."""
    (thing,) = [thing for thing in scene.things if {*words} <= {thing.color, thing.shape}]
    return thing


def names_in(text: str) -> list[str]:
    """The colour and shape words of a text, in order, in the singular."""
    words = text.replace("?", "").replace(".", "").replace("crosses", "cross").split()
    return [w for word in words for w in {word, word.rstrip("s")} if w in COLORS or w in SHAPES]


def test_existence_counting_and_spatial_answers_are_true(asked):
    seen = {"existence": 0, "counting": 0, "spatial": 0}
    for scene, question in asked:
        words = names_in(question.text)
        if question.skill == "existence":
            assert question.answer == ("Yes" if count(scene, *words) else "No"), question
        elif question.skill == "counting":
            assert question.answer == str(count(scene, *words)), question
        elif question.skill == "spatial":
            assert question.answer == str(holds(scene, question.text, words)), question
        else:
            continue
        seen[question.skill] += 1
    assert min(seen.values()) > 300


def holds(scene: Scene, text: str, words: list[str]) -> bool:
    """Whether a spatial statement is true; its things must be named uniquely and be clearly apart."""
    first = only(scene, *words[:2])
    x, y = (only(scene, *words[2:]).x, only(scene, *words[2:]).y) if words[2:] else (SIDE / 2, SIDE / 2)
    apart = {"left": x - first.x, "right": first.x - x}
    apart |= {"above": y - first.y, "top": y - first.y, "below": first.y - y, "bottom": first.y - y}
    (side,) = [side for side in apart if f" {side} " in text.replace(".", " ")]
    assert abs(apart[side]) >= (20 if words[2:] else 12)
    return apart[side] > 0


def test_attribute_reading_and_unanswerable_answers_are_true(asked):
    for scene, question in asked:
        if question.skill not in ("attribute", "reading", "unanswerable"):
            continue
        if question.form in ("text", "letter", "digit"):
            text = scene.sign.text if scene.sign else ""
            truth = {"text": text, "letter": text[:1], "digit": text[1:]}[question.form] or "unanswerable"
        elif question.answer == "unanswerable":
            truth = "unanswerable" if not count(scene, *names_in(question.text)) else "there is one"
        else:
            thing = only(scene, *names_in(question.text))
            place = f"{'top' if thing.y < 80 else 'bottom'} {'left' if thing.x < 80 else 'right'}"
            truth = {"color": thing.color, "shape": thing.shape, "size": thing.size, "place": place}[question.form]
        assert question.answer == truth, question


def test_questions_are_short_varied_and_follow_the_weights(scenes, asked):
    assert max(len(question.text.split()) for _, question in asked) <= 12
    assert {question.skill for _, question in asked} == set(SKILLS)
    rng = random.Random(0)
    few = scenes[0].questions(rng, 20, weights={"counting": 1.0, "existence": 3.0})
    assert len(few) == 20
    assert {question.skill for question in few} == {"counting", "existence"}
    signless = next(scene for scene in scenes if scene.sign is None)
    assert signless.questions(rng, 5, weights={"reading": 1.0}) == []


def test_half_of_the_absences_are_adversarial(asked):
    negatives = [(s, names_in(q.text)) for s, q in asked if q.skill == "existence" and q.answer == "No"]
    both = sum(all(count(scene, word) for word in words) for scene, words in negatives)
    assert 0.4 < both / len(negatives) < 0.7


def test_nothing_overlaps_and_all_is_inside(scenes):
    for scene in scenes[:100]:
        covered = np.zeros((SIDE, SIDE), dtype=int)
        for thing in scene.things:
            left, top, mask = cover(thing)
            ys, xs = np.nonzero(np.asarray(mask) > 127)
            assert (ys + top).min() >= 0
            assert (xs + left).min() >= 0
            covered[ys + top, xs + left] += 1  # an index beyond the picture raises
        if scene.sign is not None:
            left, top, right, bottom = scene.sign.box
            assert min(left, top) >= 0
            assert max(right, bottom) <= SIDE
            covered[top:bottom, left:right] += 1
            assert all(left <= l < r <= right and top <= t < b <= bottom for l, t, r, b in scene.sign.glyph_boxes)
        assert covered.max() == 1


@pytest.mark.parametrize("grid", [5, 10, 16, 20])
def test_patch_labels_match_the_things(scenes, grid):
    for scene in scenes[:60]:
        labels = scene.patch_labels(grid)
        assert all(array.shape == (grid * grid,) for array in labels.values())
        pairs = {(COLORS[c - 1], SHAPES[s - 1]) for c, s in zip(labels["color"], labels["shape"], strict=True) if c}
        things = {thing.name for thing in scene.things}
        assert pairs <= things if grid == 5 else pairs == things  # two things may share a large patch
        assert np.array_equal(labels["color"] > 0, np.isfinite(labels["x"]))
        pixels = np.asarray(scene.image).astype(float)
        for patch in np.flatnonzero(labels["color"]):
            thing = min(scene.things, key=lambda t: abs(t.x / SIDE - labels["x"][patch]))
            assert thing.name == (COLORS[labels["color"][patch] - 1], SHAPES[labels["shape"][patch] - 1])
            size = SIDE // grid
            row, column = divmod(int(patch), grid)
            shown = pixels[row * size : (row + 1) * size, column * size : (column + 1) * size]
            unlike = 3 if scene.version == 1 else 33  # version 2 lights things from one side
            assert (np.abs(shown - thing.rgb).max(axis=2) < unlike).any(), "the patch shows the thing's own colour"
        seen = {GLYPHS[g - 1] for g in labels["glyph"] if g}
        letters = set(scene.sign.text if scene.sign else "")
        assert seen <= letters if grid == 5 else seen == letters


def test_a_grid_that_does_not_divide_the_picture_is_refused(scenes):
    with pytest.raises(UserError, match="divide"):
        scenes[0].patch_labels(7)


def test_unknown_split_and_skill_are_told():
    with pytest.raises(UserError, match="did you mean 'test'"):
        next(Scenes().samples("tset"))
    with pytest.raises(UserError, match="did you mean 'counting'"):
        Scene.from_seed(0).ask("countin", random.Random(0))


@pytest.mark.parametrize(
    ("answer", "prediction", "grade"),
    [
        ("K7", " k 7. ", 1.0),
        ("K7", "K1", 0.0),
        ("Yes", "yes", 1.0),
        ("top left", "Top left.", 1.0),
        ("red", "red circle", 0.0),
        ("2", "", 0.0),
    ],
)
def test_grade(answer, prediction, grade):
    sample = replace(next(Scenes().samples("test")), answer=answer)
    assert Scenes().rules.grade(sample, prediction) == grade


def test_a_sample_draws_only_when_asked():
    drawn = []
    sample = replace(next(Scenes().samples("test")), load=lambda: drawn.append(1) or Image.new("RGB", (1, 1)))
    assert not drawn
    assert sample.image.size == (1, 1)


def test_corpus_has_a_small_vocabulary():
    texts = corpus(500)
    assert len(texts) == 1000
    words = {word.strip("?.") for text in texts for word in text.split()}
    signs = {word for word in words if any(c.isdigit() for c in word) or len(word) == 1}
    assert len(words - signs) < 90


def test_version_2_repeats_itself_as_photographs_do():
    """Things cover several patches of a 16 x 16 grid each, small ones some; signs are set in every typeface."""
    many = [Scene.from_seed(scene_seed("train", 4, index), 2) for index in range(200)]
    covered = [(scene.patch_labels(16)["color"] > 0).sum() / len(scene.things) for scene in many]
    assert 5 < np.mean(covered) < 30
    assert {sign.face for scene in many if (sign := scene.sign)} == set(FACES)
    assert {thing.size for scene in many for thing in scene.things} == {"small", "large"}


@pytest.mark.parametrize("face", FACES)
def test_every_typeface_has_every_glyph(face):
    masks = {bytes(font(30, face).getmask(glyph)) for glyph in GLYPHS}
    assert len(masks) == len(GLYPHS), "no two characters look the same, as the box for a missing one would"
