"""How a model behaves while it is trained: accuracy by exit and skill, and what pruning costs it, on validation.

A model is worth shipping when both sides hold: the late one (withdrawing the image after 0.7 of the depth costs
nothing, after half of it a lot) and the early one (half of the visual tokens can go).
"""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

import deltaprune as dp
from deltaprune.benchmarks.scenes import SKILLS, Scenes
from deltaprune.evaluate import evaluate
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.network import MLLM, MLLMConfig
from deltaprune.mllm.processor import Processor
from training.lessons import KINDS, Lessons
from training.network import Classroom

WITHDRAW = (0.5, 0.6, 0.7, 0.8, 0.9)  # shares of the depth
EARLY = (0.15, 0.23, 0.3)
KEEP = (0.5, 0.25)


@dataclass(frozen=True)
class Watch:
    """What is tried, and on how much.

    Args:
        questions: validation questions each method answers.
        pictures: validation pictures whose answers are read off at the exits.
    """

    questions: int = 120
    pictures: int = 32

    def __call__(self, classroom: Classroom, model: MLLM, processor: Processor) -> dict[str, dict[str, float]]:
        """Percent right: `exits` by depth and skill (answer tokens), `methods` the mean over skills."""
        found = exits(classroom, model.config, processor.tokenizer, self.pictures)
        return {"exits": found, "methods": self.methods(model, processor)}

    def methods(self, model: MLLM, processor: Processor) -> dict[str, float]:
        """Mean over skills: none, then withdrawal by depth, then DTP and random choice by early layer and keep."""
        n, late = model.config.lm.n_layers, round(0.7 * model.config.lm.n_layers)
        methods: dict[str, dp.Method] = {"none": NoPruning()}
        methods |= {f"vtw {round(share * n)}": dp.VTW(round(share * n)) for share in WITHDRAW}
        for early in sorted({round(share * n) for share in EARLY}):
            for keep in KEEP:
                methods[f"dtp {early} {keep}"] = dp.DTP(keep, early, late)
                methods[f"random {early} {keep}"] = dp.RandomPruning(keep, early, late)
        vlm = dp.VLM(model, processor.eos_id)
        tried = list(methods.values())
        rows = evaluate(vlm, processor, Scenes(), tried, split="val", limit=self.questions, batch_size=48)
        return {name: round(row.mean, 1) for name, row in zip(methods, rows, strict=True)} | {
            f"none {skill}": round(value, 1) for skill, value in rows[0].by_skill.items()
        }


@torch.no_grad()
def exits(classroom: Classroom, config: MLLMConfig, tokenizer: Tokenizer, pictures: int) -> dict[str, float]:
    """Percent of answer tokens that are right after each exit, e.g. `14 reading`, on so many validation pictures."""
    lessons = Lessons(config, tokenizer, pictures, classroom.recipe.questions, 0, split="val")
    lesson = lessons.lesson(range(pictures))
    kind = lesson.skill[lesson.targets >= 0]
    return {
        f"{k} {skill}": round(100 * right[kind == KINDS.index(skill)].float().mean().item(), 1)
        for k, right in classroom(lesson).right.items()
        for skill in SKILLS
    }
