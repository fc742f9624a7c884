"""The numbers that make a Mamba-1 LM, and what one row costs in one of its layers."""

from dataclasses import dataclass
from math import ceil
from typing import Literal


@dataclass(frozen=True)
class MambaConfig:
    """Sizes of a Mamba-1 LM; the defaults are mamba-2.8b, the LM of Cobra and RoboMamba.

    Attributes:
        d_model: width of the residual stream.
        n_layers: blocks.
        vocab_size: tokens the tokenizer knows; the embedding has `padded_vocab` rows.
        d_state: N, states per channel.
        d_conv: W, width of the causal convolution.
        expand: d_inner = expand * d_model, the paper's D.
        dt_rank: R; None is "auto", ceil(d_model / 16).
        norm_eps: of every RMSNorm.
        pad_vocab_multiple: the embedding's rows are padded up to a multiple of this.
    """

    d_model: int = 2560
    n_layers: int = 64
    vocab_size: int = 50277
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | None = None
    norm_eps: float = 1e-5
    pad_vocab_multiple: int = 8

    @property
    def d_inner(self) -> int:
        """Channels inside a block (E in shapes, D in the paper)."""
        return self.expand * self.d_model

    @property
    def rank(self) -> int:
        """R, the width from which dt is projected up."""
        return ceil(self.d_model / 16) if self.dt_rank is None else self.dt_rank

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding and of the tied head."""
        return ceil(self.vocab_size / self.pad_vocab_multiple) * self.pad_vocab_multiple

    @property
    def write_share(self) -> float:
        """MACs of a row that only writes the state over those of a row that is updated."""
        return sum(self.macs("write").values()) / sum(self.macs().values())

    def macs(self, how: Literal["full", "write"] = "full", paper: bool = False) -> dict[str, float]:
        """Multiply-accumulates of one row in one layer, by component.

        Args:
            how: "full", or "write" for a row that only writes the state: no gate z, no readout C, no output.
            paper: count the scan as the paper's tables do, customary 9 D N + 2 D per row (of which writing is 7 D N),
                instead of the multiplications of the recurrence.

        Returns:
            `linear`, in_proj, x_proj, dt_proj and out_proj; `conv`; `scan`. Of the scan's multiplications four are per
            channel and state, Delta A, (Delta u) B, exp(.) h, C h, and three per channel, Delta u, D u, y silu(z).
        """
        d, inner, rank, states = self.d_model, self.d_inner, self.rank, self.d_state
        if how == "write":
            linear = d * inner + inner * (rank + states) + rank * inner
            scan = 7 * inner * states if paper else 3 * inner * states + inner
        else:
            linear = d * 2 * inner + inner * (rank + 2 * states) + rank * inner + inner * d
            scan = 9 * inner * states + 2 * inner if paper else 4 * inner * states + 3 * inner
        return {"linear": linear, "conv": inner * self.d_conv, "scan": scan}
