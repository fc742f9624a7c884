"""`runs/gpu_peers.py`: a peer's figure stands beside ours of the same run, and only after the two agreed."""

import re
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

import gpu_peers
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cost.peers import Peer, PeerDisagrees
from deltaprune.kernels import selective_scan
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from gpu_checks import random_lm
from gpu_tables import Row

CPU, CONFIG = torch.device("cpu"), MambaConfig(d_model=32, n_layers=2, vocab_size=64)


@pytest.fixture
def lm(monkeypatch):
    monkeypatch.setattr(gpu_peers, "milliseconds", lambda *given, **more: 2.0)
    return random_lm(CONFIG, CPU, torch.float32)


def same(lm, name: str = "mamba_ssm") -> Peer:
    """A peer that is ourselves."""

    def run(x):
        return prefill(lm, Rows.pack([row[:0] for row in x], list(x))).hidden, None

    return Peer(name, torch.float32, run, lambda *given: None, lm.logits)


def test_a_peer_has_a_row_with_our_share_of_its_time(lm, monkeypatch):
    monkeypatch.setattr(gpu_peers, "peers", lambda lm: [same(lm), same(lm, "transformers")])
    monkeypatch.setattr(gpu_peers, "shared", lambda lm: lambda x: same(lm).prefill(x)[0][:, None])
    rows = list(gpu_peers.others(lm, 6, rounds=1))
    note, names = "unpruned, the same weights; ours takes 1.000 of its time", ("mamba_ssm", "transformers")
    assert rows == [Row("prefill", name, 6, 2.0, None, note) for name in (*names, "mamba_ssm, no states kept")]


def test_a_peer_that_disagrees_has_no_row(lm, monkeypatch):
    wrong = replace(same(lm), logits=lambda hidden: lm.logits(hidden).flip(-1))
    monkeypatch.setattr(gpu_peers, "peers", lambda lm: [replace(wrong, name="transformers")])
    with pytest.raises(PeerDisagrees):
        next(gpu_peers.others(lm, 6, rounds=1))


def test_mamba_ssm_brought_along_in_vain_is_an_error(lm, monkeypatch):
    monkeypatch.setattr(gpu_peers, "find_spec", lambda name: name)
    monkeypatch.setattr(gpu_peers, "missing", lambda device: "mamba_ssm cannot be imported (no cubin)")
    gpu_peers.told(torch.device("cuda"), [same(lm)])
    with pytest.raises(RuntimeError, match=re.escape("was not measured: mamba_ssm cannot be imported (no cubin)")):
        gpu_peers.told(torch.device("cuda"), [same(lm, "transformers")])
    monkeypatch.setattr(gpu_peers, "find_spec", lambda name: None)
    gpu_peers.told(torch.device("cuda"), [])


def reference(t: dict) -> object:
    """The scan of what was drawn, where there is no GPU."""
    names = ("u", "dt", "A", "B", "C", "D", "z", "bias", "bounds")
    return selective_scan(*(t[name] for name in names), backend="reference")


def test_their_scan_is_timed_only_when_it_is_ours(lm, monkeypatch):
    config, off = replace(CONFIG, d_model=8), [0.0]

    def fn(u, dt, A, B, C, D, z, bias, delta_softplus, return_last_state):
        assert u.shape == dt.shape == z.shape == (1, 16, 5)
        assert B.shape == C.shape == (1, 16, 5)
        own = {name: value[0].T for name, value in {"u": u, "dt": dt, "B": B, "C": C, "z": z}.items()}
        bounds = torch.tensor([0, 5], dtype=torch.int32)
        done = reference({**own, "A": A, "D": D, "bias": bias, "bounds": bounds})
        return done.out.T[None] + off[0], done.state

    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = fn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.setattr(gpu_peers, "scanned", reference)
    monkeypatch.setattr(gpu_peers, "missing", lambda device: "there is no GPU")
    assert list(gpu_peers.other_scans(config, CPU, [5], 1)) == []
    monkeypatch.setattr(gpu_peers, "missing", lambda device: None)
    (row,) = gpu_peers.other_scans(config, CPU, [5], 1)
    assert (row.name, row.ms) == ("mamba_ssm selective_scan_fn", 2.0)
    for wrong in (0.5, float("nan")):
        off[0] = wrong
        with pytest.raises(ArithmeticError, match="apart: no time was taken"):
            next(gpu_peers.other_scans(config, CPU, [5], 1))
