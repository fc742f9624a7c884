"""Our Mamba LM against transformers' `MambaForCausalLM` with the same random tensors."""

import pytest
import torch
from transformers import MambaConfig as TheirConfig
from transformers import MambaForCausalLM
from transformers.models.mamba.modeling_mamba import MambaOutput

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows

STATE = "cache" if "cache" in MambaOutput.__dataclass_fields__ else "cache_params"  # since transformers 5.24: cache
VOCAB = 101  # odd: the embedding is padded to 104 rows, theirs is built as wide as ours


def both(seed: int, d_model: int = 48, n_layers: int = 5) -> tuple[MambaLM, MambaForCausalLM]:
    """The two models with the same tensors, drawn at random and not left at their tidy initial values."""
    torch.manual_seed(seed)
    config = MambaConfig(d_model=d_model, n_layers=n_layers, vocab_size=VOCAB, d_state=8)
    theirs = MambaForCausalLM(
        TheirConfig(
            hidden_size=d_model,
            num_hidden_layers=n_layers,
            vocab_size=config.padded_vocab,
            state_size=config.d_state,
            conv_kernel=config.d_conv,
            expand=config.expand,
            time_step_rank=config.rank,
            layer_norm_epsilon=config.norm_eps,
            use_conv_bias=True,
            use_bias=False,
            tie_word_embeddings=True,
            pad_token_id=0,
        )
    ).eval()
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if not name.endswith("A_log"):
                p.add_(torch.randn_like(p) * (0.1 if p.ndim == 1 else 0.05))
    ours = MambaLM(config)
    tensors = {k.replace("embeddings.", "embedding."): v for k, v in theirs.state_dict().items() if "lm_head" not in k}
    ours.load_state_dict(tensors, strict=True)
    return ours.eval(), theirs


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("length", [1, 2, 3, 63, 257])
def test_logits_of_every_position(length: int) -> None:
    ours, theirs = both(length)
    ids = torch.randint(0, VOCAB, (2, length))
    with torch.no_grad():
        expected = theirs(ids).logits[..., :VOCAB]
    assert relative(ours(ids), expected) <= 1e-5


def test_decoding_from_the_cache() -> None:
    ours, theirs = both(0)
    ids = torch.randint(1, VOCAB, (1, 33))
    with torch.no_grad():
        out = theirs(ids, use_cache=True)
        state = prefill(ours, Rows.pack([ours.embed(ids[0])[:0]], [ours.embed(ids[0])]))
        logits, states = ours.logits(state.hidden), list(state.states)
        cache = out[STATE]
        expected = out.logits[:, -1, :VOCAB]
        for _ in range(16):
            assert relative(logits, expected) <= 1e-5
            token = expected.argmax(-1)
            logits, states = ours.step(token, states)
            out = theirs(token[:, None], use_cache=True, **{STATE: cache})
            cache, expected = out[STATE], out.logits[:, -1, :VOCAB]


def test_bfloat16_stays_within_its_own_rounding() -> None:
    """bf16 products, float32 everything else: 3 % of the largest logit on five random layers."""
    ours, _ = both(3)
    ids = torch.randint(0, VOCAB, (1, 65))
    exact = ours(ids)
    assert relative(ours.to(torch.bfloat16)(ids), exact) <= 0.03
