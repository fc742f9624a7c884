"""One Mamba block: RMSNorm -> mixer -> residual add, on packed rows.

Tensor names are those of mamba_ssm (`mixer.in_proj.weight`, ...), so that official checkpoints load as they are.
Mirrors mamba_ssm 1.x, mamba_ssm/modules/mamba_simple.py (`Mamba`, `Block`); deviations: A, dt's bias and D are kept in
float32 where the original casts them to the weights' dtype; the SSM state is always float32.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from deltaprune import kernels
from deltaprune.blocks.config import MambaConfig
from deltaprune.kernels import LayerWeights, causal_conv1d, empty, layer_step, residual_add, selective_scan
from deltaprune.trace import Trace

SCAN_EXTRAS = frozenset({"delta", "delta_mean", "y"})  # what only the scan can tell a score


@dataclass(frozen=True)
class State:
    """What a layer remembers of everything before: constant in the number of tokens."""

    ssm: Float[Tensor, "B E N"]  # float32
    conv: Float[Tensor, "B E W1"]  # the last d_conv - 1 inputs of the convolution


class Mixer(nn.Module):
    """The selective SSM between the norms; holds parameters only, `Layer` runs it."""

    def __init__(self, config: MambaConfig):
        super().__init__()
        inner, rank, states = config.d_inner, config.rank, config.d_state
        self.in_proj = nn.Linear(config.d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.d_conv, groups=inner, padding=config.d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, config.d_model, bias=False)

    def reset_parameters(self, config: MambaConfig) -> None:
        """mamba_ssm's initialisation: Delta starts log-uniform in [1e-3, 1e-1], out_proj shrinks with depth."""
        nn.init.uniform_(self.dt_proj.weight, -(config.rank**-0.5), config.rank**-0.5)
        step = torch.exp(torch.rand(config.d_inner) * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3)).clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse softplus
            self.out_proj.weight.div_(math.sqrt(config.n_layers))


class Layer(nn.Module):
    """A block of the LM. `x` is the float32 residual stream, packed `(T, d_model)`."""

    def __init__(self, config: MambaConfig):
        super().__init__()
        self.config = config
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.mixer = Mixer(config)

    def empty_state(self, batch: int) -> State:
        """The state before the first token: zeros."""
        weight = self.mixer.in_proj.weight
        inner = self.config.d_inner
        return State(
            ssm=torch.zeros(batch, inner, self.config.d_state, device=weight.device),
            conv=torch.zeros(batch, inner, self.config.d_conv - 1, device=weight.device, dtype=weight.dtype),
        )

    def prefill(
        self,
        x: Float[Tensor, "T d"],
        cu_seqlens: Int[Tensor, "B1"],
        state: State | None = None,
        needs: frozenset[str] = frozenset(),
    ) -> tuple[Float[Tensor, "T d"], State, Trace]:
        """Run all rows of a packed batch.

        Args:
            x: residual stream, float32.
            cu_seqlens: boundaries of the samples, int32.
            state: what came before (zeros if None).
            needs: the `Trace` fields to fill; `hidden` is filled by the caller, who knows `norm_f`.
        """
        if len(x) == 0:
            return x, state or self.empty_state(len(cu_seqlens) - 1), Trace()
        m, cfg = self.mixer, self.config
        _, normed = kernels.rms_norm(x, self.norm.weight, cfg.norm_eps, dtype=m.in_proj.weight.dtype)
        xz = product("in_proj", normed, m.in_proj.weight)
        u, z = xz.split(cfg.d_inner, dim=-1)
        assert m.conv1d.bias is not None
        past = (None, None) if state is None else (state.ssm, state.conv)
        u, conv = causal_conv1d(u, m.conv1d.weight[:, 0], m.conv1d.bias, cu_seqlens, past[1])
        dt, b, c = product("x_proj", u, m.x_proj.weight).split([cfg.rank, cfg.d_state, cfg.d_state], dim=-1)
        a = -torch.exp(m.A_log.float())
        scan = selective_scan(
            u,
            product("dt_proj", dt, m.dt_proj.weight),  # the bias joins inside the scan: Delta = softplus(dt + bias)
            a,
            b,
            c,
            m.D.float(),
            z,
            m.dt_proj.bias.float(),
            cu_seqlens,
            initial_state=past[0],
            extras=needs & SCAN_EXTRAS,
        )
        known = {"A": a, "B": b, "C": c, "u": u, "delta": scan.delta, "delta_mean": scan.delta_mean, "y": scan.y}
        trace = Trace(**{name: known[name] for name in needs & known.keys()})
        x = residual_add(x, product("out_proj", scan.out, m.out_proj.weight))
        return x, State(ssm=scan.state, conv=conv), trace

    @property
    def weights(self) -> LayerWeights:
        """All tensors of the layer, for `layer_step`."""
        m = self.mixer
        assert m.conv1d.bias is not None
        return LayerWeights(
            norm=self.norm.weight,
            in_proj=m.in_proj.weight,
            conv=m.conv1d.weight[:, 0],
            conv_bias=m.conv1d.bias,
            x_proj=m.x_proj.weight,
            dt_proj=m.dt_proj.weight,
            dt_bias=m.dt_proj.bias,
            A_log=m.A_log,
            D=m.D,
            out_proj=m.out_proj.weight,
            eps=self.config.norm_eps,
        )

    def step(self, x: Float[Tensor, "B d"], state: State, in_place: bool = False) -> tuple[Float[Tensor, "B d"], State]:
        """One token of every sample, as a prefill of B sequences of length 1; `in_place` may write over `state`."""
        x, ssm, conv = layer_step(x, self.weights, state.ssm, state.conv, in_place)
        return x, State(ssm=ssm, conv=conv)


def product(name: str, x: Float[Tensor, "T k"], weight: Float[Tensor, "n k"]) -> Float[Tensor, "T n"]:
    """The matrix product of a projection without its bias; on a CPU into memory that the layers share, see `reuse`."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return F.linear(x, weight)
    return torch.mm(x, weight.t(), out=empty(name, (len(x), len(weight)), x.dtype))
