"""Calibration of a model of transformers' own, against curves computed another way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import deltaprune as dp
from deltaprune.calibrate.hosted import HostedCurves, hosted_curves, hosted_plan, std_by_layer

pytestmark = pytest.mark.usefixtures("unchecked")
Folder = Callable[[str], Path]


def opened(folder: Folder, name: str, scene: Path) -> tuple[Any, Any]:
    vlm, processor = dp.load(folder(name))
    return vlm, processor(images=Image.open(scene), text="How many circles are there?")


def test_the_spread_is_that_of_the_write_gate(folder: Folder, scene: Path) -> None:
    vlm, inputs = opened(folder, "qwen3_5", scene)
    visual, wanted = inputs["input_ids"][0] == vlm.model.config.image_token_id, {}
    layers = vlm.model.model.language_model.layers

    def gate(l: int) -> Any:
        def hook(module: Any, args: Any, output: torch.Tensor) -> None:
            wanted.setdefault(l, output.sigmoid()[0].mean(-1)[visual].double().std(correction=0).item())

        return hook

    for l, layer in enumerate(layers):
        if l % 4 != 3:
            layer.linear_attn.in_proj_b.register_forward_hook(gate(l))
    with torch.no_grad():
        vlm.model(**inputs)
    assert std_by_layer(vlm, inputs) == pytest.approx(wanted)


def test_kl_and_js_are_those_of_pruned_runs(folder: Folder, scene: Path) -> None:
    vlm, inputs = opened(folder, "qwen3_vl", scene)
    curves = hosted_curves(vlm, [inputs], with_js=True)
    assert curves.score == "last_attention"
    assert list(curves.std) == list(range(6))

    def p(method: str | None) -> torch.Tensor:
        return vlm.start(inputs, method).logits.double().softmax(-1)[0]

    unpruned = p(None)
    for k in range(6):
        gone = p(f"vtw:after={k}")
        assert curves.kl[k] == pytest.approx(float((gone * (gone / unpruned).log()).sum()), rel=1e-6, abs=1e-12)
    half = p("dtp:keep=0.5,early=1,late=none,score=last_attention")
    middle = (half + unpruned) / 2
    js = ((half * (half / middle).log()).sum() + (unpruned * (unpruned / middle).log()).sum()) / 2
    assert curves.js[1] == pytest.approx(float(js), rel=1e-6)


def test_rules_read_the_layers_that_tell() -> None:
    std: dict[int, float] = dict(zip((0, 1, 2, 4, 5, 6, 8, 9), (1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 9.0), strict=True))
    curves = HostedCurves("delta", std, (1.0, 0.5, 0.001) + (0.0,) * 8, {1: 0.5, 2: 0.1, 3: 0.2}, 4)
    plan = hosted_plan(curves, 11, where={"benchmark": "scenes"})
    assert (plan.early, plan.late, plan.withdrawal) == (3, 9, 2)
    assert "of the 8 layers that tell the score; that is layer 2 of all" in plan.source["early"]
    assert (plan.source["benchmark"], plan.source["layers"]) == ("scenes", [0, 1, 2, 4, 5, 6, 8, 9])
    assert hosted_plan(curves, 11, "js").early == 2
    with pytest.raises(dp.UserError, match="at least 4 layers that tell delta, and this model has 2"):
        hosted_plan(HostedCurves("delta", {2: 1.0, 5: 2.0}, (0.0,), {}, 1), 6)
    with pytest.raises(dp.UserError, match="needs pruned runs"):
        hosted_plan(HostedCurves("delta", std, (0.0,), {}, 1), 11, "js")


def test_samples_have_images(folder: Folder) -> None:
    vlm, processor = dp.load(folder("qwen3_5"))
    with pytest.raises(dp.UserError, match="each with an image"):
        hosted_curves(vlm, [processor(text="Why?")])  # pyright: ignore[reportArgumentType]
    with pytest.raises(dp.UserError, match="nothing to calibrate on"):
        hosted_curves(vlm, [])  # pyright: ignore[reportArgumentType]
