"""A trace from roles, as a Mamba-1 layer would tell it: `decay` belongs to the layer, all else to its rows."""

from torch import Tensor

from deltaprune.trace import Trace


def trace_of(**roles: Tensor) -> Trace:
    return Trace(
        {role: value for role, value in roles.items() if role != "decay"},
        {role: value for role, value in roles.items() if role == "decay"},
    )
