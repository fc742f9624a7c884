"""The time that a stage's scoring, selecting and gathering take, measured around the stage itself."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deltaprune.cost.timing import wait
from deltaprune.rows import Rows
from deltaprune.selection import Selection
from deltaprune.steps import Reduce, Score, Stage, Step
from deltaprune.trace import Trace


class Stopwatch:
    """Adds up the time from the call of a stage's score to the end of its reduction."""

    def __init__(self, device: torch.device):
        self.device, self.ms, self._begin = device, 0.0, 0.0

    def on(self, step: Step) -> Step:
        """The same stage, timed; a step that needs no score is returned unchanged."""
        if not isinstance(step, Stage) or step.score is None:
            return step
        return replace(step, score=_TimedScore(step.score, self), reduce=_TimedReduce(step.reduce, self))

    def start(self) -> None:
        """Called before a score."""
        wait(self.device)
        self._begin = time.perf_counter()

    def stop(self) -> None:
        """Called when the survivors are chosen."""
        wait(self.device)
        self.ms += 1000 * (time.perf_counter() - self._begin)


@dataclass(frozen=True)
class _TimedScore(Score):
    score: Score
    watch: Stopwatch

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", self.score.needs)
        object.__setattr__(self, "sees_text", self.score.sees_text)

    def __call__(self, rows: Rows, trace: Trace) -> Tensor:
        self.watch.start()
        return self.score(rows, trace)


@dataclass(frozen=True)
class _TimedReduce(Reduce):
    reduce: Reduce
    watch: Stopwatch

    def choose(self, stage: Stage, scores: Tensor | None, rows: Rows) -> Selection:
        return self.reduce.choose(stage, scores, rows)

    def __call__(self, rows: Rows, kept: Selection) -> Rows:
        rows = self.reduce(rows, kept)
        self.watch.stop()
        return rows
