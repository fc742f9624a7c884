"""A scene: everything that follows from one integer seed."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from deltaprune.benchmarks.scenes.drawing import draw
from deltaprune.benchmarks.scenes.labels import patch_labels
from deltaprune.benchmarks.scenes.layout import LAYOUTS, lay_out
from deltaprune.benchmarks.scenes.questions import SKILLS, Facts, Question, ask
from deltaprune.benchmarks.scenes.world import Random, Sign, Thing, weighted
from deltaprune.errors import UserError, did_you_mean

VERSION = 2  # of the benchmark, unless another is asked for


@dataclass(frozen=True)
class Scene:
    """Two to five coloured shapes and perhaps a sign; `Scene.from_seed(7)` is the same picture in every process.

    Args:
        seed: the integer all of it follows from.
        things: the objects, the large ones first.
        sign: the plate with its letter and digit, or None.
        version: of the benchmark; it decides how the picture is drawn.
    """

    seed: int
    things: tuple[Thing, ...] = field(repr=False)
    sign: Sign | None = field(repr=False)
    version: int = VERSION

    @staticmethod
    def from_seed(seed: int, version: int = VERSION) -> "Scene":
        """The scene of a seed (any integer >= 0)."""
        things, sign = lay_out(np.random.Generator(np.random.PCG64([seed, 0])), LAYOUTS[version])
        return Scene(seed, things, sign, version)

    @cached_property
    def image(self) -> Image.Image:
        """The picture, RGB, 160 x 160; drawn when first asked for."""
        return draw(self.things, self.sign, np.random.Generator(np.random.PCG64([self.seed, 1])), self.version)

    def ask(self, skill: str, rng: Random) -> Question | None:
        """One question of a skill, or None where the scene has nothing to ask about (reading without a sign)."""
        if skill not in SKILLS:
            raise UserError(f"There is no skill {skill!r}: {did_you_mean(skill, SKILLS)}.")
        return ask(skill, Facts(self.things, self.sign), rng)

    def questions(self, rng: Random, n: int, weights: dict[str, float] | None = None) -> list[Question]:
        """`n` questions of mixed skills, the skills drawn by `weights` (all alike unless given).

        A skill that the scene cannot ask gives way to the others, and a question is rarely repeated. `rng` is a numpy
        Generator or a `random.Random`.
        """
        weights = dict.fromkeys(SKILLS, 1.0) if weights is None else dict(weights)
        asked: list[Question] = []
        texts: set[str] = set()
        while len(asked) < n and any(weights.values()):
            skill = weighted(rng, weights)
            question = self.ask(skill, rng)
            if question is not None and question.text in texts:
                question = self.ask(skill, rng)
            if question is None:
                del weights[skill]
                continue
            asked.append(question)
            texts.add(question.text)
        return asked

    def patch_labels(self, grid: int = 10) -> dict[str, np.ndarray]:
        """Per patch, row-major: classes `color`, `shape`, `glyph` (0 = nothing) and the thing's centre `x`, `y`."""
        return patch_labels(self.things, self.sign, grid)
