"""The bodies of answers: whole, or as a stream of server-sent events."""

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from deltaprune.serve.jobs import Job, Piece, Reading


@dataclass
class Reply:
    """What has been answered of one request so far.

    Attributes:
        model: the name that the request gave.
        job: the request.
        reading: what reading the prompt took.
        texts, reasons: of each answer.
        tokens: decoded, of all answers.
    """

    model: str
    job: Job
    reading: Reading
    texts: list[str] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    tokens: int = 0
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.texts, self.reasons = [""] * self.job.n, [None] * self.job.n

    def add(self, piece: Piece) -> None:
        """Take in the next part of an answer."""
        self.texts[piece.index] += piece.text
        self.reasons[piece.index] = piece.reason
        self.tokens += piece.tokens

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens, and under `deltaprune` what pruning made of them; a picture's tokens count as prompt."""
        told, prompt = self.reading, self.reading.text_tokens + self.reading.visual_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.tokens,
            "total_tokens": prompt + self.tokens,
            "prompt_tokens_details": {"cached_tokens": told.visual_tokens if told.hit else 0},
            "deltaprune": {
                "method": told.method,
                "text_tokens": told.text_tokens,
                "visual_tokens": told.visual_tokens,
                "visual_tokens_kept": told.kept[-1] if told.kept else told.visual_tokens,
                "after": list(told.after),
                "kept": list(told.kept),
                "macs_share": round(told.macs_share, 6),
                "image_prefix_hit": told.hit,
            },
        }

    @property
    def whole(self) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": reason,
            }
            for index, (text, reason) in enumerate(zip(self.texts, self.reasons, strict=True))
        ]
        return {**self._frame("chat.completion"), "choices": choices, "usage": self.usage}

    def opening(self) -> Iterable[str]:
        """The first events of a stream: who speaks."""
        for index in range(self.job.n):
            yield self._chunk(index, {"role": "assistant", "content": ""}, None)

    def part(self, piece: Piece) -> Iterable[str]:
        """The events of a piece."""
        if piece.text:
            yield self._chunk(piece.index, {"content": piece.text}, None)
        if piece.reason is not None:
            yield self._chunk(piece.index, {}, piece.reason)

    def closing(self, with_usage: bool) -> Iterable[str]:
        """The last events of a stream."""
        if with_usage:
            yield event({**self._frame("chat.completion.chunk"), "choices": [], "usage": self.usage})
        yield "data: [DONE]\n\n"

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event({**self._frame("chat.completion.chunk"), "choices": [choice]})

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def event(document: Any) -> str:
    """A document as a server-sent event."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"
