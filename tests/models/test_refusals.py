"""What cannot be loaded ends in one sentence that says why and what to do."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Published, edit, timm_dino, timm_siglip, write_tokenizer, write_towers
from safetensors.torch import save_file

import deltaprune as dp
from deltaprune.checkpoints.folder import save_folder
from deltaprune.mllm.processor import Processor
from training.vocabulary import train_tokenizer

LAYER = "llm.backbone.layers.2.mixer."


def refusal(source: object, **options: Any) -> str:
    """The sentence with which `load` refuses."""
    with pytest.raises(dp.UserError) as error:
        dp.load(source, **options)  # type: ignore[arg-type]
    said = str(error.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


def refusal_of_cobra(cobra: Published, source: Path, **options: Any) -> str:
    return refusal(source, **{"towers": cobra.towers, "tokenizer": cobra.tokenizer, **options})


def lm(held: dict[str, Any]) -> dict[str, torch.Tensor]:
    return held["model"]["llm_backbone"]


def test_every_misfit_is_named_at_once(cobra: Published, tmp_path: Path) -> None:
    def spoil(held: dict[str, Any]) -> None:
        lm(held)[LAYER + "A_lgo"] = lm(held).pop(LAYER + "A_log")
        lm(held)[LAYER + "D"] = torch.ones(65)
        for layer in (0, 1, 3):
            del lm(held)[f"llm.backbone.layers.{layer}.norm.weight"]
        held["model"]["projector"]["projector.6.extra"] = torch.ones(1)

    said = refusal_of_cobra(cobra, edit(cobra, tmp_path, spoil))
    assert "latest-checkpoint.pt does not fit its config" in said
    assert "missing llm.backbone.layers.{0-1,3}.norm.weight, llm.backbone.layers.2.mixer.A_log" in said
    assert "projector.6.extra" in said
    assert f"{LAYER}A_lgo (did you mean {LAYER}A_log?)" in said
    assert f"misshapen {LAYER}D (65,) instead of (64,)" in said


@pytest.mark.parametrize("name", ["llm.backbone.layers.0.mixer.in_proj.weight", "llm.backbone.embedding.weight"])
def test_one_missing_tensor(cobra: Published, tmp_path: Path, name: str) -> None:
    assert f"missing {name}" in refusal_of_cobra(cobra, edit(cobra, tmp_path, lambda held: lm(held).pop(name)))


def test_a_projector_without_a_bias(cobra: Published, tmp_path: Path) -> None:
    source = edit(cobra, tmp_path, lambda held: held["model"]["projector"].pop("projector.2.bias"))
    assert "missing projector.2.bias" in refusal_of_cobra(cobra, source)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_named(cobra: Published, tmp_path: Path, value: float) -> None:
    def spoil(held: dict[str, Any]) -> None:
        lm(held)[LAYER + "A_log"][3, 5] = value
        lm(held)["llm.backbone.embedding.weight"][0, 0] = value
        held["model"]["projector"]["projector.0.bias"][-1] = value

    said = refusal_of_cobra(cobra, edit(cobra, tmp_path, spoil))
    names = "projector.0.bias, lm.backbone.embedding.weight, lm.backbone.layers.2.mixer.A_log"
    assert f"NaN or infinity in {names}: it is damaged" in said


def test_an_untied_head(cobra: Published, tmp_path: Path) -> None:
    def untie(held: dict[str, Any]) -> None:
        lm(held)["llm.lm_head.weight"] = lm(held)["llm.lm_head.weight"] + 1

    said = refusal_of_cobra(cobra, edit(cobra, tmp_path, untie))
    assert "llm.lm_head.weight differs from llm.backbone.embedding.weight" in said


def test_another_tokenizer(cobra: Published, tmp_path: Path) -> None:
    other = write_tokenizer(tmp_path, train_tokenizer(["a few words"], 270))
    said = refusal_of_cobra(cobra, cobra.source, tokenizer=other)
    assert "tokens, but the checkpoint's llm.backbone.embedding.weight has" in said
    assert "give the tokenizer with which this LM was trained" in said


def test_integers_are_not_weights(cobra: Published, tmp_path: Path) -> None:
    def quantise(held: dict[str, Any]) -> None:
        lm(held)[LAYER + "out_proj.weight"] = lm(held)[LAYER + "out_proj.weight"].to(torch.int8)

    said = refusal_of_cobra(cobra, edit(cobra, tmp_path, quantise))
    assert "torch.int8 in lm.backbone.layers.2.mixer.out_proj.weight: of quantized weights, only those that" in said


def test_an_unknown_dtype(cobra: Published) -> None:
    assert "no dtype 'bfloat61': did you mean 'bfloat16'?" in refusal_of_cobra(cobra, cobra.source, dtype="bfloat61")
    assert "no dtype 'int8'" in refusal_of_cobra(cobra, cobra.source, dtype=torch.int8)


def test_a_number_too_large_for_the_dtype(cobra: Published, tmp_path: Path) -> None:
    def shout(held: dict[str, Any]) -> None:
        held["model"]["projector"]["projector.2.weight"][0, 0] = 1e5

    said = refusal_of_cobra(cobra, edit(cobra, tmp_path, shout), dtype="float16")
    assert said == "projector.2.weight overflow in float16: choose dtype='bfloat16' or 'float32'."


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(cobra: Published, device: str) -> None:
    assert f"The device '{device}' cannot be used" in refusal_of_cobra(cobra, cobra.source, device=device)


def test_doubles_need_a_choice(cobra: Published, tmp_path: Path) -> None:
    def widen(held: dict[str, Any]) -> None:
        held["model"]["llm_backbone"] = {name: tensor.double() for name, tensor in lm(held).items()}

    source = edit(cobra, tmp_path, widen)
    assert "holds float64 weights: choose dtype=float32" in refusal_of_cobra(cobra, source)
    model, _ = dp.load(source, towers=cobra.towers, tokenizer=cobra.tokenizer, dtype="float32")
    assert torch.equal(model.model.lm.backbone.norm_f.weight, cobra.tensors["llm.backbone.norm_f.weight"])


class Malicious:
    """A pickle that would make a directory."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_pickle_is_refused_and_never_run(cobra: Published, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    said = refusal_of_cobra(cobra, edit(cobra, tmp_path, lambda held: held.update(extra=Malicious(trap))))
    assert "holds more than tensors (posix.mkdir), and code in a pickle is never run" in said
    assert not trap.exists()


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (halve, "is cut short: download or copy it again"),
        (lambda file: file.write_bytes(pickle.dumps({"model": {}})), "in torch's format from before version 1.6"),
        (lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer"),
        (lambda file: file.write_bytes(b"<html>404</html>"), "is not a file that torch.save wrote"),
        (lambda file: file.write_bytes(b""), "is not a file that torch.save wrote"),
        (
            lambda file: torch.save([1, 2], file),
            "is not a Cobra checkpoint: it holds model: projector and llm_backbone",
        ),
        (lambda file: torch.save({"model": {"projector": {}}}, file), "not ['projector']"),
        (
            lambda file: torch.save({"model": {"projector": {"a": 1}, "llm_backbone": {}}}, file),
            "(projector) holds entries that are no tensors: a (a int)",
        ),
        (
            lambda file: torch.save({"model": {"projector": {}, "llm_backbone": {"a": torch.ones(1)}}}, file),
            "The checkpoint holds no Mamba-1 LM: no tensor's name ends in mixer.in_proj.weight",
        ),
    ],
)
def test_a_spoiled_pickle(cobra: Published, tmp_path: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    source = edit(cobra, tmp_path, lambda held: None)
    spoil(source / "checkpoints" / "latest-checkpoint.pt")
    assert sentence in refusal_of_cobra(cobra, source)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vision_backbone_id": "clip-vit-l"}, "says vision_backbone_id 'clip-vit-l', which is not supported"),
        ({"llm_backbone_id": "mamba-2.8b"}, "Cobra's is 'mamba-2.8b-zephyr'"),
        ({"image_resize_strategy": "letterbox"}, "Cobra's is 'resize-naive'"),
        (None, "is not a Cobra run's configuration"),
    ],
)
def test_a_run_that_is_not_cobra(
    cobra: Published, tmp_path: Path, change: dict[str, str] | None, sentence: str
) -> None:
    source = edit(cobra, tmp_path, lambda held: None)
    config = json.loads((source / "config.json").read_text())
    config = {} if change is None else {"model": {**config["model"], **change}}
    (source / "config.json").write_text(json.dumps(config))
    assert sentence in refusal_of_cobra(cobra, source)


