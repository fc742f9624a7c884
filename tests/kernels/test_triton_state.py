"""The Triton backend of the last state against float64; few channels and rows, as the interpreter is slow."""

import pytest
import torch
from test_scan_state import EXTRAS, FIELDS, assert_identical, assert_near, joined, truth, written
from test_selective_scan import cut, inputs
from triton_cases import DEVICE, there
from triton_cases import poisoned as poisoned

from deltaprune.kernels import ScanState, scan_state, select

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("poisoned")

from deltaprune.kernels.scan_state import triton as backend  # noqa: E402

Plan = backend.Plan


def run(made: dict, extras: frozenset = EXTRAS, how: Plan | None = None) -> ScanState:
    """Through the front door, or under a given plan; the result on the CPU."""
    made = there(written(made))
    if how is None:
        got = scan_state(**made, extras=extras, backend="triton")
    else:
        got = backend.scan(*made.values(), extras, how)
    found = {name: getattr(got, name) for name in FIELDS}
    return ScanState(**{name: x if x is None else x.cpu() for name, x in found.items()})


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 65, 130], ids="T{}".format)
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
    """Also where there are more chunks than rows, and where there are no rows: an empty sequence keeps its state."""
    made = inputs([11, 1, 0, 3], channels=10, order=2, seed=chunks, state=state)
    got = run(made, how=Plan(lanes, chunks))
    assert_near(got, truth(made))
    assert torch.equal(got.state[2], made["initial_state"][2] if state else torch.zeros(10, 2))


@pytest.mark.parametrize(("state", "dtype"), [(False, torch.float32), (True, torch.bfloat16)], ids=str)
def test_batch_is_bit_equal_to_its_samples(state, dtype):
    made = inputs([6, 1, 0, 3], channels=10, order=4, seed=4, dtype=dtype, state=state)
    bounds, parts = made["cu_seqlens"].tolist(), []
    for s in range(4):
        before = made["initial_state"][s : s + 1] if state else None
        parts.append(run(cut(made, bounds[s], bounds[s + 1], before)))
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
    made = inputs([20], channels=5, seed=3, dtype=torch.bfloat16)
    got = run(made)
    assert got.state.dtype == got.delta.dtype == torch.float32
    assert_near(got, truth(made))


@pytest.mark.parametrize("chunks", [1, 4])
def test_extremes(chunks):
    """exp underflows, softplus is on its straight part, far below it, and around its threshold."""
    made = inputs([20], channels=5, order=4, seed=5, state=True)
    made["dt"] = torch.linspace(-60, 60, 20)[:, None].expand(20, 5).contiguous()
    made["dt_bias"] = torch.linspace(-1, 1, 5)
    made["A"] = -torch.logspace(-3, 6, 4).expand(5, 4).contiguous()
    assert_near(run(made, how=Plan(8, chunks)), truth(made))


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("name", ["u", "dt", "A", "B", "dt_bias", "initial_state"])
def test_nan_reaches_the_state(name, chunks):
    made = inputs([5], channels=5, seed=1, state=True)
    made[name][(0,) * made[name].dim()] = torch.nan
    state = run(made, how=Plan(8, chunks)).state
    assert state[0, 0, 0].isnan()
    assert name == "B" or torch.isfinite(state[0, 1:]).all()


def test_rows_cut_from_wider_ones():
    made = inputs([4], channels=10, seed=2)
    u, B, _ = torch.cat([made["u"], made["B"], made["z"]], 1).split([10, 8, 10], 1)
    assert_identical(run(made), run({**made, "u": u, "B": B, "dt": made["dt"].T.contiguous().T}))


@pytest.mark.parametrize("extras", [set(), {"delta"}, {"delta_mean"}], ids=str)
def test_extras_change_nothing_else(extras):
    made = inputs([4], channels=10, seed=1)
    got, full = run(made, frozenset(extras)), run(made)
    assert {name for name in EXTRAS if getattr(got, name) is not None} == extras
    for name in ("state", *extras):
        assert torch.equal(getattr(got, name), getattr(full, name))


def test_inputs_survive():
    """A score reads the tensors of the layer after the scan: none may be written to."""
    made = there(written(inputs([3, 5], channels=10, state=True)))
    before = {name: x.clone() for name, x in made.items()}
    run(made, how=Plan(8, 3))
    assert all(torch.equal(x, before[name]) for name, x in made.items())


@pytest.mark.parametrize(
    ("length", "sequences", "want"),
    [(750, 1, Plan(32, 13)), (750 * 4, 4, Plan(32, 3)), (750 * 16, 16, Plan(32, 1)), (22, 1, Plan(8, 1))],
)
def test_plan(length, sequences, want):
    """As the scan's, save that two or three chunks are worth it: no row's exponential is computed twice."""
    assert backend.plan(length, sequences, 5120, 132, backend.LEAST_CHUNKS) == want


def test_a_graph_can_hold_it():
    assert select("deltaprune.kernels.scan_state", DEVICE, "triton", carries_state=True).capturable
