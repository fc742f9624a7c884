"""torch.autocast around the engine changes nothing: bit for bit the logits, the ids and what calibration reads."""

import pytest
import torch
from PIL import Image

import deltaprune as dp
from deltaprune.analysis.attention import attention
from deltaprune.analysis.scores import layer_scores
from deltaprune.calibrate.measure import measure
from deltaprune.checkpoints.folder import save_folder
from deltaprune.generate import stream
from deltaprune.kernels import without_autocast
from deltaprune.mllm.processor import Processor
from deltaprune.scores.redundancy import Redundancy

QUESTIONS = ["How many red circles are there?", "What?"]
METHODS = ["none", "dtp", "dtp:score=hidden_attention", "tome:early=1,until=3", "divprune"]
PICTURE = Image.radial_gradient("L").convert("RGB")
KINDS = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module", params=["float32", "bfloat16", "float16"])
def model(tiny, request, tmp_path_factory) -> tuple[dp.VLM, Processor]:
    folder = tmp_path_factory.mktemp("tiny")
    save_folder(folder, tiny[0].model, tiny[1].tokenizer)
    vlm, processor = dp.load(folder, dtype=request.param)
    for layer in vlm.model.lm.blocks:
        layer.mixer.out_proj.weight.mul_(0.05)  # quiet enough for float16
    return vlm, processor


def inputs(processor: Processor) -> dict:
    return processor(images=PICTURE, text=QUESTIONS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_answers_are_those_without(model, kind: torch.dtype, method: str) -> None:
    vlm, processor = model
    asked = inputs(processor)

    def answer() -> list[torch.Tensor]:
        prefilled = vlm.start(asked, method=method)
        prefix = vlm.encode_image(asked, method=method).prefilled
        logits, states = vlm.model.lm.step(torch.tensor([3, 4]), list(prefilled.states))
        ids = vlm.generate(**asked, method=method, max_new_tokens=4)
        whole = vlm.model.lm(torch.tensor([[3, 4, 5]]))
        return [
            vlm.see(asked),
            vlm.model.lm.logits(prefilled.hidden),
            logits,
            states[-1].ssm,
            ids,
            prefix.hidden,
            whole,
        ]

    plain = answer()
    with torch.autocast("cpu", dtype=kind):
        under = answer()
        assert torch.is_autocast_enabled("cpu")
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == kind  # it is on again
    for a, b in zip(plain, under, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_between_two_tokens_autocast_is_on(model) -> None:
    """Switched off within a step and not across `yield`: the caller's own arithmetic is the caller's."""
    vlm, processor = model
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in stream(vlm.model.lm, vlm.start(inputs(processor)), -1, 3):
            assert torch.is_autocast_enabled("cpu")


def test_what_is_measured_is_the_same(tiny) -> None:
    vlm, processor = tiny
    asked = inputs(processor)

    def measured() -> list[object]:
        curves = measure(vlm, [asked])
        seen = attention(vlm, processor(images=PICTURE, text="What?"), [2])[0]
        return [repr(curves), layer_scores(vlm, asked, Redundancy()).scores.tobytes(), repr(seen)]

    plain = measured()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert measured() == plain


def test_another_devices_autocast_is_left_alone(tiny) -> None:
    @without_autocast
    def door(model: torch.nn.Module) -> tuple[bool, bool]:
        return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")

    lm, before = tiny[0].model.lm, torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", True)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert door(lm) == (False, True)
            assert door(model=lm) == (False, True)
    finally:
        torch.set_autocast_enabled("cuda", before)
