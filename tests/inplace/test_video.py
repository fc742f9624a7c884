"""Frames of a video are visual tokens as pictures are: kept rows, tokens and logits against a written-out run."""

from collections.abc import Callable

import cuts
import pytest
import torch
import written_out
from cuts import Cuts, pruned
from families import CLOSE, IMAGE, OPEN, make, noise
from test_families import same
from torch import Tensor

pytestmark = pytest.mark.usefixtures("unchecked")
VIDEO = 121  # its token's id


def ids(*parts: int | list[int]) -> dict[str, Tensor]:
    row = torch.tensor([[token for part in parts for token in (part if isinstance(part, list) else [part])]])
    return {"input_ids": row, "attention_mask": torch.ones_like(row)}


def framed() -> dict[str, Tensor]:
    """Qwen3: two frames of 2 x 4 tokens, each between its own marks, with text before it."""
    frame = [OPEN, *[VIDEO] * 8, CLOSE]
    prompt = ids(5, 6, frame, 7, 8, frame, 9, 10, 11)
    pixels = {"pixel_values_videos": noise(64, 96, seed=0), "video_grid_thw": torch.tensor([[2, 4, 8]])}
    return {**prompt, **pixels, "mm_token_type_ids": 2 * (prompt["input_ids"] == VIDEO).long()}


def in_one() -> dict[str, Tensor]:
    """Qwen2.5: all frames between two marks."""
    prompt = ids(5, 6, [OPEN, *[VIDEO] * 16, CLOSE], 9, 10, 11)
    pixels = {"pixel_values_videos": noise(64, 96, seed=0), "video_grid_thw": torch.tensor([[2, 4, 8]])}
    return {**prompt, **pixels, "mm_token_type_ids": 2 * (prompt["input_ids"] == VIDEO).long()}


def pooled() -> dict[str, Tensor]:
    """LLaVA-OneVision: each of three frames in 2 x 2 tokens, then a new line."""
    return {**ids(5, 6, [VIDEO] * 13, 9, 10, 11), "pixel_values_videos": noise(1, 3, 3, 16, 16, seed=0)}


def tubelets() -> dict[str, Tensor]:
    """Nemotron-H Omni: two frames in a tubelet, two of these in 16 tokens each, whose id is that of a picture's."""
    tube = [IMAGE] * 16
    return {**ids(5, 6, tube, 7, 8, tube, 9, 10, 11), "pixel_values_videos": noise(1, 2, 6, 32, 32, seed=0)}


def sliced() -> dict[str, Tensor]:
    """MiniCPM-V: two frames of 8 x 8 patches in 4 tokens each."""
    prompt = ids(5, 6, [OPEN, *[VIDEO] * 16, CLOSE], 7, [OPEN, *[VIDEO] * 16, CLOSE], 9, 10, 11)
    sizes = torch.tensor([[16, 16], [16, 16]])
    return {**prompt, "pixel_values_videos": noise(1, 3, 4, 2048, seed=0), "target_sizes_videos": sizes}


CLIPS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "qwen3_5": framed,
    "qwen3_5_moe": framed,
    "qwen3_vl": framed,
    "qwen2_5_vl": in_one,
    "llava_onevision": pooled,
    "nemotron_h_omni": tubelets,
    "minicpmv4_6": sliced,
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("skipped", [(), (1, 3)], ids=["stages", "stages_and_passes"])
def test_frames(name: str, skipped: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make(name), CLIPS[name]()
    model.config.video_token_id = VIDEO
    if bool((inputs["input_ids"] == VIDEO).any()):
        monkeypatch.setattr(written_out, "IMAGE", VIDEO)
        monkeypatch.setattr(cuts, "IMAGE", VIDEO)
    stages = {2: 0.5, 5: 0.25}
    wanted = written_out.greedy(model, inputs, stages, written_out.loudness, 3, skipped)
    same(pruned(model, Cuts(tuple(stages.items()), skipped=skipped), inputs, tokens=3), wanted)
