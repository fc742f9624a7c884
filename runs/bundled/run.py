"""A training run: model, optimizers, counters, log; what is saved and how it is taken up again."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bundled import drills
from bundled.lessons import KINDS, Lesson
from bundled.muon import Muon
from bundled.network import Classroom, begin
from bundled.recipe import CONFIG, Recipe, Start
from bundled.vocabulary import train_tokenizer
from deltaprune.benchmarks.scenes import corpus
from deltaprune.models._folder import save_folder
from deltaprune.models._mllm import MLLM

HEADS = Path(__file__).parent / "heads.safetensors"


class Run:
    """Everything a run needs to go on: model, optimizer, counters, log."""

    def __init__(self, out: Path, recipe: Recipe, device: str):
        self.out, self.recipe, self.device = out, recipe, device
        torch.manual_seed(recipe.seed)
        self.tokenizer = train_tokenizer([*corpus(20_000), *drills.corpus(1000)], CONFIG.lm.vocab_size)
        if self.tokenizer.get_vocab_size() > CONFIG.lm.vocab_size:
            raise SystemExit(
                f"The tokenizer has {self.tokenizer.get_vocab_size()} tokens; raise vocab_size in recipe.py."
            )
        model = MLLM(CONFIG)
        begin(model.lm, Start())
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
        """Load the newest constant-rate checkpoint, if there is one. A head that it lacks starts at random."""
        path = self.out / "constant.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        lacking = self.classroom.load_state_dict(state["classroom"], strict=False)
        foreign = [*lacking.unexpected_keys, *(key for key in lacking.missing_keys if not key.startswith("heads."))]
        assert not foreign, f"{path} is a checkpoint of another network: {foreign}"
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            for group, new in zip(held["param_groups"], optimizer.param_groups, strict=True):
                group["params"] = list(range(len(new["params"])))  # heads stand last
            optimizer.load_state_dict(held)
        self.pictures, self.seconds, self.log = state["pictures"], state["seconds"], state["log"]
        return True

    def start_from(self, folder: Path) -> None:
        """Take up a published model: its weights, its heads if they lie in the workshop, its place in the data."""
        self.classroom.model.load_state_dict(load_file(folder / "model.safetensors", device=self.device))
        if HEADS.exists():
            self.classroom.heads.load_state_dict(load_file(HEADS, device=self.device))
        about = json.loads((folder / "config.json").read_text())["about"]
        self.pictures, self.seconds = about["pictures"], 60 * about["minutes"]

    def publish(self, folder: Path) -> None:
        """Write a model folder that `deltaprune.load` reads, the heads beside it, and the log."""
        model = self.classroom.model
        about = {"pictures": self.pictures, "minutes": round(self.seconds / 60, 1)}
        save_folder(folder, model, self.tokenizer, replace(model.config, about=about))
        save_file(self.classroom.heads.state_dict(), folder / "heads.safetensors")
        (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in self.log))

    def step(self, lesson: Lesson, rate: float) -> dict[str, float]:
        """One update; returns losses and accuracy by skill."""
        lesson = to_device(lesson, self.device)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        answers, dense, drift, right = self.classroom(lesson)
        self.classroom.zero_grad(set_to_none=True)
        (answers + self.recipe.dense_weight * dense + self.recipe.drift_weight * drift).backward()
        torch.nn.utils.clip_grad_norm_(self.classroom.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.pictures += len(lesson.pixels)
        skills = by_skill(lesson, right, self.tokenizer)
        return {"loss": answers.item(), "dense": dense.item(), "drift": drift.item(), **skills}


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
