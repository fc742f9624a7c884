"""The time that a stage's scoring, selecting and gathering take, measured around the stage itself."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deltaprune.cost.timing import wait
from deltaprune.rows import Rows
from deltaprune.steps import Reduce, Score, Selection, Stage
from deltaprune.trace import Trace


class Stopwatch:
    """Adds up the time from the call of a stage's score to the end of its reduction."""

    def __init__(self, device: torch.device):
        self.device, self.ms, self._begin = device, 0.0, 0.0

    def on(self, stage: Stage) -> Stage:
        """The same stage, timed; one that needs no score is left as it is."""
        if stage.score is None:
            return stage
        return replace(stage, score=_TimedScore(stage.score, self), reduce=_TimedReduce(stage.reduce, self))

    def start(self) -> None:
        """A score is about to be read."""
        wait(self.device)
        self._begin = time.perf_counter()

    def stop(self) -> None:
        """Its survivors stand."""
        wait(self.device)
        self.ms += 1000 * (time.perf_counter() - self._begin)


@dataclass(frozen=True)
class _TimedScore(Score):
    score: Score
    watch: Stopwatch

    @property
    def needs(self) -> frozenset[str]:
        return self.score.needs

    @property
    def sees_text(self) -> bool:
        return self.score.sees_text

    def __call__(self, tokens: Rows, trace: Trace) -> Tensor:
        self.watch.start()
        return self.score(tokens, trace)


@dataclass(frozen=True)
class _TimedReduce(Reduce):
    reduce: Reduce
    watch: Stopwatch

    def __call__(self, tokens: Rows, kept: Selection) -> Rows:
        tokens = self.reduce(tokens, kept)
        self.watch.stop()
        return tokens
