"""What a layer tells about its rows (`Trace`), under names that every kind of mixer shares (roles).

| role | per | Mamba-1 | Mamba-2 | gated DeltaNet | attention |
|---|---|---|---|---|---|
| `step` | row | mean of Delta (eq. 6) | mean of dt | mean of beta | - |
| `delta` | row | Delta (T, E) | dt (T, H) | beta (T, H) | - |
| `key`, `value`, `query` | row | B, u, C | B, x, C | k, v, q | k, v, q |
| `decay` | layer or row | A | A | g | - |
| `attention` | row | - | - | - | what the last row pays to it, softmax |
| `output` | row | y, before the gate | | | |
| `hidden` | row | the residual stream after the final norm | the same | the same | the same |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

ROLES = frozenset({"step", "delta", "key", "value", "query", "decay", "attention", "output", "hidden"})


@dataclass(frozen=True)
class Trace:
    """What the layer just run told; a role is filled only when a score names it in `needs`.

    `trace["step"]` reads a role, wherever it is kept.

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
        """The same with these roles alone."""
        rows = {role: value for role, value in self.rows.items() if role in roles}
        return Trace(rows, {role: value for role, value in self.layer.items() if role in roles})

    def told(self, **roles: Tensor) -> "Trace":
        """The same with more roles per row."""
        return Trace({**self.rows, **roles}, self.layer)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Trace":
        """`function` applied to what there is per row."""
        return Trace({role: function(value) for role, value in self.rows.items()}, self.layer)

    def join(self, other: "Trace", function: Callable[[Tensor, Tensor], Tensor]) -> "Trace":
        """`function` applied to what both tell per row."""
        shared = self.rows.keys() & other.rows.keys()
        rows = {role: function(value, other.rows[role]) for role, value in self.rows.items() if role in shared}
        return Trace(rows, {**self.layer, **other.layer})
