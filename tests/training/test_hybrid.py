"""The hybrid's training forward is transformers' own model, and its folder is asked what training asks."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import deltaprune as dp
import training.run as run_module
from deltaprune.benchmarks.scenes import Scenes, corpus
from deltaprune.errors import UserError
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from training import snapshot
from training.courses import COURSES
from training.hybrid import HybridLearner, families, patches_of, positions
from training.hybrid_start import new_hybrid
from training.lessons import Lesson, Lessons
from training.network import Classroom
from training.recipe import CONFIG, HYBRID, Recipe, hybrid_config
from training.run import Run

RECIPE = Recipe(pictures=16, batch=2, questions=2, drills=4)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A fresh run, with a tokenizer that is made quickly."""
    monkeypatch.setattr(run_module, "corpus", lambda n, version: corpus(300, version=version))
    return Run(tmp_path / "hybrid", RECIPE, "cpu", COURSES["hybrid"])


def lessons(run: Run, start: int = 0) -> Lessons:
    return Lessons(CONFIG, run.tokenizer, RECIPE.batch, RECIPE.questions, RECIPE.drills, start)


def image_of(run: Run) -> int:
    """The id that stands for a visual token."""
    found = run.tokenizer.token_to_id("<|image_pad|>")
    assert found is not None
    return found


