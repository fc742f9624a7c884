"""A folder of transformers' own through `dp.load`: the answers are those of transformers' `generate`."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import folders
import pytest
import torch
import transformers
from PIL import Image

import deltaprune as dp
from deltaprune.ask import ask
from deltaprune.generate import NonFiniteLogits, Sampling
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.folder import random_hosted, read_hosted_config
from deltaprune.hosted.grid import token_grid
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.plan import Plan

pytestmark = pytest.mark.usefixtures("unchecked")
Folder = Callable[[str], Path]
SCORE = dict.fromkeys(("qwen3_5", "qwen3_5_moe", "minicpmv4_6", "nemotron_h_omni"), "delta")
TWO = ["What is this?", "How many red triangles are there?"]


def loaded(folder: Folder, name: str) -> tuple[Hosted, HostedProcessor]:
    found: Any = dp.load(folder(name))
    return found


def picture(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


@pytest.mark.parametrize("name", folders.HERE)
def test_answers_are_transformers_own(folder: Folder, scene: Path, name: str) -> None:
    vlm, processor = loaded(folder, name)
    assert isinstance(vlm, Hosted)
    inputs = processor(images=picture(scene), text=TWO[0])
    method = dp.DTP(keep=0.5, score=SCORE.get(name, "last_attention"))
    told = vlm.answer(inputs, 6, method=method, least=6)
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(folder(name))
    with method(model) as pruned, torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert torch.equal(told.ids, ids[:, inputs["input_ids"].shape[1] :])
    n = int(vlm.is_visual(inputs["input_ids"]).sum())
    assert [kept.counts for kept in told.kept] == [kept.counts for kept in pruned.kept] == [(n // 2,), (0,)]
    assert min(told.ms.values()) > 0
    unpruned = vlm.answer(inputs, 6, least=6)
    assert unpruned.kept == ()
    assert not torch.allclose(unpruned.logits, told.logits)


@pytest.mark.parametrize("name", ["qwen3_5", "internvl"])
def test_a_batch_is_its_questions(folder: Folder, scene: Path, name: str) -> None:
    vlm, processor = loaded(folder, name)
    method = dp.DTP(keep=0.5, score=SCORE.get(name, "last_attention"))
    together = vlm.start(processor(images=picture(scene), text=TWO), method)
    for row, question in enumerate(TWO):
        alone = vlm.start(processor(images=picture(scene), text=question), method)
        torch.testing.assert_close(vlm.next_logits(together)[row : row + 1], alone.logits, rtol=0, atol=1e-4)


def test_every_way_in_is_the_same(folder: Folder, scene: Path) -> None:
    """A `with` block, `method=`, `start` and `continue_from`, `generate`."""
    vlm, processor = loaded(folder, "qwen3_5")
    inputs = processor(images=picture(scene), text=TWO[0])
    wanted = vlm.answer(inputs, 5, method="dtp:keep=0.25").ids
    with dp.DTP(keep=0.25)(vlm):
        assert torch.equal(vlm.generate(**inputs, max_new_tokens=5), wanted)
        started = vlm.start(inputs)
    assert vlm.method is None
    assert torch.equal(vlm.continue_from(started, 5), wanted)
    assert torch.equal(vlm.next_logits(started).argmax(-1), wanted[:, 0])


def test_sampling_is_repeatable_and_leaves_the_seed_alone(folder: Folder, scene: Path) -> None:
    vlm, processor = loaded(folder, "internvl")
    inputs = processor(images=picture(scene), text=TWO[0])
    torch.manual_seed(1)
    before = torch.get_rng_state()

    def drawn(seed: int) -> list[int]:
        sampler = Sampling(5.0, generator=torch.Generator().manual_seed(seed))
        return vlm.answer(inputs, 8, sampler, least=8).ids[0].tolist()

    assert drawn(0) == drawn(0) != drawn(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_answer_may_end_at_once(folder: Folder, scene: Path) -> None:
    """The likeliest first token is the answer's, also where it is the end of text."""
    vlm, processor = loaded(folder, "qwen3_5")
    inputs = processor(images=picture(scene), text=TWO[0])
    first, *_ = vlm.answer(inputs, 4, least=4).ids[0].tolist()
    vlm.model.generation_config.eos_token_id = first
    assert vlm.answer(inputs, 4).ids.tolist() == [[first]]
    assert vlm.answer(inputs, 4, least=1).ids.tolist() == [[first]]
    ids = vlm.answer(inputs, 4, least=3).ids[0].tolist()
    assert len(ids) >= 3
    assert first not in ids[:2]


