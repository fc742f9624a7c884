"""A model of any size with random weights, built directly in its dtype, to measure what it costs."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from deltaprune.checkpoints.quantize import quantize_model
from deltaprune.errors import UserError
from deltaprune.mllm.network import MLLM, MLLMConfig, restore_buffers, weight_dtype

_POOL = 4_000_037  # a prime, so that no two rows of a matrix are alike


@torch.no_grad()
def random_mllm(config: MLLMConfig, dtype: torch.dtype = torch.float32, seed: int = 0) -> MLLM:
    """A model in evaluation mode whose activations stay finite at any depth.

    No second copy of the weights ever exists. Matrices repeat one pool of normal numbers, since drawing
    billions would take minutes.

    Args:
        config: the sizes.
        dtype: of the weights; what `load` keeps in float32 is float32 here, too.
        seed: of the pool.
    """
    form, config = config.quantize, replace(config, quantize=None)
    with torch.device("meta"):
        model = MLLM(config)
    restore_buffers(model)
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(seed))
    for name, weight in list(model.named_parameters()):
        filled = torch.empty(weight.shape, dtype=weight_dtype(name, dtype), device="cpu")
        _fill(name, filled, pool, config)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Parameter(filled, requires_grad=False))
    return model.eval() if form is None else quantize_model(model, form)


def _fill(name: str, weight: Tensor, pool: Tensor, config: MLLMConfig) -> None:
    """mamba_ssm's initialisation for the LM, the usual one for towers and projector."""
    if name.endswith("A_log"):
        weight.copy_(torch.arange(1.0, weight.shape[1] + 1).log().expand_as(weight))
    elif name.endswith("dt_proj.bias"):
        steps = torch.linspace(math.log(1e-3), math.log(0.1), len(weight)).exp()
        weight.copy_(steps.expm1().log())  # the inverse of softplus
    elif weight.ndim < 2:
        weight.fill_(0.0 if name.endswith("bias") else 1.0)
    else:
        _repeat(weight.view(-1), pool)
        deep = math.sqrt(config.lm.n_layers) if name.endswith("out_proj.weight") else 1.0
        fan_in = weight[0].numel() if "embed" not in name else 2500
        weight.mul_(1 / (math.sqrt(fan_in) * deep))


def _repeat(flat: Tensor, pool: Tensor) -> None:
    """Fill `flat` with the pool, over and over."""
    for start in range(0, len(flat), len(pool)):
        part = flat[start : start + len(pool)]
        part.copy_(pool[: len(part)])


def cut(config: MLLMConfig, n_layers: int) -> MLLMConfig:
    """The same sizes with fewer layers in the LM, and a name that says so; the plan's two places move in proportion.

    Raises:
        UserError: the LM has fewer layers.
    """
    whole, plan = config.lm.n_layers, config.plan
    if not 1 <= n_layers <= whole:
        raise UserError(f"layers={n_layers} is not possible for {config.name}: give 1 to {whole}.")
    if plan is not None:
        early = max(1, plan.early * n_layers // whole)
        late = max(early + 1, plan.late * n_layers // whole)
        plan = replace(plan, early=early, late=late, withdrawal=None) if late < n_layers else None
    name = config.name if n_layers == whole else f"{config.name}, {n_layers} of {whole} layers"
    return replace(config, name=name, lm=replace(config.lm, n_layers=n_layers), plan=plan)
