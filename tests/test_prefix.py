"""An image that has been run once answers like one that is run with every question; a file of it is what it says."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

import deltaprune as dp
from deltaprune import disk
from deltaprune import fingerprint as fingerprint_module
from deltaprune import prefix as prefix_module
from deltaprune.fingerprint import fingerprint
from deltaprune.methods import parse, registry
from deltaprune.mllm.processor import Processor
from deltaprune.prefill import Prefilled
from deltaprune.prefix import ImagePrefix

WORDS = ["How", "many", "red", "circles", "are", "there", "?"]
SEEING_TEXT = {  # the prefix has to wait for the question
    "dtp, text competes": dp.DTP(0.5, candidates="all"),
    "dtp, hidden attention": dp.DTP(0.4, score=dp.HiddenAttention()),
    "fastv, hidden attention": dp.FastV(0.5, score=dp.HiddenAttention()),
}
METHODS = {name: parse(name) for name in registry.names()} | SEEING_TEXT


def images() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(noise), Image.new("RGB", (32, 32), "orange")]


def origins(prefilled: Prefilled) -> list[list[list[int]]]:
    """Stage by stage, row by row: the visual tokens left."""
    return [[rows.tolist() for rows in kept.origin] for kept in prefilled.kept]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefix")


@pytest.fixture(scope="module")
def seen(tiny: tuple[dp.VLM, Processor]) -> tuple[dict, torch.Tensor]:
    """Two pictures as inputs and as visual tokens."""
    inputs = tiny[1].encode_images(images())
    visual = tiny[0].see(inputs)
    assert visual is not None
    return inputs, visual


@pytest.fixture(scope="module", params=METHODS)
def stored(
    request: pytest.FixtureRequest, tiny: tuple[dp.VLM, Processor], seen: tuple[dict, torch.Tensor], folder: Path
) -> tuple[dp.Method, ImagePrefix]:
    """A method, and the two pictures under it, saved and loaded."""
    method = METHODS[request.param]
    with method(tiny[0]):
        tiny[0].encode_image(*seen).save(folder / "x.prefix")
    return method, ImagePrefix.load(folder / "x.prefix")


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    index=st.lists(st.integers(0, 1), min_size=4, max_size=4),
)
def test_saved_and_loaded_equals_one_pass(
    tiny: tuple[dp.VLM, Processor],
    seen: tuple[dict, torch.Tensor],
    stored: tuple[dp.Method, ImagePrefix],
    lengths: list[int],
    index: list[int],
) -> None:
    (model, processor), (inputs, visual), (method, prefix) = tiny, seen, stored
    text = processor(text=[" ".join((WORDS * 2)[:length]) for length in lengths])
    text["image_index"] = torch.tensor(index[: len(lengths)])
    with method(model):
        resumed = model.start(text, prefix)
        whole = model.start({**text, "image_key": inputs["image_key"]}, visual=visual)
    assert origins(resumed) == origins(whole)
    torch.testing.assert_close(resumed.hidden, whole.hidden, atol=1e-4, rtol=1e-4)
    for a, b in zip(resumed.states, whole.states, strict=True):
        torch.testing.assert_close(a.ssm, b.ssm, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", [dp.DTP(0.5), *SEEING_TEXT.values()])
def test_answers_are_those_of_one_pass(tiny: tuple[dp.VLM, Processor], method: dp.Method) -> None:
    model, processor = tiny
    questions = ["How many red circles are there?", "What?", "Is there a star in the picture?"]
    with method(model):
        prefix = model.encode_image(processor.encode_images(images()))
        later = model.generate(prefix=prefix, image_index=[1, 0, 1], max_new_tokens=6, **processor(text=questions))
        inputs = processor(images=images(), text=questions, image_index=[1, 0, 1])
        assert torch.equal(later, model.generate(**inputs, max_new_tokens=6))


def test_a_prefix_that_waits_holds_what_the_score_will_read(tiny: tuple[dp.VLM, Processor], folder: Path) -> None:
    model, _ = tiny
    with SEEING_TEXT["dtp, hidden attention"](model):
        model.encode_image(images()).save(folder / "waits.prefix")
    waiting = ImagePrefix.load(folder / "waits.prefix").prefilled
    assert waiting.depth == len(waiting.states) == 1
    assert waiting.tokens.lengths == (16, 16)
    assert len(waiting.trace["delta"]) == 32
    assert "output" not in waiting.trace


def test_a_file_gives_back_every_bit(tiny: tuple[dp.VLM, Processor], folder: Path) -> None:
    with dp.DTP(0.5)(tiny[0]):
        prefix = tiny[0].encode_image(images())
    prefix.save(folder / "bits.prefix")
    again = ImagePrefix.load(folder / "bits.prefix")
    (tensors, layout), (theirs, their_layout) = map(prefix_module._take_apart, (prefix.prefilled, again.prefilled))
    assert json.dumps(layout) == json.dumps(their_layout)
    assert tensors.keys() == theirs.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, theirs[name])
        assert tensor.dtype == theirs[name].dtype
    assert (again.model, again.method, again.n_images) == (prefix.model, prefix.method, 2)


def test_images_come_as_pictures_or_as_inputs(tiny: tuple[dp.VLM, Processor]) -> None:
    model, processor = tiny
    picture = images()[0]
    from_inputs = model.encode_image(processor(images=picture, text="What?"))
    for form in (picture, [picture]):
        assert torch.equal(model.encode_image(form).prefilled.hidden, from_inputs.prefilled.hidden)
    with pytest.raises(dp.UserError, match="no image"):
        model.encode_image(processor(text="What?"))


def test_another_method_or_model_is_refused(tiny: tuple[dp.VLM, Processor]) -> None:
    model, processor = tiny
    question = processor(text="What?")
    with dp.DTP(0.5)(model):
        prefix = model.encode_image(images()[0])
    with pytest.raises(dp.UserError, match=r"pruned by DTP\(keep=0.5.*, but NoPruning\(\) is active"):
        model.generate(prefix=prefix, **question)
    with dp.DTP(0.25)(model), pytest.raises(dp.UserError, match=r"DTP\(keep=0.25.*switch DTP\(keep=0.5"):
        model.generate(prefix=prefix, **question)
    with dp.DTP(0.5)(model), pytest.raises(dp.UserError, match="made by another model"):
        model.generate(prefix=replace(prefix, model="0" * 64), **question)


def test_no_method_is_no_pruning(tiny: tuple[dp.VLM, Processor]) -> None:
    model, processor = tiny
    prefix = model.encode_image(images()[0])
    with dp.NoPruning()(model):
        assert model.generate(prefix=prefix, **processor(text="What?")).shape[0] == 1


def test_pixels_beside_a_prefix_are_refused(tiny: tuple[dp.VLM, Processor]) -> None:
    model, processor = tiny
    with pytest.raises(dp.UserError, match="in place of pixels"):
        model.generate(prefix=model.encode_image(images()[0]), **processor(images=images()[0], text="What?"))


def test_the_fingerprint_follows_the_weights_and_the_plan(tiny: tuple[dp.VLM, Processor]) -> None:
    model = tiny[0]
    before = model.fingerprint
    assert before == fingerprint(model.model)
    weight = model.model.lm.backbone.embedding.weight
    with torch.no_grad():
        value = float(weight[3, 5])
        weight[3, 5] += 1
        assert model.fingerprint != before
        weight[3, 5] = value
    assert model.fingerprint == before
    config, plan = model.config, model.config.plan
    assert plan is not None
    try:
        model.use_plan(replace(plan, early=2))
        assert model.fingerprint != before
        model.use_plan(replace(plan, source={"benchmark": "another"}))
        assert model.fingerprint == before
    finally:
        model.model.config = config


def test_large_tensors_are_sampled(tiny: tuple[dp.VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.arange(10)
    monkeypatch.setattr(fingerprint_module, "SAMPLED", 4)
    assert fingerprint_module._sample(values).tolist() == [0, 3, 6, 9]
    assert fingerprint_module._sample(values[:4]).tolist() == [0, 1, 2, 3]


def change_metadata(file: Path, **changes: str) -> None:
    """Write the file again with other metadata."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        about = dict(opened.metadata())
    save_file(load_file(file), file, metadata={**about, **changes})


