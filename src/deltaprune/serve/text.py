"""Ids -> text while an answer is still being decoded."""

from collections.abc import Callable, Sequence

from deltaprune.mllm.processor import GLUED, clean_up


class AnswerText:
    """The text of one answer, handed out in parts that together are what `Processor.decode` gives, up to a stop text.

    A part is handed out when no later id can change it: not half a letter, nor spaces, nor the beginning of a stop text
    or of what `clean_up` may join to the word before.

    Args:
        untidied: ids -> text before `tidied`.
        stops: texts that end the answer and do not belong to it.
        tidied: what the processor does to a text; `clean_up`, or nothing.

    Attributes:
        stopped: whether a stop text was met.
    """

    def __init__(
        self,
        untidied: Callable[[list[int]], str],
        stops: Sequence[str] = (),
        tidied: Callable[[str], str] = clean_up,
    ):
        self.untidied, self.stops, self.tidied, self.stopped = untidied, stops, tidied, False
        self._ids: list[int] = []
        self._sent = 0

    def add(self, ids: Sequence[int], last: bool) -> str:
        """Further ids, and whether they are the last; returns the next part, perhaps empty."""
        self._ids += ids
        text = self.untidied(self._ids)
        text = self.tidied(text if last else _certain(text)).strip()
        found = [at for at in map(text.find, self.stops) if at >= 0]
        self.stopped = bool(found)
        end = min(found) if found else len(text) if last else _without_beginning(text, self.stops)
        part = text[self._sent : end]
        self._sent = max(self._sent, end)
        return part


def _certain(text: str) -> str:
    """The beginning of an unfinished text that `clean_up` treats in the same way whatever comes."""
    while True:
        shorter = text.rstrip("\ufffd").rstrip()
        shorter = shorter[: _without_beginning(shorter, GLUED)]
        if shorter == text:
            return text
        text = shorter


def _without_beginning(text: str, marks: Sequence[str]) -> int:
    """The length of a text without what may be the beginning of one of these marks."""
    lengths = (n for mark in marks for n in range(1, len(mark)) if text.endswith(mark[:n]))
    return len(text) - max(lengths, default=0)
