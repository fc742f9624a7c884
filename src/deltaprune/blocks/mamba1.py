"""One Mamba-1 block: RMSNorm -> mixer -> residual add, on packed rows.

Tensor names are those of mamba_ssm (`mixer.in_proj.weight`, ...), so that official checkpoints load as they are.
Mirrors mamba_ssm 1.x, mamba_ssm/modules/mamba_simple.py (`Mamba`, `Block`); deviations: A, dt's bias and D are kept in
float32 where the original casts them to the weights' dtype; the SSM state is always float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deltaprune import kernels
from deltaprune.blocks import blocks, registry
from deltaprune.blocks._mixer import Mixer
from deltaprune.blocks._phases import phases, places
from deltaprune.blocks._products import own, product
from deltaprune.blocks._scans import (
    IN_THE_SCAN,
    ScanInputs,
    scan_inputs,
    scan_over_gaps,
    scan_rows,
    trace_of,
    write_state,
)
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.errors import UserError
from deltaprune.kernels import (
    LayerWeights,
    Quantized,
    causal_conv1d,
    layer_rows,
    layer_rows_fused,
    layer_step,
    lent,
    residual_add,
)
from deltaprune.protocols import State
from deltaprune.rows import GAP, Rows, cumulate
from deltaprune.trace import Trace


@registry.register("mamba1")
@dataclass(frozen=True)
class MambaState(State):
    """What a layer remembers of everything before: constant in the number of tokens."""

    kind: ClassVar[str] = "mamba1"

    ssm: Float[Tensor, "B E N"]  # float32
    conv: Float[Tensor, "B E W1"]  # the last d_conv - 1 inputs of the convolution

    def tensors(self) -> Mapping[str, Tensor]:
        return {"ssm": self.ssm, "conv": self.conv}


class MambaBlock(nn.Module):
    """A block of the LM."""

    offers: ClassVar[frozenset[str]] = frozenset({"step", "delta", "key", "value", "query", "decay", "output"})
    offers_writing: ClassVar[frozenset[str]] = frozenset({"step", "delta", "key", "value", "query", "decay"})
    decays_over_gaps: ClassVar[bool] = True

    def __init__(self, config: MambaConfig):
        super().__init__()
        self.config = config
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.mixer = Mixer(config)

    def reset_parameters(self) -> None:
        """mamba_ssm's initialisation of the mixer, for training from scratch."""
        self.mixer.reset_parameters(self.config)

    def empty_state(self, batch: int) -> MambaState:
        """The state before the first token: zeros."""
        device, inner = self.mixer.D.device, self.config.d_inner
        return MambaState(
            ssm=torch.zeros(batch, inner, self.config.d_state, device=device),
            conv=torch.zeros(batch, inner, self.config.d_conv - 1, device=device, dtype=self.mixer.dtype),
        )

    def prefill(
        self, rows: Rows, state: MambaState | None = None, needs: frozenset[str] = frozenset()
    ) -> tuple[Rows, MambaState, Trace]:
        """Run all rows of a packed batch.

        Args:
            rows: their residual stream is float32.
            state: what came before (zeros if None).
            needs: the roles of the `Trace` to fill; `hidden` is filled by the caller, who has the final norm.
        """
        if len(rows.x) == 0:
            return rows, state or self.empty_state(len(rows.lengths)), Trace()
        inner, m = self.config.d_inner, self.mixer
        if not needs and GAP not in rows.beside and layer_rows_fused(rows.x, m.matrix("in_proj")):
            before = (state.ssm, state.conv) if state else (None, None)
            x, ssm, conv = layer_rows(rows.x, self.weights, rows.cu_seqlens, *before)
            return rows.with_x(x), MambaState(ssm=ssm, conv=conv), Trace()
        xz = product("in_proj", self._normed(rows), m.matrix("in_proj"))
        known, ssm = scan_inputs(m, xz[:, :inner], rows, state and state.conv), state and state.ssm
        if GAP in rows.beside:
            scan = scan_over_gaps(m, known, xz[:, inner:], rows, ssm, needs)
        else:
            scan = scan_rows(m, known, slice(None), xz[:, inner:], rows.cu_seqlens, ssm, needs)
        trace = trace_of(known, needs, {role: getattr(scan, name) for role, name in IN_THE_SCAN.items()})
        x = residual_add(rows.x, product("out_proj", scan.out, m.matrix("out_proj")))
        return rows.with_x(x), MambaState(ssm=scan.state, conv=known.conv), trace

    def write(
        self, rows: Rows, state: MambaState | None = None, needs: frozenset[str] = frozenset()
    ) -> tuple[Rows, MambaState, Trace]:
        """Text rows run as in `prefill`; visual rows only write the state: z, y and out_proj are not computed for them.

        The products that both kinds need are one call. The scan runs in phases: first the visual rows of every sample
        up to its first text row, then that text, and so on.
        """
        if not any(rows.n_visual):
            return self.prefill(rows, state, needs)
        if GAP in rows.beside:
            raise UserError('Align() lets updated rows decay the state: no Pass(how="write") may come after it.')
        inner, m, x = self.config.d_inner, self.mixer, rows.x
        normed = self._normed(rows)
        u = product("in_proj", normed, m.matrix("in_proj")[:inner])
        known, ssm = scan_inputs(m, u, rows, state and state.conv), state and state.ssm
        text, outs, order = [], [], []
        told: dict[str, list[Tensor]] = {role: [] for role in needs & {"step", "delta"}}
        for visual, index, lengths in phases(rows):
            bounds = cumulate(lengths, x.device)
            if visual:
                scan = write_state(m, known, index, bounds, ssm, frozenset(told))
            else:
                z = product("in_proj_z", normed[index], m.matrix("in_proj")[inner:])
                scan = scan_rows(m, known, index, z, bounds, ssm, frozenset(told))
                text.append(index)
                outs.append(scan.out.clone())  # the next scan reuses its memory
            ssm = scan.state
            if told:
                order.append(places(index, x.device))
            for role, parts in told.items():
                parts.append(getattr(scan, IN_THE_SCAN[role]))
        assert ssm is not None
        if text:
            added = product("out_proj", torch.cat(outs), m.matrix("out_proj"))
            x = x if lent(x) else own(x)
            for index, part in zip(text, added.split([len(out) for out in outs]), strict=True):
                x[index] += part
        back = torch.cat(order).argsort() if told else slice(None)
        trace = trace_of(known, needs, {role: torch.cat(parts)[back] for role, parts in told.items()})
        return rows.with_x(x), MambaState(ssm=ssm, conv=known.conv), trace

    def _normed(self, rows: Rows) -> Tensor:
        return kernels.rms_norm(rows.x, self.norm.weight, self.config.norm_eps, dtype=self.mixer.dtype)[1]

    def products(self, how: Literal["full", "write"] = "full") -> tuple[Float[Tensor, "n k"] | Quantized, ...]:
        """The weights of its matrix products, in order; a row that only writes takes no gate, no readout, no output."""
        m, cfg = self.mixer, self.config
        if how == "write":
            x_proj = m.matrix("x_proj")[: cfg.rank + cfg.d_state]
            return m.matrix("in_proj")[: cfg.d_inner], x_proj, m.matrix("dt_proj")
        return m.matrix("in_proj"), m.matrix("x_proj"), m.matrix("dt_proj"), m.matrix("out_proj")

    def macs(self, how: Literal["full", "write"] = "full") -> Mapping[str, float]:
        """Multiply-accumulates of one row by component, see `MambaConfig.macs`."""
        return self.config.macs(how)

    def alone(self, part: Literal["conv", "scan"], x: Float[Tensor, "T _"], cu_seqlens: Int[Tensor, "B1"]) -> None:
        """Run one component by itself, to be timed; `x` has 2 E columns, and its values do not matter."""
        m, inner, order = self.mixer, self.config.d_inner, self.config.d_state
        if part == "conv":
            assert m.conv1d.bias is not None
            causal_conv1d(x[:, :inner], m.conv1d.weight[:, 0], m.conv1d.bias, cu_seqlens)
            return
        u, z, b = x[:, :inner], x[:, inner:], x[:, :order]
        known = ScanInputs(u, u, b, b, -torch.exp(m.A_log.float()), x)
        scan_rows(m, known, slice(None), z, cu_seqlens, None, frozenset())

    @property
    def weights(self) -> LayerWeights:
        """All tensors of the layer, for `layer_step`."""
        m = self.mixer
        assert m.conv1d.bias is not None
        return LayerWeights(
            norm=self.norm.weight,
            in_proj=m.matrix("in_proj"),
            conv=m.conv1d.weight[:, 0],
            conv_bias=m.conv1d.bias,
            x_proj=m.matrix("x_proj"),
            dt_proj=m.matrix("dt_proj"),
            dt_bias=m.dt_proj.bias,
            A_log=m.A_log,
            D=m.D,
            out_proj=m.matrix("out_proj"),
            eps=self.config.norm_eps,
        )

    def step(
        self, x: Float[Tensor, "B d"], state: MambaState, in_place: bool = False
    ) -> tuple[Float[Tensor, "B d"], MambaState]:
        """One token of every sample, as a prefill of B sequences of length 1; `in_place` may write over `state`."""
        x, ssm, conv = layer_step(x, self.weights, state.ssm, state.conv, in_place)
        return x, MambaState(ssm=ssm, conv=conv)


@blocks.register("mamba1")
def random_block(width: int) -> MambaBlock:
    """A block of this width with mamba_ssm's initial weights; its other sizes are those of mamba-2.8b."""
    config = MambaConfig(d_model=width, n_layers=1)
    block = MambaBlock(config).eval().requires_grad_(False)
    block.mixer.reset_parameters(config)
    return block