@pytest.fixture
def saved(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> Path:
    tiny[0].encode_image(images()[0]).save(tmp_path / "a.prefix")
    return tmp_path / "a.prefix"


@pytest.mark.parametrize("cut", [0, 4, 100, 5000, -1])
def test_a_file_cut_short_is_a_sentence(saved: Path, cut: int) -> None:
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(dp.UserError, match="damaged, cut short or no prefix") as error:
        ImagePrefix.load(saved)
    assert "\n" not in str(error.value)


def test_a_single_flipped_bit_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    with pytest.raises(dp.UserError, match="checksum is wrong"):
        ImagePrefix.load(saved)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": "1"}, "has version 1 of the prefix format and this library reads version 2"),
        ({"format": "pt"}, "is not an image prefix"),
        ({"method": "DTP()"}, "checksum is wrong"),
    ],
)
def test_other_metadata_are_a_sentence(saved: Path, changes: dict[str, str], sentence: str) -> None:
    change_metadata(saved, **changes)
    with pytest.raises(dp.UserError, match=sentence):
        ImagePrefix.load(saved)


def test_any_other_safetensors_file_is_not_a_prefix(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(dp.UserError, match="is not an image prefix"):
        ImagePrefix.load(tmp_path / "model.safetensors")


def test_a_missing_file_and_a_missing_folder_are_sentences(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    for path in (tmp_path / "none.prefix", tmp_path):
        with pytest.raises(dp.UserError, match="cannot be read"):
            ImagePrefix.load(path)
    with pytest.raises(dp.UserError, match="cannot be written"):
        tiny[0].encode_image(images()[0]).save(tmp_path / "no" / "folder" / "a.prefix")


def test_an_interrupted_save_leaves_the_old_file(
    tiny: tuple[dp.VLM, Processor], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(tensors: dict, file: Path, metadata: dict) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    before = saved.read_bytes()
    monkeypatch.setattr(disk, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        tiny[0].encode_image(images()[1]).save(saved)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["a.prefix"]
