"""Compare the kernels that a measurement will run with their readable references, before anything is timed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deltaprune.kernels import (
    LayerWeights,
    Quantized,
    Scan,
    ScanState,
    TokenWeights,
    causal_conv1d,
    hidden_attention,
    layer_rows,
    layer_step,
    matmul,
    matvec,
    quantized_matmul,
    residual_add,
    rms_norm,
    scan_state,
    select,
    selective_scan,
    softmax_attention,
    token_step,
)
from deltaprune.kernels.quantized import FORMS, quantize
from deltaprune.rows import cumulate

LENGTHS = (1, 60, 0, 200, 3)  # of a ragged batch, one sample of it empty
CHANNELS, STATES, TAPS, RANK = 96, 16, 4, 6
WIDTH = 64  # of the quantized matrices, whose groups need a multiple of 32
MANY = 70  # rows that a quantized matrix meets; the first 3 and 50 go other ways, see `quantized_matmul`
LARGE = 4096, 1026  # a matrix that few rows meet on a path of its own, see `matmul`
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}  # of the largest value: 2 to 4 roundings
F32 = torch.float32


class KernelMismatch(ArithmeticError):
    """A fast kernel disagrees with its reference: no measurement that uses it is valid."""


@dataclass(frozen=True)
class Case:
    """One op on random inputs.

    Attributes:
        op: its function.
        inputs: its arguments, all but the backend.
        read: the type that decides which backend is chosen.
    """

    op: Callable[..., Any]
    inputs: tuple[Any, ...]
    read: torch.dtype

    def run(self, backend: str | None) -> tuple[Tensor, ...]:
        """Every output and final state under a backend; None takes the best one."""
        return tensors(self.op(*self.inputs, backend=backend))

    def exact(self) -> tuple[Tensor, ...]:
        """The reference's outputs in float64, from the same inputs."""
        return tensors(self.op(*map(_wide, self.inputs), backend="reference"))