def test_the_published_id_stands_for_the_published_towers(cobra: Published, tmp_path: Path) -> None:
    source = edit(cobra, tmp_path, lambda held: None)
    config = (source / "config.json").read_text()
    (source / "config.json").write_text(config.replace("dinosiglip-vit-tiny-32px", "dinosiglip-vit-so-384px"))
    assert "takes 128 features, but the towers give 2176 (dino 1024 + siglip 1152)" in refusal_of_cobra(cobra, source)


def test_towers_that_do_not_fit(cobra: Published, tmp_path: Path) -> None:
    lacking = write_towers(tmp_path / "a", dino=timm_dino(), siglip=timm_siglip())
    tensors = timm_siglip()
    del tensors["blocks.0.norm1.bias"]
    save_file(tensors, lacking / "siglip.safetensors")
    said = refusal_of_cobra(cobra, cobra.source, towers=lacking)
    assert "The siglip tower does not fit its config: missing blocks.0.norm1.bias" in said
    save_file({"a": torch.ones(2)}, lacking / "siglip.safetensors")
    assert "siglip.safetensors holds no vision transformer" in refusal_of_cobra(cobra, cobra.source, towers=lacking)
    halve(lacking / "dino.safetensors")
    assert "dino.safetensors is damaged or cut short" in refusal_of_cobra(cobra, cobra.source, towers=lacking)
    (lacking / "dino.safetensors").unlink()
    said = refusal_of_cobra(cobra, cobra.source, towers=lacking)
    assert "lacks dino.safetensors: it is a folder of files named after the towers" in said


