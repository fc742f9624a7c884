"""A peer has our tensors, not copies, gives our logits, and is refused when it gives others."""

from dataclasses import replace

import pytest
import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.mamba_lm import kept_in_float32
from deltaprune.cost.peers import Peer, PeerDisagrees, check_peer, peers
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows


def model(dtype: torch.dtype) -> MambaLM:
    torch.manual_seed(1)
    lm = MambaLM(MambaConfig(d_model=32, n_layers=3, vocab_size=61)).eval().requires_grad_(False)
    lm.reset_parameters()
    for name, weight in lm.named_parameters():
        if not kept_in_float32(name):
            weight.data = weight.data.to(dtype)
    return lm


def ours(lm: MambaLM, x: torch.Tensor) -> tuple[torch.Tensor, list]:
    done = prefill(lm, Rows.pack([row[:0] for row in x], list(x)))
    return lm.logits(done.hidden), list(done.states)


@pytest.mark.parametrize(
    ("dtype", "names"),
    [(torch.float32, ["transformers", "transformers+mambapy"]), (torch.bfloat16, ["transformers"])],
)
def test_the_installed_peers_agree_and_decode_alike(dtype: torch.dtype, names: list[str]) -> None:
    pytest.importorskip("mambapy")
    lm, x = model(dtype), torch.randn(2, 40, 32)
    logits, states = ours(lm, x)
    close = 1e-5 if dtype == torch.float32 else 0.05
    found = peers(lm)
    assert [peer.name for peer in found] == names
    for peer in found:
        assert check_peer(peer, x, logits) < close
        ids = logits.argmax(-1)
        decoded = peer.decode(ids, peer.prefill(x)[1])[:, :61]
        expected, _ = lm.step(ids, states)
        assert ((decoded - expected).norm() / expected.norm()).item() < close


def test_the_large_tensors_are_shared() -> None:
    from deltaprune.cost.peers.transformers import _shared

    lm = model(torch.bfloat16)
    theirs = dict(_shared(lm, use_mambapy=False).named_parameters())
    for name, weight in lm.named_parameters():
        if not kept_in_float32(name):
            assert theirs[name.replace("embedding.", "embeddings.")].data_ptr() == weight.data_ptr()


def test_a_peer_of_other_weights_is_refused() -> None:
    lm, x = model(torch.float32), torch.randn(1, 9, 32)
    peer: Peer = next(iter(peers(lm)))
    other = replace(peer, logits=lambda hidden: peer.logits(hidden).flip(-1))
    with pytest.raises(PeerDisagrees, match=r"transformers and this library disagree .* apart"):
        check_peer(other, x, ours(lm, x)[0])
