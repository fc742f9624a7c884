"""Calling a score, with two checks: it reads only the roles it declares, and returns one float32 number per row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.errors import UserError, did_you_mean
from deltaprune.rows import Rows
from deltaprune.trace import ROLES, Trace


@dataclass(frozen=True)
class _Declared(Trace):
    """The declared roles of a trace; reading another is an error that names the score and the layer."""

    score: object = None
    after: int = 0

    def __getitem__(self, role: str) -> Tensor:
        if role in self:
            return super().__getitem__(role)
        raise UserError(
            f"The score {self.score!r}, asked after layer {self.after}, reads trace[{role!r}] but does not declare it: "
            f"add {role!r} to its needs."
        )


def check_score(score: Any) -> None:
    """Check that `needs` is a set of roles and `sees_text` a flag, else a `UserError`."""
    needs, sees_text = getattr(score, "needs", None), getattr(score, "sees_text", None)
    if not isinstance(needs, frozenset | set):
        raise UserError(f"The score {score!r} has needs={needs!r}: they are a set of roles, such as {{'step'}}.")
    for role in needs:
        if role not in ROLES:
            raise UserError(
                f"The score {score!r} needs {role!r}, which no trace has: {did_you_mean(str(role), ROLES)}."
            )
    if not isinstance(sees_text, bool):
        raise UserError(
            f"The score {score!r} has sees_text={sees_text!r}: it is True where the score of a visual token depends on "
            "the question, else False."
        )


def importance(
    score: Callable[[Rows, Trace], Any], needs: frozenset[str], rows: Rows, trace: Trace, after: int
) -> Float[Tensor, "T"]:
    """What a score returns for the rows that leave the first `after` layers.

    Nothing is read back from the device: the caller checks whether the numbers are finite.

    Args:
        score: a `Score`.
        needs: the roles that it has declared.
        rows, trace: the rows and their trace in a layer.
        after: for the message.

    Raises:
        UserError: the score reads a role that it does not declare, or returns no `(T,)` float32 tensor on the rows'
            device; the message names the score and the layer.
    """
    known = trace.only(needs)
    given = score(rows, _Declared(known.rows, known.layer, score, after))
    if isinstance(given, Tensor) and _kind(given) == (rows.x.shape[:1], torch.float32, rows.x.device):
        return given
    found = _in_words(*_kind(given)) if isinstance(given, Tensor) else f"an object of type {type(given).__name__}"
    wanted = _in_words(rows.x.shape[:1], torch.float32, rows.x.device)
    raise UserError(f"The score {score!r} gave {found} after layer {after}: one number per row is {wanted}.")


def _kind(x: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return x.shape, x.dtype, x.device


def _in_words(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> str:
    return f"{tuple(shape)} {str(dtype).removeprefix('torch.')} on {device}"
