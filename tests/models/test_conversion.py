"""A converted folder is the checkpoint, bit for bit, and exists only when it is complete."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Published, edit
from safetensors import safe_open

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scene
from deltaprune.checkpoints.convert import convert
from deltaprune.checkpoints.folder import INDEX, save_folder, write_folder
from deltaprune.mllm.processor import Processor


def given(published: Published) -> dict[str, Any]:
    towers = {"towers": published.towers} if published.source.is_dir() else {}
    return {**towers, "tokenizer": published.tokenizer}


def answer(model: dp.VLM, processor: Processor) -> tuple[torch.Tensor, str]:
    inputs = processor(images=Scene.from_seed(7).image, text="How many red circles are there?")
    prefilled = model.start(inputs)
    return model.model.lm.logits(prefilled.hidden), processor.decode(model.continue_from(prefilled)[0])


@pytest.mark.parametrize("name", ["cobra", "robomamba"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("shard_bytes", [10**9, 150_000])
def test_it_answers_exactly_as_its_source(
    name: str, dtype: str | None, shard_bytes: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    published = request.getfixturevalue(name)
    expected, text = answer(*dp.load(published.source, dtype=dtype, **given(published)))
    record = convert(published.source, tmp_path / "out", dtype=dtype, shard_bytes=shard_bytes, **given(published))
    model, processor = dp.load(tmp_path / "out")
    logits, again = answer(model, processor)
    assert torch.equal(logits, expected)
    assert again == text
    assert model.config.name == name
    assert record["dtype"] == (dtype or "float32")
    assert (len(record["files"]) > 1) == (shard_bytes == 150_000)


def test_shards_and_their_index(cobra: Published, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = convert(cobra.source, out, shard_bytes=150_000, **given(cobra))
    index = json.loads((out / INDEX).read_text())
    names = [file.name for file in sorted(out.glob("model-*.safetensors"))]
    assert names == record["files"] == sorted(set(index["weight_map"].values()))
    assert names[0] == f"model-00001-of-{len(names):05}.safetensors"
    total = 0
    for file in names:
        with safe_open(out / file, "pt") as opened:
            held = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        assert {index["weight_map"][name] for name in held} == {file}
        size = sum(tensor.nbytes for tensor in held.values())
        assert size <= 150_000 or len(held) == 1
        total += size
    assert index["metadata"]["total_size"] == total == record["bytes"]
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1
    others = {INDEX, "config.json", "tokenizer.json", "chat_template.jinja", "conversion.json"}
    assert {file.name for file in out.iterdir()} == others | set(names)


def test_a_stream_that_ends_early_leaves_no_weights(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in tiny[0].model.state_dict().items()}
    sizes = {name: value.nbytes for name, value in state.items()}
    some = list(state.items())[:-1]
    with pytest.raises(ValueError, match=r"Tensors of model-.*\.safetensors never came"):
        write_folder(tmp_path, tiny[0].config, tiny[1].tokenizer, sizes, some, shard_bytes=50_000)
    assert not list(tmp_path.glob("*.safetensors"))
    assert not (tmp_path / INDEX).exists()


def test_no_more_than_one_shard_is_held(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    """Of the tensors that the stream has given, those of shards already written are gone."""
    state = {name: value.contiguous() for name, value in tiny[0].model.state_dict().items()}
    sizes, given, most = {name: value.nbytes for name, value in state.items()}, [], 0

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal most
        for name, value in state.items():
            copy = value.clone()
            given.append((weakref.ref(copy), copy.nbytes))
            yield name, copy
            del copy
            most = max(most, sum(size for held, size in given if held() is not None))

    write_folder(tmp_path, tiny[0].config, tiny[1].tokenizer, sizes, stream(), shard_bytes=60_000)
    total = sum(sizes.values())
    assert most <= 60_000 + max(sizes.values()) < total / 2


def test_the_record_tells_where_everything_comes_from(cobra: Published, tmp_path: Path) -> None:
    record = convert(cobra.source, tmp_path / "out", dtype="bfloat16", **given(cobra))
    assert json.loads((tmp_path / "out" / "conversion.json").read_text()) == record
    assert record["library"] == f"deltaprune {dp.__version__}"
    assert record["sources"]["checkpoint"] == {
        "file": "latest-checkpoint.pt",
        "bytes": cobra.file.stat().st_size,
        "sha256": hashlib.sha256(cobra.file.read_bytes()).hexdigest(),
    }
    assert record["sources"].keys() == {"config", "checkpoint", "dino", "siglip", "tokenizer"}
    tensors = record["tensors"]
    assert tensors["lm.backbone.embedding.weight"] == {
        "from": "latest-checkpoint.pt: llm.backbone.embedding.weight",
        "dtype": "float32 -> bfloat16",
    }
    assert tensors["lm.backbone.layers.3.mixer.A_log"]["dtype"] == "float32 -> float32"
    assert tensors["vision.dino.vit.encoder.layer.1.attention.k_proj.bias"]["from"] == (
        "dino.safetensors: blocks.1.attn.qkv.bias"
    )
    assert tensors["vision.dino.vit.embeddings.mask_token"]["from"] == "zeros"
    assert tensors.keys() == dp.load(tmp_path / "out")[0].model.state_dict().keys()


def test_the_record_of_a_tower_of_two_files(robomamba: Published, tmp_path: Path) -> None:
    partial = edit(robomamba, tmp_path, lambda held: held.pop("vision.model.cls_token"))
    record = convert(partial, tmp_path / "out", towers=robomamba.towers, tokenizer=robomamba.tokenizer)
    sources = {name: row["from"] for name, row in record["tensors"].items()}
    assert sources["vision.clip.vit.embeddings.class_embedding"] == "clip.safetensors: vision.model.cls_token"
    assert sources["vision.clip.vit.pre_layrnorm.bias"] == "copy.pth: vision.model.norm_pre.bias"


def test_a_model_folder_can_be_converted_again(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    save_folder(tmp_path / "a", tiny[0].model, tiny[1].tokenizer)
    convert(tmp_path / "a", tmp_path / "b", shard_bytes=50_000)
    convert(tmp_path / "b", tmp_path / "c")
    first, last = (dp.load(tmp_path / name)[0].model.state_dict() for name in "ac")
    assert all(torch.equal(first[name], weight) for name, weight in last.items())
    assert not (tmp_path / "c" / INDEX).exists()


def test_progress_reaches_its_end(cobra: Published, tmp_path: Path) -> None:
    said: list[str] = []
    counted: list[tuple[int, int]] = []
    convert(cobra.source, tmp_path / "out", say=said.append, count=lambda *pair: counted.append(pair), **given(cobra))
    assert said == ["checking the source", "writing weights (MB)", "computing checksums"]
    assert counted[-1][0] == counted[-1][1] > 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("when", ["write_folder", "_record", "_sync"])
def test_an_interruption_leaves_nothing_that_looks_finished(
    error: Any, when: str, cobra: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        assert not (tmp_path / "out").exists()
        raise error

    monkeypatch.setattr(f"deltaprune.checkpoints.convert.{when}", interrupt)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else dp.UserError) as raised:
        convert(cobra.source, tmp_path / "out", **given(cobra))
    assert list(tmp_path.iterdir()) == []
    if error is not KeyboardInterrupt:
        assert "out could not be written (OSError: [Errno 28] No space left on device)" in str(raised.value)


def test_a_killed_conversion_is_no_model(cobra: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the power had gone after the last shard: the folder has another name, and says so when it is in the way."""
    monkeypatch.setattr("deltaprune.checkpoints.convert.shutil.rmtree", lambda *_, **__: None)
    monkeypatch.setattr("deltaprune.checkpoints.convert._record", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(cobra.source, tmp_path / "out", **given(cobra))
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    with pytest.raises(dp.UserError, match=r"out\.partial exists: a conversion runs there or was killed"):
        convert(cobra.source, tmp_path / "out", **given(cobra))


KILLED = """
import os, signal, sys
from deltaprune.checkpoints.convert import convert

tensors = []
def after_a_few(done, total):
    tensors.append(done)
    if len(tensors) == 40:
        os.kill(os.getpid(), signal.SIGKILL)

source, dest, towers, tokenizer = sys.argv[1:]
convert(source, dest, towers=towers, tokenizer=tokenizer, shard_bytes=20_000, count=after_a_few)
"""


def test_sigkill_in_the_middle_of_the_weights(cobra: Published, tmp_path: Path) -> None:
    """A real process is killed when some shards are written: no folder looks finished, and the next run says why."""
    out = tmp_path / "out"
    argv = [sys.executable, "-c", KILLED, *map(str, (cobra.source, out, cobra.towers, cobra.tokenizer))]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    held = {path.name for path in (tmp_path / "out.partial").iterdir()}
    shards = {name for name in held if name.startswith("model")}
    assert held - shards == {"config.json", "tokenizer.json", "chat_template.jinja"}
    assert len(shards) > 1
    assert all(re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors\.partial", name) for name in shards)
    with pytest.raises(dp.UserError, match=r"is not a model folder: it lacks model\.safetensors"):
        dp.load(tmp_path / "out.partial")
    with pytest.raises(dp.UserError, match=r"out\.partial exists: a conversion runs there or was killed"):
        convert(cobra.source, out, **given(cobra))
    shutil.rmtree(tmp_path / "out.partial")
    convert(cobra.source, out, **given(cobra))
    assert dp.load(out)[0].config.name == "cobra"


def test_nan_leaves_no_folder(cobra: Published, tmp_path: Path) -> None:
    def spoil(held: dict[str, Any]) -> None:
        held["model"]["projector"]["projector.4.bias"][0] = torch.nan

    source = edit(cobra, tmp_path, spoil)
    with pytest.raises(dp.UserError, match=r"NaN or infinity in projector\.4\.bias"):
        convert(source, tmp_path / "out", **given(cobra))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("dest", "sentence"),
    [
        (lambda folder: folder, "exists: a conversion makes a new folder"),
        (lambda folder: folder / "no" / "out", "does not exist, so create it first"),
    ],
)
def test_where_it_cannot_write(cobra: Published, tmp_path: Path, dest: Callable[[Path], Path], sentence: str) -> None:
    with pytest.raises(dp.UserError, match=sentence):
        convert(cobra.source, dest(tmp_path), **given(cobra))


def test_a_full_disk_is_told_beforehand(cobra: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("deltaprune.checkpoints.convert.shutil.disk_usage", lambda _: Usage)
    with pytest.raises(dp.UserError, match=r"needs 0\.0 GB and its disk has 0\.0 GB left"):
        convert(cobra.source, tmp_path / "out", **given(cobra))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not an index of shards"),
        ("{}", "is not an index of shards"),
        ('{"weight_map": {"a": "../model.safetensors"}}', r"must name files of its own folder, but names \['../"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "There is no file"),
    ],
)
def test_a_broken_index(cobra: Published, tmp_path: Path, text: str, sentence: str) -> None:
    convert(cobra.source, tmp_path / "out", shard_bytes=150_000, **given(cobra))
    (tmp_path / "out" / INDEX).write_text(text)
    with pytest.raises(dp.UserError, match=sentence):
        dp.load(tmp_path / "out")
