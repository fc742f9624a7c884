"""A matrix of int8 or int4 numbers and their scales, which stands where a weight stands.

int8: one float32 scale for each row, value = scale * number, -127 <= number <= 127.
int4: one bfloat16 scale for each `GROUP` numbers of a row, -8 <= number <= 7. A group is 16 bytes: byte i holds number
i in its lower half and number i + 16 in its upper half, each plus 8.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

GROUP = 32  # numbers of an int4 row that share a scale; the width of every quantized matrix is a multiple of it
OFFSET = 8
FORMS = ("int8", "int4")
ROWS = 256  # that are quantized at once: their temporary copies stay in the cache
CLIPPED = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # parts of a group's range that a scale is tried for


@dataclass(frozen=True)
class Quantized:
    """A quantized matrix `(n, k)`.

    Attributes:
        numbers: (n, k) int8, or (n, k / 2) uint8 for int4.
        scale: (n,) float32, or (n, k / 32) bfloat16.
        dtype: of the rows that it multiplies, and of the products.
    """

    numbers: Shaped[Tensor, "n held"]
    scale: Shaped[Tensor, "n ..."]
    dtype: torch.dtype

    @property
    def form(self) -> str:
        """ "int8" or "int4"."""
        return "int8" if self.numbers.dtype == torch.int8 else "int4"

    @property
    def shape(self) -> torch.Size:
        """Rows and columns of the matrix."""
        rows, held = self.numbers.shape
        return torch.Size((rows, held if self.form == "int8" else 2 * held))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.numbers.device

    @property
    def requires_grad(self) -> bool:
        """Never: it cannot be trained."""
        return False

    @property
    def nbytes(self) -> int:
        """Bytes of numbers and scales."""
        return self.numbers.nbytes + self.scale.nbytes

    def numel(self) -> int:
        """How many weights it stands for."""
        return self.shape.numel()

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> "Quantized":
        """Some of its rows; no copy."""
        return replace(self, numbers=self.numbers[rows], scale=self.scale[rows])

    def rows(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "*b k"]:
        """Some of its rows, float32, as an embedding gives them."""
        rows = dequantize(self.numbers[ids.reshape(-1)], self.scale[ids.reshape(-1)])
        return rows.reshape(*ids.shape, -1)

    def dequantized(self, dtype: torch.dtype | None = None) -> Float[Tensor, "n k"]:
        """The matrix that it stands for, rounded to a type, its own by default."""
        return dequantize(self.numbers, self.scale).to(self.dtype if dtype is None else dtype)


def quantize(weight: Float[Tensor, "n k"], form: str) -> tuple[Tensor, Tensor]:
    """Numbers and scales of a matrix, as in `Quantized`.

    int8 takes the scale at which the largest weight of a row is 127. int4 takes, for each group, the one of a few
    scales with the least squared error: the largest weight is -8 or 7, or a little beyond, where it is cut off.

    Raises:
        ValueError: an unknown form, or a width that is no multiple of `GROUP`.
    """
    if form not in FORMS or weight.shape[1] % GROUP:
        raise ValueError(f"`quantize`: {form!r} and a matrix {tuple(weight.shape)} do not fit.")
    made = [(_int8 if form == "int8" else _int4)(rows.float()) for rows in weight.detach().split(ROWS)]
    numbers, scale = zip(*made, strict=True)
    return torch.cat(numbers), torch.cat(scale)


def dequantize(numbers: Shaped[Tensor, "n held"], scale: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n k"]:
    """The inverse of `quantize`, float32."""
    if numbers.dtype == torch.int8:
        return numbers.float() * scale.float()[:, None]
    halves = numbers.unflatten(1, (-1, GROUP // 2))
    whole = torch.cat([halves & 15, halves >> 4], 2).float() - OFFSET
    return (whole * scale.float()[:, :, None]).flatten(1)


def _int8(rows: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
    scale = _nonzero(rows.abs().amax(1) / 127)
    return (rows / scale[:, None]).round_().clamp_(-127, 127).to(torch.int8), scale


def _int4(rows: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
    groups = rows.unflatten(1, (-1, GROUP))
    scale = _best_scale(groups)
    low, high = (_numbers(groups, scale.float()) + OFFSET).to(torch.uint8).chunk(2, 2)
    return (low | high << 4).flatten(1), scale


def _best_scale(groups: Float[Tensor, "n g 32"]) -> Float[Tensor, "n g"]:
    """The scale of each group with the least squared error, bfloat16."""
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))[:, :, 0]
    best, least = torch.empty_like(largest), torch.full_like(largest, torch.inf)
    for top in (-8, 7):
        for part in CLIPPED:
            scale = _nonzero(largest * (part / top)).bfloat16().float()
            error = _numbers(groups, scale).mul_(scale[:, :, None]).sub_(groups).square_().sum(2)
            better = error < least
            best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best.bfloat16()


def _numbers(groups: Float[Tensor, "n g 32"], scale: Float[Tensor, "n g"]) -> Float[Tensor, "n g 32"]:
    """The nearest whole numbers in range, still float32."""
    return (groups / scale[:, :, None]).round_().clamp_(-OFFSET, OFFSET - 1)


def _nonzero(scale: Tensor) -> Tensor:
    """A row or group of zeros has scale 1."""
    return torch.where(scale == 0, 1.0, scale)


def operands(weight: Quantized) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`flat`, and a number of its rows' type."""
    return *flat(weight), np.empty(1, np.int16 if weight.dtype == torch.bfloat16 else np.float32)


def flat(weight: Quantized) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and scales as flat memory, as compiled code takes them: bfloat16 as the int16 of the same bits."""
    scale = weight.scale.float() if weight.form == "int8" else weight.scale.bfloat16().view(torch.int16)
    return weight.numbers.contiguous().view(-1).numpy(), scale.contiguous().view(-1).numpy()
