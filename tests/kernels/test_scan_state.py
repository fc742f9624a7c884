"""Every backend of the last state x its properties; the truth is the whole scan's reference in float64."""

import pytest
import torch
from backends import backends, device_of, moved
from test_selective_scan import boundaries, cut, doubled, inputs
from test_selective_scan import poisoned as poisoned
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.kernels import ScanState, scan_state, selective_scan

EXTRAS = frozenset({"delta", "delta_mean"})
FIELDS = ("state", *sorted(EXTRAS))
BACKENDS = backends("scan_state")
READ_ONLY = ("C", "D", "z")  # what only the outputs need


def written(made: dict) -> dict:
    """What `scan_state` takes of a whole scan's inputs."""
    return {name: x for name, x in made.items() if name not in READ_ONLY}


def run(backend: str, made: dict, extras: frozenset[str] = EXTRAS) -> ScanState:
    """The op where the backend runs; what it gives on the CPU."""
    got = scan_state(**moved(written(made), device_of("scan_state", backend)), extras=extras, backend=backend)
    return ScanState(**moved({name: getattr(got, name) for name in FIELDS}, "cpu"))


def truth(made: dict) -> ScanState:
    """The whole scan's state and Δ, in float64."""
    whole = selective_scan(**doubled(made), extras=EXTRAS, backend="reference")
    return ScanState(whole.state, whole.delta, whole.delta_mean)


def assert_near(got: ScanState, want: ScanState, rtol: float = 1e-5) -> None:
    for field in FIELDS:
        ours, right = getattr(got, field), getattr(want, field)
        assert torch.isfinite(ours).all(), field
        atol = rtol * float(right.square().mean().sqrt()) if field == "state" else 0.0  # terms of both signs
        torch.testing.assert_close(ours.double(), right, rtol=rtol, atol=atol, msg=lambda m, f=field: f"{f}: {m}")


def assert_identical(one: ScanState, other: ScanState) -> None:
    for field in FIELDS:
        assert torch.equal(getattr(one, field), getattr(other, field)), field


def joined(parts: list[ScanState], state: Tensor) -> ScanState:
    return ScanState(state, torch.cat([p.delta for p in parts]), torch.cat([p.delta_mean for p in parts]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 31, 32, 33, 63, 257], ids="T{}".format)
def test_lengths(backend, length):
    made = inputs([length], channels=5, order=3, seed=length, state=length % 2 == 0)
    assert_near(run(backend, made), truth(made))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [1, 5, 16], ids="N{}".format)
@pytest.mark.parametrize("channels", [1, 21, 64, 150], ids="E{}".format)
def test_widths(backend, channels, order):
    """Whole blocks of channels, and a last one that is narrower."""
    made = inputs([2, 5], channels, order, seed=channels + order, state=True)
    assert_near(run(backend, made), truth(made))


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("state", [False, True], ids=["fresh", "carried"])
@pytest.mark.parametrize("channels", [50, 128, 200], ids="E{}".format)
def test_bit_equal_to_the_whole_scan(backend, dtype, state, channels):
    lengths = [0, 1, 39, 203, 34]
    made = inputs(lengths, channels, 16, seed=channels, dtype=dtype, state=state)
    whole = selective_scan(**made, extras=EXTRAS, backend=backend)
    got = run(backend, made)
    assert torch.equal(got.state, whole.state)
    assert torch.equal(got.delta, whole.delta)
    assert torch.equal(got.delta_mean, whole.delta_mean)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [[65, 1, 0, 7, 33], [0, 5, 0], [3, 3, 3]], ids=str)