def alone(lesson: Lesson, segment: int, image_id: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A segment's rows in the packed order, and what transformers' model takes for it alone."""
    parents, bounds = lesson.parent.tolist(), lesson.cu_seqlens.tolist()
    picture = [i for i, above in enumerate(parents) if above < 0].index(parents[segment])
    per = int(lesson.inside.sum()) // len(lesson.pixels)
    text = lesson.order[bounds[segment] : bounds[segment + 1]] - int(lesson.inside.sum())
    ids = torch.cat([torch.full((per,), image_id), lesson.ids[text]])[None]
    pixels, grids = patches_of(lesson)
    return torch.arange(bounds[segment], bounds[segment + 1]), {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == image_id).int(),
        "pixel_values": pixels[picture * per : (picture + 1) * per],
        "image_grid_thw": grids[picture : picture + 1],
    }


@torch.no_grad()
def test_a_lesson_scores_like_transformers(run: Run) -> None:
    """Logits of every question and drill, each alone in transformers' own forward, random weights but loud ones."""
    model: Any = run.classroom.model
    image_id = image_of(run)
    model.eval().config.image_token_id = image_id
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and "language_model.layers" in name:
            weight.mul_(2)
    lesson = lessons(run).lesson(range(2))
    learner = HybridLearner(model)
    _, image, _ = learner.see(lesson)
    x = torch.cat([image, F.embedding(lesson.ids, learner.words)])[lesson.order]
    forest = learner.forest(lesson)
    for layer in learner.layers:
        x = learner.layer(layer, x, forest)
    ours = F.linear(learner.norm(x), learner.words)
    children = (lesson.parent >= 0).nonzero()[:, 0].tolist()
    assert len(children) == 12
    for segment in children:
        rows, given = alone(lesson, segment, image_id)
        theirs = model(**given).logits[0, -len(rows) :]
        assert theirs.std() > 0.5
        torch.testing.assert_close(ours[rows], theirs, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_tower_starts_as_the_bundled_models(run: Run) -> None:
    """The rotary positions that SigLIP has not hardly move it."""
    bundled, _ = dp.load("bundled")
    lesson = lessons(run).lesson(range(2))
    features, _, labels = HybridLearner(run.classroom.model).see(lesson)
    old = bundled.model.vision["siglip"]((lesson.pixels - 0.5) / 0.5).flatten(0, 1)
    assert (features - old).norm() < 0.02 * old.norm()
    assert all(len(label) == len(features) for label in labels.values())
    fresh = new_hybrid(hybrid_config(), None)
    other, _, _ = HybridLearner(fresh).see(lesson)
    assert (other - old).norm() > 0.5 * old.norm()


def test_a_child_sees_its_root_and_itself() -> None:
    """Two roots of 2 and 1 rows; the first has children of 2 and 1 rows."""
    sizes, masks = families(torch.tensor([0, 2, 4, 5, 6, 7]).int(), torch.tensor([-1, 0, 0, -1, 3]).int())
    assert sizes == [2, 3, 1, 1]
    assert masks[0].int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]
    assert masks[1].int().tolist() == [[1, 1]]


def test_positions_are_those_of_transformers(run: Run) -> None:
    model: Any = run.classroom.model
    image_id = image_of(run)
    lesson = lessons(run).lesson(range(2))
    found = positions(lesson)
    rows, given = alone(lesson, 1, image_id)
    theirs, _ = model.model.get_rope_index(
        given["input_ids"],
        mm_token_type_ids=given["mm_token_type_ids"],
        image_grid_thw=given["image_grid_thw"],
        attention_mask=given["attention_mask"],
    )
    assert torch.equal(theirs[:, 0], torch.cat([found[:, :256], found[:, rows]], dim=1))


def test_the_folder_is_asked_what_training_asks(run: Run, tmp_path: Path) -> None:
    """Pixels and ids of its processor are a lesson's; it loads, and answers with a method on."""
    run.publish(tmp_path / "model")
    model, processor = dp.load(tmp_path / "model")
    assert isinstance(model, Hosted)
    assert isinstance(processor, HostedProcessor)
    assert model.shape.n_layers == 12
    assert (model.config.plan.early, model.config.plan.late) == (3, 8)
    sample = next(iter(Scenes().samples("val", 0, 1)))
    inputs = processor(images=sample.image, text=sample.question)
    lesson = Lessons(CONFIG, run.tokenizer, 1, 1, 0, split="val").lesson(range(1))
    pixels, grids = patches_of(lesson)
    assert torch.equal(inputs["pixel_values"], pixels)
    assert torch.equal(inputs["image_grid_thw"], grids)
    prompt = run.tokenizer.encode(f"<|user|>\n{sample.question}<|endoftext|>\n<|assistant|>\n").ids
    assert inputs["input_ids"][0].tolist() == [processor.words.convert_tokens_to_ids("<|image_pad|>")] * 256 + prompt
    answer = model.answer(inputs, 2, method="dtp:keep=0.5")
    assert [stage.counts for stage in answer.kept] == [(128,), (0,)]
    with torch.no_grad():
        out = run.classroom.model.eval()(**inputs).logits[0, -1]
    torch.testing.assert_close(model.next_logits(model.start(inputs))[0], out)


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(run: Run) -> None:
    for lesson in islice(lessons(run), 1):
        run.step(lesson)
    run.save()
    resumed = Run(run.out, RECIPE, "cpu", COURSES["hybrid"])
    assert resumed.resume()
    lesson = lessons(run, run.pictures).lesson(range(2, 4))
    assert run.step(lesson) == resumed.step(lesson)
    for name, weight in run.classroom.state_dict().items():
        assert torch.equal(weight, resumed.classroom.state_dict()[name]), name


def test_a_snapshot_is_the_running_average(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model 'hybird' to train: did you mean 'hybrid'"):
        snapshot.main("hybird", run.out, tmp_path / "model")
    with pytest.raises(UserError, match=r"holds no run.pt"):
        snapshot.main("hybrid", run.out, tmp_path / "model")
    for lesson in islice(lessons(run), 2):  # the average begins as the weights after one step
        run.step(lesson)
    run.save()
    snapshot.main("hybrid", run.out, tmp_path / "model")
    model, _ = dp.load(tmp_path / "model")
    average = run.average.module.state_dict()
    assert all(torch.equal(weight, average[name]) for name, weight in model.model.state_dict().items())
    moved = run.classroom.model.state_dict()
    assert not torch.equal(moved["model.language_model.norm.weight"], average["model.language_model.norm.weight"])


def test_it_learns_a_lesson_by_heart(run: Run) -> None:
    """Every part has a gradient, and the loss falls."""
    lesson = lessons(run).lesson(range(2))
    classroom = Classroom(run.classroom.model, HYBRID, HybridLearner)
    result = classroom(lesson)
    (result.answers + result.exits + result.dense + result.drift).backward()
    without = {name for name, p in classroom.named_parameters() if p.grad is None or not bool(p.grad.any())}
    assert without == set()
    losses = [run.step(lesson)["answers"] for _ in range(6)]
    assert losses[-1] < losses[0]
