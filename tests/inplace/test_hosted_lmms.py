"""lmms-eval's requests on a model of transformers' own; nothing here needs lmms-eval."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import deltaprune as dp
from deltaprune.lmms_eval.answers import answer
from deltaprune.lmms_eval.questions import read_requests

pytestmark = pytest.mark.usefixtures("unchecked")
ASKED = ["What is this?", "How many red triangles are there?", "Is it night?"]


def request(place: int) -> tuple[Any, ...]:
    return "", lambda doc: doc, {"max_new_tokens": 4, "until": ["\n\n"]}, place, "task", "test"


def test_answers_are_those_of_the_door(folder: Callable[[str], Path], scene: Path) -> None:
    vlm, loaded = dp.load(folder("qwen3_5"))
    processor: Any = loaded
    with Image.open(scene) as opened:
        picture = opened.convert("RGB")
    parts = [[{"type": "image", "url": picture}, {"type": "text", "text": text}] for text in ASKED[:2]]
    chats = [[{"role": "user", "content": content}] for content in (*parts, [{"type": "text", "text": ASKED[2]}])]
    documents = {"task": {"test": chats}}
    with dp.DTP(keep=0.5)(vlm):
        questions = read_requests([request(i) for i in range(3)], documents, processor)
        told = dict(answer(vlm, processor, questions, 2))
    wanted = [vlm.answer(processor(images=picture, text=text), 4, method="dtp:keep=0.5").ids for text in ASKED[:2]]
    wanted.append(vlm.answer(processor(text=ASKED[2]), 4).ids)
    assert [told[i] for i in range(3)] == [processor.decode(ids[0]) for ids in wanted]


def test_several_pictures_are_a_sentence(folder: Callable[[str], Path]) -> None:
    _, processor = dp.load(folder("qwen3_5"))
    picture = {"type": "image", "url": Image.new("RGB", (8, 8))}
    chat = [{"role": "user", "content": [picture, picture, {"type": "text", "text": "Which?"}]}]
    with pytest.raises(dp.UserError, match="The chat has 2 images"):
        list(read_requests([request(0)], {"task": {"test": [chat]}}, processor))
