"""Base class of the methods with a field `score`."""

from deltaprune.scores import as_score
from deltaprune.steps import Method, Score


class Ranking(Method):
    """A method whose field `score` is an object, or the name of a score, which is replaced by the object."""

    score: Score | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", as_score(self.score))

    @property
    def ranks(self) -> Score:
        """The object."""
        return as_score(self.score)
