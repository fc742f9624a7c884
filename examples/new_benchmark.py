"""A benchmark of your own: is a patch of one colour red? Answers are graded by their first word.

python examples/new_benchmark.py
deltaprune evaluate --plugin examples/new_benchmark.py --benchmark red --method none --method dtp:keep=0.5
"""

import itertools
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from PIL import Image

import deltaprune as dp
from deltaprune.benchmarks import Benchmark, Greedy, Protocol, Sample, mean_of_questions, registry
from deltaprune.evaluate import evaluate

COLOURS = ("red", "blue", "green", "yellow")


@registry.register("red")
@dataclass(frozen=True)
class Red(Benchmark):
    """Four patches, one question about each."""

    name: ClassVar = "red"
    version: ClassVar = 1
    split: ClassVar = "test"
    protocols: ClassVar = {
        "official": Protocol(
            message=lambda sample: sample.question,
            grade=lambda sample, said: float(said.lower().split()[:1] == [sample.answer]),
            decoding=Greedy(max_new_tokens=4),
            summary=mean_of_questions,
            source="this file",
        )
    }

    def samples(self, split, seed=0, limit=None):
        return itertools.islice((self.about(colour) for colour in COLOURS), limit)

    def about(self, colour):
        draw = partial(Image.new, "RGB", (160, 160), colour)
        return Sample(colour, colour, draw, "Is the picture red?", "yes" if colour == "red" else "no", "colour")


if __name__ == "__main__":
    for row in evaluate(*dp.load("bundled"), Red(), ["none", "dtp:keep=0.5"]):
        print(row.method, row.mean)
