"""The evaluation stream: fixed pictures by split and seed, one question of each skill about each."""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._base import Benchmark, Greedy, Protocol, Sample, mean_of_skills
from deltaprune.benchmarks.scenes.questions import SKILLS, Question
from deltaprune.benchmarks.scenes.scene import VERSION, Scene
from deltaprune.errors import UserError, did_you_mean

SPLITS = ("train", "val", "test")
_STREAM = 0x5CE9E5  # keeps these seeds distinct from other programs'


def scene_seed(split: str, seed: int, index: int) -> int:
    """The seed of the index-th scene of a split; its remainder by 4 is the split, so no two splits share a scene."""
    if split not in SPLITS:
        raise UserError(f"scenes has no split {split!r}: {did_you_mean(split, SPLITS)}.")
    number = SPLITS.index(split)
    high, low = np.random.SeedSequence([_STREAM, number, seed, index]).generate_state(2, np.uint64).tolist()
    return ((high << 64 | low) << 2) + number


def normalise(answer: str) -> str:
    """Lower case, no spaces, no trailing period: "K 7." equals "k7"."""
    return "".join(answer.lower().split()).rstrip(".")


def exact_match(sample: Sample, prediction: str) -> float:
    """1 for the right answer, whatever its case, its spacing or a trailing period, else 0."""
    return float(normalise(prediction) == normalise(sample.answer))


OFFICIAL = Protocol(
    message=lambda sample: sample.question,
    grade=exact_match,
    decoding=Greedy(max_new_tokens=8),
    summary=mean_of_skills,
    source="deltaprune's own",
    checked=True,
)


@dataclass(frozen=True)
class _Stream(Benchmark):
    """An endless stream of scenes; the versions differ in how a picture is drawn, not in what is asked.

    Args:
        pictures: how many pictures a split has when no limit is given; the stream itself never ends.
    """

    split: ClassVar[str] = "test"
    protocols: ClassVar[Mapping[str, Protocol]] = {"official": OFFICIAL}
    pictures: int = 1000

    def samples(self, split: str, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        """Picture after picture, one question of each skill; a picture without a sign has no reading question."""
        indices = range(self.pictures) if limit is None else itertools.count()
        about = itertools.chain.from_iterable(self._about(split, seed, index) for index in indices)
        return itertools.islice(about, limit)

    def asked(self, split: str, ids: Collection[str]) -> Iterator[Sample]:
        """The questions with these ids, of any seed; the stream has no end, so a file never answers all of it."""
        found = (re.fullmatch(rf"{split}-(\d+)-(\d{{6,}})-\w+", name) for name in ids)
        pictures = dict.fromkeys((int(each[1]), int(each[2])) for each in found if each is not None)
        if not pictures:
            return self.samples(split)
        named = set(ids)
        about = itertools.chain.from_iterable(self._about(split, seed, index) for seed, index in pictures)
        return (sample for sample in about if sample.id in named)

    def _about(self, split: str, seed: int, index: int) -> Iterator[Sample]:
        """The questions about one picture."""
        scene, questions = picture(split, seed, index, self.version)
        image_id = f"{split}-{seed}-{index:06d}"
        for asked in questions:
            load = _Load(scene)
            yield Sample(f"{image_id}-{asked.skill}", image_id, load, asked.text, asked.answer, asked.skill)


@registry.register("scenes")
@dataclass(frozen=True)
class Scenes(_Stream):
    """Version 2: textured grounds, five typefaces, things of 14 to 54 pixels. See the package's docstring."""

    name: ClassVar[str] = "scenes"
    version: ClassVar[int] = 2


@registry.register("scenes1")
@dataclass(frozen=True)
class Scenes1(_Stream):
    """Version 1: plain grounds, one typeface, things of 15 to 42 pixels. The first bundled model was trained on it."""

    name: ClassVar[str] = "scenes1"
    version: ClassVar[int] = 1


@dataclass(frozen=True)
class _Load:
    """Draws a scene when called; the samples of one picture share the drawing."""

    scene: Scene

    def __call__(self) -> Image.Image:
        return self.scene.image


def picture(split: str, seed: int, index: int, version: int = VERSION) -> tuple[Scene, list[Question]]:
    """The index-th scene and its questions, redrawn until every skill but reading can be asked."""
    first = scene_seed(split, seed, index)
    rng = np.random.default_rng(first)
    for attempt in itertools.count():
        scene = Scene.from_seed(first + 4 * attempt, version)
        asked = {skill: scene.ask(skill, rng) for skill in SKILLS}
        if all(asked[skill] for skill in SKILLS if skill != "reading"):
            return scene, [question for question in asked.values() if question]
    raise AssertionError("unreachable: the attempts never end")


def corpus(n: int, seed: int = 0, version: int = VERSION) -> list[str]:
    """`n` questions of the train split and their answers, in turn: text to train a tokenizer on."""
    rng = np.random.default_rng([_STREAM, seed])
    texts: list[str] = []
    for index in itertools.count():
        if len(texts) >= 2 * n:
            return texts[: 2 * n]
        for question in Scene.from_seed(scene_seed("train", seed, index), version).questions(rng, 12):
            texts += [question.text, question.answer]
    raise AssertionError("unreachable: the scenes never end")