def test_a_folders_own_sampling_settings_play_no_part(folder: Folder, scene: Path) -> None:
    vlm, processor = loaded(folder, "qwen3_5")
    inputs = processor(images=picture(scene), text=TWO[0])

    def answers() -> list[list[int]]:
        sampler = Sampling(5.0, generator=torch.Generator().manual_seed(0))
        return [vlm.answer(inputs, 32, least=32).ids[0].tolist(), vlm.answer(inputs, 8, sampler, least=8).ids.tolist()]

    plain, settings = answers(), vlm.model.generation_config
    settings.update(do_sample=True, temperature=0.1, top_k=1, top_p=0.1, min_p=0.9, top_h=0.1, typical_p=0.1)
    settings.update(epsilon_cutoff=0.5, eta_cutoff=0.5, repetition_penalty=50.0, no_repeat_ngram_size=1)
    assert answers() == plain


def test_a_plan_moves_the_stages(folder: Folder, scene: Path) -> None:
    vlm, processor = loaded(folder, "qwen3_5")
    inputs = processor(images=picture(scene), text=TWO[0])
    assert [kept.after for kept in vlm.start(inputs, "dtp:keep=0.5").kept] == [2, 6]
    before = vlm.fingerprint
    vlm.use_plan(Plan(3, 5))
    assert [kept.after for kept in vlm.start(inputs, "dtp:keep=0.5").kept] == [3, 5]
    assert vlm.fingerprint != before


def test_a_prompt_is_the_folders_own_template(folder: Folder) -> None:
    _, processor = loaded(folder, "qwen3_5")
    assert processor.prompt("Why?") == "<u><|image_pad|>Why?<a>"
    assert processor.prompt("Why?", image=False) == "<u>Why?<a>"
    chat = [{"role": "user", "content": [{"type": "text", "text": "See "}, {"type": "image"}]}]
    assert processor.prompt(chat) == "<u>See <|image_pad|><a>"
    ids = processor.tokenizer.encode("Hallo", add_special_tokens=False).ids
    assert processor.batch_decode(torch.tensor([ids])) == ["Hallo"]


def test_sizes_need_no_weights(folder: Folder, tmp_path: Path) -> None:
    vlm, _ = loaded(folder, "qwen3_5_moe")
    path = tmp_path / "qwen3_5_moe"
    path.mkdir()
    (path / "config.json").write_bytes((folder("qwen3_5_moe") / "config.json").read_bytes())
    assert read_hosted_config(path) == vlm.config == HostedConfig.of(vlm.model, "qwen3_5_moe")
    random, _ = random_hosted(folder("qwen3_5_moe"), "bfloat16")
    assert random.config == vlm.config
    assert random.dtype == torch.bfloat16


def test_tokens_lie_in_a_grid(folder: Folder) -> None:
    wide = Image.new("RGB", (32, 16))
    _, processor = loaded(folder, "qwen3_vl")
    inputs = processor(images=wide, text="?")
    assert token_grid(inputs, int((inputs["mm_token_type_ids"] == 1).sum())) == (2, 4)
    vlm, processor = loaded(folder, "llava_onevision")
    inputs = processor(images=wide, text="?")
    assert token_grid(inputs, int(vlm.is_visual(inputs["input_ids"]).sum())) is None
    (row,) = ask(cast(Any, vlm), cast(Any, processor), wide, ["?"], "none", 1)
    with pytest.raises(dp.UserError, match="not a grid over it"):
        row.overlay()


