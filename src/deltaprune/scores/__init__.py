"""Token importance: one file, one idea each. Add a file here and `Stage(..., score=...)` can use it."""

from deltaprune.errors import UserError, in_words
from deltaprune.registry import Registry
from deltaprune.steps import Score

registry: Registry[type[Score]] = Registry("score", "deltaprune.scores", Score)


def as_score(score: object) -> Score:
    """A score as it is, or the score of this name with its defaults.

    Raises:
        UserError: no score has this name, or it is neither a score nor a name.
    """
    if isinstance(score, Score):
        return score
    if isinstance(score, str):
        kind = registry[score.strip()]
        try:
            return kind()
        except TypeError as error:
            raise UserError(
                f"The score {score!r} has fields without a default ({in_words(error)}): give an object."
            ) from error
    if isinstance(score, type) and issubclass(score, Score):
        raise UserError(f"score={score.__name__} is the class of a score: give an object, {score.__name__}().")
    names = ", ".join(registry.names())
    raise UserError(f"score={score!r} is not a score: give an object such as Delta(), or one of the names {names}.")
