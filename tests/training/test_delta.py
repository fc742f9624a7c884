"""The gated delta rule over trees of segments against a loop over tokens in float64, outputs and gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_scan import agree, random_tree

from training.delta import delta_rule


def loop(q, k, v, g, beta, cu_seqlens, parent):
    """The definition, token by token."""
    repeats = v.shape[1] // k.shape[1]
    q, k = (t.repeat_interleave(repeats, dim=1) for t in (q, k))
    final, rows = [], []
    for start, stop, above in zip(cu_seqlens[:-1], cu_seqlens[1:], parent, strict=True):
        state = v.new_zeros(v.shape[1], k.shape[2], v.shape[2]) if above < 0 else final[above]
        for t in range(start, stop):
            state = g[t].exp()[:, None, None] * state
            known = torch.einsum("hi,hij->hj", k[t], state)
            state = state + torch.einsum("hi,hj->hij", k[t], beta[t][:, None] * (v[t] - known))
            rows.append(torch.einsum("hi,hij->hj", q[t], state))
        final.append(state)
    return torch.stack(rows)


def inputs(rng, rows, key_heads, value_heads):
    """Random inputs: keys of length one, and decays from none to nearly all."""
    draw = lambda *shape: torch.tensor(rng.standard_normal(shape), dtype=torch.float32)  # noqa: E731
    k = F.normalize(draw(rows, key_heads, 32), dim=-1)
    g = -(2 * draw(rows, value_heads) - 2).exp()
    return [draw(rows, key_heads, 32), k, draw(rows, value_heads, 32), g, draw(rows, value_heads).sigmoid()]


@pytest.mark.parametrize(("key_heads", "value_heads"), [(1, 1), (2, 4)])
def test_it_matches_the_loop(key_heads: int, value_heads: int) -> None:
    rng = np.random.default_rng(value_heads)
    tree = random_tree(rng)
    agree(delta_rule, loop, inputs(rng, int(tree[0][-1]), key_heads, value_heads), tree, 0)


def test_a_child_changes_with_its_root_and_not_with_its_sibling() -> None:
    tree = torch.tensor([0, 10, 14, 18]).int(), torch.tensor([-1, 0, 0]).int()
    given = inputs(np.random.default_rng(0), 18, 1, 1)
    y = delta_rule(*given, *tree)
    for row, changed in ((9, [9, *range(10, 18)]), (10, range(10, 14))):
        moved = [t.clone() for t in given]
        moved[2][row] += 1
        differs = (delta_rule(*moved, *tree) != y).flatten(1).any(1)
        assert differs.nonzero()[:, 0].tolist() == list(changed)


def test_heads_of_another_size_are_refused() -> None:
    tree = torch.tensor([0, 3]).int(), torch.tensor([-1]).int()
    q, k, v, g, beta = inputs(np.random.default_rng(0), 3, 1, 1)
    with pytest.raises(ValueError, match="heads of 32, got 16, 16 and 32"):
        delta_rule(q[..., :16], k[..., :16], v, g, beta, *tree)
