"""The closed form against torch's own counter, on real runs of a small model.

Matrix products and convolutions are compared with torch's formulas. The scan has none there: on the readable reference
kernels every multiplication is a torch operation, so the counter is taught to count those, and the closed form (4 E N +
3 E multiplications per row) must agree with it exactly. The paper's 9 E N + 2 E is a convention and cannot be run.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_config import METHODS, TINY, by_method
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deltaprune import Method, NoPruning
from deltaprune.cost import decode_macs, macs, tokens_kept
from deltaprune.kernels import causal_conv1d, selective_scan, use
from deltaprune.mllm.lm import MambaLM
from deltaprune.mllm.network import projector
from deltaprune.models.robomamba import CLIP
from deltaprune.prefill import Prefilled, prefill
from deltaprune.rows import Rows
from deltaprune.vision.towers import TOWERS

LM = TINY.lm


@pytest.fixture(autouse=True)
def _where_torch_counts() -> Iterator[None]:
    """Products of a few rows have kernels of their own, into which torch's counter does not see."""
    with use("reference"):
        yield


def counted(module: nn.Module, *inputs: Tensor) -> int:
    """torch's count of what a module does, in MACs. It cannot see into fused attention."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2


def matrix_products(counter: FlopCounterMode) -> int:
    """FLOPs of matrix products alone."""
    return sum(n for op, n in counter.get_flop_counts()["Global"].items() if "mm" in str(op))


def language_model() -> MambaLM:
    lm = MambaLM(LM).requires_grad_(False)
    lm.reset_parameters()
    return lm


def prefilled_and_flops(method: Method, text: int) -> tuple[MambaLM, Prefilled, int]:
    """A real prefill of random rows, and torch's count of its matrix products."""
    lm = language_model()
    tokens = Rows.pack([torch.randn(TINY.n_visual, 24)], [torch.randn(text, 24)])
    with FlopCounterMode(display=False) as counter:
        prefilled = prefill(lm, tokens, method.steps(TINY.shape))
    return lm, prefilled, matrix_products(counter)


@by_method
def test_linear_and_head(method):
    lm, prefilled, flops = prefilled_and_flops(method, 7)
    cost = macs(TINY, method, 7)
    assert flops == cost.flops["linear"]
    with FlopCounterMode(display=False) as counter:
        lm.logits(prefilled.hidden)
    assert counter.get_total_flops() == cost.flops["head"]


def test_decoding():
    lm = language_model()
    states = [layer.empty_state(1) for layer in lm.blocks]
    with FlopCounterMode(display=False) as counter:
        lm.step(torch.tensor([3]), states)
    cost = decode_macs(TINY)
    assert matrix_products(counter) == cost.flops["linear"] + cost.flops["head"]


@pytest.mark.parametrize("method", [m for m in METHODS if getattr(m, "candidates", "visual") == "visual"], ids=repr)
def test_tokens_kept_are_those_of_a_real_prefill(method):
    _, prefilled, _ = prefilled_and_flops(method, 7)
    ours = tokens_kept(method.steps(TINY.shape), TINY.shape)
    real = [kept.counts[0] for kept in prefilled.kept]  # a stage that finds no image left is not listed there
    assert ours == real + [0] * (len(ours) - len(real))


def test_convolution():
    """torch's depthwise convolution of 11 rows, padded on the left alone; then our reference, one layer of it."""
    rows, weight, bias = torch.randn(11, LM.d_inner), torch.randn(LM.d_inner, LM.d_conv), torch.zeros(LM.d_inner)
    per_layer = macs(TINY, NoPruning(), 11).conv * 11 / (LM.n_layers * (TINY.n_visual + 11))
    with FlopCounterMode(display=False) as counter:
        F.conv1d(F.pad(rows.T[None], (LM.d_conv - 1, 0)), weight[:, None], bias, groups=LM.d_inner)
    assert counter.get_total_flops() == 2 * per_layer
    boundaries = torch.tensor([0, 4, 11], dtype=torch.int32)
    assert multiplications(causal_conv1d, rows, weight, bias, boundaries) == per_layer


def test_scan():
    rows, wide = torch.randn(11, LM.d_inner), torch.randn(11, LM.d_state)
    A, D = -torch.rand(LM.d_inner, LM.d_state), torch.ones(LM.d_inner)
    boundaries = torch.tensor([0, 4, 11], dtype=torch.int32)
    ran = multiplications(selective_scan, rows, rows, A, wide, wide, D, rows, D, boundaries)
    assert ran == 11 * int(LM.macs()["scan"])


def multiplications(op, *inputs: Tensor) -> int:
    """Elementwise multiplications that an op's reference kernel does."""
    each = {torch.ops.aten.mul: lambda *_, out_shape, **__: out_shape.numel()}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=each) as counter:
        op(*inputs, backend="reference")
    return counter.get_total_flops()


TINY_CLIP = replace(CLIP, image_size=32, patch_size=8, width=32, n_blocks=3, n_heads=2, mlp_width=96)


@pytest.mark.parametrize("tower", [*TINY.towers.values(), TINY_CLIP], ids=lambda tower: tower.kind)
def test_vision(tower):
    config = replace(TINY, towers={"one": tower})
    assert counted(TOWERS[tower.kind](tower), torch.zeros(1, 3, 32, 32)) == macs(config, NoPruning(), 1).vision


def test_every_kind_of_tower_is_counted():
    assert {tower.kind for tower in (*TINY.towers.values(), TINY_CLIP)} == set(TOWERS)


def test_projector():
    features = torch.zeros(1, TINY.n_visual, TINY.vision_width)
    assert counted(projector(TINY.vision_width, TINY.projector), features) == macs(TINY, NoPruning(), 1).projector
