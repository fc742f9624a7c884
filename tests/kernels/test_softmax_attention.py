"""Attention of every row to every other, every backend against float64."""

import llvmlite.binding
import pytest
import torch
from backends import backends, device_of, typed_backends
from torch import Tensor

from deltaprune.kernels import select, softmax_attention
from deltaprune.kernels.softmax_attention import numba
from deltaprune.kernels.softmax_attention.numba import HEIGHT, TILE, _refusal

BACKENDS = backends("softmax_attention")
# Of the norm; rounding the exact result to bfloat16 costs 1.7e-3.
ALLOWED = {torch.float32: 1e-6, torch.bfloat16: 2.6e-3}
SHAPES = [  # large enough for roundings to average
    (4, 8, HEIGHT, 2), (4, 6, HEIGHT + 1, 4), (1, 2, TILE - 1, 30), (1, 1, TILE, 64), (2, 2, TILE + 1, 72),
    (1, 2, 131, 96),
]  # fmt: skip


def heads(shape: tuple[int, int, int, int], dtype: torch.dtype, spread: float = 1.5) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value as a tower has them: heads beside each other in a row."""
    images, n, length, width = shape
    drawn = (torch.randn(images, length, n * width) * spread for _ in range(3))
    query, key, value = (x.to(dtype).view(images, length, n, width).transpose(1, 2) for x in drawn)
    return query, key, value


def run(backend: str, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    device = device_of("softmax_attention", backend)
    return softmax_attention(query.to(device), key.to(device), value.to(device), scale, backend).cpu()


def exact(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    scores = scale * query.double() @ key.double().transpose(2, 3)
    return (scores.softmax(-1) @ value.double()).transpose(1, 2)


def apart(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


@pytest.mark.parametrize(("backend", "dtype"), typed_backends("softmax_attention", torch.float32, torch.bfloat16))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(backend: str, dtype: torch.dtype, shape: tuple[int, int, int, int]) -> None:
    given, scale = heads(shape, dtype), shape[3] ** -0.5
    got = run(backend, *given, scale)
    assert (got.dtype, got.shape) == (dtype, (shape[0], shape[2], shape[1], shape[3]))
    assert got.is_contiguous()
    assert apart(got, exact(*given, scale)) <= ALLOWED[dtype]


@pytest.mark.parametrize(("backend", "dtype"), typed_backends("softmax_attention", torch.float32, torch.bfloat16))
def test_large_scores_neither_overflow_nor_lose_digits(backend: str, dtype: torch.dtype) -> None:
    given = heads((1, 2, 70, 32), dtype, spread=8.0)
    largest = float((0.125 * given[0].double() @ given[1].double().transpose(2, 3)).abs().max())
    assert largest > 100
    allowed = ALLOWED[dtype] + largest * 2**-23  # of a float32 score
    assert apart(run(backend, *given, 0.125), exact(*given, 0.125)) <= allowed


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_a_number_reaches_every_row_that_sees_it(backend: str) -> None:
    query, key, value = heads((2, 1, 20, 8), torch.bfloat16)
    key[0, 0, 7, 3] = torch.nan
    got = run(backend, query, key, value, 0.5)
    assert got[0].isnan().all()
    assert got[1].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_cut_from_wider_ones_and_at_odd_places(backend: str) -> None:
    wide = torch.randn(1, 3, 40, 49).bfloat16()
    parts = wide[..., 1:17], wide[..., 17:33], wide[..., 33:49]
    assert torch.equal(run(backend, *parts, 0.25), run(backend, *(part.contiguous() for part in parts), 0.25))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_is_its_images_one_by_one(backend: str) -> None:
    query, key, value = heads((3, 2, 75, 16), torch.bfloat16)
    together = run(backend, query, key, value, 0.25)
    alone = [run(backend, query[i : i + 1], key[i : i + 1], value[i : i + 1], 0.25) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_the_same_on_any_number_of_threads() -> None:
    given, before = heads((1, 4, 200, 32), torch.bfloat16), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = softmax_attention(*given, 0.25)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(softmax_attention(*given, 0.25), alone)


@pytest.mark.parametrize("shape", [(1, 2, HEIGHT - 1, 8), (2, 1, 30, 5), (0, 2, 30, 8), (1, 2, 0, 8)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_few_rows_and_odd_widths(backend: str, shape: tuple[int, int, int, int]) -> None:
    given = heads(shape, torch.bfloat16)
    got, want = run(backend, *given, 0.5), exact(*given, 0.5)
    assert got.shape == want.shape
    assert (got.double() - want).norm() <= 2**-7 * want.norm()  # two roundings at most


def test_gradients_go_through_the_reference() -> None:
    query, key, value = (x.detach().requires_grad_() for x in heads((1, 1, 12, 4), torch.bfloat16))
    softmax_attention(query, key, value, 0.5).sum().backward()
    assert query.grad is not None


@pytest.mark.parametrize(
    ("pairs", "tiles", "says"),
    [
        (True, True, "has AMX"),
        (False, False, "has no AVX512_BF16"),
        (True, False, None),
    ],
)
def test_the_processor_decides(pairs: bool, tiles: bool, says: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "PAIRS", pairs)
    monkeypatch.setattr(numba, "TILES", tiles)
    monkeypatch.setattr(llvmlite.binding, "llvm_version_info", (20, 1, 0))
    refusal = _refusal.__wrapped__()
    assert refusal is None if says is None else says in (refusal or "")


def test_an_old_llvm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "TILES", False)
    monkeypatch.setattr(llvmlite.binding, "llvm_version_info", (15, 0, 7))
    assert _refusal.__wrapped__() == "it needs LLVM 16 (numba 0.62), and numba has 15"


def test_other_types_take_torchs_own() -> None:
    assert select("deltaprune.kernels.softmax_attention", "cpu", dtype=torch.float32).name == "reference"


def test_shapes_and_types_that_do_not_fit() -> None:
    query, key, value = heads((1, 1, 8, 4), torch.bfloat16)
    with pytest.raises(ValueError, match="shapes or types do not fit"):
        softmax_attention(query, key.float(), value, 0.5)
