"""What users hold in their hands."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import deltaprune as dp
from deltaprune.checkpoints.folder import save_folder
from deltaprune.mllm.processor import Processor

QUESTIONS = ["How many red circles are there?", "What?", "Is there a star in the picture?"]


def images() -> list[Image.Image]:
    return [Image.effect_noise((50, 40), 90.0).convert("RGB"), Image.new("RGB", (32, 32), "orange")]


@pytest.mark.parametrize("method", [dp.NoPruning(), dp.DTP(0.5), dp.RandomPruning(0.3), dp.DTP(0.5, candidates="all")])
def test_a_batch_of_ragged_questions_equals_one_by_one(tiny: tuple[dp.VLM, Processor], method: dp.Method) -> None:
    model, processor = tiny
    pictures, index = images(), [0, 1, 0]
    with method(model):
        together = model.generate(**processor(images=pictures, text=QUESTIONS, image_index=index), max_new_tokens=6)
        for row, (i, question) in enumerate(zip(index, QUESTIONS, strict=True)):
            alone = model.generate(**processor(images=pictures[i], text=question), max_new_tokens=6)
            assert processor.decode(alone[0]) == processor.decode(together[row])


@pytest.mark.parametrize("method", [dp.NoPruning(), dp.DTP(0.5), dp.DTP(0.5, candidates="all")])
def test_an_image_encoded_once_answers_many_questions(tiny: tuple[dp.VLM, Processor], method: dp.Method) -> None:
    model, processor = tiny
    pictures, index = images(), [1, 0, 1]
    with method(model):
        prefix = model.encode_image(processor.encode_images(pictures))
        text = processor(text=QUESTIONS)
        later = model.generate(prefix=prefix, image_index=torch.tensor(index), max_new_tokens=6, **text)
        whole = model.generate(**processor(images=pictures, text=QUESTIONS, image_index=index), max_new_tokens=6)
    assert torch.equal(later, whole)


def test_a_question_without_an_image(tiny: tuple[dp.VLM, Processor]) -> None:
    model, processor = tiny
    with dp.DTP(0.5)(model):
        pruned = model.generate(**processor(text=QUESTIONS))
    assert torch.equal(pruned, model.generate(**processor(text=QUESTIONS)))


def test_pruning_is_undone_and_does_not_nest(tiny: tuple[dp.VLM, Processor]) -> None:
    model, processor = tiny
    inputs = processor(images=images()[0], text=QUESTIONS[0])
    before = model.generate(**inputs)
    with pytest.raises(ZeroDivisionError), dp.DTP(0.1)(model):
        raise ZeroDivisionError
    assert model.method is None
    assert torch.equal(model.generate(**inputs), before)
    with dp.DTP()(model), pytest.raises(dp.UserError, match="do not nest"), dp.DTP()(model):
        pass


def test_a_method_that_does_not_fit_is_refused_before_it_runs(tiny: tuple[dp.VLM, Processor]) -> None:
    with pytest.raises(dp.UserError, match="at most 3"), dp.DTP(early=1, late=4)(tiny[0]):
        pass


def test_a_saved_folder_answers_like_its_source(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    model, processor = tiny
    save_folder(tmp_path, model.model, processor.tokenizer)
    again, their_processor = dp.load(tmp_path)
    inputs = their_processor(images=images(), text=QUESTIONS[:2])
    assert torch.equal(again.generate(**inputs), model.generate(**inputs))
    assert again.config == model.config


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", b"{", "not a model's configuration"),
        ("config.json", b"{}", "KeyError: 'towers'"),
        ("model.safetensors", b"cut", "damaged or cut short"),
        ("tokenizer.json", b"{}", "not a tokenizer"),
    ],
)
def test_a_broken_folder_is_a_sentence(
    tiny: tuple[dp.VLM, Processor], tmp_path: Path, file: str, content: bytes, sentence: str
) -> None:
    save_folder(tmp_path, tiny[0].model, tiny[1].tokenizer)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(dp.UserError, match=sentence) as error:
        dp.load(tmp_path)
    assert "\n" not in str(error.value)


def test_misshapen_weights_are_named(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    save_folder(tmp_path, tiny[0].model, tiny[1].tokenizer)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"d_state": 16', '"d_state": 8'))
    with pytest.raises(dp.UserError, match=r"A_log \(64, 16\) instead of \(64, 8\)"):
        dp.load(tmp_path)


def test_weights_that_do_not_fit_are_named(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    model, processor = tiny
    save_folder(tmp_path, model.model, processor.tokenizer)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"n_layers": 4', '"n_layers": 5'))
    with pytest.raises(dp.UserError, match=r"missing.*layers\.4"):
        dp.load(tmp_path)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("bundeld", "did you mean 'bundled'"), ("", "no model ''"), ("/nowhere/at/all", "neither a folder nor")],
)
def test_unknown_models_are_refused(source: str, sentence: str) -> None:
    with pytest.raises(dp.UserError, match=sentence):
        dp.load(source)


def test_an_empty_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(dp.UserError, match=r"lacks config\.json"):
        dp.load(tmp_path)
