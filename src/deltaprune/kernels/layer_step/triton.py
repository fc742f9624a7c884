"""The step on GPUs, in Triton: four launches a layer instead of a dozen; see `_triton_step` for the kernels.

A token of mamba-2.8b reads 82 MB of weights a layer, which takes 20 to 30 us; each further launch would add two.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._device import on_device_of
from deltaprune.kernels._triton import DEVICES, DTYPES, FUSED, PRIORITY, processors, why_not
from deltaprune.kernels.layer_step import reference
from deltaprune.kernels.layer_step._weights import LayerWeights

MOST_ROWS = 4  # samples up to which a product is bound by reading its weights one row after the other
CHANNELS = 32  # per program of the scan


@dataclass(frozen=True)
class Plan:
    """How the products are cut up.

    Attributes:
        held: bytes of weights per program, counted with the lanes that a row leaves empty.
        warps: per program of a product. With these numbers 60 to 80 KB of weights are in flight to each multiprocessor.
        early: start a launch while the one before still runs (Hopper and later).
    """

    held: int = 2**15
    warps: int = 4
    early: bool = True


def step(
    x: Tensor, w: LayerWeights, ssm: Tensor, conv: Tensor, in_place: bool, how: Plan = Plan()
) -> tuple[Tensor, Tensor, Tensor]:
    """See `layer_step`; more than `MOST_ROWS` samples go through the operations one by one."""
    projections = [p for p in (w.in_proj, w.x_proj, w.dt_proj, w.out_proj) if isinstance(p, Tensor)]
    if len(projections) < 4:  # the others are quantized
        return reference.step(x, w, ssm, conv, in_place)
    if not 0 < len(x) <= MOST_ROWS or w.conv.shape[1] not in (2, 3, 4):
        return reference.step(x, w, ssm, conv, in_place)
    from deltaprune.kernels.layer_step import _triton_step as kernels  # imports triton: only where it runs

    (batch, width), (channels, order), rank = x.shape, w.A_log.shape, w.dt_proj.shape[1]
    dtype, device = w.in_proj.dtype, x.device
    x, ssm, conv = (t.contiguous() for t in (x.float(), ssm.float(), conv))  # the same tensors, as a rule
    new_ssm, new_conv = (ssm, conv) if in_place else (torch.empty_like(ssm), torch.empty_like(conv))
    uz = torch.empty((batch, 2 * channels), dtype=dtype, device=device)
    projected = torch.empty((batch, rank + 2 * order), dtype=dtype, device=device)
    gated = torch.empty((batch, channels), dtype=dtype, device=device)
    out = torch.empty((batch, width), dtype=torch.float32, device=device)
    early = how.early and _hopper(device)
    common = {"EARLY": early, **FUSED, **({"launch_pdl": True} if early else {})}

    def cut(weight: Tensor) -> tuple[tuple[int], dict[str, int]]:
        """The grid and the tile of a product."""
        outputs, inputs = weight.shape
        lanes = _power(inputs)
        rows = min(how.held // (lanes * weight.element_size()), _power(outputs // processors(x)), 16)
        tile = {"BATCH": batch, "K": inputs, "ROWS": max(1, rows), "LANES": lanes, "num_warps": how.warps}
        return (-(-outputs // tile["ROWS"]),), tile

    w_in, w_x, w_dt, w_out = (p.contiguous() for p in projections)
    taps, tap_bias, gain, bias, A_log, D = (
        t.contiguous() for t in (w.conv, w.conv_bias, w.norm, w.dt_bias, w.A_log, w.D)
    )
    with on_device_of(x):
        grid, tile = cut(w_in)
        kernels.in_conv[grid](
            x, gain, w_in, taps, tap_bias, conv, new_conv, uz, w.eps, channels, W=taps.shape[1], **tile, **common
        )
        grid, tile = cut(w_x)
        kernels.product[grid](uz, w_x, None, projected, len(w_x), 2 * channels, **tile, **common)
        kernels.dt_scan[(-(-channels // CHANNELS), batch)](
            projected, w_dt, bias, A_log, D, uz, ssm, new_ssm, gated, channels, R=rank, N=order, CHANNELS=CHANNELS,
            RANKS=_power(rank), STATES=_power(order), num_warps=4, **common,
        )  # fmt: skip
        grid, tile = cut(w_out)
        kernels.product[grid](gated, w_out, x, out, width, channels, **tile, **common)
    return out, new_ssm, new_conv


def _power(n: int) -> int:
    """The next power of two."""
    return 1 << max(0, n - 1).bit_length()


def _hopper(device: torch.device) -> bool:
    """Whether launches may overlap on it."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9


BACKEND = Backend(
    op="layer_step",
    name="triton",
    devices=DEVICES,
    carries_state=True,
    probe=why_not,
    fn=step,
    dtypes=DTYPES,
    priority=PRIORITY,
    capturable=True,
)
