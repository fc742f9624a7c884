"""The Triton scan against the reference in float64; few channels and rows, as the interpreter is slow."""

import pytest
import torch
from test_selective_scan import EXTRAS, assert_identical, assert_near, boundaries, cut, doubled, inputs, joined
from triton_cases import DEVICE, there
from triton_cases import poisoned as poisoned

from deltaprune.kernels import Scan, selective_scan
from deltaprune.kernels._triton import INTERPRETED

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("poisoned")

from deltaprune.kernels.selective_scan import triton as backend  # noqa: E402


def run(made: dict, extras: frozenset = EXTRAS, how: backend.Plan | None = None) -> Scan:
    """Through the front door, or under a given plan; the result on the CPU."""
    made = there(made)
    if how is None:
        got = selective_scan(**made, extras=extras, backend="triton")
    else:
        got = backend.scan(*made.values(), extras, how)
    found = {name: getattr(got, name) for name in ("out", "state", "delta", "delta_mean", "y")}
    return Scan(**{name: x if x is None else x.cpu() for name, x in found.items()})


def truth(made: dict) -> Scan:
    return selective_scan(**doubled(made), extras=EXTRAS, backend="reference")


LENGTHS = [1, 2, 3, 63, 64, 65, 257, pytest.param(1000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("length", LENGTHS, ids="T{}".format)
def test_lengths(length):
    made = inputs([length], channels=5, order=2, seed=length, state=length % 2 == 0)
    assert_near(run(made), truth(made))


@pytest.mark.parametrize("order", [1, 5, 16], ids="N{}".format)
@pytest.mark.parametrize("channels", [1, 8, 21], ids="E{}".format)
def test_widths(channels, order):
    made = inputs([2, 3], channels, order, seed=channels + order, state=True)
    assert_near(run(made), truth(made))


@pytest.mark.parametrize(("lanes", "chunks", "state"), [(8, 3, False), (8, 3, True), (16, 2, True), (32, 5, True)])
def test_time_split_into_chunks(lanes, chunks, state):
    """Also where there are more chunks than rows, and where there are no rows."""
    made = inputs([11, 1, 0, 3], channels=10, order=2, seed=chunks, state=state)
    assert_near(run(made, how=backend.Plan(lanes, chunks)), truth(made))


@pytest.mark.parametrize("lengths", [[6, 1, 0, 3], [0, 3, 0]], ids=str)
@pytest.mark.parametrize(("state", "dtype"), [(False, torch.float32), (True, torch.bfloat16)], ids=str)
def test_batch_is_bit_equal_to_its_samples(lengths, state, dtype):
    made = inputs(lengths, channels=10, order=4, seed=len(lengths), dtype=dtype, state=state)
    bounds, parts = made["cu_seqlens"].tolist(), []
    for s in range(len(lengths)):
        before = made["initial_state"][s : s + 1] if state else None
        if lengths[s]:
            parts.append(run(cut(made, bounds[s], bounds[s + 1], before)))
        else:
            parts.append(selective_scan(**cut(made, bounds[s], bounds[s], before), extras=EXTRAS))
    assert_identical(run(made), joined(parts, torch.cat([p.state for p in parts])))


@pytest.mark.parametrize(("at", "dtype"), [(1, torch.float32), (5, torch.bfloat16), (8, torch.float32)], ids=str)
def test_split_with_carried_state_is_bit_equal_to_whole(at, dtype):
    made = inputs([9], channels=10, order=16, seed=at, dtype=dtype)
    head = run(cut(made, 0, at, None))
    kept = head.state.clone()
    tail = run(cut(made, at, 9, head.state))
    assert torch.equal(head.state, kept), "the caller's state was written to"
    assert_identical(run(made), joined([head, tail], tail.state))


def test_bfloat16():
    made = inputs([40], channels=5, seed=3, dtype=torch.bfloat16)
    got, want = run(made), truth(made)
    assert got.out.dtype == torch.bfloat16
    assert got.state.dtype == got.delta.dtype == torch.float32
    rtol = 2**-7 if INTERPRETED else 2**-8  # the interpreter cuts bits off where a GPU rounds to nearest
    torch.testing.assert_close(got.out.double(), want.out, rtol=rtol, atol=1e-5 * float(want.out.std()))
    assert_near(Scan(want.out, got.state, got.delta, got.delta_mean, got.y), want)


@pytest.mark.parametrize("chunks", [1, 4])
def test_extremes(chunks):
    """exp underflows, softplus is on its straight part, far below it, and around its threshold."""
    made = inputs([20], channels=5, order=4, seed=5, state=True)
    made["dt"] = torch.linspace(-60, 60, 20)[:, None].expand(20, 5).contiguous()
    made["dt_bias"] = torch.linspace(-1, 1, 5)
    made["A"] = -torch.logspace(-3, 6, 4).expand(5, 4).contiguous()
    made["z"] = torch.linspace(-200, 200, 20)[:, None].expand(20, 5).contiguous()
    assert_near(run(made, how=backend.Plan(8, chunks)), truth(made))


@pytest.mark.parametrize("name", ["u", "dt", "A", "B", "z", "initial_state"])
def test_nan_reaches_the_output(name):
    made = inputs([3], channels=5, seed=1, state=True)
    made[name][(0,) * made[name].dim()] = torch.nan
    assert run(made).out[0, 0].isnan()


def test_rows_cut_from_wider_ones():
    made = inputs([4], channels=10, seed=2)
    u, z, B, C = torch.cat([made["u"], made["z"], made["B"], made["C"]], 1).split([10, 10, 8, 8], 1)
    assert_identical(run(made), run({**made, "u": u, "z": z, "B": B, "C": C, "dt": made["dt"].T.contiguous().T}))


@pytest.mark.parametrize("extras", [set(), {"delta"}, {"delta_mean"}, {"y"}], ids=str)
def test_extras_change_nothing_else(extras):
    made = inputs([4], channels=10, seed=1)
    got, full = run(made, frozenset(extras)), run(made)
    assert {name for name in EXTRAS if getattr(got, name) is not None} == extras
    for name in ("out", "state", *extras):
        assert torch.equal(getattr(got, name), getattr(full, name))


def test_inputs_survive():
    """A score reads the tensors of the layer after the scan: none may be written to."""
    made = there(inputs([3, 5], channels=10, state=True))
    before = {name: x.clone() for name, x in made.items()}
    run(made, how=backend.Plan(8, 3))
    assert all(torch.equal(x, before[name]) for name, x in made.items())


@pytest.mark.parametrize(
    ("length", "sequences", "want"),
    [
        (750, 1, backend.Plan(32, 13)),  # Cobra's prompt: 160 blocks of channels are not enough for 132 processors
        (388, 1, backend.Plan(32, 13)),
        (100, 1, backend.Plan(32, 6)),
        (22, 1, backend.Plan(8, 1)),  # after complete pruning
        (1, 1, backend.Plan(8, 1)),
        (16, 16, backend.Plan(32, 1)),  # a step of 16 rows
        (750 * 16, 16, backend.Plan(32, 1)),  # a batch fills the GPU by itself
        (16384, 1, backend.Plan(32, 13)),
        (750 * 2, 2, backend.Plan(32, 6)),
        (750 * 4, 4, backend.Plan(32, 1)),  # three chunks would double the work of warps that fill half the GPU
    ],
)
def test_plan(length, sequences, want):
    assert backend.plan(length, sequences, channels=5120, multiprocessors=132) == want


def test_empty_sequences_keep_their_states():
    made = inputs([0, 2, 0], channels=5, state=True)
    got = run(made, how=backend.Plan(8, 3))
    assert torch.equal(got.state[[0, 2]], made["initial_state"][[0, 2]])
    assert boundaries([0, 2, 0]).tolist() == made["cu_seqlens"].tolist()
    assert got.out.device.type == "cpu"
    assert DEVICE in backend.BACKEND.devices
