"""What a layer tells about its rows on the way (`Trace`)."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """What the layer just run computed on the way; a field is filled only when a score names it in `needs`.

    Letters as in NOTATION.md; E = d_inner channels, N = d_state.
    """

    delta: Float[Tensor, "T E"] | None = None  # Delta = softplus(dt + bias), float32
    delta_mean: Float[Tensor, "T"] | None = None  # its mean over channels (eq. 6), reduced inside the kernel
    A: Float[Tensor, "E N"] | None = None  # -exp(A_log), float32
    B: Float[Tensor, "T N"] | None = None  # input matrix B_t
    C: Float[Tensor, "T N"] | None = None  # readout matrix C_t
    u: Float[Tensor, "T E"] | None = None  # convolution's output, the scan's input x_t
    y: Float[Tensor, "T E"] | None = None  # scan output before the gate, D u included, float32
    hidden: Float[Tensor, "T d"] | None = None  # norm_f of the residual stream after the layer

    @classmethod
    def names(cls) -> frozenset[str]:
        """What a score may ask for."""
        return frozenset(f.name for f in fields(cls))


def map_rows(function: Callable[..., Tensor], *traces: Trace) -> Trace:
    """Apply `function` to every filled row-wise field of the traces; A has no rows and is taken as it is."""
    values = {f.name: [getattr(trace, f.name) for trace in traces] for f in fields(Trace)}
    filled = {name: each for name, each in values.items() if all(value is not None for value in each)}
    return Trace(**{name: each[0] if name == "A" else function(*each) for name, each in filled.items()})
