"""The Mamba-1 LM: embedding, blocks, final norm, tied head. The loop over layers lives in `prefill.py`."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from deltaprune.blocks.config import MambaConfig
from deltaprune.blocks.mamba1 import Layer, State
from deltaprune.kernels import matvec, without_autocast


class Backbone(nn.Module):
    """Embedding, blocks and final norm, under mamba_ssm's names."""

    def __init__(self, config: MambaConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.padded_vocab, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
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
        for layer in self.layers:
            layer.mixer.reset_parameters(self.config)

    @property
    def layers(self) -> list[Layer]:
        """The blocks, first to last."""
        return list(self.backbone.layers)  # pyright: ignore[reportReturnType]

    def embed(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Token ids -> rows of the residual stream, float32."""
        return self.backbone.embedding(ids).float()

    def norm_f(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The final norm of a residual stream, in float32 whatever the weight's type."""
        norm = self.backbone.norm_f
        return F.rms_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.eps)

    @without_autocast
    def logits(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b V"]:
        """Residual stream after the last block -> logits of the known vocabulary, float32."""
        weight = self.backbone.embedding.weight
        rows = self.norm_f(x).to(weight.dtype).reshape(-1, x.shape[-1])
        logits = matvec(rows, weight).float()[:, : self.config.vocab_size]
        return logits.reshape(*x.shape[:-1], self.config.vocab_size)

    @without_autocast
    def step(
        self, ids: Int[Tensor, "B"], states: list[State], in_place: bool = False
    ) -> tuple[Float[Tensor, "B V"], list[State]]:
        """Decode one token of every sample: its logits and the new states; `in_place` may write over `states`."""
        x, new = self.embed(ids), []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer.step(x, state, in_place)
            new.append(state)
        return self.logits(x), new

    @torch.no_grad()
    @without_autocast
    def forward(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits of every position of a rectangular batch of text, without pruning."""
        batch, length = ids.shape
        cu_seqlens = torch.arange(0, batch * length + 1, length, dtype=torch.int32, device=ids.device)
        x = self.embed(ids.flatten())
        for layer in self.layers:
            x, _, _ = layer.prefill(x, cu_seqlens)
        return self.logits(x).unflatten(0, (batch, length))
