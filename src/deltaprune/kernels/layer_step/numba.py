"""The step on CPUs: one launch a layer, see `_numba_layer`."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._numba import launch
from deltaprune.kernels._numba_layer import MOST_SAMPLES, as_float, flat, held, layer
from deltaprune.kernels.layer_step import reference
from deltaprune.kernels.layer_step._weights import LayerWeights

_HELD: "WeakKeyDictionary[LayerWeights, tuple[Any, ...]]" = WeakKeyDictionary()


def step(x: Tensor, w: LayerWeights, ssm: Tensor, conv: Tensor, in_place: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `layer_step`; more samples than `MOST_SAMPLES`, or a window of one, go through the operations one by one."""
    (batch, width), (channels, order), rank, window = x.shape, w.A_log.shape, w.dt_proj.shape[1], w.conv.shape[1]
    if not 0 < batch <= MOST_SAMPLES or window < 2 or 0 in (width, channels, order, rank):
        return reference.step(x, w, ssm, conv, in_place)
    ssm, conv = ssm.detach().float().contiguous(), conv.detach().to(w.in_proj.dtype).contiguous()
    new_ssm, new_conv = (ssm, conv) if in_place else (torch.empty_like(ssm), torch.empty_like(conv))
    out = torch.empty(batch, width)
    weights = _HELD.get(w) or _HELD.setdefault(w, held(w))
    sizes = batch, width, channels, order, rank, window, torch.get_num_threads()
    states = flat(ssm), flat(conv)
    new_states = states if in_place else (flat(new_ssm), flat(new_conv))
    launch(
        layer, w.in_proj.numel() // 8, as_float(x), *weights, *sizes,
        states[0], new_states[0], states[1], new_states[1], flat(out),
    )  # fmt: skip
    return out, new_ssm, new_conv


BACKEND = Backend(
    op="layer_step",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=step,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
