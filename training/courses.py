"""The models that `python -m training.train` makes: what each is built of, how it is watched and saved."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn

import deltaprune as dp
from deltaprune.checkpoints.folder import save_folder
from deltaprune.errors import UserError, did_you_mean
from deltaprune.mllm.network import MLLM
from deltaprune.mllm.processor import Processor
from training.hybrid import HybridLearner
from training.hybrid_folder import MARKS, save_hybrid
from training.hybrid_start import new_hybrid
from training.network import Classroom, Learner, MambaLearner, begin
from training.recipe import CONFIG, HYBRID, Recipe, Start, hybrid_config
from training.watch import Watch, exits


@dataclass(frozen=True)
class Course:
    """One model.

    Attributes:
        recipe: its schedule.
        vocab_size: of its tokenizer, at most.
        marks: special tokens that its tokenizer has besides.
        build: random weights -> model; the seed has been set.
        learner: how a classroom goes through it.
        save: (folder, model, tokenizer, about) writes a folder that `deltaprune.load` reads.
        look: (classroom, average, tokenizer) -> what validation says.
    """

    recipe: Recipe
    vocab_size: int
    marks: tuple[str, ...]
    build: Callable[[], nn.Module]
    learner: Callable[[Any], Learner]
    save: Callable[[Path, Any, Tokenizer, dict[str, Any]], None]
    look: Callable[[Classroom, nn.Module, Tokenizer], dict[str, Any]]


def _bundled() -> MLLM:
    model = MLLM(CONFIG)
    begin(model.lm, Start())
    return model


def _save_bundled(folder: Path, model: MLLM, tokenizer: Tokenizer, about: dict[str, Any]) -> None:
    save_folder(folder, model, tokenizer, dataclasses.replace(model.config, about=about))


def _look_bundled(classroom: Classroom, average: nn.Module, tokenizer: Tokenizer) -> dict[str, Any]:
    assert isinstance(average, MLLM)
    return Watch()(classroom, average, Processor(CONFIG, tokenizer))


def _hybrid() -> nn.Module:
    """Its tower starts from the bundled model's."""
    return new_hybrid(hybrid_config(), dp.load("bundled")[0].model)


def _look_hybrid(classroom: Classroom, average: nn.Module, tokenizer: Tokenizer) -> dict[str, Any]:
    """Answers of the running average, read off with the answer's beginning given."""
    averaged = Classroom(average, classroom.recipe, HybridLearner)
    averaged.heads = classroom.heads
    return {"exits": exits(averaged, CONFIG, tokenizer, Watch.pictures)}


COURSES = {
    "bundled": Course(Recipe(), CONFIG.lm.vocab_size, (), _bundled, MambaLearner, _save_bundled, _look_bundled),
    "hybrid": Course(HYBRID, CONFIG.lm.vocab_size, MARKS, _hybrid, HybridLearner, save_hybrid, _look_hybrid),
}


def course_of(name: str) -> Course:
    """By name.

    Raises:
        UserError: there is none of this name.
    """
    if name not in COURSES:
        raise UserError(f"There is no model {name!r} to train: {did_you_mean(name, COURSES)}.")
    return COURSES[name]
