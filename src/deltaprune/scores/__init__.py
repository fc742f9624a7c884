"""Token importance: one file, one idea each. Add a file here and `Stage(..., score=...)` can use it."""

from deltaprune._registry import Registry
from deltaprune.stages import Score

registry: Registry[type[Score]] = Registry("score", "deltaprune.scores", Score)
