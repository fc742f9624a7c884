"""The role `output`: what a mixer's recurrence gives before the gate, and the scores and methods that read it."""

import importlib
from typing import Any

import pytest
import torch
from cuts import Cuts, kept, pruned
from families import IMAGE, Part, make, prompt
from torch import Tensor

import deltaprune as dp
from deltaprune.inplace.target import Target
from deltaprune.methods import parse
from deltaprune.scores.clipped_output import ClippedOutput
from deltaprune.scores.output import OutputNorm
from deltaprune.steps import Score

pytestmark = pytest.mark.usefixtures("unchecked")
SCANS = {  # a family, its scan in transformers, and a layer that has one
    "qwen3_5": ("torch_chunk_gated_delta_rule", 1),
    "minicpmv4_6": ("torch_chunk_gated_delta_rule", 4),
    "llava+next": ("torch_chunk_gated_delta_rule", 1),
    "nemotron_h_omni": ("mamba2_chunk_scan", 2),
    "llava+bamba": ("mamba2_chunk_scan", 1),
    "llava+granite": ("mamba2_chunk_scan", 1),
    "llava+jamba": ("mamba_selective_scan", 1),
}
PAIR: tuple[tuple[Part, ...], ...] = ((5, (4, 4), 6, 7), (8, 9, (4, 4), 6, 7, 8, 9, 5))
family = pytest.mark.parametrize("name", SCANS)


def scanned(model: Any, name: str, inputs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """`(B, W, E)`: what the layer's scan gave in an unpruned prefill, without its gate."""
    function, l = SCANS[name]
    mixer = Target(model).mixers[l]
    module, caught = importlib.import_module(type(mixer).__module__), []
    inner = getattr(module, function)

    def spy(*args: Any, **kwargs: Any) -> Any:
        caught.append(inner(*args, **{**kwargs, "z": None} if "z" in kwargs else kwargs))
        return inner(*args, **kwargs)

    def clear(*_: Any) -> None:
        caught.clear()

    found: list[Any] = []
    handles = [mixer.register_forward_pre_hook(clear), mixer.register_forward_hook(lambda *_: found.extend(caught))]
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(module, function, spy)
        model(**inputs)
    for handle in handles:
        handle.remove()
    y = found[0][0] if isinstance(found[0], tuple) else found[0]
    return y.transpose(1, 2) if function == "mamba_selective_scan" else y.flatten(2)


@family
@pytest.mark.parametrize("score", [OutputNorm(), ClippedOutput()], ids=["output", "clipped_output"])
def test_kept_rows(name: str, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch with pads: the rows whose output is largest."""
    model, inputs, after = make(name), prompt(name, *PAIR), SCANS[name][1] + 1
    y = scanned(model, name, inputs, monkeypatch).double()
    loud = y.square().sum(-1) if isinstance(score, OutputNorm) else y.relu().sum(-1)
    _, logits, target = pruned(model, dp.DTP(keep=0.25, early=after, late=None, score=score), inputs)
    assert target.kept[0].read == after
    assert bool(torch.isfinite(logits).all())
    for b, ids in enumerate(inputs["input_ids"]):
        places = (ids == IMAGE).nonzero()[:, 0]
        best = places[loud[b, places].topk(len(places) // 4).indices].sort().values
        pads = int((inputs["attention_mask"][b] == 0).sum())
        assert kept(target, b, pads)[after] == best.tolist()


@pytest.mark.parametrize("name", ["qwen3_5", "llava+jamba"])
def test_a_stage_that_reads_it_later(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind an attention layer, and after a stage that took rows away."""
    model, inputs = make(name), prompt(name, PAIR[0])
    l = {"qwen3_5": 2, "llava+jamba": 1}[name]
    monkeypatch.setitem(SCANS, name, (SCANS[name][0], l))
    loud = scanned(model, name, inputs, monkeypatch)[0].norm(dim=-1)
    places = (inputs["input_ids"][0] == IMAGE).nonzero()[:, 0]
    best = places[loud[places].topk(8).indices].sort().values
    _, _, target = pruned(model, dp.DTP(keep=0.5, early=l + 2, late=None, score="output"), inputs)
    assert kept(target)[l + 2] == best.tolist()
    assert target.kept[0].read == l + 1


@family
def test_utrc(name: str) -> None:
    early = SCANS[name][1] + 1
    _, logits, target = pruned(make(name), parse(f"utrc:early={early},until={early + 2},every=1"), prompt(name, *PAIR))
    assert [stage.counts for stage in target.kept] == [(11, 11), (8, 8)]
    assert bool(torch.isfinite(logits).all())


def test_a_turn_of_a_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is the layer's own: what the first turn wrote is read in the second."""
    model = make("qwen3_5")
    whole, first = prompt("qwen3_5", (5, 6, 7, 8, (4, 4), 9, 10)), 4
    loud = scanned(model, "qwen3_5", whole, monkeypatch)[0].norm(dim=-1)
    places = (whole["input_ids"][0] == IMAGE).nonzero()[:, 0]
    best = places[loud[places].topk(8).indices].sort().values
    ones = torch.ones(1, first, dtype=torch.int64)
    with torch.no_grad():
        cache = model(input_ids=whole["input_ids"][:, :first], attention_mask=ones, use_cache=True).cache
        with dp.DTP(keep=0.5, early=2, late=None, score="output")(model) as target:
            rest = {**whole, "input_ids": whole["input_ids"][:, first:]}
            rest["mm_token_type_ids"] = whole["mm_token_type_ids"][:, first:]
            model(**rest, cache=cache)
    assert [i + first for i in target.kept[0].origin[0].tolist()] == best.tolist()


def test_where_rows_only_write_none_is_read() -> None:
    said = "needs output, which no layer before it provides"
    model = make("qwen3_5")
    with pytest.raises(dp.UserError, match=said), Cuts(((2, 0.5),), OutputNorm(), written=(0, 1))(model):
        pass
    for name in ("lfm2_vl", "qwen2_5_vl", "llava+llama"):
        with pytest.raises(dp.UserError, match=said), dp.DTP(score="output")(make(name)):
            pass


def test_a_kernel_that_tells_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.nemotron_h import modeling_nemotron_h

    model, inputs = make("nemotron_h_omni").train(), prompt("nemotron_h_omni", PAIR[0])

    def fused(projected: Tensor, *_: Any, outproj_weight: Tensor, **__: Any) -> Tensor:
        return projected.new_zeros(*projected.shape[:2], len(outproj_weight))

    monkeypatch.setattr(modeling_nemotron_h, "mamba2_split_conv1d_scan_combined", fused)
    said = "Layer 2 ran as one kernel that gives no output before the gate"
    with pytest.raises(dp.UserError, match=said), dp.DTP(early=3, late=None, score="output")(model), torch.no_grad():
        model(**inputs, use_cache=False)
