"""What a mixer of transformers' tells about its rows: one file a kind of mixer, found by the name of its class."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from deltaprune.registry import Registry

OUTPUT = frozenset({"output"})  # of rows that are read from the state; one that only writes has none


@dataclass(frozen=True)
class Seen:
    """What entered a mixer.

    Attributes:
        hidden: its input behind the layer's norm, `(B, W, d)`.
        valid: which places are no pads, `(B, W)`; None where none are.
        rotary: cos and sin, `(B, W, w)` each; None where the model has none.
        keys: an attention layer's keys of earlier rows, `(B, heads, n, width)`; None where there are none.
        keys_valid: which of these are no pads, `(B, n)`; None where none are.
    """

    hidden: Float[Tensor, "B W d"]
    valid: Bool[Tensor, "B W"] | None = None
    rotary: tuple[Tensor, Tensor] | None = None
    keys: Tensor | None = None
    keys_valid: Bool[Tensor, "B n"] | None = None


@dataclass(frozen=True)
class Written:
    """What a mixer computes of a row that only writes its state.

    Attributes:
        columns: name of a projection -> those of its columns that are needed; the others are left zero. A projection
            that is not named runs in full.
        output: the name of the projection that makes the mixer's output, which such a row does without.
        convolved: of the convolution's channels, the share that is needed where rows are written by `Probe.write`.
        reach: how many rows back a row that is updated reads columns that are not needed (a convolution over queries).
    """

    columns: Mapping[str, tuple[slice, ...]]
    output: str
    reach: int = 0
    convolved: float = 1.0


class Probe(ABC):
    """One kind of mixer. It computes again, from what entered the mixer, what the layer does not hand out.

    Class attributes:
        sees: how the layer takes its mask: "all" rows at once (attention), "state" (rows one by one), or neither (an
            MLP, whose rows do not see each other).
        offers: the roles of a `Trace` that it can fill.
        of_layer: those of them that it gives for the layer as a whole.
        gate: the part of the mixer that is called with the recurrence's output and the gate, where the role `output` is
            read; None where the probe fills that role, or nothing does.
        writes_alone: whether it has a `write`.
        shortest: rows of text between images that such a mixer takes as it takes a whole prompt.
    """

    sees: ClassVar[Literal["all", "state", "none"]]
    offers: ClassVar[frozenset[str]] = frozenset()
    offers_writing: ClassVar[frozenset[str]] = frozenset()
    of_layer: ClassVar[frozenset[str]] = frozenset()
    gate: ClassVar[str | None] = None
    writes_alone: ClassVar[bool] = False
    shortest: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        cls.offers_writing = cls.offers - OUTPUT  # all rows enter a mixer that image rows only write to

    @abstractmethod
    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        """role -> `(B, W, ...)` float32, for each role in `needs`; one `of_layer` without the first two axes."""

    def written(self, mixer: Any) -> Written | None:
        """For `sees="state"`: what a row that only writes takes; None runs the mixer in full for it, and spares it the
        rest of the layer alone.
        """
        return None

    def write(self, mixer: Any, hidden: Tensor, cache: Any) -> None:
        """For `writes_alone`: rows `(B, n, d)`, n > 0, only write; the state behind them goes into the cache."""
        raise NotImplementedError


registry: Registry[type[Probe]] = Registry("probe", "deltaprune.inplace.probes", Probe)


def mixer_of(layer: nn.Module) -> tuple[str, nn.Module] | None:
    """The mixer of a decoder layer, with its name there: the first child whose class a probe knows."""
    known = registry.names()
    return next(((name, part) for name, part in layer.named_children() if type(part).__name__ in known), None)
