"""The Mamba-1 LM: embedding, blocks, final norm, tied head. The loop over its blocks is in `walk.py`."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from deltaprune.blocks.mamba1 import MambaBlock, MambaState
from deltaprune.blocks.quantized import QuantizedWeight, forms_in_mixer, matrix
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.kernels import TokenWeights, matvec, token_step, without_autocast
from deltaprune.protocols import State, Step
from deltaprune.walk import all_logits, decode


class Backbone(nn.Module):
    """Embedding, blocks and final norm, under mamba_ssm's names."""

    def __init__(self, config: MambaConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.padded_vocab, config.d_model)
        self.layers = nn.ModuleList(MambaBlock(config) for _ in range(config.n_layers))
        self.norm_f = nn.RMSNorm(config.d_model, eps=config.norm_eps)


class MambaLM(nn.Module):
    """A Mamba-1 LM whose head is tied to its embedding; `backbone.*` are its only tensors."""

    def __init__(self, config: MambaConfig):
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)

    def reset_parameters(self) -> None:
        """mamba_ssm's initialisation, for training from scratch."""
        nn.init.normal_(self.backbone.embedding.weight, std=0.02)
        for block in self.blocks:
            block.reset_parameters()

    def prepare_quantized(self, form: str) -> None:
        """Put modules for int8 or int4 weights, still empty, in place of the embedding and the layers' projections."""
        lm = self.config
        self.backbone.add_module("embedding", QuantizedWeight(lm.padded_vocab, lm.d_model, form))
        for block in self.blocks:
            for name, own in forms_in_mixer(lm, form).items():
                plain = getattr(block.mixer, name)
                outputs, inputs = plain.weight.shape
                setattr(block.mixer, name, QuantizedWeight(outputs, inputs, own, plain.bias))

    images_first: ClassVar[bool] = True

    @property
    def blocks(self) -> list[MambaBlock]:
        """First to last."""
        return list(self.backbone.layers)  # pyright: ignore[reportReturnType]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows in all matrix products, and of the embedding unless it is quantized."""
        return self.blocks[0].mixer.dtype

    def embed(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Token ids -> rows of the residual stream, float32."""
        return self.backbone.embedding(ids).float()

    def norm(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The final norm of a residual stream, in float32 whatever the weight's type."""
        norm = self.backbone.norm_f
        return F.rms_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.eps)

    @without_autocast
    def logits(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b V"]:
        """Residual stream after the last block -> logits of the known vocabulary, float32."""
        weight = matrix(self.backbone.embedding, self.dtype)
        rows = self.norm(x).to(weight.dtype).reshape(-1, x.shape[-1])
        logits = matvec(rows, weight, torch.float32)[:, : self.config.vocab_size]
        return logits.reshape(*x.shape[:-1], self.config.vocab_size)

    def step(
        self, ids: Int[Tensor, "B"], states: Sequence[State], in_place: bool = False
    ) -> tuple[Float[Tensor, "B V"], list[State]]:
        """Decode one token of every sample, see `walk.decode`."""
        return decode(self, ids, states, in_place)

    def prepared_step(self) -> Step:
        """See `Prepared`."""
        weights = TokenWeights(
            embedding=matrix(self.backbone.embedding, self.dtype),
            layers=[block.weights for block in self.blocks],
            norm=self.backbone.norm_f.weight,
            eps=self.config.norm_eps,
        )
        return partial(_token, weights=weights, vocabulary=self.config.vocab_size)

    def forward(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits of every position of a rectangular batch of text, without pruning."""
        return all_logits(self, ids)


@without_autocast
def _token(
    ids: Int[Tensor, "B"],
    states: Sequence[MambaState],
    in_place: bool = False,
    *,
    weights: TokenWeights,
    vocabulary: int,
) -> tuple[Float[Tensor, "B V"], list[MambaState]]:
    """`walk.decode` in one call."""
    logits, new = token_step(ids, weights, [(state.ssm, state.conv) for state in states], in_place)
    return logits[:, :vocabulary], [MambaState(ssm=ssm, conv=conv) for ssm, conv in new]