def test_towers_by_a_wrong_name(cobra: Published, tmp_path: Path) -> None:
    said = refusal_of_cobra(cobra, cobra.source, towers={"sigplip": "x"})
    assert "towers= has no use for 'sigplip': did you mean 'siglip'?" in said
    said = refusal_of_cobra(cobra, cobra.source, towers={"dino": tmp_path / "no.pt", "siglip": tmp_path / "no.pt"})
    assert "There is no file" in said
    said = refusal_of_cobra(cobra, cobra.source, tokenizer=cobra.source / "config.json")
    assert "config.json is not a tokenizer" in said


def test_without_the_hub_it_says_what_to_download(cobra: Published, tmp_path: Path) -> None:
    assert "leaves out tokenizer, dino and siglip" in refusal(cobra.source)
    source = edit(cobra, tmp_path, lambda held: None)
    config = (source / "config.json").read_text()
    (source / "config.json").write_text(config.replace("dinosiglip-vit-tiny-32px", "dinosiglip-vit-so-384px"))
    said = refusal(source)
    for file in (
        "xiuyul/mamba-2.8b-zephyr/resolve/main/tokenizer.json as tokenizer.json",
        "timm/vit_large_patch14_reg4_dinov2.lvd142m/resolve/main/model.safetensors as dino.safetensors",
        "timm/vit_so400m_patch14_siglip_384.webli/resolve/main/model.safetensors as siglip.safetensors",
        "into that folder, or name them with tokenizer= and towers=.",
    ):
        assert file in said
    assert "put the dino tower as dino.safetensors" in refusal(cobra.source, tokenizer=cobra.tokenizer)


@pytest.mark.parametrize("name", ["cobra", "han1997/cobra"])
def test_cobra_without_a_network(name: str) -> None:
    said = refusal(name)
    assert "Cobra could not be downloaded (han1997/cobra: no network)" in said
    assert "https://huggingface.co/han1997/cobra/resolve/main/cobra+3b/checkpoints/latest-checkpoint.pt" in said


def test_robomamba_is_on_no_hub() -> None:
    assert "RoboMamba's weights are on no Hub: download CLIP224+Mamba2.8b" in refusal("robomamba")


def test_an_unknown_id_of_the_hub() -> None:
    said = refusal("someone/something")
    assert "the Hub did not give it (someone/something: no network); the known ones are bundled, cobra" in said


def test_a_file_that_is_no_checkpoint(cobra: Published, robomamba: Published) -> None:
    assert "is a part of a Cobra checkpoint: load the folder" in refusal(cobra.file)
    assert "dino.safetensors is not a checkpoint: give a model's folder" in refusal(cobra.towers / "dino.safetensors")
    assert "lacks config.json" in refusal(cobra.towers)


def test_a_complete_model_takes_no_parts(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    save_folder(tmp_path, tiny[0].model, tiny[1].tokenizer)
    said = refusal(tmp_path, towers={"dino": "x"}, tokenizer="y")
    assert "brings its own towers and tokenizer: leave towers= and tokenizer= out" in said
    assert "The bundled model brings its own tokenizer" in refusal("bundled", tokenizer="y")
