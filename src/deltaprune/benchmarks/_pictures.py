"""A benchmark's samples, picture by picture, as calibration and analysis ask them."""

from collections.abc import Iterator
from itertools import groupby, islice

from PIL import Image

from deltaprune.benchmarks._base import Benchmark, Sample


def by_picture(benchmark: Benchmark, split: str, seed: int, n: int) -> list[list[Sample]]:
    """The first `n` pictures of a split, each with all its questions."""
    pictures = groupby(benchmark.samples(split, seed), key=lambda sample: sample.image_id)
    return [list(questions) for _, questions in islice(pictures, n)]


def one_of_each(benchmark: Benchmark, split: str, seed: int, n: int) -> list[Sample]:
    """One question about each of `n` pictures, of each kind in turn, because kinds may differ."""
    return [questions[i % len(questions)] for i, questions in enumerate(by_picture(benchmark, split, seed, n))]


def messages_about(benchmark: Benchmark, split: str, seed: int, n: int) -> Iterator[tuple[Image.Image, list[str]]]:
    """Each of `n` pictures and what the user says about it, all questions."""
    for questions in by_picture(benchmark, split, seed, n):
        yield questions[0].image, [benchmark.rules.message(sample) for sample in questions]
