"""Published checkpoints become models: every tensor at its place, in its dtype, and nothing guessed."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Published, edit, timm_clip, write_cobra, write_paper_size, write_robomamba
from PIL import Image

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scene
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.checkpoint import chosen_device
from deltaprune.checkpoints.sources import open_source
from deltaprune.mllm.network import blank
from deltaprune.mllm.processor import Processor
from deltaprune.models.cobra import CHECKPOINT, COBRA

QUESTION = "How many red circles are there?"
LM = "llm.backbone."


def given(published: Published) -> dict[str, Any]:
    return {"towers": published.towers, "tokenizer": published.tokenizer}


def logits(model: dp.VLM, processor: Processor) -> torch.Tensor:
    inputs = processor(images=Scene.from_seed(7).image, text=QUESTION)
    return model.model.lm.logits(model.start(inputs).hidden)


def test_cobra_gets_every_tensor(cobra: Published) -> None:
    model, processor = dp.load(cobra.source, **given(cobra))
    held = model.model.state_dict()
    for name, tensor in cobra.tensors.items():
        ours = name if name.startswith("projector.") else name.replace("llm.", "lm.")
        if name != "llm.lm_head.weight":
            rows = held[ours][: len(tensor)]
            assert torch.equal(rows, tensor), name
    assert model.config.lm == MambaConfig(
        d_model=32, n_layers=4, vocab_size=processor.tokenizer.get_vocab_size(), d_state=16
    )
    assert (model.config.n_visual, model.config.projector, model.config.plan) == (16, (512, 32, 32), None)
    with dp.DTP(keep=0.5, early=1, late=3)(model):
        assert processor.decode(model.generate(**processor(images=Image.new("RGB", (9, 9)), text=QUESTION))[0])


def test_robomamba_gets_every_tensor(robomamba: Published) -> None:
    model, processor = dp.load(robomamba.source, tokenizer=robomamba.tokenizer)
    held = model.model.state_dict()
    for name, tensor in robomamba.tensors.items():
        if name.startswith("vision.") or "lm_head" in name:
            continue
        ours = name.removeprefix("projector.").replace("llm.mamba.", "lm.").replace("embeddings", "embedding")
        assert torch.equal(held[ours][: len(tensor)], tensor), name
    assert model.config.towers["clip"].n_heads == 1
    assert model.generate(**processor(images=Image.new("RGB", (9, 9)), text=QUESTION)).shape[0] == 1


def test_a_published_tower_reaches_the_features(cobra: Published, tmp_path: Path) -> None:
    """Towers are not left at their initial weights: another file, other logits."""
    from checkpoints import timm_dino, timm_siglip, write_towers

    louder = {name: tensor * 1.5 for name, tensor in timm_dino().items()}
    other = write_towers(tmp_path, dino=louder, siglip=timm_siglip())
    first = logits(*dp.load(cobra.source, **given(cobra)))
    assert torch.equal(first, logits(*dp.load(cobra.source, **given(cobra))))
    assert not torch.allclose(first, logits(*dp.load(cobra.source, towers=other, tokenizer=cobra.tokenizer)))


def test_a_missing_tower_is_taken_from_the_file_and_said(
    robomamba: Published, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = logits(*dp.load(robomamba.source, tokenizer=robomamba.tokenizer))
    assert caplog.text == ""
    none = edit(robomamba, tmp_path, lambda held: [held.pop(name) for name in list(held) if "vision" in name])
    with caplog.at_level(logging.WARNING, "deltaprune"):
        assert torch.equal(logits(*dp.load(none, **given(robomamba))), whole)
    assert "copy.pth lacks vision tensors; taken from" in caplog.text
    assert "the whole tower" in caplog.text


def test_a_part_of_a_tower_is_filled_up_and_said(
    robomamba: Published, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = logits(*dp.load(robomamba.source, tokenizer=robomamba.tokenizer))
    lost = ["vision.model.blocks.0.mlp.fc1.bias", "vision.model.blocks.1.mlp.fc1.bias", "vision.model.cls_token"]
    partial = edit(robomamba, tmp_path, lambda held: [held.pop(name) for name in lost])
    with caplog.at_level(logging.WARNING, "deltaprune"):
        assert torch.equal(logits(*dp.load(partial, **given(robomamba))), whole)
    taken = "vision.model.blocks.{0-1}.mlp.fc1.bias, vision.model.cls_token"
    assert caplog.messages[0].endswith(f"clip.safetensors: {taken}.")


def test_a_complete_robomamba_takes_no_other_tower(robomamba: Published) -> None:
    with pytest.raises(dp.UserError, match="brings its own towers: leave towers= out"):
        dp.load(robomamba.source, **given(robomamba))


def test_what_lies_beside_the_checkpoint_is_found(cobra: Published, tmp_path: Path) -> None:
    run = Path(shutil.copytree(cobra.source, tmp_path / "cobra+3b"))
    for file in (*cobra.towers.iterdir(), cobra.tokenizer):
        shutil.copy(file, run)
    expected = logits(*dp.load(cobra.source, **given(cobra)))
    assert torch.equal(logits(*dp.load(run)), expected)
    assert torch.equal(logits(*dp.load(tmp_path)), expected)  # the repository's folder, with the run in it


def test_towers_may_be_pickles_named_one_by_one(robomamba: Published, tmp_path: Path) -> None:
    torch.save(timm_clip(), tmp_path / "any.bin")
    none = edit(robomamba, tmp_path, lambda held: [held.pop(name) for name in list(held) if "vision" in name])
    model, _ = dp.load(none, towers={"clip": tmp_path / "any.bin"}, tokenizer=robomamba.tokenizer.parent)
    assert model.config.n_visual == 16


@pytest.mark.parametrize("name", ["cobra", "han1997/cobra"])
def test_the_hub_gives_all_parts(name: str, cobra: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repos = {"han1997/cobra": tmp_path / "a", "xiuyul/mamba-2.8b-zephyr": cobra.tokenizer.parent}
    shutil.copytree(cobra.source, repos["han1997/cobra"] / "cobra+3b")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, allow_patterns: repos[repo])
    model, _ = dp.load(name, towers=cobra.towers)
    assert model.config.name == "cobra"


def test_a_model_folder_on_the_hub(
    tiny: tuple[dp.VLM, Processor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltaprune.checkpoints.folder import save_folder

    save_folder(tmp_path, tiny[0].model, tiny[1].tokenizer)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, allow_patterns: tmp_path)
    assert dp.load("someone/tiny")[0].config == tiny[0].config


def test_the_published_sizes_come_back_whole(tmp_path: Path) -> None:
    published = write_paper_size(tmp_path / "cobra+3b")
    checkpoint = open_source(tmp_path)
    assert checkpoint.config == COBRA
    assert checkpoint.dtype() == torch.bfloat16
    assert len(checkpoint.weights) == len(blank(COBRA).state_dict())
    content = torch.load(published / CHECKPOINT, weights_only=True)
    lm = content["model"]["llm_backbone"]
    for name in [name for name in lm if ".layers.63." in name]:
        del lm[name]
    torch.save(content, published / CHECKPOINT)
    with pytest.raises(dp.UserError, match=r"missing llm\.backbone\.layers\.63\.norm\.weight"):
        open_source(tmp_path)


def test_a_checkpoint_in_bfloat16_stays_so_and_keeps_float32_where_it_counts(
    tiny: tuple[dp.VLM, Processor], tmp_path: Path
) -> None:
    published = write_cobra(tmp_path, tiny[1].tokenizer, torch.bfloat16)
    model, processor = dp.load(published.source, **given(published))
    small = ("A_log", "mixer.D", "dt_proj.bias", "norm.weight", "norm_f.weight")
    for name, weight in model.model.named_parameters():
        kept = name.startswith("lm.") and name.endswith(small)
        assert weight.dtype == (torch.float32 if kept else torch.bfloat16), name
    assert logits(model, processor).isfinite().all()


def test_casting_on_the_way_equals_casting_afterwards(cobra: Published) -> None:
    whole, _ = dp.load(cobra.source, **given(cobra))
    cast, processor = dp.load(cobra.source, dtype="bfloat16", device="cpu", **given(cobra))
    whole.to(dtype=torch.bfloat16)
    expected, found = whole.model.state_dict(), cast.model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert {weight.dtype for weight in found.values()} == {torch.bfloat16, torch.float32}
    layer = cast.model.lm.blocks[0].mixer
    assert torch.equal(layer.A_log, cobra.tensors["llm.backbone.layers.0.mixer.A_log"])
    assert logits(cast, processor).isfinite().all()


def test_auto_is_a_gpu_when_one_is_there(cobra: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    found = "cuda" if torch.cuda.is_available() else "cpu"
    assert dp.load(cobra.source, device="auto", **given(cobra))[0].device.type == found
    assert dp.load(cobra.source, **given(cobra))[0].device.type == "cpu"
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert chosen_device("auto") == torch.device("cuda" if there else "cpu")
        assert chosen_device("cpu") == chosen_device(None) == chosen_device() == torch.device("cpu")


@pytest.mark.gpu
def test_inputs_go_where_the_model_is(cobra: Published) -> None:
    model, processor = dp.load(cobra.source, device="auto", **given(cobra))
    here, _ = dp.load(cobra.source, **given(cobra))
    inputs = processor(images=Scene.from_seed(7).image, text=[QUESTION, "What?"])
    ids = model.generate(**inputs, max_new_tokens=3)
    assert ids.device.type == "cuda"
    assert torch.equal(ids, model.generate(**inputs.to("cuda"), max_new_tokens=3))
    prefix = model.encode_image(inputs)
    assert torch.equal(ids, model.generate(**processor(text=[QUESTION, "What?"]), prefix=prefix, max_new_tokens=3))
    assert ids.shape == here.generate(**inputs, max_new_tokens=3).shape


def test_the_bare_vocabulary_is_padded_with_zeros(cobra: Published, tmp_path: Path) -> None:
    model, processor = dp.load(cobra.source, **given(cobra))
    vocabulary = processor.tokenizer.get_vocab_size()
    assert vocabulary % 8, "the fixture's vocabulary must need padding"

    def strip(held: dict[str, Any]) -> None:
        lm = held["model"]["llm_backbone"]
        for name in ("llm.lm_head.weight", LM + "embedding.weight"):
            lm[name] = lm[name][:vocabulary].clone()

    bare, _ = dp.load(edit(cobra, tmp_path, strip), **given(cobra))
    embedding = bare.model.lm.backbone.embedding.weight
    assert len(embedding) == model.config.lm.padded_vocab
    assert embedding[vocabulary:].eq(0).all()
    assert torch.equal(logits(bare, processor), logits(model, processor))


def test_spelling_and_head_may_differ(cobra: Published, tmp_path: Path) -> None:
    def respell(held: dict[str, Any]) -> None:
        lm = held["model"]["llm_backbone"]
        lm[LM + "embeddings.weight"] = lm.pop(LM + "embedding.weight")
        del lm["llm.lm_head.weight"]

    expected = logits(*dp.load(cobra.source, **given(cobra)))
    assert torch.equal(logits(*dp.load(edit(cobra, tmp_path, respell), **given(cobra))), expected)


def test_robomamba_without_its_tower(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    published = write_robomamba(tmp_path, tiny[1].tokenizer, vision=False)
    with pytest.raises(dp.UserError) as error:
        dp.load(published.source)
    said = str(error.value)
    for word in ("leaves out tokenizer and clip", "no network", "mamba-2.8b-hf/resolve/main/tokenizer.json"):
        assert word in said
    assert "timm/vit_large_patch14_clip_224.openai/resolve/main/model.safetensors as clip.safetensors" in said
    assert said.endswith("or name them with tokenizer= and towers=.")
