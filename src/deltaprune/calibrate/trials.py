"""How far a schedule of layers moves the model's own answers: the search's memory of what enters each layer."""

from collections.abc import Mapping, Sequence

from deltaprune.calibrate.own_answers import Flow, Lesson, divergence_of, flows
from deltaprune.mean_states import MeanStates
from deltaprune.plan import How
from deltaprune.steps import Stage
from deltaprune.vlm import VLM

Schedule = Mapping[int, How]  # layer -> how visual rows pass it by; the other layers update them


class Trials:
    """Trials of schedules on some lessons, beginning at the current one.

    What enters each layer under the current schedule is stored, so a trial runs from the first layer that differs on.

    Args:
        vlm: the model.
        lessons: what is asked.
        hows, js: the current schedule and its divergence.
        means: the mean states, for layers at "mean".
        store: bytes of rows that may be stored; beyond, every trial runs from the first layer on.

    Attributes:
        evaluations: how many trials there were.
    """

    def __init__(
        self, vlm: VLM, lessons: Sequence[Lesson], hows: Schedule, js: float, means: MeanStates | None, store: int
    ):
        self.model, self.lessons, self.means = vlm.model.lm, lessons, means
        self.n_layers = vlm.shape.n_layers
        size = sum(each.image.x.nbytes + each.text.x.nbytes for each in lessons) * (self.n_layers + 1)
        self.stores = size <= store
        self.evaluations = 0
        self.hows, self.js = dict(hows), js
        self.kept = self._kept(0, None)

    def __call__(self, hows: Schedule, stage: Stage | None = None) -> float:
        """JS of a schedule, nats: mean over questions of the mean over the answer's tokens; `stage` drops rows."""
        self.evaluations += 1
        total, count = 0.0, 0
        first = self._first_difference(hows)
        first = first if stage is None else min(first, stage.after)
        for i, given in enumerate(self.lessons):
            begin = (self.kept[i][first], first) if self.stores else (None, 0)
            last = flows(self.model, given, hows, *begin, self.means, stage)[-1]
            total += len(given.counts) * divergence_of(self.model, given, last)
            count += len(given.counts)
        return total / count

    def accept(self, hows: Schedule, js: float) -> None:
        """This is the current schedule from now on."""
        first = self._first_difference(hows)
        self.hows, self.js = dict(hows), js
        if self.stores:
            self.kept = self._kept(first, self.kept)

    def _first_difference(self, hows: Schedule) -> int:
        """The first layer that two schedules run differently; the last layer if there is none."""
        differ = (l for l in range(self.n_layers) if hows.get(l) != self.hows.get(l))
        return next(differ, self.n_layers - 1)

    def _kept(self, first: int, before: list[list[Flow]] | None) -> list[list[Flow]]:
        if not self.stores:
            return []
        return [
            (before[i][:first] if before else [])
            + flows(self.model, given, self.hows, before[i][first] if before else None, first, self.means)
            for i, given in enumerate(self.lessons)
        ]
