"""MMR as a whole prefill: the rows behind the layer, ranked by the rule written out."""

import pytest
import torch
from prefills import drawn, small
from slow import cosine

from deltaprune.blocks.mamba1 import MambaBlock
from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.methods.mmr import MMR
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.scores.marginal_relevance import MarginalRelevance
from deltaprune.scores.readout import ReadoutNorm
from deltaprune.steps import Shape, Stage
from deltaprune.trace import Trace

SHAPE = Shape(4, 9)


def behind(lm: MambaLM, rows: Rows, after: int, needs: frozenset[str]) -> tuple[Rows, Trace]:
    """The rows behind the first layers and what the last of them told."""
    trace = Trace()
    for block in lm.blocks[:after]:
        assert isinstance(block, MambaBlock)
        rows, _, trace = block.prefill(rows, None, needs)
    return rows, trace


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("balance", [0.2, 0.7])
def test_it_keeps_what_the_rule_picks(balance: float, after: int) -> None:
    torch.manual_seed(3)
    lm, rows = small(), drawn(((9, 4), (7, 2)))
    done = prefill(lm, rows, MMR(0.5, after, "readout", balance).checked_steps(SHAPE))
    at, trace = behind(lm, rows, after, frozenset({"query"}))
    hidden = lm.norm(at.x)
    for b, (n, count) in enumerate(((9, 4), (7, 3))):
        image = at.visual_rows(b).tolist()
        weight = [trace["query"][j].double().norm().item() for j in image]
        relevance = [(w - min(weight)) / (max(weight) - min(weight)) for w in weight]
        x, chosen = hidden[image].tolist(), []
        while len(chosen) < count:
            worth = {
                j: balance * relevance[j] - (1 - balance) * max((cosine(x[i], x[j]) for i in chosen), default=0.0)
                for j in range(n)
                if j not in chosen
            }
            chosen.append(max(worth, key=lambda j: worth[j]))
        assert done.kept[0].origin[b].tolist() == sorted(chosen)


def test_its_stage_and_its_text_form() -> None:
    assert MMR(0.3).steps(SHAPE) == (Stage(1, 0.3, MarginalRelevance(ReadoutNorm(), 0.5, 0.3)),)
    asked = parse("mmr:keep=0.3,after=2,score=hidden_attention,balance=1")
    assert asked == MMR(0.3, 2, HiddenAttention(), 1)
    assert asked.steps(SHAPE)[0].sees_text  # pyright: ignore[reportAttributeAccessIssue]
    assert not MMR().steps(SHAPE)[0].sees_text


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"balance=-0.5 is not a share"):
        MMR(balance=-0.5)
    with pytest.raises(UserError, match="acts before any layer"):
        MMR(after=0).steps(SHAPE)


def test_equal_tokens_are_chosen_in_order() -> None:
    torch.manual_seed(3)
    lm = small()
    rows = Rows.pack([torch.zeros(9, 32)], [torch.randn(2, 32)])
    done = prefill(lm, rows, MMR(0.5).checked_steps(SHAPE))
    assert done.kept[0].origin[0].tolist() == [0, 1, 2, 3]
