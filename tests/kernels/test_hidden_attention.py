"""Every backend of hidden attention against the sum written out in float64, within the error that it states."""

import inspect

import pytest
import torch
from backends import backends, device_of, moved
from torch import Tensor
from triton_cases import poisoned as poisoned

from deltaprune.kernels import hidden_attention, select

LENGTHS = [1, 2, 3, 63, 64, 65, 257, 1000]
BACKENDS = backends("hidden_attention")
pytestmark = pytest.mark.usefixtures("poisoned")


def inputs(length: int, channels: int = 40, order: int = 8) -> dict[str, Tensor]:
    """Drawn anew each time, from a seed that pytest shows where a test fails."""
    seed = torch.Generator().seed() % 2**32
    print(f"inputs of seed {seed}")
    g = torch.Generator().manual_seed(seed)
    return {
        "delta": torch.exp(2 * torch.randn(length, channels, generator=g) - 4),
        "A": -torch.exp(torch.randn(channels, order, generator=g)),
        "B": torch.randn(length, order, generator=g),
        "c": torch.randn(order, generator=g),
    }


def run(backend: str | None, made: dict[str, Tensor]) -> Tensor:
    device = "cpu" if backend is None else device_of("hidden_attention", backend)
    return hidden_attention(**moved(made, device), backend=backend).cpu()


def exact(delta: Tensor, A: Tensor, B: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The row in float64, and by how much a float32 backend may miss it."""
    delta, A, B, c = (x.double() for x in (delta, A, B, c))
    after = torch.zeros_like(delta)
    for j in range(len(delta) - 2, -1, -1):
        after[j] = after[j + 1] + delta[j + 1]
    x = A * after[:, :, None]
    write = delta[:, :, None] * (c * B)[:, None]
    size = write.abs() * x.exp()
    allowed = size * (3e-6 + 2e-7 * x.abs()) + write.abs() * 2e-38
    return (write * x.exp()).sum(-1).abs().mean(-1), allowed.sum(-1).mean(-1)


def assert_near(got: Tensor, made: dict[str, Tensor]) -> None:
    want, allowed = exact(**made)
    assert got.dtype == torch.float32
    assert got.shape == want.shape
    worst = ((got.double() - want).abs() / allowed.clamp(min=1e-45)).max().item()  # NaN if one of them is
    assert worst <= 1, f"{worst} times the stated error"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", LENGTHS, ids="L{}".format)
def test_lengths(backend, length):
    made = inputs(length)
    assert_near(run(backend, made), made)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [1, 5, 16], ids="N{}".format)
@pytest.mark.parametrize("channels", [1, 16, 127, 128, 300], ids="E{}".format)
def test_widths(backend, channels, order):
    made = inputs(34, channels, order)
    assert_near(run(backend, made), made)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_steps_and_decays(backend):
    """Exponents from 0 to -1e12: most of the exponentials underflow, the last row has none."""
    made = inputs(70, 40, 4)
    made["delta"] = made["delta"] * torch.logspace(-6, 6, 70)[:, None]
    made["A"] = -torch.logspace(-6, 6, 4).expand(40, 4).contiguous()
    assert_near(run(backend, made), made)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("late", [1e-3, 1e-6])
def test_small_sums_after_large_steps_keep_their_digits(backend, late):
    """Row 199's step of 1000 is no part of its own S, 200 small ones: a running sum less the step would lose them."""
    delta = torch.cat([torch.full((200, 1), 1000.0), torch.full((200, 1), late)])
    made = {"delta": delta, "A": torch.tensor([[-1 / (200 * late)]]), "B": torch.ones(400, 1), "c": torch.ones(1)}
    got = run(backend, made)
    assert got[199].item() == pytest.approx(1000 * torch.e**-1, rel=1e-6)
    assert_near(got, made)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_lost_where_no_time_passes(backend):
    """Δ = 0 everywhere: every exponential is 1, and nothing is written."""
    made = {**inputs(40), "delta": torch.zeros(40, 40)}
    assert torch.equal(run(backend, made), torch.zeros(40))


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_rows_cut_from_wider_ones(backend):
    """B and c as the layer hands them over: columns of the bfloat16 output of a projection."""
    made = inputs(50, 48, 8)
    _, b, c = torch.cat([made["delta"], made["B"], made["B"].flip(0)], 1).bfloat16().split([48, 8, 8], 1)
    wide = torch.cat([made["delta"], made["delta"] + 1], 1)
    cut = {**made, "delta": wide[:, :48], "B": b, "c": c[-1]}
    plain = {**made, "B": b.float(), "c": c[-1].float()}
    assert torch.equal(run(backend, cut), run(backend, plain))
    assert_near(run(backend, cut), plain)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_reaches_the_rows_that_read_it(backend):
    """Row 2's step decays what rows 0 and 1 wrote; what came after does not read it."""
    made = inputs(9)
    before = run(backend, made)
    made["delta"][2, 3] = torch.nan
    after = run(backend, made)
    assert after[:3].isnan().all()
    assert torch.equal(after[3:], before[3:])
    for name in ("A", "B", "c"):
        broken = inputs(9)
        broken[name][(0,) * broken[name].ndim] = torch.nan
        assert run(backend, broken)[0].isnan()


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_no_rows(backend):
    assert run(backend, inputs(0)).shape == (0,)


def test_threads_do_not_matter():
    made, before = inputs(700, 1000, 16), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run("numba", made))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_float64_stays_float64():
    made = inputs(65)
    got = hidden_attention(**{name: x.double() for name, x in made.items()})
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, exact(**made)[0], rtol=1e-13, atol=0)


def test_gradients_go_through_the_reference():
    made = {name: x.requires_grad_() for name, x in inputs(7, 3, 2).items()}
    hidden_attention(**made).sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in made.values())


def test_the_fast_one_is_taken():
    assert select("deltaprune.kernels.hidden_attention", "cpu", dtype=torch.float32).name == "numba"


@pytest.mark.parametrize("name", ["A", "B", "c"])
def test_shapes_that_do_not_fit(name):
    made = inputs(5)
    with pytest.raises(ValueError, match=rf"{name} \("):
        inspect.unwrap(hidden_attention)(**{**made, name: made[name][:-1]})
