"""Drills: look-ups in the fewest words, dozens of them per picture; only training meets them.

A question takes a dozen rows to ask for one thing, and looking things up never formed from questions alone. A drill
asks in two to five (" color circle" -> "red"), so one picture exercises every thing in it, and the questions then find
what they need already there. Columns and rows, tenths of the picture, are the stepping stone to relations.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deltaprune.benchmarks.scenes import Scene, scene_seed
from deltaprune.benchmarks.scenes.questions import MARGIN, UNANSWERABLE, corner
from deltaprune.benchmarks.scenes.world import COLORS, SHAPES, SIDE, Thing
from training.recipe import SCENES

FORMS = ("color", "shape", "size", "corner", "column", "row", "count", "left", "right", "above", "below")


@dataclass(frozen=True)
class Drill:
    """`form` is the prompt's first word, and the name in the log."""

    form: str
    words: str
    answer: str

    @property
    def text(self) -> str:
        """What the model reads, e.g. " column red circle"."""
        return f" {self.form}{self.words}"


def drills(things: Sequence[Thing], rng: np.random.Generator, n: int) -> list[Drill]:
    """At most `n` drills on a scene, drawn without repetition."""
    every = [*_by_half(things), *_by_name(things), *_counts(things, rng), *_relations(things, rng)]
    return [every[i] for i in rng.permutation(len(every))[:n]]


def _by_half(things: Sequence[Thing]) -> Iterator[Drill]:
    """The colour of each shape and the shape of each colour, where there is one answer or none."""
    for form, asked, keys in (("color", "shape", SHAPES), ("shape", "color", COLORS)):
        for key in keys:
            answers = {getattr(thing, form) for thing in things if getattr(thing, asked) == key}
            if len(answers) < 2:
                yield Drill(form, f" {key}", answers.pop() if answers else UNANSWERABLE)


def _by_name(things: Sequence[Thing]) -> Iterator[Drill]:
    """Size, corner, column and row of the things that a name fits alone."""
    for thing in _unique(things):
        name = _words(thing.name)
        yield Drill("size", name, thing.size)
        yield Drill("column", name, str(int(10 * thing.x / SIDE)))
        yield Drill("row", name, str(int(10 * thing.y / SIDE)))
        if corner(thing):
            yield Drill("corner", name, corner(thing))


def _counts(things: Sequence[Thing], rng: np.random.Generator) -> Iterator[Drill]:
    """How many of all, of each colour and shape, of the names there are and as many that there are not."""
    yield Drill("count", "", str(len(things)))
    for values, keys in ((Counter(t.color for t in things), COLORS), (Counter(t.shape for t in things), SHAPES)):
        for key in keys:
            if values[key] or rng.random() < 0.3:
                yield Drill("count", f" {key}", str(values[key]))
    names = Counter(thing.name for thing in things)
    absent = [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in names]
    for name in [*names, *(absent[i] for i in rng.permutation(len(absent))[: len(names)])]:
        yield Drill("count", _words(name), str(names[name]))


def _relations(things: Sequence[Thing], rng: np.random.Generator, most: int = 8) -> Iterator[Drill]:
    """Is the first left of (right of, above, below) the second? Half of them are."""
    named = _unique(things)
    pairs = [(a, b, axis) for a in named for b in named for axis in (0, 1) if abs(_gap(a, b, axis)) >= MARGIN]
    for i in rng.permutation(len(pairs))[:most]:
        first, second, axis = pairs[i]
        turned = rng.random() < 0.5
        form = (("left", "right"), ("above", "below"))[axis][turned]
        yield Drill(form, _words(first.name) + _words(second.name), str((_gap(first, second, axis) > 0) != turned))


def _gap(first: Thing, second: Thing, axis: int) -> float:
    return second.x - first.x if axis == 0 else second.y - first.y


def _unique(things: Sequence[Thing]) -> list[Thing]:
    names = Counter(thing.name for thing in things)
    return [thing for thing in things if names[thing.name] == 1]


def _words(name: tuple[str, str]) -> str:
    return f" {name[0]} {name[1]}"


def corpus(n: int) -> list[str]:
    """Drills on `n` scenes of the train split and their answers, for the tokenizer."""
    rng = np.random.default_rng(0)
    scenes = (Scene.from_seed(scene_seed("train", 0, index), SCENES) for index in range(n))
    return [text for scene in scenes for drill in drills(scene.things, rng, 20) for text in (drill.text, drill.answer)]
