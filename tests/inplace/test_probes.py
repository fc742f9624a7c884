"""What probes compute again is what the layer's own recurrence or attention is handed."""

import importlib
from typing import Any

import pytest
import torch
from families import FAMILIES, make, prompt
from torch import Tensor
from torch.nn.functional import normalize, softplus

from deltaprune.inplace.probes import Seen, mixer_of, registry
from deltaprune.inplace.target import Target

pytestmark = pytest.mark.usefixtures("unchecked")
PAIR = ((5, (4, 4), 6, 7), (8, 9, (4, 4), 6, 7, 8, 9, 5))


def handed(monkeypatch: pytest.MonkeyPatch, name: str, mixer: str, function: str) -> tuple[Any, Any, Any, Seen]:
    """(arguments, keywords) of a function of the modeling file, the mixer that called it, and what entered that."""
    model = make(name, "eager")
    target = Target(model)
    found = next(part for part in target.mixers if type(part).__name__ == mixer)
    module = importlib.import_module(type(found).__module__)
    calls, entered, inner = [], [], getattr(module, function)

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return inner(*args, **kwargs)

    def catch(part: Any, args: Any, kwargs: Any) -> None:
        calls.clear()
        entered.append((args[0] if args else kwargs["hidden_states"], kwargs))

    monkeypatch.setattr(module, function, spy)
    handle = found.register_forward_pre_hook(catch, with_kwargs=True)
    done = found.register_forward_hook(lambda *_: entered.append(list(calls)))
    inputs = prompt(name, *PAIR)
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    done.remove()
    (hidden, kwargs), recorded = entered
    args, keywords = recorded[0]
    return args, keywords, found, Seen(hidden, inputs["attention_mask"].bool(), kwargs.get("position_embeddings"))


def told(mixer: Any, seen: Seen, *needs: str) -> list[Tensor]:
    assert seen.valid is not None
    roles = registry[type(mixer).__name__]()(mixer, seen, frozenset(needs))
    return [roles[role][seen.valid] for role in needs]


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


DELTA_NETS = {
    "qwen3_5": "Qwen3_5GatedDeltaNet",
    "qwen3_5_moe": "Qwen3_5MoeGatedDeltaNet",
    "minicpmv4_6": "Qwen3_5GatedDeltaNet",
    "llava+next": "Qwen3NextGatedDeltaNet",
}


@pytest.mark.parametrize(("name", "kind"), DELTA_NETS.items())
def test_gated_delta_net(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    args, keywords, mixer, seen = handed(monkeypatch, name, kind, "torch_chunk_gated_delta_rule")
    query, key, value = args
    step, delta, keys, values = told(mixer, seen, "step", "delta", "key", "value")
    queries, decay, erase = told(mixer, seen, "query", "decay", "erase")
    close(queries, normalize(query, dim=-1)[seen.valid])
    close(decay, keywords["g"][seen.valid])
    close(erase, keywords["beta"][seen.valid])
    close(delta, keywords["beta"][seen.valid])
    close(step, keywords["beta"][seen.valid].mean(-1))
    close(keys, normalize(key, dim=-1).flatten(2)[seen.valid])
    close(values, value.flatten(2)[seen.valid])


MAMBA2 = {
    "nemotron_h_omni": "NemotronHMamba2Mixer",
    "llava+bamba": "BambaMixer",
    "llava+granite": "GraniteMoeHybridMambaLayer",
}


def test_mamba1(monkeypatch: pytest.MonkeyPatch) -> None:
    args, keywords, mixer, seen = handed(monkeypatch, "llava+jamba", "JambaMambaMixer", "mamba_selective_scan")
    u, dt, A, B, C = args
    assert seen.valid is not None
    step, delta, keys, values, queries = told(mixer, seen, "step", "delta", "key", "value", "query")
    dt = softplus(dt + keywords["delta_bias"][:, None])
    for got, wanted in ((delta, dt), (step[:, None], dt.mean(1, keepdim=True)), (keys, B), (values, u), (queries, C)):
        close(got, wanted.transpose(1, 2)[seen.valid])
    close(registry["JambaMambaMixer"]()(mixer, seen, frozenset({"decay"}))["decay"], A)


@pytest.mark.parametrize(("name", "kind"), MAMBA2.items())
def test_mamba2(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    args, keywords, mixer, seen = handed(monkeypatch, name, kind, "mamba2_chunk_scan")
    x, dt, A, B, C = args
    step, delta, keys, values = told(mixer, seen, "step", "delta", "key", "value")
    queries, decay = told(mixer, seen, "query", "decay")
    dt = softplus(dt + keywords["dt_bias"]).clamp(*keywords["dt_limit"])
    close(delta, dt[seen.valid])
    close(queries, C[seen.valid])
    close(decay, (dt * A)[seen.valid])
    close(step, dt[seen.valid].mean(-1))
    close(keys, B.flatten(2)[seen.valid])
    close(values, x.flatten(2)[seen.valid])


def test_short_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    args, _, mixer, seen = handed(monkeypatch, "lfm2_vl", "Lfm2ShortConv", "causal_conv1d_fn")
    keys, values = told(mixer, seen, "key", "value")
    close(keys * values, args[0].transpose(1, 2)[seen.valid])


ATTENTION = {
    "qwen3_5": "Qwen3_5Attention",
    "qwen3_5_moe": "Qwen3_5MoeAttention",
    "nemotron_h_omni": "NemotronHAttention",
    "lfm2_vl": "Lfm2Attention",
    "qwen2_5_vl": "Qwen2_5_VLAttention",
    "qwen3_vl": "Qwen3VLTextAttention",
    "internvl": "Qwen2Attention",
    "smolvlm": "LlamaAttention",
    "llava+jamba": "JambaAttention",
    "llava+bamba": "BambaAttention",
    "llava+granite": "GraniteMoeHybridAttention",
    "llava+next": "Qwen3NextAttention",
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    args, keywords, mixer, seen = handed(monkeypatch, name, ATTENTION[name], "eager_attention_forward")
    _, query, key, value, mask = args
    keys, values, attention = told(mixer, seen, "key", "value", "attention")
    close(keys, key.transpose(1, 2).flatten(2)[seen.valid])
    close(values, value.transpose(1, 2).flatten(2)[seen.valid])
    groups = query.shape[1] // key.shape[1]
    logits = query @ key.repeat_interleave(groups, 1).transpose(-1, -2) * keywords["scaling"] + mask
    close(attention, logits.softmax(-1)[:, :, -1].mean(1)[seen.valid])


def test_every_probe_is_tried() -> None:
    tried = {*ATTENTION.values(), *DELTA_NETS.values(), *MAMBA2.values(), "JambaMambaMixer"}
    assert set(registry.names()) - tried == {"Lfm2ShortConv", "NemotronHMoE", "NemotronHMLP"}


def test_every_layer_has_a_mixer() -> None:
    for name in FAMILIES:
        target = Target(make(name))
        assert all(mixer_of(layer) is not None for layer in target.layers)


@pytest.mark.parametrize("n_layers", [8, 32, 52, 64])
def test_the_plan_is_at_the_papers_shares(n_layers: int) -> None:
    from deltaprune.inplace.target import plan_by_depth

    plan = plan_by_depth(n_layers)
    assert (plan.early, plan.late) == {8: (2, 6), 32: (8, 22), 52: (12, 37), 64: (15, 45)}[n_layers]
    assert "not calibrated" in plan.source["rule"]
