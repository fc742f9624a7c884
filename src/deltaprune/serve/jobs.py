"""What goes between the app and an engine: a `Job` in, then `Reading` once and `Piece`s. All of it can be pickled."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class Job:
    """A request whose form has been checked.

    Attributes:
        messages: the chat; its picture is a part `{"type": "image"}`.
        image: the picture's file, or None.
        digest: SHA-256 of `image`.
        method: pruning as text.
        n: answers.
        max_tokens: of each.
        temperature: 0 is greedy.
        top_p: mass of the nucleus.
        seed: of the first answer; the i-th has `seed + i`. None: an answer differs each time it is asked for.
        stops: texts that end an answer and are not part of it.
        stream: whether pieces are wanted as soon as they are there.
    """

    messages: list[dict[str, Any]]
    image: bytes | None
    digest: str | None
    method: str
    n: int = 1
    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    stream: bool = False


@dataclass(frozen=True)
class Reading:
    """What reading the prompt took.

    Attributes:
        method: as it was asked for.
        text_tokens: of the prompt, template included.
        visual_tokens: of the picture; 0 without one.
        after, kept: for each stage of the method, how many layers had run, and the visual tokens left.
        macs_share: the LM prefill's MACs over those without pruning, a fraction.
        hit: whether the picture's prefix was there already.
    """

    method: str
    text_tokens: int
    visual_tokens: int
    after: tuple[int, ...]
    kept: tuple[int, ...]
    macs_share: float
    hit: bool


@dataclass(frozen=True)
class Piece:
    """The next part of an answer.

    Attributes:
        index: of the answer, below `Job.n`.
        text: may be empty.
        tokens: how many ids were decoded for it, the end of text included.
        reason: why the answer ends here; None while it goes on.
    """

    index: int
    text: str
    tokens: int
    reason: Reason | None = None


class Engine(Protocol):
    """Who answers jobs: a model in this process, or processes elsewhere."""

    def start(self) -> None:
        """Be ready for jobs."""
        ...

    def stop(self) -> None:
        """Finish what runs, and free what was taken."""
        ...

    def answer(self, job: Job) -> AsyncGenerator[Reading | Piece, None]:
        """A `Reading`, then the `Piece`s of all answers, each of which ends with a reason.

        Closing the iterator early cancels the job.

        Raises:
            ApiError: the job cannot be answered.
        """
        ...
