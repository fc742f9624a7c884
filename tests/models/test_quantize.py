"""int8 and int4 weights: what they change, what they leave alone, and what they promise."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Published
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scene
from deltaprune.checkpoints.convert import convert
from deltaprune.checkpoints.folder import save_folder
from deltaprune.checkpoints.quantize import quantize_model, quantized_names
from deltaprune.checkpoints.random import random_mllm
from deltaprune.cost.floors import weight_bytes
from deltaprune.errors import UserError
from deltaprune.kernels.quantized import dequantize
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

FORMS = ("int8", "int4")
QUESTION = "How many red circles are there?"
Loaded = tuple[VLM, Processor]


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(tiny: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder."""
    made = tmp_path_factory.mktemp("plain") / "tiny"
    save_folder(made, tiny[0].model, tiny[1].tokenizer)
    return made


@pytest.fixture(scope="module")
def loaded(folder: Path, form: str) -> Loaded:
    return dp.load(folder, quantize=form)


def asked(processor: Processor, seeds: tuple[int, ...] = (7,), question: str = QUESTION) -> Mapping[str, Any]:
    images = [Scene.from_seed(seed).image for seed in seeds]
    return processor(images=images, text=[question] * len(seeds), return_tensors="pt")


def logits(vlm: VLM, inputs: Mapping[str, Any]) -> Tensor:
    return vlm.model.lm.logits(vlm.start(inputs).hidden)


def undone(vlm: VLM, like: VLM) -> VLM:
    """The model with the float32 weights that its numbers stand for."""
    state, forms = vlm.model.state_dict(), quantized_names(vlm.config)
    plain = random_mllm(replace(vlm.config, quantize=None))
    for name, weight in like.model.state_dict().items():
        scale = name.removesuffix("weight") + "scale"
        state[name] = dequantize(state[name], state.pop(scale)) if name in forms else weight
    plain.load_state_dict(state)
    return VLM(plain, vlm.eos_id)


def test_only_matrices_of_the_lm_are_quantized(tiny: Loaded, loaded: Loaded, form: str) -> None:
    state, before = loaded[0].model.state_dict(), tiny[0].model.state_dict()
    kinds = {name.partition("layers.0.")[2]: state[name].dtype for name in state if "layers.0." in name}
    assert kinds["mixer.in_proj.weight"] == kinds["mixer.out_proj.weight"]
    assert kinds["mixer.in_proj.weight"] == (torch.int8 if form == "int8" else torch.uint8)
    assert state["lm.backbone.embedding.weight"].dtype == kinds["mixer.in_proj.weight"]
    same = [name for name in before if name not in quantized_names(loaded[0].config)]
    assert kinds["mixer.x_proj.weight"] == torch.int8
    assert any("dt_proj.weight" in name for name in same)  # its rows are no whole groups here
    assert any("conv1d.weight" in name for name in same)
    assert any(name.startswith("vision.") for name in same)
    assert all(torch.equal(state[name], before[name]) for name in same)


def test_it_computes_what_its_numbers_stand_for(tiny: Loaded, loaded: Loaded) -> None:
    inputs = asked(tiny[1])
    got, want = logits(loaded[0], inputs), logits(undone(loaded[0], tiny[0]), inputs)
    assert (got - want).norm() <= 1e-5 * want.norm()


def test_how_far_its_logits_are(tiny: Loaded, loaded: Loaded, form: str) -> None:
    inputs = asked(tiny[1])
    got, want = logits(loaded[0], inputs), logits(tiny[0], inputs)
    error = (got - want).norm() / want.norm()
    assert 0 < error < {"int8": 0.05, "int4": 0.5}[form]


@pytest.mark.parametrize("method", ["none", "dtp:keep=0.5,early=1,late=3"])
def test_a_batch_equals_the_loop(loaded: Loaded, method: str) -> None:
    vlm, processor = loaded
    with vlm.pruned_by(method):
        together = logits(vlm, asked(processor, (1, 2, 3)))
        alone = torch.cat([logits(vlm, asked(processor, (seed,))) for seed in (1, 2, 3)])
    assert (together - alone).norm() <= 1e-5 * alone.norm()


def test_decoding_equals_a_prefill(loaded: Loaded) -> None:
    vlm, processor = loaded
    inputs = dict(asked(processor))
    ids = inputs["input_ids"]
    started = vlm.start({**inputs, "input_ids": ids[:, :-1], "attention_mask": torch.ones_like(ids[:, :-1])})
    stepped, _ = vlm.model.lm.step(ids[:, -1], list(started.states))
    want = logits(vlm, inputs)
    assert (stepped - want).norm() <= 1e-5 * want.norm()


def test_a_prefix_goes_on_as_the_whole_prompt_does(loaded: Loaded) -> None:
    vlm, processor = loaded
    inputs = asked(processor)
    prefix = vlm.encode_image({name: value for name, value in inputs.items() if name.startswith("pixel")})
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    assert vlm.generate(**text, prefix=prefix).tolist() == vlm.generate(**inputs).tolist()


def test_a_prefix_of_other_weights_is_refused(tiny: Loaded, loaded: Loaded) -> None:
    inputs = asked(tiny[1])
    prefix = tiny[0].encode_image({name: value for name, value in inputs.items() if name.startswith("pixel")})
    with pytest.raises(UserError, match="another model"):
        loaded[0].generate(input_ids=inputs["input_ids"], prefix=prefix)


