"""The step of decoding, every backend against the equations in float64."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from backends import backends, device_of
from torch import Tensor
from triton_cases import DEVICE

from deltaprune.blocks.mamba1 import MambaBlock, MambaState
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.kernels import LayerWeights, layer_step, use
from deltaprune.kernels._triton import INTERPRETED
from deltaprune.kernels.layer_step import triton as fused
from deltaprune.kernels.layer_step.numba import MOST_SAMPLES
from deltaprune.rows import Rows

BACKENDS = backends("layer_step")

Result = tuple[Tensor, Tensor, Tensor]


def made(d: int = 12, e: int = 20, n: int = 16, r: int = 3, w: int = 4, dtype: torch.dtype = torch.float32):
    """Random weights of one layer, the products in `dtype`."""

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape) * scale).to(dtype)

    return LayerWeights(
        norm=torch.randn(d), in_proj=draw(2 * e, d, scale=d**-0.5), conv=draw(e, w), conv_bias=draw(e),
        x_proj=draw(r + 2 * n, e, scale=e**-0.5), dt_proj=draw(e, r), dt_bias=torch.randn(e) - 2,
        A_log=torch.randn(e, n), D=torch.randn(e), out_proj=draw(d, e, scale=e**-0.5), eps=1e-5,
    )  # fmt: skip


def states(weights: LayerWeights, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """A residual stream and what came before it."""
    (e, n), w = weights.A_log.shape, weights.conv.shape[1]
    past = torch.randn(batch, e, w - 1).to(weights.in_proj.dtype)
    return torch.randn(batch, weights.norm.shape[0]), torch.randn(batch, e, n), past


def truth(x: Tensor, weights: LayerWeights, ssm: Tensor, conv: Tensor) -> Result:
    """The equations in float64, rounded where a prefill in the weights' type rounds."""
    dtype = weights.in_proj.dtype
    w = {name: value.double() for name, value in vars(weights).items() if isinstance(value, Tensor)}
    x, ssm, conv = x.double(), ssm.double(), conv.double()

    def rounded(value: Tensor) -> Tensor:
        return value.to(dtype).double() if dtype == torch.bfloat16 else value

    normed = rounded(x / (x.square().mean(1, keepdim=True) + weights.eps).sqrt() * w["norm"])
    u, z = rounded(normed @ w["in_proj"].T).chunk(2, 1)
    window = torch.cat([conv, u[:, :, None]], 2)
    u = rounded(F.silu((window * w["conv"]).sum(2) + w["conv_bias"]))
    n, r = ssm.shape[2], w["dt_proj"].shape[1]
    dt, B, C = rounded(u @ w["x_proj"].T).split([r, n, n], 1)
    delta = F.softplus(rounded(dt @ w["dt_proj"].T) + w["dt_bias"])
    h = torch.exp(delta[:, :, None] * -w["A_log"].exp()) * ssm + (delta * u)[:, :, None] * B[:, None]
    y = (h * C[:, None]).sum(2) + w["D"] * u
    return x + rounded(rounded(y * F.silu(z)) @ w["out_proj"].T), h, window[:, :, 1:]


def there(weights: LayerWeights, device: str) -> LayerWeights:
    return replace(weights, **{k: v.to(device) for k, v in vars(weights).items() if isinstance(v, Tensor)})


def run(backend: str, x: Tensor, weights: LayerWeights, ssm: Tensor, conv: Tensor, **options) -> Result:
    """The op where the backend runs; results on the CPU."""
    device = device_of("layer_step", backend)
    x, ssm, conv = (t.to(device) for t in (x, ssm, conv))
    x, ssm, conv = layer_step(x, there(weights, device), ssm, conv, backend=backend, **options)
    return x.cpu(), ssm.cpu(), conv.cpu()


def tolerance(backend: str, dtype: torch.dtype) -> float:
    """Triton's interpreter cuts bits off at each rounding to bfloat16; a GPU rounds to nearest, as torch does."""
    if dtype == torch.float32:
        return 1e-5
    return 8e-2 if backend == "triton" and INTERPRETED else 1e-2


