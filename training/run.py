"""A training run: model, optimizers, counters, log; what is saved and how it is taken up again."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deltaprune.benchmarks.scenes import corpus
from training import drills
from training.courses import COURSES, Course
from training.lessons import KINDS, Lesson
from training.muon import Muon
from training.network import Classroom
from training.recipe import SCENES, Recipe
from training.vocabulary import train_tokenizer

CHECKPOINT = "run.pt"


class Run:
    """Everything a run needs to go on: model, its running average, optimizers, counters, log."""

    def __init__(self, out: Path, recipe: Recipe, device: str, course: Course = COURSES["bundled"]):
        self.out, self.recipe, self.device, self.course = out, recipe, device, course
        torch.manual_seed(recipe.seed)
        self.tokenizer = train_tokenizer([*corpus(20_000, version=SCENES), *drills.corpus(1000)], course.vocab_size)
        self.tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in course.marks])
        if self.tokenizer.get_vocab_size() > course.vocab_size:
            raise SystemExit(
                f"The tokenizer has {self.tokenizer.get_vocab_size()} tokens; raise vocab_size in recipe.py."
            )
        model = course.build()
        self.classroom = Classroom(model, recipe, course.learner).to(device)
        matrices, rest = self._split()
        self.optimizers = [
            Muon(matrices, lr=recipe.rate, weight_decay=recipe.decay),
            torch.optim.AdamW(rest, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average))
        self.pictures, self.seconds, self.log = 0, 0.0, []

    def _split(self) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
        """The matrices inside the network, and everything else: embeddings, heads, convolutions, A, biases, norms."""
        matrices, rest = [], []
        for name, p in self.classroom.named_parameters():
            outside = name.startswith("heads") or "embed" in name or name.endswith("A_log")
            (rest if outside or p.ndim != 2 else matrices).append(p)
        return matrices, rest

    def save(self) -> None:
        """Write the checkpoint; an interrupted write leaves the old one."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "classroom": self.classroom.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "pictures": self.pictures,
            "seconds": self.seconds,
            "log": self.log,
        }
        partial = self.out / f"{CHECKPOINT}.partial"
        torch.save(state, partial)
        partial.replace(self.out / CHECKPOINT)

    def resume(self) -> bool:
        """Load the checkpoint, if there is one: the run goes on exactly as if it had not been interrupted."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.classroom.load_state_dict(state["classroom"])
        self.average.load_state_dict(state["average"])
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        self.pictures, self.seconds, self.log = state["pictures"], state["seconds"], state["log"]
        return True

    def publish(self, folder: Path, averaged: bool = False) -> None:
        """Write a model folder that `deltaprune.load` reads, and the log; `averaged`: the running average."""
        model = self.average.module if averaged else self.classroom.model
        about = {"pictures": self.pictures, "minutes": round(self.seconds / 60, 1)}
        self.course.save(folder, model, self.tokenizer, about)
        (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in self.log))

    def step(self, lesson: Lesson) -> dict[str, float]:
        """One update; returns losses and accuracy by skill."""
        lesson, recipe = to_device(lesson, self.device), self.recipe
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate_at(self.pictures)
        result = self.classroom(lesson)
        self.classroom.zero_grad(set_to_none=True)
        loss = result.answers + recipe.exit_weight * result.exits
        (loss + recipe.dense_weight * result.dense + recipe.drift_weight * result.drift).backward()
        torch.nn.utils.clip_grad_norm_(self.classroom.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update_parameters(self.classroom.model)
        self.pictures += len(lesson.pixels)
        losses = {name: getattr(result, name).item() for name in ("answers", "exits", "dense", "drift")}
        return losses | by_skill(lesson, result.right[max(result.right)], self.tokenizer)


def to_device(lesson: Lesson, device: str) -> Lesson:
    """The lesson with every tensor on `device`."""
    if device == "cpu":
        return lesson
    moved = {k: v.to(device, non_blocking=True) for k, v in vars(lesson).items() if isinstance(v, torch.Tensor)}
    return Lesson(**{**vars(lesson), **moved, "patches": {k: v.to(device) for k, v in lesson.patches.items()}})


def by_skill(lesson: Lesson, right: torch.Tensor, tokenizer) -> dict[str, float]:
    """Share of answer tokens that are right, by skill or drill (the end-of-text token is left out)."""
    asked = lesson.targets >= 0
    eos = lesson.targets[asked] == tokenizer.token_to_id("<|endoftext|>")
    skill, right = lesson.skill[asked][~eos].cpu(), right[~eos].cpu().float()
    return {name: right[skill == i].mean().item() for i, name in enumerate(KINDS) if (skill == i).any()}
