"""Errors as OpenAI's clients expect them: a status, and a body with one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from deltaprune.errors import did_you_mean


class ApiError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: of the HTTP response.
        message: one sentence.
        param: the field of the request that is meant.
        code: a word for programs.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(status, message, param, code)  # all of them, so that it can be pickled
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Further headers: clients try again after a while where the server is busy."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": "1"} if self.status == 503 else {}


def overloaded(queue: int) -> ApiError:
    """The queue is full."""
    return ApiError(503, f"The server is busy: {queue} requests wait already, so try again later.", code="overloaded")


def stopping() -> ApiError:
    """The server takes no further requests."""
    return ApiError(503, "The server is stopping: send the request to another one.", code="stopping")


def invalid(errors: Sequence[Any], known: Mapping[str, Any]) -> ApiError:
    """What is wrong with a request's JSON; of several things, one.

    Args:
        errors: pydantic's.
        known: the fields that a request may have.
    """
    first: Mapping[str, Any] = max(errors, key=lambda error: len(error["loc"]))  # of a union, what came nearest
    path = [str(part) for part in first["loc"] if part not in ("body", "str") and "[" not in str(part)]
    where = ".".join(path)
    if first["type"] == "json_invalid":
        return ApiError(400, f"The body is no JSON ({first.get('ctx', {}).get('error', first['msg'])}).")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"There is no field {where!r}: {did_you_mean(path[-1], known)}.", where)
    if first["type"] == "missing":
        return ApiError(400, f"The request lacks {where or 'a JSON body'}.", where or None)
    if first["type"] == "value_error" and not path:
        return ApiError(400, f"{first['msg'].removeprefix('Value error, ')}.")
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    return ApiError(400, f"{where or 'The body'} cannot be used: {reason}.", where or None)
