"""Which peers are found, that they have our tensors and not copies, and that one of other weights is refused.

What each of them computes is in `tests/contract/test_bench_peers.py`.
"""

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


@pytest.mark.parametrize(
    ("dtype", "names"),
    [(torch.float32, ["transformers", "transformers+mambapy"]), (torch.bfloat16, ["transformers"])],
)
def test_the_installed_peers_are_found(dtype: torch.dtype, names: list[str]) -> None:
    pytest.importorskip("mambapy")
    assert set(names) <= {peer.name for peer in peers(model(dtype))}


def test_the_large_tensors_are_shared() -> None:
    from deltaprune.cost.peers.transformers import _shared

    lm = model(torch.bfloat16)
    theirs = dict(_shared(lm, use_mambapy=False).named_parameters())
    for name, weight in lm.named_parameters():
        if not kept_in_float32(name):
            assert theirs[name.replace("embedding.", "embeddings.")].data_ptr() == weight.data_ptr()


def test_a_peer_of_other_weights_is_refused() -> None:
    lm, x = model(torch.float32), torch.randn(1, 9, 32)
    done = prefill(lm, Rows.pack([row[:0] for row in x], list(x)))
    peer: Peer = next(peer for peer in peers(lm) if peer.name == "transformers")
    other = replace(peer, logits=lambda hidden: peer.logits(hidden).flip(-1))
    with pytest.raises(PeerDisagrees, match=r"transformers and this library disagree .* apart"):
        check_peer(other, x, lm.logits(done.hidden))
