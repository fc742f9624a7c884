"""`pipeline("image-text-to-text", model=folder)`."""

from pathlib import Path

import pytest
from hf_samples import QUESTIONS, pictures, unreadable
from transformers import ImageTextToTextPipeline, pipeline

import deltaprune as dp
from deltaprune.mllm.processor import Processor, clean_up

NEW = {"max_new_tokens": 5, "return_full_text": False}


@pytest.fixture(scope="module")
def pipe(folder: Path) -> ImageTextToTextPipeline:
    return pipeline("image-text-to-text", model=str(folder))


def texts(records: list) -> list[str]:
    return [(record[0] if isinstance(record, list) else record)["generated_text"] for record in records]


def answers(tiny: tuple[dp.VLM, Processor], *asked: object) -> list[str]:
    """What the VLM says, decoded as the pipeline decodes."""
    vlm, processor = tiny
    ids = vlm.generate(**processor(*asked), max_new_tokens=5)
    return [clean_up(processor.tokenizer.decode(row.tolist())) for row in ids]


def test_an_image_and_a_question(pipe: ImageTextToTextPipeline, tiny: tuple[dp.VLM, Processor]) -> None:
    assert texts(pipe(images=pictures()[0], text="What?", **NEW)) == answers(tiny, pictures()[0], "What?")


def test_it_is_known(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("ERROR"):
        pipeline("image-text-to-text", model=str(folder))
    assert not caplog.records


def test_ragged_questions_about_one_image_or_each_its_own(
    pipe: ImageTextToTextPipeline, tiny: tuple[dp.VLM, Processor]
) -> None:
    one = pictures()[0]
    assert texts(pipe(images=one, text=QUESTIONS, **NEW)) == answers(tiny, one, QUESTIONS)
    two = pictures()
    assert texts(pipe(images=two, text=QUESTIONS[:2], **NEW)) == answers(tiny, two, QUESTIONS[:2])


def test_text_alone(pipe: ImageTextToTextPipeline, tiny: tuple[dp.VLM, Processor]) -> None:
    assert texts(pipe(text="What?", **NEW)) == answers(tiny, None, "What?")


@pytest.mark.parametrize("batch_size", [1, 2])
def test_chats(pipe: ImageTextToTextPipeline, tiny: tuple[dp.VLM, Processor], batch_size: int) -> None:
    chats = [
        [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]
        for picture, question in zip(pictures(), QUESTIONS, strict=False)
    ]
    records = pipe(text=chats, batch_size=batch_size, **NEW)
    assert texts(records) == answers(tiny, pictures(), QUESTIONS[:2])
    full = pipe(text=chats[0], max_new_tokens=5)[0]["generated_text"]
    assert [message["role"] for message in full] == ["user", "assistant"]
    assert full[1]["content"] == texts(records)[0]


def test_a_method_prunes_it(pipe: ImageTextToTextPipeline, tiny: tuple[dp.VLM, Processor]) -> None:
    plain = texts(pipe(images=pictures()[0], text=QUESTIONS, **NEW))
    with dp.DTP(0.5)(pipe.model):
        pruned = texts(pipe(images=pictures()[0], text=QUESTIONS, **NEW))
    with dp.DTP(0.5)(tiny[0]):
        assert pruned == answers(tiny, pictures()[0], QUESTIONS)
    assert texts(pipe(images=pictures()[0], text=QUESTIONS, **NEW)) == plain != pruned


def test_stop_sequences(pipe: ImageTextToTextPipeline) -> None:
    asked = {"images": pictures()[0], "text": QUESTIONS[0], "return_full_text": False}
    settings = {"max_new_tokens": 8, "suppress_tokens": unreadable(pipe.processor)}
    free = texts(pipe(**asked, generate_kwargs=dict(settings)))[0]
    stop = free[1:3]
    ended = texts(pipe(**asked, generate_kwargs=dict(settings), stop_sequence=stop))[0]
    assert stop in ended
    assert free.startswith(ended)
    assert len(ended) < len(free)


@pytest.mark.usefixtures("unchecked")
def test_a_method_around_the_pipeline_itself_says_what_to_prune(pipe: ImageTextToTextPipeline) -> None:
    with pytest.raises(dp.UserError, match=r"ImageTextToTextPipeline, which holds the model .* attribute \.model"):
        dp.DTP()(pipe).__enter__()
    assert pipe.model.method is None
