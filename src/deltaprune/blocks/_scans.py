"""The scans of a Mamba-1 layer: what they take of the rows, and what they tell a `Trace`.

The functions take the layer's `Mixer`, whose A, D and bias of dt they read in float32.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from deltaprune.blocks._gaps import weave
from deltaprune.blocks._mixer import Mixer
from deltaprune.blocks._phases import Index
from deltaprune.blocks._products import product
from deltaprune.kernels import Scan, ScanState, causal_conv1d, empty, scan_state, selective_scan
from deltaprune.rows import GAP, Rows
from deltaprune.trace import Trace

IN_THE_SCAN = {"delta": "delta", "step": "delta_mean", "output": "y"}  # role -> its name in `Scan`


class ScanInputs(NamedTuple):
    """What the scan takes of every row, and A; letters as in `selective_scan`."""

    u: Tensor
    dt: Tensor
    b: Tensor
    c: Tensor
    a: Tensor
    conv: Tensor  # the convolution's new state


def scan_inputs(mixer: Mixer, u: Tensor, rows: Rows, conv: Tensor | None) -> ScanInputs:
    """From the input half of in_proj `(T, E)` to what the scan takes; `conv` is the convolution's state before."""
    assert mixer.conv1d.bias is not None
    u, conv = causal_conv1d(u, mixer.conv1d.weight[:, 0], mixer.conv1d.bias, rows.cu_seqlens, conv)
    into_dt, states = mixer.matrix("dt_proj"), mixer.A_log.shape[1]
    dt, b, c = product("x_proj", u, mixer.matrix("x_proj")).split([into_dt.shape[1], states, states], dim=-1)
    dt = product("dt_proj", dt, into_dt)  # its bias is added inside the scan: Delta = softplus(dt + bias)
    return ScanInputs(u, dt, b, c, _decay(mixer.A_log), conv)


def _decay(A_log: Tensor) -> Tensor:
    """A = -exp(A_log), float32; on a CPU in memory that the layers share, see `reuse`."""
    A_log = A_log.float()
    if A_log.device.type != "cpu" or (torch.is_grad_enabled() and A_log.requires_grad):
        return -torch.exp(A_log)
    return torch.exp(A_log, out=empty("decay", A_log.shape, A_log.dtype)).neg_()


def scan_rows(
    mixer: Mixer,
    known: ScanInputs,
    index: Index,
    z: Tensor,
    bounds: Tensor,
    ssm: Tensor | None,
    needs: frozenset[str],
) -> Scan:
    """The scan of some rows, continued from `ssm`.

    Args:
        mixer, known: the layer's.
        index: which rows.
        z: their gate `(n, E)`.
        bounds: their `cu_seqlens`.
        ssm: the state before them `(B, E, N)`; zeros if None.
        needs: roles of the trace; those in `IN_THE_SCAN` are recorded.
    """
    return selective_scan(
        known.u[index],
        known.dt[index],
        known.a,
        known.b[index],
        known.c[index],
        mixer.D.float(),
        z,
        mixer.dt_proj.bias.float(),
        bounds,
        initial_state=ssm,
        extras=_extras(needs),
    )


def scan_over_gaps(
    mixer: Mixer, known: ScanInputs, z: Tensor, rows: Rows, ssm: Tensor | None, needs: frozenset[str]
) -> Scan:
    """The scan of all rows, in which the state also decays where rows were dropped after one."""
    bias, gap = mixer.dt_proj.bias.float(), rows.beside[GAP]
    woven = weave(known.u, known.dt, known.b, known.c, z, bias, gap)
    both = known._replace(u=woven.u, dt=woven.dt, b=woven.b, c=woven.c)
    scan = scan_rows(mixer, both, slice(None), woven.z, 2 * rows.cu_seqlens, ssm, needs)
    told = {name: getattr(scan, name) for name in ("out", *IN_THE_SCAN.values())}
    return replace(scan, **{name: None if value is None else value[::2] for name, value in told.items()})


def write_state(
    mixer: Mixer, known: ScanInputs, index: Index, bounds: Tensor, ssm: Tensor | None, needs: frozenset[str]
) -> ScanState:
    """The state after some rows of which nothing else is read; arguments as for `scan_rows`."""
    u, dt, b = known.u[index], known.dt[index], known.b[index]
    return scan_state(u, dt, known.a, b, mixer.dt_proj.bias.float(), bounds, ssm, _extras(needs))


def trace_of(known: ScanInputs, needs: frozenset[str], scanned: Mapping[str, Tensor | None]) -> Trace:
    """The roles that were asked for; `scanned` holds those that the scan recorded."""
    per_row = {"key": known.b, "value": known.u, "query": known.c, **scanned}
    found = {role: value for role, value in per_row.items() if role in needs and value is not None}
    # a copy: stages behind later layers may read it, which by then have written over the original
    return Trace(found, {"decay": known.a.clone()} if "decay" in needs else {})


def _extras(needs: frozenset[str]) -> frozenset[str]:
    """What the scan records for these roles, by its own names."""
    return frozenset(IN_THE_SCAN[role] for role in needs & IN_THE_SCAN.keys())