def assert_close(got: Result, want: Result, rtol: float) -> None:
    for ours, theirs in zip(got, want, strict=True):
        assert ours.shape == theirs.shape
        distance = (ours.double() - theirs).norm() / theirs.norm().clamp(min=1e-30)
        assert distance <= rtol, distance  # NaN does not pass


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "sizes",
    [{}, {"d": 1, "e": 1, "n": 1, "r": 1}, {"e": 33, "r": 9, "n": 5}, {"d": 40, "e": 24, "w": 2}, {"w": 3}, {"e": 96}],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 3, fused.MOST_ROWS + 1, MOST_SAMPLES + 1], ids="B{}".format)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_equations(backend, sizes, batch, dtype):
    weights = made(**sizes, dtype=dtype)
    given = states(weights, batch)
    kept = [t.clone() for t in given]
    want = truth(given[0], weights, *given[1:])
    assert_close(run(backend, given[0], weights, *given[1:]), want, tolerance(backend, dtype))
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True)), "the caller's states stand"


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_place_gives_the_same(backend):
    weights = made(e=40)
    x, ssm, conv = states(weights, 2)
    want = run(backend, x, weights, ssm, conv)
    got = run(backend, x, weights, ssm, conv, in_place=True)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    if backend == "triton" and DEVICE == "cpu":
        assert torch.equal(ssm, want[1]), "in place"
        assert torch.equal(conv, want[2]), "in place"


@pytest.mark.parametrize(
    "how", [fused.Plan(held=2**11), fused.Plan(held=2**20, warps=8), fused.Plan(early=False)], ids=str
)
def test_every_plan_is_right(how):
    pytest.importorskip("triton")
    weights = made(d=24, e=50)
    x, ssm, conv = states(weights, 2)
    got = fused.step(x.to(DEVICE), there(weights, DEVICE), ssm.to(DEVICE), conv.to(DEVICE), False, how)
    assert_close((got[0].cpu(), got[1].cpu(), got[2].cpu()), truth(x, weights, ssm, conv), 1e-5)


def test_channels_by_sixteens_are_as_one_by_one():
    """Of 32 channels 20, which the others do not move, alone: their number is no multiple of 16."""
    wide, few = made(e=32), slice(20)
    wide.x_proj[:, 20:] = 0
    by_channel = {name: getattr(wide, name)[few] for name in ("conv", "conv_bias", "dt_proj", "dt_bias", "A_log", "D")}
    u, z = wide.in_proj.chunk(2)
    narrow = replace(
        wide,
        in_proj=torch.cat([u[few], z[few]]),
        x_proj=wide.x_proj[:, few],
        out_proj=wide.out_proj[:, few],
        **by_channel,
    )
    x, ssm, conv = states(wide, 2)
    _, together, _ = layer_step(x, wide, ssm, conv, backend="numba")
    _, alone, _ = layer_step(x, narrow, ssm[:, few], conv[:, few], backend="numba")
    assert torch.allclose(together[:, few], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads):
    weights, before = made(d=64, e=960), torch.get_num_threads()
    given = states(weights, 2)
    want = layer_step(given[0], weights, *given[1:], backend="numba")
    try:
        torch.set_num_threads(threads)
        got = layer_step(given[0], weights, *given[1:], backend="numba")
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_steps_as_it_prefills(backend):
    """Five rows at once, and one after the other."""
    device = device_of("layer_step", backend)
    layer = MambaBlock(MambaConfig(d_model=6, n_layers=1, vocab_size=8)).requires_grad_(False).to(device)
    x = torch.randn(5, 6, device=device)
    rows, end, _ = layer.prefill(Rows.pack([x[:0]], [x]))
    state = layer.empty_state(1)
    for row, expected in zip(x, rows.x, strict=True):
        with use(layer_step=backend):
            got, state = layer.step(row[None], state)
        torch.testing.assert_close(got[0], expected, rtol=1e-4, atol=1e-5)
    assert isinstance(state, MambaState)
    torch.testing.assert_close(state.ssm, end.ssm, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state.conv, end.conv, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_on_cpus_a_batch_gives_the_bits_of_its_samples(dtype):
    weights = made(d=35, e=50, dtype=dtype)
    given = states(weights, MOST_SAMPLES)
    together = run("numba", given[0], weights, *given[1:])
    for count in (1, 2, 5):
        for i in range(0, MOST_SAMPLES - count + 1, count):
            some = run("numba", given[0][i : i + count], weights, *(t[i : i + count] for t in given[1:]))
            assert all(torch.equal(a, b[i : i + count]) for a, b in zip(some, together, strict=True))


def test_shapes_that_do_not_fit():
    weights = made()
    x, ssm, conv = states(weights, 2)
    with pytest.raises(ValueError, match="shapes do not fit 20 channels of 16 states"):
        layer_step(x, replace(weights, in_proj=weights.in_proj[:-1]), ssm, conv)
