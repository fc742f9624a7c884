"""The attention of the last row against softmax written out, from queries and keys as an attention layer has them."""

import math

import pytest
import torch
from traces import trace_of

from deltaprune.rows import Rows
from deltaprune.scores.last_attention import LastAttention


def test_it_is_what_the_last_row_pays() -> None:
    heads, width, lengths = 2, 4, ((5, 2), (3, 1))
    torch.manual_seed(0)
    rows = Rows.pack([torch.zeros(v, 2) for v, _ in lengths], [torch.zeros(t, 2) for _, t in lengths])
    q, k = torch.randn(len(rows.x), heads, width), torch.randn(len(rows.x), heads, width)
    paid = []
    for a, b in rows.spans:
        for j in range(a, b):
            total = 0.0
            for h in range(heads):
                energies = [math.exp(float(q[b - 1, h] @ k[i, h]) / math.sqrt(width)) for i in range(a, b)]
                total += energies[j - a] / sum(energies)
            paid.append(total / heads)
    softmax = torch.cat(
        [torch.einsum("hw,jhw->hj", q[b - 1], k[a:b]).div(math.sqrt(width)).softmax(-1).mean(0) for a, b in rows.spans]
    )
    assert LastAttention()(rows, trace_of(attention=softmax)).tolist() == pytest.approx(paid, rel=1e-5)
