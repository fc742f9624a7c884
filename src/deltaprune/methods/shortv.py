"""ShortV (Yuan et al., ICCV 2025): visual rows are frozen in the layers that contribute least."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from deltaprune.checks import check_share
from deltaprune.methods import registry
from deltaprune.methods._layers import layers_of
from deltaprune.selection import floor_count
from deltaprune.steps import Method, Pass, Shape


@registry.register("shortv")
@dataclass(frozen=True)
class ShortV(Method):
    """Freeze the visual rows in the layers with the lowest contribution LC (arXiv 2504.00502).

        LC_l = KL(P || P_l)    P: next token, unpruned; P_l: the same with visual rows frozen in layer l alone

    A frozen row goes through the layer unchanged. In ShortV's transformers it still gives keys and values to the text;
    in a recurrence it still writes the state (`Pass(layers, "write")`).

    Attributes:
        share: share of the layers that are frozen, floor(share * L); ShortV's own is about 0.6 (19 of 32, 24 of 40).
        layers: which ones, in place of a share; None takes the lowest LC of the model's plan, which
            `calibrate.contribution` measures. A text names them with plus signs: layers=0+3-5.

    Deviations: without LC in the plan the deepest layers are frozen, as ShortV's published orders mostly begin with
    these. Of layers with equal LC the deeper one is frozen first. The order of the two distributions in the divergence,
    and the number of samples it is averaged over, follow reviews of the paper; its full text was not available.
    """

    paper: ClassVar[str] = "ShortV, Yuan et al., ICCV 2025 (arXiv 2504.00502)"

    share: float = 0.6
    layers: Sequence[int] | str | int | None = None

    def __post_init__(self) -> None:
        check_share("share", self.share)
        if self.layers is not None:
            object.__setattr__(self, "layers", layers_of("layers", self.layers))

    def steps(self, shape: Shape) -> tuple[Pass, ...]:
        layers = self._lowest(shape) if self.layers is None else layers_of("layers", self.layers)
        return (Pass(layers, "write"),) if layers else ()

    def _lowest(self, shape: Shape) -> tuple[int, ...]:
        contribution = shape.found("shortv") or (0.0,) * shape.n_layers
        order = sorted(range(shape.n_layers), key=lambda l: (contribution[l], -l))
        return tuple(sorted(order[: floor_count(self.share, shape.n_layers)]))
