"""No figure without a check: the kernels that a measurement runs, held against their readable twins first."""

from collections.abc import Callable

import torch
from torch import Tensor

from deltaprune.kernels import (
    LayerWeights,
    causal_conv1d,
    hidden_attention,
    layer_step,
    matvec,
    residual_add,
    rms_norm,
    select,
    selective_scan,
)
from deltaprune.rows import cumulate

LENGTHS = (1, 64, 0, 200, 3)  # of a ragged batch, one sample of it empty
CHANNELS, STATES, TAPS, RANK = 96, 16, 4, 6
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}  # of the largest value: 2 to 4 roundings
F32 = torch.float32

Draw = Callable[..., Tensor]
Call = Callable[[str | None], tuple[Tensor, ...]]


class KernelMismatch(ArithmeticError):
    """A fast kernel disagrees with its reference: nothing it took part in is worth a figure."""


@torch.no_grad()
def verify_kernels(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Run the chosen backend of each op and the reference on the same random rows, drawn anew each time.

    Args:
        device: where.
        dtype: of the activations, float32, bfloat16 or float16.

    Returns:
        The op's name -> the backend that was chosen and checked.

    Raises:
        KernelMismatch: an output or a final state is wrong, NaN included.
    """
    seed = torch.Generator().seed() % 2**32
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, kind)

    chosen = {}
    for op, (read, call) in _calls(draw, device, dtype).items():
        chosen[op] = select(f"deltaprune.kernels.{op}", device, carries_state=True, dtype=read).name
        pairs = zip(call(None), call("reference"), strict=True)
        error = torch.tensor([_relative(*pair) for pair in pairs]).max().item()  # NaN if one of them is
        if not error <= TOLERANCE[dtype]:
            raise KernelMismatch(
                f"The {chosen[op]!r} backend of {op} is wrong on {device.type} in {dtype}: relative error {error:.1e}, "
                f"allowed {TOLERANCE[dtype]:.0e} (random inputs of seed {seed}). Nothing was measured."
            )
    return chosen


def _calls(draw: Draw, device: torch.device, dtype: torch.dtype) -> dict[str, tuple[torch.dtype, Call]]:
    """Of each op: the type by which its backend is chosen, and a call whose results a backend decides."""
    total, samples = sum(LENGTHS), len(LENGTHS)
    bounds = cumulate(LENGTHS, device)
    u, dt, z = draw(total, CHANNELS), draw(total, CHANNELS), draw(total, CHANNELS)
    b, c = draw(total, STATES), draw(total, STATES)
    a, state = -draw(CHANNELS, STATES, kind=F32).exp(), draw(samples, CHANNELS, STATES, kind=F32)
    skip, bias = draw(CHANNELS, kind=F32), draw(CHANNELS, kind=F32)
    taps, shift, past = draw(CHANNELS, TAPS), draw(CHANNELS), draw(samples, CHANNELS, TAPS - 1)
    stream, gain = draw(total, CHANNELS, kind=F32), draw(CHANNELS, kind=F32)
    steps = torch.exp(draw(total, CHANNELS, kind=F32) - 5)  # small ones: the first row must still be seen from the last
    weights = LayerWeights(
        norm=gain, in_proj=draw(2 * CHANNELS, CHANNELS) / 10, conv=taps, conv_bias=shift,
        x_proj=draw(RANK + 2 * STATES, CHANNELS) / 10, dt_proj=draw(CHANNELS, RANK), dt_bias=bias,
        A_log=draw(CHANNELS, STATES, kind=F32), D=skip, out_proj=draw(CHANNELS, CHANNELS) / 10, eps=1e-5,
    )  # fmt: skip

    def scan(backend: str | None) -> tuple[Tensor, ...]:
        done = selective_scan(u, dt, a, b, c, skip, z, bias, bounds, state, frozenset({"delta_mean"}), backend)
        assert done.delta_mean is not None
        return done.out, done.state, done.delta_mean

    return {
        "selective_scan": (dtype, scan),
        "causal_conv1d": (dtype, lambda backend: causal_conv1d(u, taps, shift, bounds, past, backend)),
        "rms_norm": (F32, lambda backend: rms_norm(stream, gain, 1e-5, u, dtype, backend)),
        "residual_add": (F32, lambda backend: (residual_add(stream, u, backend),)),
        "hidden_attention": (F32, lambda backend: (hidden_attention(steps, a, b, c[-1], backend),)),
        "matvec": (dtype, lambda backend: (matvec(u[1:2], weights.in_proj, backend),)),
        "layer_step": (dtype, lambda backend: layer_step(stream[:1], weights, state[:1], past[:1], False, backend)),
    }


def _relative(got: Tensor, want: Tensor) -> float:
    """The largest difference, relative to the largest value; NaN wherever one of them is NaN."""
    return ((got.float() - want.float()).abs().max() / want.float().abs().max()).item()
