"""A prompt in the queue, and the events that the model's thread reports about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deltaprune.generate import Sampler
from deltaprune.mllm.processor import Inputs
from deltaprune.prefix import ImagePrefix
from deltaprune.serve.jobs import Reason
from deltaprune.serve.prefixes import ImageKey
from deltaprune.steps import Method


@dataclass(frozen=True)
class Read:
    """A prompt has been read.

    Attributes:
        visual: tokens of its picture; 0 without one.
        after, kept: for each stage of its method, how many layers had run, and the visual tokens left.
        hit: whether another request had run the picture.
    """

    visual: int
    after: tuple[int, ...]
    kept: tuple[int, ...]
    hit: bool


@dataclass(frozen=True)
class New:
    """New ids of one answer, and why it ended, if it did."""

    index: int
    ids: tuple[int, ...]
    reason: Reason | None


Event = Read | New | Exception  # an exception ends the prompt


@dataclass(eq=False)
class Asked:
    """A prompt in the queue.

    Attributes:
        ids: of its text.
        method: its pruning.
        samplers: one for each answer: `greedy`, or a `Sampling` with a generator of its own.
        most: tokens of an answer, at most.
        live: whether every token is sent as soon as it is known; otherwise an answer is sent when it ends.
        image: what its picture's prefix is kept under; None without a picture.
        picture: gives its pixels, as often as they are needed.
        pixels: of the picture, where there is no prefix.
        prefix: of the picture.
        hit: whether another request had run the picture.
        cancelled: the client has left.
        stopped: the answers that have ended for the client.
    """

    ids: Sequence[int]
    method: Method
    samplers: Sequence[Sampler]
    most: int
    live: bool = False
    image: ImageKey | None = None
    picture: Callable[[], Inputs] | None = None
    pixels: Inputs | None = None
    prefix: ImagePrefix | None = None
    hit: bool = False
    cancelled: bool = False
    stopped: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Row:
    """One answer of a prompt.

    Attributes:
        asked: the prompt.
        index: of the answer.
        ids: decoded so far, the end of text included.
        told: how many of them have been sent.
        mixed: whether it was computed beside other rows since it was last computed alone.
        reason: why it ended; None while it goes on.
        error: what went wrong with it.
    """

    asked: Asked
    index: int
    ids: list[int] = field(default_factory=list)
    told: int = 0
    mixed: bool = False
    reason: Reason | None = None
    error: Exception | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is to be decoded any more."""
        unwanted = self.asked.cancelled or self.index in self.asked.stopped
        return unwanted or self.reason is not None or self.error is not None
