"""The layer as its operations one after the other, each on the backend that is chosen for it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels.causal_conv1d import causal_conv1d
from deltaprune.kernels.layer_step._weights import LayerWeights
from deltaprune.kernels.matvec import matvec
from deltaprune.kernels.rms_norm import rms_norm
from deltaprune.kernels.selective_scan import selective_scan


def run(
    x: Float[Tensor, "T d"],
    w: LayerWeights,
    bounds: Int[Tensor, "B1"],
    ssm: Float[Tensor, "B E N"] | None,
    conv: Float[Tensor, "B E W1"] | None,
) -> tuple[Float[Tensor, "T d"], Float[Tensor, "B E N"], Float[Tensor, "B E W1"]]:
    """See `layer_rows`; writes over nothing."""
    kind = torch.float64 if w.in_proj.dtype == torch.float64 else torch.float32
    _, normed = rms_norm(x, w.norm, w.eps, dtype=w.in_proj.dtype)
    u, z = matvec(normed, w.in_proj).chunk(2, -1)
    u, conv = causal_conv1d(u, w.conv, w.conv_bias, bounds, conv)
    order = w.A_log.shape[1]
    dt, b, c = matvec(u, w.x_proj).split([w.dt_proj.shape[1], order, order], -1)
    A, D, bias = -torch.exp(w.A_log.to(kind)), w.D.to(kind), w.dt_bias.to(kind)
    scan = selective_scan(u, matvec(dt, w.dt_proj), A, b, c, D, z, bias, bounds, initial_state=ssm)
    return x + matvec(scan.out, w.out_proj), scan.state, conv


BACKEND = Backend(
    op="layer_rows",
    name="reference",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=run,
    gradients=True,
    capturable=True,  # as far as its operations are
)
