"""Doors: is a drawn door open? The pictures are drawn, so that there is nothing to download."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from PIL import Image, ImageDraw

from deltaprune.benchmarks import Benchmark, Greedy, Protocol, Sample, mean_of_skills, registry

COLOURS = ("red", "blue")


@registry.register("doors")
@dataclass(frozen=True)
class Doors(Benchmark):
    """Two questions about each of eight doors."""

    name: ClassVar[str] = "doors"
    version: ClassVar[int] = 1
    split: ClassVar[str] = "test"
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "official": Protocol(
            message=lambda sample: sample.question,
            grade=lambda sample, said: float(said.strip().lower() == sample.answer),
            decoding=Greedy(max_new_tokens=4),
            summary=mean_of_skills,
            source="a test",
        )
    }

    def samples(self, split: str, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        return itertools.islice(itertools.chain.from_iterable(map(self._about, range(8))), limit)

    def _about(self, number: int) -> Iterator[Sample]:
        picture, draw = str(number), partial(_draw, number)
        yield Sample(f"{number}a", picture, draw, "Is the door open?", "yes" if number % 3 == 0 else "no", "open")
        yield Sample(f"{number}b", picture, draw, "Which colour is the door?", COLOURS[number % 2], "colour")


def _draw(number: int) -> Image.Image:
    picture = Image.new("RGB", (64, 64), "white")
    width = 10 if number % 3 == 0 else 30
    ImageDraw.Draw(picture).rectangle((10, 5, 10 + width, 60), fill=COLOURS[number % 2])
    return picture
