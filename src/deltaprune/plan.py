"""Plan and Shape: what a method can know about a model, and where that model is best pruned."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from deltaprune.errors import UserError
from deltaprune.mean_states import MeanStates

How = Literal["write", "skip", "mean"]  # of the layers that do not update visual rows, see `steps.Pass`


class Change(NamedTuple):
    """One step of a calibrated order: from here on, a layer treats visual rows in this way.

    Attributes:
        layer: 0-based.
        how: "write", "skip" or "mean", see `steps.Pass`.
        js: divergence of the answers after this change and all before it, nats.
    """

    layer: int
    how: How
    js: float


class Thinning(NamedTuple):
    """How freezing and dropping rows are best combined, for budgets about this one.

    Attributes:
        budget: share of the MACs it was found at.
        early: after how many layers rows are dropped.
        changes: how many changes of the order of freezing are made; then as many rows are kept as the budget allows.
        js: divergence of the answers at this budget, nats.
    """

    budget: float
    early: int
    changes: int
    js: float


@dataclass(frozen=True)
class LayerTimes:
    """What one layer of a prefill takes, measured; see `cost.layer_times`.

    Attributes:
        device, processor, threads, dtype: on what, and in what.
        n_visual, text_tokens: of the one prompt.
        full, write, mean, skip: milliseconds of a layer by what it does with the image; at "skip" the text is alone.
    """

    device: str
    processor: str
    threads: int
    dtype: str
    n_visual: int
    text_tokens: int
    full: float
    write: float
    mean: float
    skip: float


@dataclass(frozen=True)
class Plan:
    """Where a model is pruned, as numbers of layers that still see all tokens, and where that comes from.

    Attributes:
        early, late: DTP's two stages.
        source: provenance; plain JSON types.
        withdrawal: VTW's layer by its own criterion; n_layers if that withdraws nothing, None if not computed.
        freezing: the order in which `Freeze` stops updating visual rows; empty if not calibrated.
        found: the result of a method's own calibration, one number per layer, by the method's name.
        thinning: how `Freeze` drops rows as well, by budget; empty if not calibrated.
        means: the mean states of the layers that are changed to "mean"; their digest alone if they were not read.
        times: what layers take on some machine, if the order of freezing was found for a budget in milliseconds.
    """

    early: int
    late: int
    source: Mapping[str, Any] = field(default_factory=dict, hash=False)
    withdrawal: int | None = None
    freezing: tuple[Change, ...] = ()
    found: Mapping[str, Sequence[float]] = field(default_factory=dict, hash=False)
    thinning: tuple[Thinning, ...] = ()
    means: MeanStates | None = None
    times: LayerTimes | None = None

    def __post_init__(self) -> None:
        if isinstance(self.means, str):
            object.__setattr__(self, "means", MeanStates(self.means))
        object.__setattr__(self, "freezing", tuple(Change(*change) for change in self.freezing))
        object.__setattr__(self, "thinning", tuple(Thinning(*each) for each in self.thinning))
        if isinstance(self.times, Mapping):
            object.__setattr__(self, "times", LayerTimes(**self.times))
        found = {name: tuple(float(value) for value in values) for name, values in self.found.items()}
        object.__setattr__(self, "found", found)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the digest of the mean states in their place; `Plan(**raw)` is the inverse."""
        raw = asdict(replace(self, means=None))
        return {**raw, "means": None if self.means is None else self.means.digest}


@dataclass(frozen=True)
class Shape:
    """What a method can know about a model.

    Attributes:
        n_layers: its depth.
        n_visual: visual tokens per image.
        plan: where it is best pruned, if known.
        write: MACs of a row that only writes a layer's state over those of a row that the layer updates.
    """

    n_layers: int
    n_visual: int
    plan: Plan | None = None
    write: float = 0.4

    def found(self, method: str) -> tuple[float, ...] | None:
        """What this method's own calibration found, one number per layer; None if it was not run.

        Raises:
            UserError: the plan is for another number of layers.
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
            name: the method's field, for the message when there is no plan; `which` by default.
        """
        if value != "plan":
            return value
        if self.plan is None:
            name = name or which
            raise UserError(f'{name}="plan", but this model has no plan: give {name}=LAYER or run calibrate first.')
        return getattr(self.plan, which)
