"""Movement of rows, against the hidden states that prefills of the first layers end with."""

import pytest
import torch

from deltaprune.analysis import movement
from deltaprune.benchmarks.scenes import Scene
from deltaprune.errors import UserError


def test_it_is_the_difference_of_what_enters_and_leaves(tiny) -> None:
    vlm, processor = tiny
    batches = [processor(images=Scene.from_seed(seed).image, text="Is there a red star?") for seed in (3, 4)]
    found = movement(vlm, batches)
    assert found.samples == 2
    for l in range(vlm.config.lm.n_layers):
        visual, text = [], []
        for batch in batches:
            rows = vlm.pack(batch)
            entering = torch.clone(rows.x)
            with torch.no_grad():
                for block in vlm.model.lm.blocks[: l + 1]:
                    entering = torch.clone(rows.x)
                    rows, _, _ = block.prefill(rows, None, frozenset())
            moved = [float((b - a).norm() / a.norm()) for a, b in zip(entering, rows.x, strict=True)]
            n = rows.n_visual[0]
            visual.append(sum(moved[:n]) / n)
            text.append(sum(moved[n:]) / len(moved[n:]))
        assert found.visual[l] == pytest.approx(sum(visual) / 2, rel=1e-4)
        assert found.text[l] == pytest.approx(sum(text) / 2, rel=1e-4)


def test_nothing_to_measure(tiny) -> None:
    with pytest.raises(UserError, match="There is nothing to measure"):
        movement(tiny[0], [])
