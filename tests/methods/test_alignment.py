"""Alignment: a dropped row lets the state decay. Against the recurrence written out row by row."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from prefills import drawn, small
from slow import best_first
from stacks import Stack
from torch import Tensor

import deltaprune as dp
from deltaprune.blocks.mamba1 import MambaBlock
from deltaprune.errors import UserError
from deltaprune.kernels import use
from deltaprune.merge import Align
from deltaprune.methods import parse
from deltaprune.methods.alignment import Alignment
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import GAP, Rows
from deltaprune.selection import Selection
from deltaprune.steps import Drop, Pass, Plan, Shape, Stage

SHAPE = Shape(4, 9, Plan(early=1, late=3))


def forgetful() -> MambaLM:
    """A model with large step sizes, whose state decays noticeably."""
    lm = small()
    for block in lm.blocks:
        block.mixer.dt_proj.bias.data.add_(1.5)
    return lm


@torch.no_grad()
def layer(block: MambaBlock, x: Tensor, gaps: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows through a layer whose state decays once more for every dropped row: new rows, y, the last state."""
    m, cfg = block.mixer, block.config
    ssm, window = torch.zeros(cfg.d_inner, cfg.d_state), torch.zeros(cfg.d_inner, cfg.d_conv)
    rows, outs = [], []
    for row, gap in zip(x, gaps, strict=True):
        u, z = m.in_proj(F.rms_norm(row, row.shape, block.norm.weight, cfg.norm_eps)).split(cfg.d_inner)
        window = torch.cat([window[:, 1:], u[:, None]], dim=1)
        assert m.conv1d.bias is not None
        u = F.silu((window * m.conv1d.weight[:, 0]).sum(1) + m.conv1d.bias)
        dt, b, c = m.x_proj(u).split([cfg.rank, cfg.d_state, cfg.d_state])
        delta = F.softplus(m.dt_proj(dt))[:, None]
        decay = torch.exp(-delta * torch.exp(m.A_log))
        ssm = decay * ssm + delta * u[:, None] * b
        y = (ssm * c).sum(1) + m.D * u
        for _ in range(gap):
            ssm = decay * ssm
        rows.append(row + m.out_proj(y * F.silu(z)))
        outs.append(y)
    return torch.stack(rows), torch.stack(outs), ssm


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_a_prefill_by_hand(backend: str) -> None:
    torch.manual_seed(3)
    lm, rows = forgetful(), drawn(((9, 4), (5, 3)))
    method = Alignment(0.3, early=1, until=4, every=2)
    with use(backend):
        done = prefill(lm, rows, method.checked_steps(SHAPE))
        dropped = prefill(lm, rows, tuple(replace(s, reduce=Drop()) for s in method.steps(SHAPE)))  # pyright: ignore
    for b, (start, end) in enumerate(rows.spans):
        n = rows.n_visual[b]
        x, origin, left, states = rows.x[start:end], list(range(end - start)), [], []
        y = x
        for l, block in enumerate(lm.blocks):
            if l in (1, 3):
                importance = [float(y[i].clamp(min=0).mean()) for i, place in enumerate(origin) if place < n]
                count = int(0.3 ** (0.5 if l == 1 else 1.0) * n + 1e-6)
                keep = sorted(best_first(importance, range(len(importance)))[:count])
                keep += [i for i, place in enumerate(origin) if place >= n]
                x, origin = x[keep], [origin[i] for i in keep]
                left.append([place for place in origin if place < n])
            gaps = [after - before - 1 for before, after in zip(origin, [*origin[1:], end - start], strict=True)]
            x, y, state = layer(block, x, gaps)
            states.append(state)
        assert [stage.origin[b].tolist() for stage in done.kept] == left
        torch.testing.assert_close(done.hidden[b], x[-1], atol=2e-5, rtol=1e-4)
        for ours, state in zip(done.states, states, strict=True):
            torch.testing.assert_close(ours.tensors()["ssm"][b], state, atol=2e-5, rtol=1e-4)
    aligned, plain = (each.states[1].tensors()["ssm"] for each in (done, dropped))
    assert (aligned - plain).abs().max() > 1e-3  # fifty tolerances: agreement says something


def test_gaps_of_two_stages_add_up() -> None:
    rows = drawn(((6, 2), (0, 2), (3, 1)))
    first = Align()(rows, Selection(torch.tensor([1, 2, 5, 6, 7, 8, 9, 10, 13]), (5, 2, 2), (3, 0, 1), ()))
    assert first.beside[GAP].tolist() == [0, 2, 0, 0, 0, 0, 0, 2, 0]
    then = Align()(first, Selection(torch.tensor([0, 3, 4, 5, 6, 8]), (3, 2, 1), (1, 0, 0), ()))
    assert then.beside[GAP].tolist() == [4, 0, 0, 0, 0, 0]
    none = Align()(then, Selection(torch.tensor([], dtype=torch.int64), (0, 0, 0), (0, 0, 0), ()))
    assert len(none.x) == 0


def test_a_question_joins_an_image_that_waited() -> None:
    """A later score reads the question, so the image waits with its gaps; the question's rows have none."""
    torch.manual_seed(3)
    lm, rows = forgetful(), drawn(((9, 4),))
    steps = (Stage(1, 0.6, dp.Delta(), reduce=Align()), Stage(3, 0.3, dp.HiddenAttention(), reduce=Align()))
    whole = prefill(lm, rows, steps)
    image = prefill(lm, Rows.pack([rows.x[:9]], [rows.x[:0]], rows.key), steps, awaits_text=True)
    assert image.depth == 3
    asked = prefill(lm, Rows.pack([rows.x[:0]], [rows.x[9:]], rows.key), steps, image)
    torch.testing.assert_close(asked.hidden, whole.hidden, atol=1e-5, rtol=1e-5)


class Deaf:
    """A layer that knows nothing of gaps."""

    def __init__(self, block: MambaBlock):
        self.prefill, self.offers, self.offers_writing = block.prefill, block.offers, block.offers_writing


@pytest.mark.usefixtures("unchecked")
def test_mistakes() -> None:
    torch.manual_seed(3)
    lm, rows = small(), drawn(((9, 4),))
    steps = (Stage(1, 0.5, dp.Delta(), reduce=Align()),)
    with pytest.raises(UserError, match="no Pass"):
        prefill(lm, rows, (*steps, Pass((2,), "write")))
    deaf = Stack([lm.blocks[0], lm.blocks[1], Deaf(lm.blocks[2]), lm.blocks[3]], 32)  # pyright: ignore
    with pytest.raises(UserError, match=r"Align\(\) needs layers that decay over dropped rows, which layer 2 does not"):
        prefill(deaf, rows, steps)
    with pytest.raises(UserError, match="There is no layer from early=3 to below until=3"):
        parse("alignment:early=3,until=3").steps(SHAPE)
    assert parse("alignment:keep=0.3,early=1,until=4,every=2") == Alignment(0.3, 1, 4, 2)
