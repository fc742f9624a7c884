"""From layer k on, VTW is the text-only model, fed with what the text rows are when they enter layer k."""

import pytest
import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.methods.vtw import VTW
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.steps import Shape

LAYERS, VISUAL, TEXT = 6, 17, 5


@pytest.mark.parametrize("k", range(LAYERS))
def test_it_is_the_text_only_model_from_layer_k_on(k: int) -> None:
    torch.manual_seed(0)
    lm = MambaLM(MambaConfig(d_model=32, n_layers=LAYERS, vocab_size=64, d_state=8)).eval().requires_grad_(False)
    lm.reset_parameters()
    tokens = Rows.pack([torch.randn(VISUAL, 32)], [torch.randn(TEXT, 32)])
    pruned = prefill(lm, tokens, VTW(k).checked_steps(Shape(LAYERS, VISUAL)))

    rows = tokens
    for l, layer in enumerate(lm.blocks):
        if l == k:
            rows = Rows.pack([rows.x[:0]], [rows.x[VISUAL:]])
        rows, state, _ = layer.prefill(rows)
        for name, tensor in state.tensors().items():
            torch.testing.assert_close(pruned.states[l].tensors()[name], tensor, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(pruned.hidden[0], rows.x[-1], atol=1e-6, rtol=1e-5)
    assert pruned.tokens.n_visual == (0,)
    assert pruned.tokens.origin.tolist() == list(range(VISUAL, VISUAL + TEXT))
