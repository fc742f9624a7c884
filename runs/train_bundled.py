"""Train the bundled model from nothing, or take a run up again; the same script on CPU and GPU.

    python runs/train_bundled.py --minutes 90                       # a fresh run, checkpoints under checkpoints/bundled
    python runs/train_bundled.py --minutes 60                       # goes on where the last run stood
    python runs/train_bundled.py --minutes 8 --device cuda --pictures 128

The learning rate is constant and falls to zero over the last quarter of the minutes; `constant.pt` is the state just
before that fall, where the next run takes up. `annealed` is a model folder that `deltaprune.load` reads.
"""

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from bundled.lessons import Lesson, Lessons
from bundled.muon import Muon
from bundled.network import Classroom
from bundled.recipe import CONFIG, Recipe
from bundled.vocabulary import train_tokenizer
from deltaprune.benchmarks.scenes import SKILLS, corpus
from deltaprune.models._folder import save_folder
from deltaprune.models._mllm import MLLM


class Run:
    """Everything a run needs to go on: model, optimizer, counters, log."""

    def __init__(self, out: Path, recipe: Recipe, device: str):
        self.out, self.recipe, self.device = out, recipe, device
        torch.manual_seed(recipe.seed)
        self.tokenizer = train_tokenizer(corpus(20_000), CONFIG.lm.vocab_size)
        if self.tokenizer.get_vocab_size() > CONFIG.lm.vocab_size:
            raise SystemExit(
                f"The tokenizer has {self.tokenizer.get_vocab_size()} tokens; raise vocab_size in recipe.py."
            )
        model = MLLM(CONFIG)
        model.lm.reset_parameters()
        self.classroom = Classroom(model).to(device)
        matrices, rest = self._split()
        self.optimizers = [
            Muon(matrices, lr=recipe.rate, weight_decay=recipe.decay),
            torch.optim.AdamW(rest, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self.pictures, self.seconds, self.log = 0, 0.0, []

    def _split(self) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
        """The matrices inside the network, and everything else: embeddings, heads, convolutions, A, biases, norms."""
        matrices, rest = [], []
        for name, p in self.classroom.named_parameters():
            outside = name.startswith("heads") or "embedding" in name or name.endswith("A_log")
            (rest if outside or p.ndim != 2 else matrices).append(p)
        return matrices, rest

    def save(self, name: str) -> None:
        """Write a checkpoint; an interrupted write leaves the old one."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "classroom": self.classroom.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "pictures": self.pictures,
            "seconds": self.seconds,
            "log": self.log,
        }
        partial = self.out / (name + ".partial")
        torch.save(state, partial)
        partial.replace(self.out / name)

    def resume(self) -> bool:
        """Load the newest constant-rate checkpoint, if there is one."""
        path = self.out / "constant.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.classroom.load_state_dict(state["classroom"])
        for optimizer, held in zip(self.optimizers, state.get("optimizers", []), strict=False):
            optimizer.load_state_dict(held)
        self.pictures, self.seconds, self.log = state["pictures"], state["seconds"], state["log"]
        return True

    def step(self, lesson: Lesson, rate: float) -> dict[str, float]:
        """One update; returns losses and accuracy by skill."""
        lesson = to_device(lesson, self.device)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        answers, dense, right = self.classroom(lesson)
        self.classroom.zero_grad(set_to_none=True)
        (answers + self.recipe.dense_weight * dense).backward()
        torch.nn.utils.clip_grad_norm_(self.classroom.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.pictures += len(lesson.pixels)
        return {"loss": answers.item(), "dense": dense.item(), **by_skill(lesson, right, self.tokenizer)}


def to_device(lesson: Lesson, device: str) -> Lesson:
    """The lesson with every tensor on `device`."""
    if device == "cpu":
        return lesson
    moved = {k: v.to(device, non_blocking=True) for k, v in vars(lesson).items() if isinstance(v, torch.Tensor)}
    return Lesson(**{**vars(lesson), **moved, "patches": {k: v.to(device) for k, v in lesson.patches.items()}})


def by_skill(lesson: Lesson, right: torch.Tensor, tokenizer) -> dict[str, float]:
    """Share of first answer tokens that are right, by skill (the end-of-text token is left out)."""
    asked = lesson.targets >= 0
    eos = lesson.targets[asked] == tokenizer.token_to_id("<|endoftext|>")
    skill, right = lesson.skill[asked][~eos].cpu(), right[~eos].cpu().float()
    return {name: right[skill == i].mean().item() for i, name in enumerate(SKILLS) if (skill == i).any()}


def main(
    minutes: Annotated[float, typer.Option(help="How long to train, the anneal included.")] = 60,
    device: str = "cpu",
    pictures: Annotated[int, typer.Option(help="Pictures per step.")] = 16,
    workers: Annotated[int, typer.Option(help="Processes that draw pictures.")] = 1,
    out: Path = Path("checkpoints/bundled"),
    fresh: Annotated[bool, typer.Option(help="Ignore an earlier run in OUT.")] = False,
) -> None:
    """Train, log every 50 steps, checkpoint every 5 minutes, end with a model folder."""
    recipe = Recipe()
    run = Run(out, recipe, device)
    taken_up = not fresh and run.resume()
    lessons = Lessons(CONFIG, run.tokenizer, pictures, recipe.questions, start=run.pictures)
    stream = iter(DataLoader(lessons, batch_size=None, num_workers=workers, prefetch_factor=4))
    begin, before, saved, annealing, recent = time.monotonic(), run.seconds, time.monotonic(), False, []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("taken up" if taken_up else "fresh", total=minutes * 60)
        while (spent := time.monotonic() - begin) < minutes * 60:
            left = 1 - spent / (minutes * 60)
            if left < recipe.anneal and not annealing:
                annealing = True
                run.save("constant.pt")
            warm = min(1.0, (run.pictures / pictures + 1) / recipe.warm_up)
            result = run.step(next(stream), recipe.rate * warm * min(1.0, left / recipe.anneal))
            run.seconds = before + time.monotonic() - begin
            recent.append(result)
            if len(recent) == 50:
                entry = summary(recent, run)
                run.log.append(entry)
                recent = []
                progress.console.print(json.dumps(entry), soft_wrap=True)
            if not annealing and time.monotonic() - saved > 300:
                run.save("constant.pt")
                saved = time.monotonic()
            progress.update(task, completed=spent, description=f"{run.pictures:,} pictures")
    model = run.classroom.model
    save_folder(out / "annealed", model, run.tokenizer)
    (out / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in run.log))


def summary(recent: list[dict[str, float]], run: Run) -> dict[str, float]:
    """Means of the last steps."""
    means = {key: round(float(np.mean([r[key] for r in recent if key in r])), 4) for key in ("loss", "dense", *SKILLS)}
    return {"pictures": run.pictures, "minutes": round(run.seconds / 60, 1), **means}


if __name__ == "__main__":
    typer.run(main)
