"""What every peer of `bench` promises: each engine of the registry, with each type of weights."""

import pytest
import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.mamba_lm import kept_in_float32
from deltaprune.cost.peers import Peer, check_peer, registry
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows

VOCABULARY = 61
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 0.05}


def random_lm(dtype: torch.dtype) -> MambaLM:
    torch.manual_seed(1)
    lm = MambaLM(MambaConfig(d_model=32, n_layers=3, vocab_size=VOCABULARY)).eval().requires_grad_(False)
    lm.reset_parameters()
    for name, weight in lm.named_parameters():
        if not kept_in_float32(name):
            weight.data = weight.data.to(dtype)
    return lm


def addresses(lm: MambaLM) -> list[int]:
    return [weight.data_ptr() for weight in lm.parameters()]


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("engine", registry.names())
def test_it_prefills_and_decodes_as_we_do(engine: str, dtype: torch.dtype) -> None:
    lm, x = random_lm(dtype), torch.randn(2, 40, 32)
    before = addresses(lm)
    found = registry[engine](lm)
    if not found:
        pytest.skip(f"{engine} is not installed or cannot run here")
    done = prefill(lm, Rows.pack([row[:0] for row in x], list(x)))
    logits = lm.logits(done.hidden)
    ids = logits.argmax(-1)
    expected, states = lm.step(ids, list(done.states))
    further, _ = lm.step(ids, states)
    for peer in found:
        assert isinstance(peer, Peer)
        assert peer.dtype == dtype
        assert check_peer(peer, x, logits) < CLOSE[dtype]
        _, state = peer.prefill(x)
        for ours in (expected, further):  # the state is advanced
            theirs = peer.decode(ids, state)[:, :VOCABULARY]
            assert theirs.dtype == torch.float32
            assert ((theirs - ours).norm() / ours.norm()).item() < CLOSE[dtype]
    assert addresses(lm) == before
    assert len({peer.name for peer in found}) == len(found)
