"""What a token's step reads besides the states."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels.layer_step._weights import LayerWeights
from deltaprune.kernels.quantized import Quantized


@dataclass(frozen=True, eq=False)
class TokenWeights:
    """The tensors of an LM whose head is tied to its embedding.

    Backends may keep what they made of them as long as this object lives.

    Raises:
        ValueError: layers of different sizes, or an embedding or a final norm of another width.
    """

    embedding: Float[Tensor, "V d"] | Quantized
    layers: Sequence[LayerWeights]
    norm: Float[Tensor, "d"]
    eps: float

    def __post_init__(self) -> None:
        sizes = {tuple((name, getattr(value, "shape", None)) for name, value in vars(l).items()) for l in self.layers}
        if len(sizes) != 1:
            raise ValueError(f"`TokenWeights`: the layers have {len(sizes)} different sizes, not one.")
        width = self.layers[0].in_proj.shape[1]
        if self.embedding.shape[1] != width or self.norm.shape != (width,):
            told = f"embedding {tuple(self.embedding.shape)}, norm {tuple(self.norm.shape)}"
            raise ValueError(f"`TokenWeights`: shapes do not fit layers of width {width}: {told}.")

    @property
    def requires_grad(self) -> bool:
        """Whether any of them does."""
        own = self.embedding.requires_grad or self.norm.requires_grad
        return own or any(tensor.requires_grad for layer in self.layers for tensor in layer.tensors())
