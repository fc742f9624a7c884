"""Peers with compiled kernels bear a name only when those kernels ran; stand-ins for the packages take their place."""

import sys
from dataclasses import replace
from importlib import import_module
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.mamba_lm import kept_in_float32
from deltaprune.cost.peers import Peer, check_peer
from deltaprune.cost.peers._compiled import ran_in
from deltaprune.mllm.lm import Backbone, MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows

MAMBA_SSM, TRANSFORMERS = (import_module(f"deltaprune.cost.peers.{name}") for name in ("mamba_ssm", "transformers"))
CONFIG = MambaConfig(d_model=32, n_layers=3, vocab_size=61)
GPU = torch.device("cuda")


def module(monkeypatch, name: str, **members: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.fixture
def kernels(monkeypatch) -> dict:
    """Both packages' extension modules: what a prefill calls of them is what ran."""
    scan = module(monkeypatch, "selective_scan_cuda", fwd=lambda x: x + 1)
    conv = module(monkeypatch, "causal_conv1d_cuda", causal_conv1d_fwd=lambda x: x + 2)
    return {"mamba_ssm": lambda: scan.fwd(1), "causal_conv1d": lambda: conv.causal_conv1d_fwd(1)}


def model(dtype: torch.dtype = torch.float32) -> MambaLM:
    torch.manual_seed(1)
    lm = MambaLM(CONFIG).eval().requires_grad_(False)
    lm.reset_parameters()
    for name, weight in lm.named_parameters():
        weight.data = weight.data.to(torch.float32 if kept_in_float32(name) else dtype)
    return lm


def calling(*calls) -> Peer:
    """A peer whose prefill calls some kernels and nothing else."""
    return Peer("transformers", torch.float32, lambda x: [call() for call in calls], lambda *a: a, lambda x: x)


def test_what_ran_is_seen_and_the_kernels_are_put_back(kernels):
    before = sys.modules["selective_scan_cuda"].fwd
    assert ran_in(lambda: None) == []
    assert ran_in(kernels["causal_conv1d"]) == ["causal_conv1d"]
    assert ran_in(lambda: [call() for call in kernels.values()]) == ["mamba_ssm", "causal_conv1d"]
    with pytest.raises(ZeroDivisionError):
        ran_in(lambda: kernels["mamba_ssm"]() / 0)
    assert sys.modules["selective_scan_cuda"].fwd is before
    assert kernels["mamba_ssm"]() == 2


def test_without_the_packages_nothing_ran(monkeypatch):
    monkeypatch.delitem(sys.modules, "selective_scan_cuda", raising=False)
    assert ran_in(lambda: None) == []


@pytest.mark.parametrize(
    ("ran", "name"),
    [
        ((), "transformers"),
        (("causal_conv1d",), "transformers+causal_conv1d"),
        (("causal_conv1d", "mamba_ssm"), "transformers+mamba_ssm+causal_conv1d"),
    ],
)
def test_transformers_is_named_by_what_ran(kernels, monkeypatch, ran, name):
    monkeypatch.setattr(TRANSFORMERS, "installed", lambda package: package == "transformers")
    monkeypatch.setattr(TRANSFORMERS, "_peer", lambda *given, **more: calling(*(kernels[r] for r in ran)))
    assert [peer.name for peer in TRANSFORMERS.transformers(model())] == [name]


@pytest.mark.parametrize("package", ["mamba_ssm", "causal_conv1d"])
def test_transformers_is_no_peer_on_a_cpu_where_it_would_call_cuda_kernels(monkeypatch, package):
    monkeypatch.setattr(TRANSFORMERS, "installed", lambda name: name in ("transformers", package))
    assert TRANSFORMERS.transformers(model()) == []


def test_mamba_ssm_is_a_peer_only_when_both_kernels_ran(kernels, monkeypatch, caplog):
    monkeypatch.setattr(MAMBA_SSM, "missing", lambda device: None)
    monkeypatch.setattr(MAMBA_SSM, "installed", lambda package: True)
    peer = calling(*kernels.values())
    monkeypatch.setattr(MAMBA_SSM, "_peer", lambda lm: peer)
    assert MAMBA_SSM.mamba_ssm(model()) == [peer]
    assert not caplog.records
    monkeypatch.setattr(MAMBA_SSM, "_peer", lambda lm: calling(kernels["mamba_ssm"]))
    assert MAMBA_SSM.mamba_ssm(model()) == []
    assert "left out: the compiled kernel of causal_conv1d did not run" in caplog.text


def test_why_mamba_ssm_is_missing(monkeypatch):
    interface = "mamba_ssm.ops.selective_scan_interface"
    monkeypatch.setattr(MAMBA_SSM, "installed", lambda package: False)
    assert MAMBA_SSM.missing(GPU) == "mamba_ssm is not installed"
    monkeypatch.setattr(MAMBA_SSM, "installed", lambda package: True)
    assert MAMBA_SSM.missing(torch.device("cpu")) == "mamba_ssm's kernels need a GPU"
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    assert MAMBA_SSM.missing(GPU).startswith("mamba_ssm cannot be imported (ModuleNotFoundError")
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        module(monkeypatch, name)
    module(monkeypatch, interface, selective_scan_cuda=None)
    assert "without its CUDA scan" in MAMBA_SSM.missing(GPU)
    module(monkeypatch, interface, selective_scan_cuda=object())
    assert MAMBA_SSM.missing(GPU) is None


class MixerModel(nn.Module):
    """mamba_ssm's class as far as a peer uses it: its tensors' names and its call, around our own layers."""

    def __init__(self, d_model, n_layer, vocab_size, norm_epsilon, ssm_cfg, **rest):
        super().__init__()
        assert rest == {"d_intermediate": 0, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True}
        assert ssm_cfg == {"d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": 2}
        self.config = replace(CONFIG, d_model=d_model, n_layers=n_layer, norm_eps=norm_epsilon)
        built = Backbone(self.config)
        self.embedding, self.layers, self.norm_f = built.embedding, built.layers, built.norm_f

    def forward(self, rows, inference_params):
        x, memory = self.embedding(rows), inference_params.key_value_memory_dict
        if inference_params.seqlen_offset == 0:
            assert (inference_params.max_batch_size, inference_params.max_seqlen) == x.shape[:2]
            flat = Rows.pack([text[:0] for text in x.float()], list(x.float()))
            for index, layer in enumerate(self.layers):
                flat, memory[index], _ = layer.prefill(flat)
            x = flat.x.unflatten(0, x.shape[:2])
        else:
            assert x.shape[1] == 1
            x = x[:, 0].float()
            for index, layer in enumerate(self.layers):
                x, memory[index] = layer.step(x, memory[index])
            x = x[:, None]
        return self.norm_f(x.to(self.norm_f.weight.dtype)).to(rows.dtype)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_mamba_ssm_has_our_tensors_and_prefills_and_decodes_with_them(monkeypatch, dtype, close):
    def params(max_seqlen, max_batch_size):
        return SimpleNamespace(
            max_seqlen=max_seqlen, max_batch_size=max_batch_size, seqlen_offset=0, key_value_memory_dict={}
        )

    for name in ("mamba_ssm", "mamba_ssm.models", "mamba_ssm.utils"):
        module(monkeypatch, name)
    module(monkeypatch, "mamba_ssm.models.mixer_seq_simple", MixerModel=MixerModel)
    module(monkeypatch, "mamba_ssm.utils.generation", InferenceParams=params)
    lm, x = model(dtype), torch.randn(2, 9, 32)
    theirs = dict(MAMBA_SSM.shared(lm).named_parameters())
    for name, weight in lm.backbone.named_parameters():
        if name == "embedding.weight":
            assert name not in theirs
        elif not kept_in_float32(name) or name.endswith((".A_log", ".D")):
            assert theirs[name].data_ptr() == weight.data_ptr()
        else:
            assert theirs[name].dtype == dtype

    peer, done = MAMBA_SSM._peer(lm), prefill(lm, Rows.pack([row[:0] for row in x], list(x)))
    logits = lm.logits(done.hidden)
    assert check_peer(peer, x, logits) < close
    ids = logits.argmax(-1)
    decoded, expected = peer.decode(ids, peer.prefill(x)[1])[:, :61], lm.step(ids, list(done.states))[0]
    assert ((decoded - expected).norm() / expected.norm()).item() < close
