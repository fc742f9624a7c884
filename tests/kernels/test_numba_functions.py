"""The float32 functions under the numba kernels against float64, over their whole range."""

import numba
import numpy as np
import pytest

from deltaprune.kernels import _numba as f
from deltaprune.kernels._numba_blocks import LANES, ROWS
from deltaprune.kernels._numba_scan import open_to_write, write_state


def over(function):
    @numba.njit
    def run(x):
        y = np.empty_like(x)
        for i in range(len(x)):
            y[i] = function(x[i])
        return y

    return run


def assert_within(x, got, want, constant):
    """Relative error at most `constant` + 1.4e-8 |x|: what log2(e) in float32 costs, below the rounding of x itself."""
    error = np.abs(got.astype(np.float64) - want) / np.abs(want)
    assert np.max(error - 1.4e-8 * np.abs(x)) < constant


@pytest.mark.parametrize(
    "x",
    [np.linspace(-87.3, 80, 1_000_003), np.linspace(-1, 1, 100_003), -np.logspace(-30, 0, 1001)],
    ids=["all", "unit", "tiny"],
)
def test_exp(x):
    x = x.astype(np.float32)
    assert_within(x, over(f.exp)(x), np.exp(x.astype(np.float64)), 1.5e-7)


def test_exp_at_the_edges():
    x = np.array([0, -0.0, -88.1, -1e30, -np.inf, np.nan], np.float32)
    got = over(f.exp)(x)
    assert got[:5].tolist() == [1, 1, 0, 0, 0]
    assert np.isnan(got[5])


@pytest.mark.parametrize("low", [-80, -20, 0, 15])
def test_softplus(low):
    x = np.linspace(low, low + 100, 100_003).astype(np.float32)
    wide = x.astype(np.float64)
    want = np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide)))
    assert_within(np.minimum(x, 0), over(f.softplus)(x), want, 4e-7)
    assert np.isnan(over(f.softplus)(np.array([np.nan], np.float32))[0])


def test_silu():
    x = np.linspace(-80, 80, 100_002).astype(np.float32)
    wide = x.astype(np.float64)
    assert_within(np.minimum(x, 0), over(f.silu)(x), wide / (1 + np.exp(-wide)), 5e-7)
    assert over(f.silu)(np.array([-1e30, 1e30], np.float32)).tolist() == [0, np.float32(1e30)]


def decayed(x: np.ndarray) -> np.ndarray:
    """2^x as the scans compute it: a state of 1 after one row with Δ = 1 and nothing to add."""
    a = np.zeros(-(-len(x) // LANES) * LANES, np.float32)
    a[: len(x)] = x
    h, rows = np.ones((len(a) // LANES, LANES), np.float32), np.zeros((ROWS, LANES), np.float32)
    write_state(h, a.reshape(h.shape), rows + 1, rows, np.zeros((1, len(h)), np.float32), 0, 1)
    return h.reshape(-1)[: len(x)]


@pytest.mark.parametrize(
    "x", [np.linspace(-126, 0, 1_000_003), np.linspace(-1, 0, 1_000_003), -np.logspace(-30, 0, 1001)],
    ids=["all", "unit", "tiny"],
)  # fmt: skip
def test_power_of_two(x):
    x = x.astype(np.float32)
    want = np.exp2(x.astype(np.float64))
    assert np.max(np.abs(decayed(x) - want) / want) < 1.7e-7


def test_power_of_two_at_the_edges():
    got = decayed(np.array([0, -0.0, -126, -127, -1e30, -np.inf, np.nan, -np.nan], np.float32))
    assert got[:2].tolist() == [1, 1]
    assert got[2:6].tolist() == [2.0**-126] * 4
    assert np.isnan(got[6:]).all()


@pytest.mark.parametrize("low", [-80, -20, 0, 15])
def test_softplus_of_the_scans(low):
    """As they compute it, a block of channels at a time: Δ of dt, with no bias."""
    x = np.linspace(low, low + 100, 2000 * LANES).astype(np.float32)
    du, delta, zero = (np.zeros((ROWS, LANES), np.float32) for _ in range(3))
    got = np.empty_like(x)
    for at in range(0, len(x), LANES):
        open_to_write(du, delta, zero[0], x, at, LANES, x, at, LANES, 1)
        got[at : at + LANES] = delta[0]
    wide = x.astype(np.float64)
    want = np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide)))
    assert_within(np.minimum(x, 0), got, want, 4e-7)


def test_softplus_of_the_scans_at_the_edges():
    x = np.resize(np.array([-1e30, -100, 1e30, np.nan, -np.nan], np.float32), LANES)
    du, delta, zero = (np.zeros((ROWS, LANES), np.float32) for _ in range(3))
    open_to_write(du, delta, zero[0], x, 0, LANES, x, 0, LANES, 1)
    assert (delta[0, :2] >= 0).all()
    assert (delta[0, :2] < 1.3e-38).all()
    assert delta[0, 2] == np.float32(1e30)
    assert np.isnan(delta[0, 3:5]).all()
