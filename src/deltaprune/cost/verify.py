"""No figure without a check: the kernels that a measurement runs, held against their readable twins first."""

import torch
from torch import Tensor

from deltaprune.kernels import causal_conv1d, rms_norm, select, selective_scan
from deltaprune.tokens import cumulate

LENGTHS = (1, 64, 0, 200, 3)  # of a ragged batch, one sample of it empty
CHANNELS, STATES, TAPS = 96, 16, 4
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}  # of the largest value; bfloat16 rounds by 4e-3


class KernelMismatch(ArithmeticError):
    """A fast kernel disagrees with its reference: nothing it took part in is worth a figure."""


@torch.no_grad()
def verify_kernels(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Run the chosen backend of each op and the reference on the same random rows, drawn anew each time.

    Args:
        device: where.
        dtype: of the activations, float32 or bfloat16.

    Returns:
        The op's name -> the backend that was chosen and checked.

    Raises:
        KernelMismatch: an output or a final state is wrong, NaN included.
    """
    seed = torch.Generator().seed() % 2**32
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, kind)

    total, samples, f32 = sum(LENGTHS), len(LENGTHS), torch.float32
    bounds = cumulate(LENGTHS, device)
    u, dt, z = draw(total, CHANNELS), draw(total, CHANNELS), draw(total, CHANNELS)
    b, c = draw(total, STATES), draw(total, STATES)
    a, state = -draw(CHANNELS, STATES, kind=f32).exp(), draw(samples, CHANNELS, STATES, kind=f32)
    skip, bias = draw(CHANNELS, kind=f32), draw(CHANNELS, kind=f32)
    taps, shift, past = draw(CHANNELS, TAPS), draw(CHANNELS), draw(samples, CHANNELS, TAPS - 1)
    stream, gain = draw(total, CHANNELS, kind=f32), draw(CHANNELS, kind=f32)
    results = {}
    for backend in (None, "reference"):
        scan = selective_scan(u, dt, a, b, c, skip, z, bias, bounds, state, frozenset({"delta_mean"}), backend)
        conv = causal_conv1d(u, taps, shift, bounds, past, backend)
        norm = rms_norm(stream, gain, 1e-5, u, dtype, backend)
        assert scan.delta_mean is not None
        outputs = (scan.out, scan.state, scan.delta_mean)
        results[backend] = {"selective_scan": outputs, "causal_conv1d": conv, "rms_norm": norm}
    chosen = {}
    for op, fast in results[None].items():
        read = f32 if op == "rms_norm" else dtype
        chosen[op] = select(f"deltaprune.kernels.{op}", device, carries_state=True, dtype=read).name
        errors = torch.tensor([_relative(*pair) for pair in zip(fast, results["reference"][op], strict=True)])
        error = errors.max().item()  # NaN if one of them is
        if not error <= TOLERANCE[dtype]:
            raise KernelMismatch(
                f"The {chosen[op]!r} backend of {op} is wrong on {device.type} in {dtype}: relative error {error:.1e}, "
                f"allowed {TOLERANCE[dtype]:.0e} (random inputs of seed {seed}). Nothing was measured."
            )
    return chosen


def _relative(got: Tensor, want: Tensor) -> float:
    """The largest difference, relative to the largest value; NaN wherever one of them is NaN."""
    return ((got.float() - want.float()).abs().max() / want.float().abs().max()).item()
