"""Every backend of the scan x its properties; the truth is the reference in float64, and the reference's truth is K."""

from collections.abc import Iterable

import pytest
import torch
from backends import backends, device_of, moved
from torch import Tensor

from deltaprune.kernels import Scan, selective_scan

EXTRAS = frozenset({"delta", "delta_mean", "y"})
BACKENDS = backends("selective_scan")
LENGTHS = [1, 2, 3, 63, 64, 65, 257, 1000]
ROWWISE = ("u", "dt", "z", "B", "C")


def run(backend: str, made: dict, extras: frozenset[str] = EXTRAS) -> Scan:
    """The scan where the backend runs; what it gives on the CPU."""
    got = selective_scan(**moved(made, device_of("selective_scan", backend)), extras=extras, backend=backend)
    return Scan(**moved({name: getattr(got, name) for name in ("out", "state", "delta", "delta_mean", "y")}, "cpu"))


def boundaries(lengths: Iterable[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def inputs(lengths, channels=48, order=8, seed=0, dtype=torch.float32, state=False) -> dict:
    g = torch.Generator().manual_seed(seed)
    total = sum(lengths)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    made = {
        "u": normal(total, channels).to(dtype),
        "dt": normal(total, channels).to(dtype),
        "A": -torch.exp(normal(channels, order)),
        "B": normal(total, order),
        "C": normal(total, order),
        "D": normal(channels),
        "z": (3 * normal(total, channels)).to(dtype),
        "dt_bias": normal(channels) - 3,
        "cu_seqlens": boundaries(lengths),
    }
    return {**made, "initial_state": normal(len(lengths), channels, order) if state else None}


def doubled(made: dict) -> dict:
    return {k: v.double() if v is not None and v.is_floating_point() else v for k, v in made.items()}


def assert_near(got: Scan, want: Scan, rtol=1e-5):
    for field in ("out", "state", "delta", "delta_mean", "y"):
        ours, truth = getattr(got, field), getattr(want, field)
        assert torch.isfinite(ours).all(), field
        # Sums of terms of both signs: relative to the size of a typical value, not of the remainder.
        atol = rtol * float(truth.square().mean().sqrt()) if field in ("out", "state", "y") else 0.0
        torch.testing.assert_close(ours.double(), truth, rtol=rtol, atol=atol, msg=lambda m, f=field: f"{f}: {m}")


def assert_identical(one: Scan, other: Scan):
    for field in ("out", "state", "delta", "delta_mean", "y"):
        assert torch.equal(getattr(one, field), getattr(other, field)), field


def joined(scans: list[Scan], state: Tensor) -> Scan:
    fields = {f: torch.cat([getattr(s, f) for s in scans]) for f in ("out", "delta", "delta_mean", "y")}
    return Scan(state=state, **fields)


def cut(made: dict, start: int, stop: int, state: Tensor | None) -> dict:
    part = {k: v[start:stop] if k in ROWWISE else v for k, v in made.items()}
    return {**part, "cu_seqlens": boundaries([stop - start]), "initial_state": state}


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nobody has written is NaN."""
    real = torch.empty

    def empty(*args, **kwargs):
        made = real(*args, **kwargs)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", empty)


@pytest.mark.parametrize("seed", [0, 1])
def test_reference_against_the_unrolled_kernel(seed):
    """y_t = Σ_{j<=t} C_t (Π_{j<k<=t} exp(Δ_k A)) Δ_j B_j u_j + D u_t, eq. 5 of the paper with a time-varying kernel."""
    made = doubled(inputs([23], channels=5, order=4, seed=seed, state=True))
    u, A, B, C = made["u"], made["A"], made["B"], made["C"]
    delta = torch.log1p(torch.exp(made["dt"] + made["dt_bias"]))
    decay = torch.einsum("te,en->ten", delta.cumsum(0), A)
    later = torch.ones(23, 23, dtype=torch.bool).tril()[:, :, None, None]  # t >= j
    K = torch.exp((decay[:, None] - decay[None]).masked_fill(~later, -torch.inf))
    y = torch.einsum("tn,tjen,je,jn,je->te", C, K, delta, B, u) + made["D"] * u
    y = y + torch.einsum("tn,ten,en->te", C, torch.exp(decay), made["initial_state"][0])
    got = selective_scan(**made, extras=EXTRAS, backend="reference")
    torch.testing.assert_close(got.y, y)
    torch.testing.assert_close(got.out, y * made["z"] * torch.sigmoid(made["z"]))
    torch.testing.assert_close(got.delta_mean, delta.mean(1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", LENGTHS, ids="T{}".format)
def test_lengths(backend, length):
    made = inputs([length], seed=length, state=length % 2 == 0)
    want = selective_scan(**doubled(made), extras=EXTRAS, backend="reference")
    assert_near(run(backend, made), want)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [1, 4, 5, 8, 16], ids="N{}".format)
@pytest.mark.parametrize("channels", [1, 16, 48, 50, 192], ids="E{}".format)
def test_widths(backend, channels, order):
    made = inputs([9, 30], channels, order, seed=channels + order, state=True)
    want = selective_scan(**doubled(made), extras=EXTRAS, backend="reference")
    assert_near(run(backend, made), want)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [[65, 1, 0, 7, 33], [0, 5, 0], [3, 3, 3]], ids=str)
@pytest.mark.parametrize("state", [False, True], ids=["fresh", "carried"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_batch_is_bit_equal_to_its_samples(backend, lengths, state, dtype):
    made = inputs(lengths, channels=50, seed=len(lengths), dtype=dtype, state=state)
    whole = run(backend, made)
    bounds, parts = made["cu_seqlens"].tolist(), []
    for s in range(len(lengths)):
        before = made["initial_state"][s : s + 1] if state else None
        parts.append(run(backend, cut(made, bounds[s], bounds[s + 1], before)))
    assert_identical(whole, joined(parts, torch.cat([p.state for p in parts])))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("at", [0, 1, 31, 32, 50, 96, 97])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_split_with_carried_state_is_bit_equal_to_whole(backend, at, dtype):
    made = inputs([97], channels=50, order=16, seed=at, dtype=dtype)
    whole = run(backend, made)
    head = run(backend, cut(made, 0, at, None))
    kept = head.state.clone()
    tail = run(backend, cut(made, at, 97, head.state))
    assert torch.equal(head.state, kept), "the caller's state was written to"
    assert_identical(whole, joined([head, tail], tail.state))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16(backend):
    """Inputs are exact in float32, all sums are in float32: only `out` is rounded, to 2^-8 relative at most."""
    made = inputs([200], channels=50, seed=3, dtype=torch.bfloat16)
    truth = selective_scan(**doubled(made), extras=EXTRAS, backend="reference")
    got = run(backend, made)
    assert got.out.dtype == torch.bfloat16
    assert got.state.dtype == got.delta.dtype == torch.float32
    torch.testing.assert_close(got.out.double(), truth.out, rtol=2**-8, atol=1e-5 * float(truth.out.std()))
    assert_near(Scan(truth.out, got.state, got.delta, got.delta_mean, got.y), truth)


@pytest.mark.parametrize("backend", BACKENDS)
def test_extremes(backend):
    """exp underflows, softplus is on its straight part, far below it, and around its threshold."""
    made = inputs([70], channels=50, order=4, seed=5, state=True)
    made["dt"] = torch.linspace(-60, 60, 70)[:, None].expand(70, 50).contiguous()
    made["dt_bias"] = torch.linspace(-1, 1, 50)
    made["A"] = -torch.logspace(-3, 6, 4).expand(50, 4).contiguous()
    made["z"] = torch.linspace(-200, 200, 70)[:, None].expand(70, 50).contiguous()
    want = selective_scan(**doubled(made), extras=EXTRAS, backend="reference")
    assert_near(run(backend, made), want)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["u", "dt", "A", "B", "z", "initial_state"])
def test_nan_reaches_the_output(backend, name):
    made = inputs([5], seed=1, state=True)
    made[name][(0,) * made[name].dim()] = torch.nan
    assert run(backend, made).out[0, 0].isnan()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_cut_from_wider_ones(backend):
    made = inputs([40], seed=2)
    wide = torch.cat([made["u"], made["z"], made["B"], made["C"]], 1)
    u, z, B, C = wide.split([48, 48, 8, 8], 1)
    strided = {**made, "u": u, "z": z, "B": B, "C": C, "dt": made["dt"].T.contiguous().T}
    plain = run(backend, made)
    got = run(backend, strided)
    if backend == "numba":
        assert_identical(plain, got)
    torch.testing.assert_close(plain.out, got.out)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("extras", [set(), {"delta"}, {"delta_mean"}, {"y"}, {"delta_mean", "y"}], ids=str)
@pytest.mark.parametrize("length", [0, 6])
def test_only_what_is_asked_for(backend, extras, length):
    made = inputs([length], seed=1)
    got = run(backend, made, frozenset(extras))
    assert {name for name in EXTRAS if getattr(got, name) is not None} == extras
    full = run(backend, made)
    for name in ("out", "state", *extras):
        assert torch.equal(getattr(got, name), getattr(full, name))


def test_no_rows_pass_the_state_through():
    made = inputs([0, 0], state=True)
    got = selective_scan(**made)
    assert torch.equal(got.state, made["initial_state"])
    assert got.state is not made["initial_state"]
    assert not selective_scan(**{**made, "initial_state": None}).state.any()


def test_threads_do_not_matter():
    made = inputs([700, 300], channels=192, order=16, seed=4)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(selective_scan(**made, extras=EXTRAS, backend="numba"))
    finally:
        torch.set_num_threads(before)
    assert_identical(results[0], results[1])
    assert_identical(results[0], results[2])
