"""Random weights: any size, any dtype, finite activations, never two copies."""

import pytest
import torch

from deltaprune.checkpoints.random import random_mllm
from deltaprune.mllm.network import weight_dtype
from deltaprune.mllm.processor import Processor
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.vlm import VLM


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_is_filled_and_the_output_is_finite(tiny: tuple[VLM, Processor], dtype: torch.dtype) -> None:
    config = tiny[0].config
    model = random_mllm(config, dtype)
    assert all(p.dtype == weight_dtype(name, dtype) for name, p in model.named_parameters())
    assert model.lm.blocks[0].mixer.in_proj.weight.dtype == dtype
    assert not any(t.is_meta or t.requires_grad for t in [*model.parameters(), *model.buffers()])
    assert all(torch.isfinite(p).all() and (p.ndim < 2 or p.std() > 0) for p in model.parameters())
    pixels = {name: torch.randn(1, 3, 32, 32) for name in config.towers}
    visual, text = model.encode(pixels), model.lm.embed(torch.arange(3)[None])
    out = prefill(model.lm, Rows.pack(list(visual), list(text))).hidden
    assert torch.isfinite(out).all()
    assert 0.01 < out.std() < 100


def test_the_seed_decides(tiny: tuple[VLM, Processor]) -> None:
    first, same, other = (random_mllm(tiny[0].config, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["projector.0.weight"], other["projector.0.weight"])


def test_delta_starts_where_mamba_starts_it(tiny: tuple[VLM, Processor]) -> None:
    bias = random_mllm(tiny[0].config).lm.blocks[0].mixer.dt_proj.bias
    delta = torch.nn.functional.softplus(bias)
    assert torch.allclose(delta[[0, -1]], torch.tensor([1e-3, 0.1]), rtol=1e-3)
