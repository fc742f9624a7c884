"""What a layer reports about its rows (`Trace`), under names that all kinds of mixers share (roles).

| role | per | Mamba-1 | Mamba-2 | gated DeltaNet | attention |
|---|---|---|---|---|---|
| `step` | row | mean of Delta (eq. 6) | mean of dt | mean of beta | - |
| `delta` | row | Delta (T, E) | dt (T, H) | beta (T, H) | - |
| `key`, `value` | row | B, u | B, x | k, v | k, v |
| `query` | row | C (T, N) | C (T, G, N) | q (T, G, N) | - |
| `decay` | layer or row | A, of the layer | A dt (T, H) | g (T, H) | - |
| `erase` | row | - | - | beta (T, H) | - |
| `attention` | row | - | - | - | what the last row pays to it, softmax |
| `output` | row | y, before the gate | C h + D x, before the gate | S q, before the gate | - |
| `hidden` | row | the residual stream after the final norm | the same | the same | the same |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

ROLES = frozenset({"step", "delta", "key", "value", "query", "decay", "erase", "attention", "output", "hidden"})


@dataclass(frozen=True)
class Trace:
    """What a layer reported when it ran; a role is filled only if a score names it in `needs`.

    `trace["step"]` reads a role from either mapping. A score gets a trace with the roles that it declares; reading
    another one is a `UserError` that names the score and the layer.

    Attributes:
        rows: role -> `(T, ...)`, one entry per live row.
        layer: role -> a tensor that belongs to the layer as a whole, such as A.
    """

    rows: Mapping[str, Tensor] = field(default_factory=dict)
    layer: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, role: str) -> Tensor:
        return self.rows[role] if role in self.rows else self.layer[role]

    def __contains__(self, role: object) -> bool:
        return role in self.rows or role in self.layer

    def only(self, roles: frozenset[str]) -> "Trace":
        """The same trace with these roles only."""
        rows = {role: value for role, value in self.rows.items() if role in roles}
        return Trace(rows, {role: value for role, value in self.layer.items() if role in roles})

    def told(self, **roles: Tensor) -> "Trace":
        """The same trace with these per-row roles added."""
        return Trace({**self.rows, **roles}, self.layer)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Trace":
        """`function` applied to every role that is kept per row."""
        return Trace({role: function(value) for role, value in self.rows.items()}, self.layer)

    def join(self, other: "Trace", function: Callable[[Tensor, Tensor], Tensor]) -> "Trace":
        """`function` applied to the roles that both have per row."""
        shared = self.rows.keys() & other.rows.keys()
        rows = {role: function(value, other.rows[role]) for role, value in self.rows.items() if role in shared}
        return Trace(rows, {**self.layer, **other.layer})
