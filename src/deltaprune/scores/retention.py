"""Retention: how well the state retains a token, and how much writing it changed the readouts (V-CoLA)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from deltaprune.checks import check_at_least_one, check_share
from deltaprune.rows import Rows, on_device
from deltaprune.scores import registry
from deltaprune.scores._heads import apart, has_heads, retained
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("retention")
@dataclass(frozen=True)
class Retention(Score):
    """s_j = (1 - unique) R_imp + unique R_uni, with psi(a, b) = (1 - cos(a, b)) / 2 over channels:

        R_imp = 1 - psi(S_P B_j, Delta_j u_j)                              what the last state gives back of token j
        R_uni = mean over t in [j, j + window) of psi(S_j C_t, S_{j-1} C_t)  how far writing j changes the next readouts

    S_j = exp(Delta_j A) S_{j-1} + Delta_j u_j B_j is the state (E, N) after the image's rows up to j, S_P after all P.
    Layers with heads have a state by their own recurrence; v is theirs in gated DeltaNet, dt x in Mamba-2.

    Shape (T,), range [0, 1] for visual rows, 2 for text rows. Sees text: no. Source: V-CoLA, written there for gated
    DeltaNet; in its letters k = B, q = C, v = Delta u.

    Attributes:
        unique: the weight of R_uni.
        window: how many readouts are compared, the token's own and those right after it.

    Deviations: the state is that of the visual rows alone, starting from zero, and the last rows' windows end with the
    image, so that nothing depends on the question. Which state V-CoLA takes for the final one is not known to us.

    It runs the recurrence once more in plain torch: row by row, about (3 + 2 window) E N multiplications a token; of
    layers with heads in chunks of rows, see `_heads.retained`.
    """

    paper: ClassVar[str] = "V-CoLA, R_imp and R_uni"

    unique: float = 0.1
    window: int = 4

    needs = frozenset({"delta", "decay", "key", "query", "value"})
    also = frozenset({"erase"})
    sees_text = False

    def __post_init__(self) -> None:
        check_share("unique", self.unique)
        check_at_least_one("window", self.window)

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        scores = torch.full((len(rows.x),), 2.0, device=rows.x.device)
        images = [rows.visual_rows(b) for b in range(len(rows.lengths))]
        if not any(rows.n_visual):
            return scores
        if has_heads(trace):
            for image in images:
                if len(image):
                    known, new = retained(trace, image, self.window)
                    scores[image] = (1 - self.unique) * known + self.unique * new
            return scores
        delta, u, k, q = (_padded(trace[role], images) for role in ("delta", "value", "key", "query"))
        known, new = self._read(delta, delta * u, k, q, trace["decay"].float(), on_device(rows.n_visual, k.device))
        values = (1 - self.unique) * known + self.unique * new
        for b, image in enumerate(images):
            scores[image] = values[b, : len(image)]
        return scores

    def _read(
        self,
        delta: Float[Tensor, "B P E"],
        v: Float[Tensor, "B P E"],
        k: Float[Tensor, "B P N"],
        q: Float[Tensor, "B P N"],
        decay: Float[Tensor, "E N"],
        live: Int[Tensor, "B"],
    ) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B P"]]:
        """R_imp and R_uni; padding after an image's rows has delta 0, which leaves the state as it is."""
        width, new = delta.shape[1], []
        state = torch.zeros(len(live), *decay.shape, device=delta.device)
        for j in range(width):
            probes = q[:, j : j + self.window].mT
            before = state @ probes
            state = torch.exp(delta[:, j, :, None] * decay) * state + v[:, j, :, None] * k[:, j, None]
            there = torch.arange(j, j + probes.shape[-1], device=live.device) < live[:, None]
            turned = apart(state @ probes, before, dim=1) * there
            new.append(turned.sum(-1) / there.sum(-1).clamp(min=1))
        return 1 - apart(k @ state.mT, v, dim=-1), torch.stack(new, 1)


def _padded(values: Float[Tensor, "T w"], images: list[Int[Tensor, "_"]]) -> Float[Tensor, "B P w"]:
    """Each image's rows side by side, zeros beyond them."""
    return pad_sequence([values[image].float() for image in images], batch_first=True)
