"""The memory that layers use in turn: shared only within `reuse`, by name and type, and never by two at once."""

import threading

import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.kernels import empty, reuse
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows


def test_without_reuse_every_tensor_is_new() -> None:
    a, b = (empty("a", (3, 4), torch.float32) for _ in range(2))
    assert a.shape == (3, 4)
    assert a.data_ptr() != b.data_ptr()


def test_within_reuse_a_name_has_one_block() -> None:
    with reuse():
        a = empty("a", (4, 5), torch.float32)
        smaller = empty("a", (2, 5), torch.float32)
        assert a.data_ptr() == smaller.data_ptr()
        assert smaller.is_contiguous()
        others = [empty("b", (4, 5), torch.float32), empty("a", (4, 5), torch.bfloat16)]
        assert len({a.data_ptr(), *(other.data_ptr() for other in others)}) == 3
        assert empty("a", (40, 5), torch.float32).data_ptr() != a.data_ptr()
    assert empty("a", (4, 5), torch.float32).data_ptr() != smaller.data_ptr()


def test_threads_share_nothing() -> None:
    seen = []
    with reuse():
        mine = empty("a", (4,), torch.float32)
        thread = threading.Thread(target=lambda: seen.append(empty("a", (4,), torch.float32)))
        thread.start()
        thread.join()
    assert seen[0].data_ptr() != mine.data_ptr()


def test_a_result_outlives_the_next_prefill() -> None:
    """What a prefill gives out is not overwritten by another one, and layers alone equal the loop bit for bit."""
    torch.manual_seed(0)
    lm = MambaLM(MambaConfig(d_model=32, n_layers=3, vocab_size=50)).requires_grad_(False)
    lm.reset_parameters()
    first, second = (Rows.pack([torch.randn(5, 32)], [torch.randn(4, 32)]) for _ in range(2))
    prefill(lm, second)  # a process' very first products may round differently by one bit
    done = prefill(lm, first)
    copies = [done.hidden.clone(), done.tokens.x.clone(), done.states[1].ssm.clone(), done.states[1].conv.clone()]
    prefill(lm, second)
    rows = first
    with torch.no_grad():
        for layer in lm.blocks:
            rows, _, _ = layer.prefill(rows)
    assert torch.equal(done.tokens.x, rows.x)
    now = [done.hidden, done.tokens.x, done.states[1].ssm, done.states[1].conv]
    assert all(torch.equal(a, b) for a, b in zip(copies, now, strict=True))
