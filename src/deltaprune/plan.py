"""Plan and Shape: what a method may know of a model, and where that model is best pruned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from deltaprune.errors import UserError


@dataclass(frozen=True)
class Plan:
    """Where a model prunes, each in "layers that still see all tokens", and where that comes from.

    Attributes:
        early, late: DTP's two stages.
        source: provenance; plain JSON types.
        withdrawal: VTW's layer by its own criterion; n_layers where that withdraws nothing, None where nobody asked.
        found: what a method's own calibration found, one number per layer, by the method's name.
    """

    early: int
    late: int
    source: Mapping[str, Any] = field(default_factory=dict, hash=False)
    withdrawal: int | None = None
    found: Mapping[str, Sequence[float]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        found = {name: tuple(float(value) for value in values) for name, values in self.found.items()}
        object.__setattr__(self, "found", found)


@dataclass(frozen=True)
class Shape:
    """What a method may know of a model: its depth, its visual tokens per image, its stored plan."""

    n_layers: int
    n_visual: int
    plan: Plan | None = None

    def found(self, method: str) -> tuple[float, ...] | None:
        """What this method's own calibration found, one number per layer; None where nobody asked.

        Raises:
            UserError: the plan is one for another number of layers.
        """
        values = None if self.plan is None else self.plan.found.get(method)
        if values is not None and len(values) != self.n_layers:
            have = f"{len(values)} numbers for {method} and the model {self.n_layers} layers"
            raise UserError(f"The plan has {have}: calibrate again.")
        return None if values is None else tuple(values)

    def layer(
        self, value: "int | Literal['plan'] | None", which: Literal["early", "late"], name: str | None = None
    ) -> int | None:
        """Resolve "plan" to the stored plan's layer; an integer or None passes through.

        Args:
            value: the layer that was asked for.
            which: the plan's layer that "plan" means.
            name: the method's field, for the sentence when there is no plan; `which` unless told.
        """
        if value != "plan":
            return value
        if self.plan is None:
            name = name or which
            raise UserError(f'{name}="plan", but this model has no plan: give {name}=LAYER or run calibrate first.')
        return getattr(self.plan, which)