@pytest.mark.parametrize("state", [False, True], ids=["fresh", "carried"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_batch_is_bit_equal_to_its_samples(backend, lengths, state, dtype):
    made = inputs(lengths, channels=50, order=4, seed=len(lengths), dtype=dtype, state=state)
    bounds, parts = made["cu_seqlens"].tolist(), []
    for s in range(len(lengths)):
        before = made["initial_state"][s : s + 1] if state else None
        parts.append(run(backend, cut(made, bounds[s], bounds[s + 1], before)))
    assert_identical(run(backend, made), joined(parts, torch.cat([p.state for p in parts])))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("at", [0, 1, 30, 32, 50, 96, 97])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_split_with_carried_state_is_bit_equal_to_whole(backend, at, dtype):
    """Also where the rows that are taken four at a time are other ones."""
    made = inputs([97], channels=50, order=16, seed=at, dtype=dtype)
    head = run(backend, cut(made, 0, at, None))
    kept = head.state.clone()
    tail = run(backend, cut(made, at, 97, head.state))
    assert torch.equal(head.state, kept), "the caller's state was written to"
    assert_identical(run(backend, made), joined([head, tail], tail.state))


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_it_the_whole_scan_goes_on(backend):
    """Image rows only write, and the text behind them reads: the outputs are those of one scan over both."""
    made = inputs([20], channels=10, seed=6)
    whole = selective_scan(**doubled(made), backend="reference")
    image = run(backend, cut(made, 0, 13, None), frozenset())
    text = selective_scan(**cut(made, 13, 20, image.state), backend="reference")
    torch.testing.assert_close(text.out.double(), whole.out[13:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16(backend):
    """Inputs are exact in float32, and everything is computed in float32."""
    made = inputs([40], channels=50, seed=3, dtype=torch.bfloat16)
    got = run(backend, made)
    assert got.state.dtype == got.delta.dtype == got.delta_mean.dtype == torch.float32
    assert_near(got, truth(made))


@pytest.mark.parametrize("backend", BACKENDS)
def test_extremes(backend):
    """exp underflows, softplus is on its straight part, far below it, and around its threshold."""
    made = inputs([20], channels=5, order=4, seed=5, state=True)
    made["dt"] = torch.linspace(-60, 60, 20)[:, None].expand(20, 5).contiguous()
    made["dt_bias"] = torch.linspace(-1, 1, 5)
    made["A"] = -torch.logspace(-3, 6, 4).expand(5, 4).contiguous()
    assert_near(run(backend, made), truth(made))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["u", "dt", "A", "B", "dt_bias", "initial_state"])
def test_nan_reaches_the_state(backend, name):
    made = inputs([5], channels=5, seed=1, state=True)
    made[name][(0,) * made[name].dim()] = torch.nan
    state = run(backend, made).state
    assert state[0, 0, 0].isnan()
    if name != "B":  # which all channels share
        assert torch.isfinite(state[0, 1:]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_cut_from_wider_ones(backend):
    made = inputs([9], channels=10, seed=2)
    u, B, _ = torch.cat([made["u"], made["B"], made["z"]], 1).split([10, 8, 10], 1)
    strided = {**made, "u": u, "B": B, "dt": made["dt"].T.contiguous().T}
    assert not u.is_contiguous()
    assert_identical(run(backend, made), run(backend, strided))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("extras", [set(), {"delta"}, {"delta_mean"}], ids=str)
@pytest.mark.parametrize("length", [0, 6])
def test_only_what_is_asked_for(backend, extras, length):
    made = inputs([length], channels=10, seed=1)
    got, full = run(backend, made, frozenset(extras)), run(backend, made)
    assert {name for name in EXTRAS if getattr(got, name) is not None} == extras
    for name in ("state", *extras):
        assert torch.equal(getattr(got, name), getattr(full, name))


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_survive(backend):
    """A score reads the tensors of the layer after the scan: none may be written to."""
    made = written(inputs([3, 5], channels=10, state=True))
    before = {name: x.clone() for name, x in made.items()}
    scan_state(**moved(made, device_of("scan_state", backend)), backend=backend)
    assert all(torch.equal(x, before[name]) for name, x in made.items())


def test_no_rows_pass_the_state_through():
    made = written(inputs([0, 0], state=True))
    got = scan_state(**made)
    assert torch.equal(got.state, made["initial_state"])
    assert got.state is not made["initial_state"]
    assert not scan_state(**{**made, "initial_state": None}).state.any()


def test_threads_do_not_matter():
    made = written(inputs([700, 300], channels=192, order=16, seed=4))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(scan_state(**made, extras=EXTRAS, backend="numba"))
    finally:
        torch.set_num_threads(before)
    assert_identical(results[0], results[1])
    assert_identical(results[0], results[2])


def test_gradients_go_to_the_reference():
    made = written(inputs([4], channels=3, order=2, state=True))
    u = made["u"].requires_grad_()
    scan_state(**made).state.sum().backward()
    assert u.grad is not None
    assert u.grad.abs().min() > 0
    with pytest.raises(UserError, match="gradients"):
        scan_state(**made, backend="numba")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("B", torch.zeros(4, 7)), ("dt", torch.zeros(4, 3, dtype=torch.float64)), ("dt_bias", torch.zeros(2))],
)
def test_what_does_not_fit_is_refused(name, wrong, unchecked):
    made = written(inputs([4], channels=3, order=2))
    with pytest.raises(ValueError, match=rf"`scan_state`: .* {name} "):
        scan_state(**{**made, name: wrong})
    with pytest.raises(ValueError, match="cu_seqlens"):
        scan_state(**{**made, "cu_seqlens": boundaries([5])})


def test_an_unknown_extra_is_named():
    with pytest.raises(UserError, match=r"scan_state.* knows no 'y'"):
        scan_state(**written(inputs([2], channels=3, order=2)), extras=frozenset({"y"}))
