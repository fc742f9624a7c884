"""Training runs the same network as the library: the logits of a lesson's answers are those of `VLM.generate`."""

import pytest
import torch

from bundled.lessons import Lessons
from bundled.network import Classroom
from deltaprune.models._processor import Processor
from deltaprune.prefill import prefill
from deltaprune.tokens import Tokens
from deltaprune.vlm import VLM


@pytest.mark.parametrize("chained", [False, True], ids=["branched", "chained"])
@pytest.mark.parametrize("shown", [True, False], ids=["shown", "told"])
def test_a_lesson_scores_like_the_library(tiny: tuple[VLM, Processor], shown: bool, chained: bool) -> None:
    vlm, processor = tiny
    lesson = Lessons(vlm.config, processor.tokenizer, 2, 3).lesson(range(2), shown, chained)
    classroom = Classroom(vlm.model).requires_grad_(False)
    image, _, _ = classroom.see(lesson)
    rows = torch.cat([image, vlm.model.lm.backbone.embedding(lesson.ids)])[lesson.order]
    bounds, right = lesson.cu_seqlens.tolist(), []
    targets = torch.cat([torch.full((len(image),), -100), lesson.targets])[lesson.order]
    for s, parent in enumerate(lesson.parent.tolist()):
        before = rows[bounds[parent] : bounds[parent + 1]] if parent >= 0 else rows[:0]
        here = rows[bounds[s] : bounds[s + 1]]
        for i in (targets[bounds[s] : bounds[s + 1]] >= 0).nonzero()[:, 0].tolist():
            seen = torch.cat([before, here[: i + 1]])
            hidden = prefill(vlm.model.lm, Tokens.pack([seen[:0]], [seen])).hidden
            right.append(vlm.model.lm.logits(hidden).argmax(-1).item() == targets[bounds[s] + i].item())
    _, _, _, ours = classroom(lesson)
    place = lesson.order.argsort()[len(image) + (lesson.targets >= 0).nonzero()[:, 0]]
    assert len(ours) == len(right) > 6
    assert ours[place.argsort()].tolist() == right