def test_what_cannot_work_is_a_sentence(folder: Folder, scene: Path, tmp_path: Path) -> None:
    vlm, processor = loaded(folder, "qwen2_5_vl")
    inputs = processor(images=picture(scene), text=TWO[0])
    with pytest.raises(dp.UserError, match="an image cannot be run ahead of its questions"):
        vlm.encode_image(inputs)
    with pytest.raises(dp.UserError, match="an image cannot be run ahead"):
        vlm.answer(inputs, prefix=object())  # pyright: ignore[reportArgumentType]
    with pytest.raises(dp.UserError, match="max_new_tokens=0"):
        vlm.answer(inputs, 0)
    with pytest.raises(dp.UserError, match="needs step, which no layer before it provides"):
        vlm.answer(inputs, method="dtp")
    with pytest.raises(dp.UserError, match="A question is empty"):
        processor(images=picture(scene), text=" ")
    with pytest.raises(dp.UserError, match="2 images for 3 questions"):
        processor(images=[picture(scene)] * 2, text=["a", "b", "c"])
    with pytest.raises(dp.UserError, match="brings its own tokenizer"):
        dp.load(folder("qwen2_5_vl"), tokenizer="x")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_6_vl"}))
    with pytest.raises(dp.UserError, match="type 'qwen2_6_vl', which cannot be pruned in place: did you mean"):
        dp.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    lacks = "lacks preprocessor_config.json, tokenizer.json, model.safetensors, so download all files"
    with pytest.raises(dp.UserError, match=lacks):
        dp.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.safetensors", None, "it lacks model.safetensors, so download all files."),
        ("model.safetensors", b"\x10", r"The weights in .* are damaged or cut short"),
        ("tokenizer.json", b"{", r"The processor in .* cannot be loaded: JSONDecodeError"),
        ("preprocessor_config.json", b"{", r"The processor in .* cannot be loaded: OSError"),
        ("config.json", (b'"num_hidden_layers": 12', b'"num_hidden_layers": "x"'), "'num_hidden_layers' expected int"),
        ("config.json", (b'"hidden_size": 32', b'"hidden_size": 64'), "have other sizes than its config.json says"),
    ],
)
def test_a_damaged_folder(
    folder: Folder, tmp_path: Path, file: str, content: bytes | tuple[bytes, bytes] | None, said: str
) -> None:
    for each in folder("lfm2_vl").iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    if content is None:
        (tmp_path / file).unlink()
    else:
        new = content if isinstance(content, bytes) else (tmp_path / file).read_bytes().replace(*content)
        assert new != (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(new)
    with pytest.raises(dp.UserError, match=said):
        dp.load(tmp_path)


def test_a_folder_without_a_template(folder: Folder, tmp_path: Path) -> None:
    for file in folder("internvl").iterdir():
        if file.suffix != ".jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(dp.UserError, match="has no chat template"):
        dp.load(tmp_path)


def test_broken_weights_are_noticed(folder: Folder, scene: Path) -> None:
    vlm, processor = loaded(folder, "internvl")
    vlm.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteLogits, match="not finite"):
        vlm.answer(processor(images=picture(scene), text=TWO[0]), 2)


def test_threads_take_turns(folder: Folder, scene: Path) -> None:
    vlm, processor = loaded(folder, "qwen3_5")
    inputs = [processor(images=picture(scene), text=text) for text in TWO]
    methods = ["dtp:keep=0.5", "none", "vtw:after=1", "dtp:keep=0.25"]
    jobs = [(inputs[i % 2], method) for i, method in enumerate(methods * 2)]
    alone = [vlm.answer(given, 4, method=method).ids for given, method in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: vlm.answer(job[0], 4, method=job[1]).ids, jobs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
