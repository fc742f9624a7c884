"""Processors in their published layout whose parts for video or audio, or whose packages, are not here."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folders
import numpy as np
import pytest
import torch
from PIL import Image

import deltaprune as dp
from deltaprune.hosted.grid import token_grid
from deltaprune.hosted.processors import lfm2_vl, nemotron_h_omni
from deltaprune.inplace.families import registry as families

pytestmark = pytest.mark.usefixtures("unchecked")
Folder = Callable[[str], Path]
Cli = Callable[..., Any]
official = pytest.mark.parametrize("name", folders.OFFICIAL)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def opened(folder: Folder, name: str) -> tuple[Any, Any]:
    return dp.load(folder(name))


COUNTS = {  # family, width, height -> marks, visual tokens, by hand from the folder's settings
    ("smolvlm", 96, 48): ("<row_1_col_1><row_1_col_2>\n\n<global-img>", 3 * 16),  # 64 x 32: two tiles and the whole
    ("smolvlm", 24, 24): ("<row_1_col_1><row_1_col_2>\n<row_2_col_1><row_2_col_2>\n\n<global-img>", 5 * 16),
    ("lfm2_vl", 96, 48): ("<|img_row_1_col_1|><|img_row_1_col_2|><|img_thumbnail|>", 2 * 16 + 2 * 5),  # whole: 40 x 16
    ("lfm2_vl", 40, 24): ("", 5 * 3),  # not twice the 16 tokens of a tile: as it is
    ("lfm2_vl", 9, 5): ("", 2 * 3),  # at least 4 tokens, so 24 x 16
    ("nemotron_h_omni", 96, 48): ("", 12 * 4 // 4),  # 24 x 12 patches are more than 64: 11.3 x 5.7, then even
    ("nemotron_h_omni", 40, 24): ("", 10 * 6 // 4),
    ("nemotron_h_omni", 8, 8): ("", 4 * 4 // 4),  # at least 16 patches
    ("minicpmv4_6", 96, 48): ("0", 48 // 16 + 3 * 4),  # the whole in 12 x 4 patches, three slices of 8 x 8
    ("minicpmv4_6", 24, 24): ("0", 4),  # no slices; grown to 32 x 32
}


@pytest.mark.parametrize(("name", "width", "height"), COUNTS)
def test_tokens_and_marks_of_a_picture(folder: Folder, name: str, width: int, height: int) -> None:
    vlm, processor = opened(folder, name)
    inputs = processor(images=noise(width, height), text="What?")
    marks, tokens = COUNTS[name, width, height]
    assert processor.decode(inputs["input_ids"][0]) == f"<u>{marks}What?<a>"
    assert int(vlm.is_visual(inputs["input_ids"]).sum()) == tokens
    assert vlm.answer(inputs, 2, least=2).ids.shape == (1, 2)  # the model has as many features


@official
def test_pictures_of_different_sizes_in_a_batch(folder: Folder, name: str) -> None:
    vlm, processor = opened(folder, name)
    pictures, asked = [noise(96, 48), noise(30, 70)], ["What?", "Why is it so?"]
    together = vlm.start(processor(images=pictures, text=asked))
    for b in (0, 1):
        alone = vlm.start(processor(images=pictures[b], text=asked[b]))
        torch.testing.assert_close(together.logits[b : b + 1], alone.logits, rtol=0, atol=1e-4)


@official
def test_what_was_saved_is_read_again(folder: Folder, name: str, tmp_path: Path) -> None:
    """As transformers saves them today: settings of all parts in one file."""
    vlm, processor = opened(folder, name)
    wanted = processor(images=noise(96, 48), text="What?")
    vlm.model.save_pretrained(tmp_path)
    processor.processor.save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    got = dp.load(tmp_path)[1](images=noise(96, 48), text="What?")
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


TILES = {  # family, width, height -> visual tokens, by hand
    ("internvl", 96, 48): (2 + 1) * 16,  # two tiles side by side and the whole
    ("internvl", 24, 24): 16,  # fits a tile
    ("internvl", 200, 20): (4 + 1) * 16,  # as flat as four tiles allow
    ("llava_onevision", 24, 24): 16 + 8 * (8 + 1),  # the whole, and 2 x 2 tiles with a new line behind each row
    ("llava_onevision", 96, 48): 16 + 4 * (8 + 1),  # the upper and lower quarter of the tiles are empty
    ("llava_onevision", 16, 16): 16 + 4 * (4 + 1),  # one tile
}


@pytest.mark.parametrize(("name", "width", "height"), TILES)
def test_published_settings_of_tiles(folder: Folder, tmp_path: Path, name: str, width: int, height: int) -> None:
    """Alone and beside a picture of another shape in a batch, pruned."""
    shutil.copytree(folder(name), tmp_path, dirs_exist_ok=True)
    folders.republish(tmp_path, name)
    vlm, processor = dp.load(tmp_path)
    pictures, asked = [noise(width, height), noise(30, 70)], ["What?", "Why is it so?"]
    method = "dtp:keep=0.5,early=2,late=4,score=last_attention"
    together = vlm.start(processor(images=pictures, text=asked), method=method)
    for b in (0, 1):
        inputs = processor(images=pictures[b], text=asked[b])
        alone = vlm.start(inputs, method=method)
        torch.testing.assert_close(together.logits[b : b + 1], alone.logits, rtol=0, atol=1e-4)
        tokens = int(vlm.is_visual(inputs["input_ids"]).sum())
        assert [stage.counts[0] for stage in alone.kept] == [tokens // 2, 0]
        assert [stage.counts[b] for stage in together.kept] == [tokens // 2, 0]
        assert tokens == TILES.get((name, *pictures[b].size), tokens)


def test_a_processor_needs_no_file_of_its_own(folder: Folder, tmp_path: Path) -> None:
    """Then the usual settings are taken: 224 pixels are 32 x 32 patches, the fewest that Nemotron-H takes."""
    shutil.copytree(folder("nemotron_h_omni"), tmp_path, dirs_exist_ok=True)
    pixels = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"norm_mean": pixels["norm_mean"]}))
    inputs = dp.load(tmp_path)[1](images=[noise(224, 224)], text="What?")
    assert inputs["image_grid_hw"].tolist() == [[32, 32]]


def test_tokens_in_a_grid(folder: Folder) -> None:
    for name, grid in (("nemotron_h_omni", (3, 5)), ("lfm2_vl", (3, 5)), ("smolvlm", None)):
        vlm, processor = opened(folder, name)
        inputs = processor(images=noise(40, 24), text="?")
        assert token_grid(inputs, int(vlm.is_visual(inputs["input_ids"]).sum())) == grid
    assert token_grid({"pixel_values": torch.zeros(1, 1, 3, 32, 32)}, 16) == (4, 4)  # SmolVLM unsplit


def test_a_picture_that_is_too_long(folder: Folder) -> None:
    """More patches than the tower's table of places has, however few rows each has."""
    _, processor = dp.load(folder("lfm2_vl"))
    with pytest.raises(dp.UserError, match="4000 x 1 pixels are too long and narrow, so crop the picture"):
        processor(images=Image.new("RGB", (4000, 1)), text="What?")


