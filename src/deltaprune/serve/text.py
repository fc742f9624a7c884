"""Ids -> text while an answer is still being decoded."""

from collections.abc import Callable, Sequence

from deltaprune.mllm.processor import GLUED


class AnswerText:
    """The text of one answer, handed out in parts that together are the decoded text up to the first stop text.

    A part is handed out when no later id can change it: not half a letter, nor the beginning of a stop text or of what
    `clean_up` may join to the word before.

    Args:
        decode: ids -> text.
        stops: texts that end the answer and do not belong to it.

    Attributes:
        stopped: whether a stop text was met.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()):
        self.decode, self.stops, self.stopped = decode, stops, False
        self._ids: list[int] = []
        self._sent = 0

    def add(self, ids: Sequence[int], last: bool) -> str:
        """Further ids, and whether they are the last; returns the next part, perhaps empty."""
        self._ids += ids
        text = self.decode(self._ids)
        found = [at for at in map(text.find, self.stops) if at >= 0]
        self.stopped = bool(found)
        end = min(found) if found else len(text) if last else self._settled(text)
        part = text[self._sent : end]
        self._sent = max(self._sent, end)
        return part

    def _settled(self, text: str) -> int:
        """How many letters of an unfinished text are certain."""
        end = len(text.rstrip("\ufffd"))
        for mark in (*GLUED, *self.stops):
            for length in range(min(len(mark) - 1, end), 0, -1):
                if text.endswith(mark[:length], 0, end):
                    end -= length
                    break
        return end
