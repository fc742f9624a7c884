"""Gated scan and convolution over trees of segments against a loop over tokens in float64, outputs and gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.scan import conv_silu, gated_scan
from training.scan_torch import conv_silu_torch, gated_scan_torch

SHAPES = [(32, 4), (48, 16), (40, 5), (16, 1)]


def loop_scan(u, dt, A_log, B, C, D, z, dt_bias, cu_seqlens, parent):
    """The scan's definition, token by token."""
    delta, A = F.softplus(dt + dt_bias), -A_log.exp()
    final, rows = [], []
    for start, stop, above in zip(cu_seqlens[:-1], cu_seqlens[1:], parent, strict=True):
        h = torch.zeros_like(A) if above < 0 else final[above]
        for t in range(start, stop):
            h = torch.exp(delta[t, :, None] * A) * h + (delta[t] * u[t])[:, None] * B[t]
            rows.append((h @ C[t] + D * u[t]) * F.silu(z[t]))
        final.append(h)
    return torch.stack(rows)


def loop_conv(x, weight, bias, cu_seqlens, parent):
    """The convolution's definition, segment by segment."""
    width, rows = weight.shape[1], []
    for start, stop, above in zip(cu_seqlens[:-1], cu_seqlens[1:], parent, strict=True):
        past = x[:0] if above < 0 else x[cu_seqlens[above] : cu_seqlens[above + 1]]
        seen = torch.cat([x.new_zeros(width - 1, x.shape[1]), past, x[start:stop]])
        window = seen[len(seen) - (stop - start) - width + 1 :].unfold(0, width, 1)
        rows.append(F.silu((window * weight).sum(-1) + bias))
    return torch.cat(rows)


def random_tree(rng):
    """Ragged segments: a childless root, short and long children, children of several roots; (cu_seqlens, parent)."""
    lengths, parent = [17, 1, 3, 2, 5, 40, 1, 17, 33, 4], [-1, 0, 0, -1, 0, -1, 5, 5, -1, 8]
    for _ in range(20):
        above = int(rng.choice([-1, 0, 5, 8]))
        lengths.append(int(rng.choice([1, 2, 3, 9])))
        parent.append(above)
    return torch.tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int32), torch.tensor(parent).int()


def scan_inputs(rng, rows, width, states):
    """Random inputs with step sizes from tiny to above softplus's threshold; z is half of a wider tensor."""
    draw = lambda *shape: torch.tensor(rng.standard_normal(shape), dtype=torch.float32)  # noqa: E731
    dt = draw(rows, width) * 3
    dt[::13] += 22
    A_log = torch.log(torch.arange(1, states + 1).float()).expand(width, states) + 0.1 * draw(width, states)
    z = draw(rows, 2 * width)[:, width:] * 2
    return [draw(rows, width), dt, A_log, draw(rows, states), draw(rows, states), draw(width), z, draw(width) - 2]


def agree(function, reference, inputs, tree, seed):
    """Assert equal outputs and input gradients, to 1e-4 of each tensor's largest entry."""
    exact = [t.double().requires_grad_() for t in inputs]
    inputs = [t.detach().requires_grad_() for t in inputs]
    y, expected = function(*inputs, *tree), reference(*exact, *(t.tolist() for t in tree))
    upper = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    got, wanted = torch.autograd.grad(y, inputs, upper), torch.autograd.grad(expected, exact, upper.double())
    for index, (a, b) in enumerate(zip((y, *got), (expected, *wanted), strict=True)):
        assert a.shape == b.shape
        assert a.dtype == torch.float32
        error = (a.double() - b).abs().max() / b.abs().max()
        assert error < 1e-4, f"tensor {index}: {error:.2e}"


@pytest.mark.parametrize(("width", "states"), SHAPES)
@pytest.mark.parametrize("scan", [gated_scan, gated_scan_torch])
def test_scan_matches_the_loop(scan, width, states):
    rng = np.random.default_rng(width + states)
    tree = random_tree(rng)
    agree(scan, loop_scan, scan_inputs(rng, int(tree[0][-1]), width, states), tree, width)


@pytest.mark.parametrize("scan", [gated_scan, gated_scan_torch])
def test_small_steps_keep_relative_accuracy(scan):
    rng = np.random.default_rng(3)
    cu_seqlens, parent = torch.tensor([0, 30, 41]).int(), torch.tensor([-1, 0]).int()
    inputs = scan_inputs(rng, 41, 16, 4)
    inputs[1] = inputs[1].clamp(-1, 1) - 12
    inputs[5] = torch.zeros(16)
    agree(scan, loop_scan, inputs, (cu_seqlens, parent), 0)


@pytest.mark.parametrize("width", [32, 48, 40])
@pytest.mark.parametrize("conv", [conv_silu, conv_silu_torch])
def test_conv_matches_the_loop(conv, width):
    rng = np.random.default_rng(width)
    tree = random_tree(rng)
    draw = lambda *shape: torch.tensor(rng.standard_normal(shape), dtype=torch.float32)  # noqa: E731
    x = draw(int(tree[0][-1]), 2 * width)[:, :width]
    agree(conv, loop_conv, [x, draw(width, 4), draw(width)], tree, width)


def test_a_child_changes_with_its_root_and_not_with_its_sibling():
    rng = np.random.default_rng(0)
    tree = torch.tensor([0, 10, 14, 18]).int(), torch.tensor([-1, 0, 0]).int()
    inputs = scan_inputs(rng, 18, 16, 4)
    inputs[1] = inputs[1].clamp(-1, 0)
    y = gated_scan(*inputs, *tree)
    for row, changed in ((9, [9, *range(10, 18)]), (10, range(10, 14))):
        moved = [t.clone() for t in inputs]
        moved[0][row] += 1
        differs = (gated_scan(*moved, *tree) != y).any(1)
        assert differs.nonzero()[:, 0].tolist() == list(changed)