def test_settings_that_fit_nothing(folder: Folder) -> None:
    _, processor = opened(folder, "lfm2_vl")
    processor.processor.image_processor.resample = 1
    with pytest.raises(dp.UserError, match="resample=1 is not among those of tensors"):
        processor(images=noise(96, 48), text="What?")
    processor.processor.image_processor.resample = 2
    processor.processor.image_processor.min_tiles = 5
    with pytest.raises(dp.UserError, match="min_tiles=5 is more than max_tiles=4"):
        processor(images=noise(96, 48), text="What?")


@pytest.mark.parametrize(
    ("size", "wanted"), [((512, 512), (1, 1)), ((1000, 1000), (2, 2)), ((1400, 1400), (3, 3)), ((400, 2000), (1, 5))]
)
def test_tiles_of_large_pictures(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Published settings: 2 to 10 tiles of 512; the larger of two grids alike where more than half of it is filled."""
    assert lfm2_vl.layout(size, dict(vars(lfm2_vl.Lfm2VlImageProcessor)))[0] == wanted


@pytest.mark.parametrize("seed", range(4))
def test_transformers_own_makes_the_same_of_a_picture(seed: int) -> None:
    """Which it does with torchvision alone."""
    pytest.importorskip("torchvision")
    generator = np.random.default_rng(seed)
    width, height = (int(side) for side in generator.integers(8, 1400, 2))
    for family, ours, name in (
        ("lfm2_vl", lfm2_vl.Lfm2VlImageProcessor, "Lfm2VlImageProcessor"),
        ("nemotron_h_omni", nemotron_h_omni.NemotronImageProcessor, "NemotronH_Omni_Reasoning_V3ImageProcessor"),
    ):
        module = importlib.import_module(f"transformers.models.{family}.image_processing_{family}")
        theirs = getattr(module, name)()(images=[noise(width, height)], return_tensors="pt")
        got = ours()(images=[noise(width, height)], return_tensors="pt")
        assert got.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(got[key], value, rtol=0, atol=1e-5)


def test_every_family_has_a_folder() -> None:
    assert set(families.names()) - set(folders.HERE) == {"llava"}


@official
def test_every_command(cli: Cli, folder: Folder, scene: Path, tmp_path: Path, name: str) -> None:
    model, plan = ("--model", folder(name)), tmp_path / "plan.json"
    none, dtp, _ = cli("ask", *model, scene, "What is this?", "--max-new-tokens", 2, "--json").rows
    n = none["visual_tokens"]
    assert (none["kept"], dtp["kept"]) == (None, [n // 2, 0])
    visual = ("--visual-tokens", n)
    _, half = cli("cost", *model, *visual, "--json").rows
    (found,) = cli("budget", *model, *visual, "--macs", half["share"] + 1e-3, "--json").rows
    assert half["share"] <= found["share"] <= half["share"] + 1e-3
    rows = cli("evaluate", *model, "--limit", 2, "--method", "none", "--method", "vtw:after=2", "--json").rows
    assert [row["n"] for row in rows] == [2, 2]
    timed = cli("bench", *model, "--rounds", 1, "--json").rows
    assert timed[1]["kept"][0] == timed[1]["visual_tokens"] // 2
    assert cli("calibrate", *model, "--samples", 1, "--out", plan, "--json").rows == json.loads(plan.read_text())
