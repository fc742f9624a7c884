"""Training runs the same network as the library: the logits of a lesson's answers are those of `VLM.generate`."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import training.courses as courses
import training.run as run_module
from deltaprune.analysis.layers import traces
from deltaprune.benchmarks.scenes import corpus
from deltaprune.mllm.lm import MambaLM
from deltaprune.mllm.processor import Processor
from deltaprune.rows import Rows
from deltaprune.vlm import VLM
from training.lessons import KINDS, Lessons
from training.network import Classroom, begin
from training.recipe import CONFIG, Recipe, Start
from training.run import Run


def test_a_lesson_scores_like_the_library(tiny: tuple[VLM, Processor]) -> None:
    """The losses at both exits and at the end, from the library's own logits, answer token by answer token."""
    vlm, processor = tiny
    lesson = Lessons(vlm.config, processor.tokenizer, pictures=2, questions=3, drills=4).lesson(range(2))
    recipe = Recipe(first_exit=0.5)
    classroom = Classroom(vlm.model, recipe).requires_grad_(False)
    image, _, _ = classroom.see(lesson)
    rows = torch.cat([image, vlm.model.lm.backbone.embedding(lesson.ids)])[lesson.order]
    text = torch.cat([torch.full((len(image),), -1), torch.arange(len(lesson.ids))])[lesson.order]
    bounds, weights = lesson.cu_seqlens.tolist(), []
    losses: dict[int, list[float]] = {2: [], 3: [], 4: []}
    for s, parent in enumerate(lesson.parent.tolist()):
        before = rows[bounds[parent] : bounds[parent + 1]] if parent >= 0 else rows[:0]
        here = rows[bounds[s] : bounds[s + 1]]
        for i, t in enumerate(text[bounds[s] : bounds[s + 1]].tolist()):
            if t < 0 or lesson.targets[t] < 0:
                continue
            weights.append(recipe.reading_weight if KINDS[int(lesson.skill[t])] == "reading" else 1.0)
            seen = torch.cat([before, here[: i + 1]])
            for k, tokens, _ in traces(vlm, Rows.pack([seen[:0]], [seen]), frozenset(), (2, 3, 4)):
                logits = vlm.model.lm.logits(tokens.x[-1:])
                losses[k].append(F.cross_entropy(logits, lesson.targets[t : t + 1]).item())
    ours, share = classroom(lesson), torch.tensor(weights) / sum(weights)
    means = {k: (share * torch.tensor(each)).sum().item() for k, each in losses.items()}
    assert len(weights) > 14
    assert ours.answers.item() == pytest.approx(means[4], rel=1e-5)
    assert ours.exits.item() == pytest.approx((means[2] + means[3]) / 2, rel=1e-5)
    assert len({round(mean, 4) for mean in means.values()}) == 3  # the layers matter, so agreement says something


def test_the_start_is_loud_and_remembers(tiny: tuple[VLM, Processor]) -> None:
    lm, start = MambaLM(tiny[0].config.lm), Start()
    begin(lm, start)
    for layer in lm.blocks:
        m = layer.mixer
        assert start.a[0] * 0.999 <= m.A_log.exp().min() < m.A_log.exp().max() <= start.a[1] * 1.001
        delta = F.softplus(m.dt_proj.bias)
        assert start.delta[0] * 0.999 <= delta.min() < delta.max() <= start.delta[1] * 1.001
    assert abs(lm.backbone.embedding.weight.std() - start.embedding) < 0.01


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    recipe = Recipe(pictures=10_000, batch=10, warm_up=50, anneal=0.25)
    rates = [recipe.rate_at(seen) / recipe.rate for seen in (0, 490, 5000, 7500, 8750, 10_000)]
    assert rates == pytest.approx([0.02, 1, 1, 1, 0.5, 0])
    assert list(recipe.exits(20)) == [14, 15, 16, 17, 18, 19]


def test_reading_weighs_more(tiny: tuple[VLM, Processor]) -> None:
    """The weights are one but for the characters of a sign, and the exits' loss is their mean."""
    vlm, processor = tiny
    lesson = Lessons(vlm.config, processor.tokenizer, pictures=4, questions=6, drills=4).lesson(range(4))
    classroom = Classroom(vlm.model, Recipe(first_exit=0.7, reading_weight=5.0)).requires_grad_(False)
    kind = lesson.skill[lesson.targets >= 0]
    assert classroom.token_weights(kind).tolist() == [
        5.0 if k == KINDS.index("reading") else 1.0 for k in kind.tolist()
    ]
    even = Classroom(vlm.model, Recipe(first_exit=0.7, reading_weight=1.0)).requires_grad_(False)(lesson)
    heavy = classroom(lesson)
    assert heavy.exits.item() != pytest.approx(even.exits.item(), rel=1e-6)
    assert heavy.answers.item() != pytest.approx(even.answers.item(), rel=1e-6)


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(CONFIG, lm=replace(CONFIG.lm, n_layers=4))
    monkeypatch.setattr(courses, "CONFIG", small)
    monkeypatch.setattr(run_module, "corpus", lambda n, version: corpus(300, version=version))
    recipe = Recipe(pictures=16, batch=2, questions=2, drills=4)

    def steps(run: Run, n: int) -> Run:
        lessons = Lessons(small, run.tokenizer, recipe.batch, recipe.questions, recipe.drills, run.pictures)
        for lesson in islice(lessons, n):
            run.step(lesson)
        return run

    whole = steps(Run(tmp_path / "whole", recipe, "cpu"), 4)
    steps(Run(tmp_path / "killed", recipe, "cpu"), 2).save()
    resumed = Run(tmp_path / "killed", recipe, "cpu")
    assert resumed.resume()
    assert steps(resumed, 2).pictures == whole.pictures == 8
    for name, weight in whole.classroom.state_dict().items():
        assert torch.equal(weight, resumed.classroom.state_dict()[name]), name
    for ours, theirs in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(ours, theirs)
