"""Asking a score: what it reads it has declared, and it gives one float32 number per row."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.errors import UserError, did_you_mean
from deltaprune.rows import Rows
from deltaprune.trace import Trace

_FIELDS = Trace.names()


class _Watched(Trace):
    """The declared fields of a trace; the others are None, and `missed` lists those that were read all the same."""

    missed: list[str]

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in _FIELDS and value is None:
            object.__getattribute__(self, "missed").append(name)
        return value


def check_needs(score: object, needs: object) -> None:
    """What a score declares is a set of names of `Trace` fields, else a `UserError`."""
    if not isinstance(needs, frozenset | set):
        raise UserError(f"The score {score!r} has needs={needs!r}: they are a set of names, such as {{'delta_mean'}}.")
    for name in needs:
        if name not in _FIELDS:
            raise UserError(
                f"The score {score!r} needs {name!r}, which no trace has: {did_you_mean(str(name), _FIELDS)}."
            )


def importance(
    score: Callable[[Rows, Trace], Any], needs: frozenset[str], tokens: Rows, trace: Trace, after: int
) -> Float[Tensor, "T"]:
    """What a score gives for the rows behind the first `after` layers.

    Nothing is read back from the device: whether the numbers are finite is the caller's to ask.

    Args:
        score: a `Score`.
        needs: the fields of the trace that it has declared.
        tokens, trace: the rows and what the last layer computed for them.
        after: for the sentence.

    Raises:
        UserError: the score needs what it has not declared, or gives something else than `(T,)` float32 where the rows
            are; the sentence names the score and the layer.
    """
    watched = object.__new__(_Watched)
    for field in fields(Trace):
        object.__setattr__(watched, field.name, getattr(trace, field.name) if field.name in needs else None)
    missed: list[str] = []
    object.__setattr__(watched, "missed", missed)
    try:
        given = score(tokens, watched)
    except Exception as error:
        if missed:
            raise _undeclared(score, missed[-1], after) from error
        raise
    if isinstance(given, Tensor) and _kind(given) == (tokens.x.shape[:1], torch.float32, tokens.x.device):
        return given
    if missed and not isinstance(given, Tensor):
        raise _undeclared(score, missed[-1], after)
    told = _told(*_kind(given)) if isinstance(given, Tensor) else f"an object of type {type(given).__name__}"
    wanted = _told(tokens.x.shape[:1], torch.float32, tokens.x.device)
    raise UserError(f"The score {score!r} gave {told} after layer {after}: one number per row is {wanted}.")


def _undeclared(score: object, name: str, after: int) -> UserError:
    return UserError(
        f"The score {score!r}, asked after layer {after}, reads trace.{name} but does not declare it: add {name!r} to "
        "its needs."
    )


def _kind(x: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return x.shape, x.dtype, x.device


def _told(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> str:
    return f"{tuple(shape)} {str(dtype).removeprefix('torch.')} on {device}"