def tensors(given: Tensor | Scan | ScanState | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What an op returned, as a tuple; extras that were not asked for are left out."""
    if isinstance(given, Scan | ScanState):
        return tuple(each for each in vars(given).values() if each is not None)
    return (given,) if isinstance(given, Tensor) else given


def cases(
    device: torch.device,
    dtype: torch.dtype,
    lengths: Sequence[int] = LENGTHS,
    channels: int = CHANNELS,
    taps: int = TAPS,
    seed: int = 0,
) -> dict[str, Callable[[], Case]]:
    """For each op what draws its case: activations in `dtype`, initial states, steps so small that states last.

    Args:
        device, dtype: of the activations.
        lengths: of the packed samples.
        channels: of every row.
        taps: of the convolution.
        seed: of the draws.
    """
    generator, bounds = torch.Generator(device).manual_seed(seed), cumulate(tuple(lengths), device)
    total, samples, e = sum(lengths), len(lengths), channels

    def draw(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(kind)

    def rows(kind: torch.dtype = dtype) -> Tensor:
        return draw(total, e, kind=kind)

    def per_channel() -> Tensor:
        return draw(e, kind=F32)

    def decay() -> Tensor:
        return -draw(e, STATES, kind=F32).exp()

    def weights() -> LayerWeights:
        return LayerWeights(
            norm=per_channel(), in_proj=draw(2 * e, e) / 10, conv=draw(e, taps), conv_bias=draw(e),
            x_proj=draw(RANK + 2 * STATES, e) / 10, dt_proj=draw(e, RANK), dt_bias=per_channel(),
            A_log=draw(e, STATES, kind=F32), D=per_channel(), out_proj=draw(e, e) / 10, eps=1e-5,
        )  # fmt: skip

    def scan() -> Case:
        read = draw(total, STATES), draw(total, STATES), per_channel(), rows(), per_channel() - 3, bounds
        state = draw(samples, e, STATES, kind=F32)
        return Case(selective_scan, (rows(), rows(), decay(), *read, state, frozenset({"delta_mean"})), dtype)

    def last_state() -> Case:
        written = draw(total, STATES), per_channel() - 3, bounds, draw(samples, e, STATES, kind=F32)
        return Case(scan_state, (rows(), rows(), decay(), *written, frozenset({"delta_mean"})), dtype)

    def convolution() -> Case:
        inputs = rows(), draw(e, taps), draw(e), bounds, draw(samples, e, taps - 1)
        return Case(causal_conv1d, inputs, dtype)

    def attention() -> Case:
        inputs = torch.exp(rows(F32) - 5), decay(), draw(total, STATES), draw(STATES)
        return Case(hidden_attention, inputs, F32)

    def quantized() -> Case:
        weights = (Quantized(*quantize(draw(48, WIDTH), form), dtype) for form in FORMS)
        return Case(_in_every_form, (draw(MANY, WIDTH), *weights), dtype)

    def multiplied() -> Case:
        return Case(_small_and_large, (rows(), draw(2 * e, e) / 10, draw(3, LARGE[1]), draw(*LARGE) / 10), dtype)

    def step() -> Case:
        states = draw(1, e, STATES, kind=F32), draw(1, e, taps - 1)
        return Case(layer_step, (draw(1, e, kind=F32), weights(), *states, False), dtype)

    def prompt() -> Case:
        few, states = sum(lengths[:2]), (draw(2, e, STATES, kind=F32), draw(2, e, taps - 1))
        return Case(
            layer_rows, (draw(few, e, kind=F32), weights(), cumulate(tuple(lengths[:2]), device), *states), dtype
        )

    def token() -> Case:
        lm, ids = TokenWeights(draw(48, e), [weights(), weights()], per_channel(), 1e-5), torch.tensor([3, 40])
        return Case(_decoded, (ids.to(device), lm, draw(2, e, STATES, kind=F32), draw(2, e, taps - 1)), dtype)

    def looks() -> Case:
        return Case(softmax_attention, (*(draw(1, 3, total, 16) for _ in range(3)), 0.25), dtype)

    return {
        "selective_scan": scan,
        "scan_state": last_state,
        "causal_conv1d": convolution,
        "rms_norm": lambda: Case(rms_norm, (rows(F32), per_channel(), 1e-5, rows(), dtype), F32),
        "residual_add": lambda: Case(residual_add, (rows(F32), rows()), F32),
        "hidden_attention": attention,
        "matmul": multiplied,
        "matvec": lambda: Case(matvec, (draw(1, e), draw(2 * e, e) / 10), dtype),
        "quantized_matmul": quantized,
        "layer_rows": prompt,
        "layer_step": step,
        "softmax_attention": looks,
        "token_step": token,
    }


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
    chosen, seed = {}, torch.Generator().seed() % 2**32
    for op, drawn in cases(device, dtype, seed=seed).items():
        case = drawn()
        chosen[op] = select(f"deltaprune.kernels.{op}", device, carries_state=True, dtype=case.read).name
        pairs = zip(case.run(None), case.run("reference"), strict=True)
        error = torch.tensor([_relative(*pair) for pair in pairs]).max().item()  # NaN if one of them is
        if not error <= TOLERANCE[dtype]:
            raise KernelMismatch(
                f"The {chosen[op]!r} backend of {op} is wrong on {device.type} in {dtype}: relative error {error:.1e}, "
                f"allowed {TOLERANCE[dtype]:.0e} (random inputs of seed {seed}). Nothing was measured."
            )
    return chosen


def _wide(given: Any) -> Any:
    """A floating tensor, a type, or the type of a quantized matrix in float64; anything else unchanged."""
    if isinstance(given, torch.dtype):
        return torch.float64
    if isinstance(given, Quantized):
        return replace(given, dtype=torch.float64)
    return given.double() if isinstance(given, Tensor) and given.is_floating_point() else given


def _in_every_form(x: Tensor, int8: Quantized, int4: Quantized, backend: str | None) -> tuple[Tensor, ...]:
    """The products of both forms, of few rows, of more and of many."""
    parts = x[:3], x[:50], x
    return tuple(quantized_matmul(part, each, backend=backend) for part in parts for each in (int8, int4))


def _decoded(ids: Tensor, lm: TokenWeights, ssm: Tensor, conv: Tensor, backend: str | None) -> tuple[Tensor, ...]:
    """The logits and new states of a token where all layers come from the same state."""
    logits, states = token_step(ids, lm, [(ssm, conv)] * len(lm.layers), backend=backend)
    return logits, *(tensor for pair in states for tensor in pair)


def _small_and_large(x: Tensor, small: Tensor, few: Tensor, large: Tensor, backend: str | None) -> tuple[Tensor, ...]:
    """The products of many rows with a small matrix, and of few with a large one."""
    return matmul(x, small, backend=backend), matmul(few, large, backend=backend)


def _relative(got: Tensor, want: Tensor) -> float:
    """The largest difference, relative to the largest value; NaN wherever one of them is NaN."""
    return ((got.float() - want.float()).abs().max() / want.float().abs().max()).item()
