"""What the loop over layers needs of a model, and nothing more."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.kernels import Quantized
from deltaprune.rows import Rows
from deltaprune.trace import Trace


class State(ABC):
    """What a layer remembers of all earlier rows of B samples. Only the block knows what it contains.

    Class attributes:
        kind: the name under which `deltaprune.blocks` registers the class, so that states can be read from a file.
    """

    kind: ClassVar[str]

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """All its tensors by name, samples along the first axis: the keyword arguments that make it again."""

    def take(self, index: Int[Tensor, "Q"]) -> Self:
        """The states of samples `index`."""
        return type(self)(**{name: tensor[index] for name, tensor in self.tensors().items()})

    @classmethod
    def cat(cls, states: Sequence["State"]) -> Self:
        """The samples of several states of this class, one after the other."""
        parts = [state.tensors() for state in states]
        return cls(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


@runtime_checkable
class Layer(Protocol):
    """What pruning needs to know of a layer, ours or transformers'.

    Class attributes:
        offers: the roles of a `Trace` that `prefill` can fill, without `hidden`.
        offers_writing: the roles that `write` can fill for every row.
    """

    offers: ClassVar[frozenset[str]]
    offers_writing: ClassVar[frozenset[str]]


@runtime_checkable
class Layers(Protocol):
    """What pruning needs to know of an LM, ours or transformers': its layers and its final norm."""

    @property
    def blocks(self) -> Sequence[Layer]:
        """The layers, from first to last."""
        ...

    def norm(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The final norm of rows of the residual stream; float32 in, float32 out."""
        ...


@runtime_checkable
class Block(Layer, Protocol):
    """One layer of an LM with its norm and its residual add. A `state` is the block's own kind of `State`."""

    def empty_state(self, batch: int) -> Any:
        """The state before the first row."""
        ...

    def prefill(self, rows: Rows, state: Any, needs: frozenset[str]) -> tuple[Rows, Any, Trace]:
        """Run all rows; `state` is what came before (nothing if None), `needs` the roles to fill."""
        ...

    def write(self, rows: Rows, state: Any, needs: frozenset[str]) -> tuple[Rows, Any, Trace]:
        """The same, but visual rows only write the state and go on unchanged."""
        ...

    def step(self, x: Float[Tensor, "B d"], state: Any, in_place: bool = False) -> tuple[Float[Tensor, "B d"], Any]:
        """One row of every sample; `in_place` may write over `state`."""
        ...

    def products(self, how: Literal["full", "write"] = "full") -> tuple[Float[Tensor, "n k"] | Quantized, ...]:
        """The weights of its matrix products with a row, in order: in `prefill`, or with a visual row in `write`."""
        ...

    def macs(self, how: Literal["full", "write"] = "full") -> Mapping[str, float]:
        """Multiply-accumulates of one row by component, in `prefill` ("full") or of a visual row in `write`."""
        ...


@runtime_checkable
class DecaysOverGaps(Protocol):
    """A block in which the state decays over dropped rows as well, where `Rows.beside` says how many: `merge.Align`."""

    decays_over_gaps: ClassVar[bool]


@runtime_checkable
class Model(Layers, Protocol):
    """An LM: embedding, blocks, final norm, head."""

    # Whether each prompt's images come before its text, so that an image can be run ahead of it.
    images_first: ClassVar[bool]

    @property
    def blocks(self) -> Sequence[Block]:
        """The layers, from first to last."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights that matrix products take."""
        ...

    def embed(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Token ids -> rows of the residual stream, as they enter the first layer."""
        ...

    def logits(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b V"]:
        """Rows of the residual stream after the last layer, before the final norm -> logits, float32."""
        ...


@runtime_checkable
class Step(Protocol):
    """Decoding of one token of every sample, see `walk.decode`."""

    def __call__(
        self, ids: Int[Tensor, "B"], states: Sequence[Any], in_place: bool = False
    ) -> tuple[Float[Tensor, "B V"], list[Any]]:
        """Its logits and the new states; `in_place` may write over `states`."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A model whose step can hold on to its weights, so that a token in a row of many does not look them up."""

    def prepared_step(self) -> Step:
        """Its step with the weights of now; valid as long as nobody replaces or writes to them."""
        ...
