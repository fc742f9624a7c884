"""Training runs the same network as the library: the logits of a lesson's answers are those of `VLM.generate`."""

import torch
import torch.nn.functional as F

from bundled.lessons import Lessons
from bundled.network import Classroom, begin
from bundled.recipe import Start
from deltaprune.mamba import MambaLM
from deltaprune.models._processor import Processor
from deltaprune.prefill import prefill
from deltaprune.tokens import Tokens
from deltaprune.vlm import VLM


def test_a_lesson_scores_like_the_library(tiny: tuple[VLM, Processor]) -> None:
    vlm, processor = tiny
    lesson = Lessons(vlm.config, processor.tokenizer, pictures=2, questions=3, drills=4).lesson(range(2))
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
    assert len(ours) == len(right) > 14
    assert ours[place.argsort()].tolist() == right


def test_the_start_is_loud_and_remembers(tiny: tuple[VLM, Processor]) -> None:
    lm, start = MambaLM(tiny[0].config.lm), Start()
    begin(lm, start)
    for layer in lm.layers:
        m = layer.mixer
        assert start.a[0] * 0.999 <= m.A_log.exp().min() < m.A_log.exp().max() <= start.a[1] * 1.001
        delta = F.softplus(m.dt_proj.bias)
        assert start.delta[0] * 0.999 <= delta.min() < delta.max() <= start.delta[1] * 1.001
    assert abs(lm.backbone.embedding.weight.std() - start.embedding) < 0.01