def test_in_bfloat16(folder: Path, form: str) -> None:
    vlm, processor = dp.load(folder, dtype="bfloat16", quantize=form)
    reference = logits(dp.load(folder, quantize=form)[0], asked(processor))
    assert vlm.model.lm.dtype == torch.bfloat16
    assert vlm.model.lm.blocks[0].mixer.in_proj.scale.dtype == (torch.float32 if form == "int8" else torch.bfloat16)
    assert (logits(vlm, asked(processor)) - reference).norm() <= 0.1 * reference.norm()


def test_a_passed_layer_writes(loaded: Loaded) -> None:
    vlm, processor = loaded
    with vlm.pruned_by("freeze:write=2-3"):
        assert logits(vlm, asked(processor)).isfinite().all()


def test_conversion_writes_them_and_load_reads_them(cobra: Published, form: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"towers": cobra.towers, "tokenizer": cobra.tokenizer, "quantize": form}
    record = convert(cobra.source, tmp_path / "out", **given)
    once, processor = dp.load(cobra.source, **given)
    again, _ = dp.load(tmp_path / "out")
    assert record["quantize"] == form
    assert record["bytes"] == sum(weight.nbytes for weight in again.model.state_dict().values())
    assert again.config.quantize == form
    assert again.fingerprint == once.fingerprint
    assert torch.equal(logits(again, asked(processor)), logits(once, asked(processor)))
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        held = file.get_slice("lm.backbone.layers.0.mixer.in_proj.weight")
        assert held.get_dtype() == {"int8": "I8", "int4": "U8"}[form]
    assert dp.load(tmp_path / "out", quantize=form)[0].fingerprint == once.fingerprint


def test_a_folder_in_another_form_is_refused(cobra: Published, tmp_path: Path) -> None:
    convert(cobra.source, tmp_path / "out", towers=cobra.towers, tokenizer=cobra.tokenizer, quantize="int8")
    with pytest.raises(UserError, match=r"quantized to int8 already: leave out quantize='int4'"):
        dp.load(tmp_path / "out", quantize="int4")


def test_numbers_of_another_kind_are_refused(folder: Path, tiny: Loaded, tmp_path: Path) -> None:
    save_folder(tmp_path / "out", quantize_model(tiny[0].model, "int8"), tiny[1].tokenizer)
    file = tmp_path / "out" / "model.safetensors"
    tensors = load_file(file)
    tensors["lm.backbone.embedding.weight"] = tensors["lm.backbone.embedding.weight"].float()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"holds torch.float32 in lm.backbone.embedding.weight"):
        dp.load(tmp_path / "out")


def test_an_unknown_form_in_a_folder(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "out"
    made.mkdir()
    for file in folder.iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "quantize": "int2"}))
    with pytest.raises(UserError, match=r"quantize is 'int2', not int8 or int4"):
        dp.load(made)


def test_a_plain_folder_says_nothing_of_it(folder: Path) -> None:
    assert "quantize" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"quantize": "int5"}, r"quantize='int5' is unknown: did you mean 'int[48]'\?"),
        ({"quantize": "int8", "dtype": "float16"}, "int8 weights go with dtype='bfloat16' or 'float32'"),
        ({"quantize": "int8", "device": "meta"}, "int8 weights run on the CPU: leave out device='meta'"),
    ],
)
def test_what_does_not_go_together(folder: Path, how: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        dp.load(folder, **how)


def test_step_sizes_come_from_int8_in_either_form(tiny: Loaded, form: str) -> None:
    like = random_mllm(replace(tiny[0].config, lm=replace(tiny[0].config.lm, dt_rank=32)))
    model = quantize_model(like, form)
    forms = quantized_names(model.config)
    assert {name.rpartition("mixer.")[2]: own for name, own in forms.items() if "layers.0." in name} == {
        "in_proj.weight": form,
        "x_proj.weight": "int8",
        "dt_proj.weight": "int8",
        "out_proj.weight": form,
    }
    assert torch.equal(model.lm.blocks[0].mixer.dt_proj.bias, like.lm.blocks[0].mixer.dt_proj.bias)
    inputs = asked(tiny[1])
    got, want = logits(VLM(model, 0), inputs), logits(undone(VLM(model, 0), VLM(like, 0)), inputs)
    assert (got - want).norm() <= 1e-5 * want.norm()


def test_widths_that_have_no_groups(tiny: Loaded) -> None:
    config = replace(tiny[0].config, lm=replace(tiny[0].config.lm, d_model=40))
    with pytest.raises(UserError, match=r"needs widths that are multiples of 32: those of tiny are 40 and 80"):
        quantize_model(random_mllm(replace(config, projector=(40,))), "int8")


def test_it_stays_on_the_cpu(loaded: Loaded) -> None:
    with pytest.raises(UserError, match="run on the CPU"):
        loaded[0].to("meta")


def test_a_cast_leaves_numbers_and_scales(folder: Path, form: str) -> None:
    vlm = dp.load(folder, quantize=form)[0]
    before = {name: vlm.model.state_dict()[name].dtype for name in vlm.model.state_dict() if "in_proj" in name}
    vlm.to(dtype=torch.bfloat16)
    assert {name: vlm.model.state_dict()[name].dtype for name in before} == before
    assert vlm.model.lm.dtype == torch.bfloat16


def test_decoding_reads_fewer_bytes(tiny: Loaded, loaded: Loaded) -> None:
    lm = loaded[0].model.lm
    assert weight_bytes(lm) == sum(weight.nbytes for weight in lm.state_dict().values())
    assert weight_bytes(lm) < 0.6 * weight_bytes(tiny[0].model.lm)


def test_random_weights(tiny: Loaded, form: str) -> None:
    model = random_mllm(replace(tiny[0].config, quantize=form), torch.bfloat16)
    assert model.config.quantize == form
    assert logits(VLM(model, 0), asked(tiny[1])).isfinite().all()
