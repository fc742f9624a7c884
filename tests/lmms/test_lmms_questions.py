"""The lmms-eval plugin's way from documents to answers; nothing here needs lmms-eval."""

from collections import Counter
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deltaprune import DTP, UserError
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.lmms_eval import questions as module
from deltaprune.lmms_eval.answers import answer
from deltaprune.lmms_eval.questions import (
    MAX_NEW_TOKENS,
    Decoding,
    Question,
    batches,
    picture_key,
    read_decoding,
    read_messages,
    read_requests,
)


def user(*content):
    return [{"role": "user", "content": [*content]}]


def text(words):
    return {"type": "text", "text": words}


def shown(picture):
    return {"type": "image", "url": picture}


@pytest.mark.parametrize(
    ("gen_kwargs", "decoding"),
    [
        ({}, Decoding(MAX_NEW_TOKENS)),
        ({"max_new_tokens": 16, "temperature": 0, "top_p": 0, "num_beams": 1, "do_sample": False}, Decoding(16)),
        ({"temperature": 0.7, "do_sample": False}, Decoding()),
        ({"temperature": 0, "do_sample": True}, Decoding()),
        ({"temperature": None, "top_p": None, "until": None}, Decoding()),
        ({"temperature": 0.7, "top_p": 0.9, "top_k": 5}, Decoding(do_sample=True, temperature=0.7, top_k=5, top_p=0.9)),
        ({"do_sample": True}, Decoding(do_sample=True, temperature=1.0)),
        ({"until": "\n\n"}, Decoding(until=("\n\n",))),
        ({"until": ["\n\n", "", "."]}, Decoding(until=("\n\n", "."))),
    ],
)
def test_generation_settings(gen_kwargs, decoding):
    assert read_decoding(gen_kwargs) == decoding


@pytest.mark.parametrize(
    ("gen_kwargs", "sentence"),
    [
        ({"max_new_token": 5}, "^There is no generation setting 'max_new_token': did you mean 'max_new_tokens'"),
        ({"keep": 0.5}, "^There is no generation setting 'keep'"),
        ({"num_beams": 4}, "^num_beams=4 is not supported: leave it out or set it to 1.$"),
        ({"max_new_tokens": 0}, "^max_new_tokens=0 is not possible"),
        ({"until": [3]}, r"^until=\[3\] is not possible: it is a text or a list of texts.$"),
    ],
)
def test_impossible_generation_settings(gen_kwargs, sentence):
    with pytest.raises(UserError, match=sentence):
        read_decoding(gen_kwargs)


def test_a_setting_that_says_nothing_here_is_told_once(caplog):
    for _ in range(3):
        assert read_decoding({"image_aspect_ratio": "pad"}) == Decoding()
    assert caplog.text.count("image_aspect_ratio='pad' is ignored") == 1


@pytest.mark.parametrize(
    ("until", "cut"), [((), "A cat.\n\nB"), (("\n\n",), "A cat."), (("B", "."), "A cat"), (("A",), ""), (("x",), None)]
)
def test_an_answer_ends_at_the_first_stop(until, cut):
    assert Decoding(until=until).cut("A cat.\n\nB") == ("A cat.\n\nB" if cut is None else cut)


def test_messages_become_the_models_prompt(tiny, tmp_path):
    _, processor = tiny
    red = Image.new("RGBA", (8, 6), "red")
    red.save(tmp_path / "red.png")
    for source in (red, str(tmp_path / "red.png")):
        prompt, image = read_messages(user(shown(source), text("What is this?")), processor)
        assert prompt == processor.prompt("What is this?")
        assert image is not None
        assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (8, 6), (255, 0, 0))
    assert read_messages(user(text("Who?")), processor) == (processor.prompt("Who?"), None)


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        (user(shown(Image.new("RGB", (4, 4))), shown(Image.new("RGB", (4, 4))), text("Which?")), "there can be one"),
        (user({"type": "video", "url": "a.mp4"}, text("What?")), "part of type 'video'"),
        ([{"role": "system", "content": [text("Be brief.")]}, *user(text("What?"))], "no system prompt"),
        (user(shown({"path": "a.png"}), text("What?")), "A dict is not an image"),
        (user(shown("nowhere/a.png"), text("What?")), "There is no image 'nowhere/a.png'"),
        (user(text(" ")), "question of the chat is empty"),
    ],
)
def test_what_the_model_cannot_answer(tiny, messages, sentence):
    with pytest.raises(UserError, match=sentence):
        read_messages(messages, tiny[1])


def test_a_pictures_key_is_its_content():
    one, same, other = Image.new("RGB", (6, 4), "red"), Image.new("RGB", (6, 4), "red"), Image.new("RGB", (4, 6), "red")
    assert picture_key(one) == picture_key(same)
    assert len({picture_key(image) for image in (one, other, None)}) == 3


DOT = Image.new("RGB", (1, 1))


def question(place, key, longest=4):
    return Question(place, "?", Decoding(longest), None if key == "" else DOT, key)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", *"abcdef"]), st.sampled_from([4, 8])), max_size=40), st.integers(1, 9))
def test_every_question_is_asked_once_among_its_like(items, size):
    asked = [question(place, *item) for place, item in enumerate(items)]
    parts = list(batches(asked, size))
    assert sorted(q.place for part in parts for q in chain(*part)) == list(range(len(asked)))
    seen = Counter()
    for part in parts:
        assert len({(q.decoding, q.image is None) for q in chain(*part)}) == 1
        assert sum(map(len, part)) <= size or len(part) == 1
        for picture in part:
            assert len({q.key for q in picture}) == 1
            seen[picture[0].key, picture[0].decoding] += 1
    assert set(seen.values()) <= {1}


def test_a_window_bounds_what_is_held(monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 4)
    read = []

    def coming():
        for place, key in enumerate("abababab"):
            read.append(place)
            yield question(place, key)

    parts = batches(coming(), 2)
    assert [q.place for q in chain(*next(parts))] == [0, 2]
    assert read == [0, 1, 2, 3]
    assert [[q.place for q in chain(*part)] for part in parts] == [[1, 3], [4, 6], [5, 7]]


class Documents(list):
    """A split that notes which documents were read."""

    def __init__(self, items):
        super().__init__(items)
        self.read = []

    def __getitem__(self, i):
        self.read.append(i)
        return super().__getitem__(i)


def ask(doc):
    return user(*([shown(doc["image"])] if doc["image"] else []), text(doc["question"]))


@pytest.fixture(scope="module")
def documents():
    """Twelve questions about two scenes, in turn, and two about nothing to see."""
    scenes = [{"image": s.image, "question": s.question} for s in Scenes().samples("test", 3, 12)]
    blind = [{"image": None, "question": "Is it red?"}, {"image": None, "question": "How many circles are there?"}]
    return [*scenes[::2], blind[0], *scenes[1::2], blind[1]]


def requests(documents, **gen_kwargs):
    gen_kwargs = {"max_new_tokens": 4, **gen_kwargs}
    return [("", ask, gen_kwargs, i, "toy", "test") for i in range(len(documents))]


def answers(tiny, documents, size, **gen_kwargs):
    asked = read_requests(requests(documents, **gen_kwargs), {"toy": {"test": documents}}, tiny[1])
    found = dict(answer(*tiny, asked, size))
    return [found[place] for place in range(len(documents))]


@pytest.fixture(scope="module")
def alone(tiny, documents):
    """The answers through the user's door, one question at a time, pruned."""
    vlm, processor = tiny
    with DTP(keep=0.5)(vlm):
        asked = (processor(images=doc["image"], text=doc["question"]) for doc in documents)
        return [processor.decode(vlm.generate(**inputs, max_new_tokens=4)[0]) for inputs in asked]


@pytest.mark.parametrize("size", [1, 4, 50])
def test_answers_are_those_of_one_question_at_a_time(tiny, documents, alone, size):
    with DTP(keep=0.5)(tiny[0]):
        assert answers(tiny, documents, size) == alone
    assert len(set(alone)) > 3


@pytest.mark.parametrize("size", [2, 50])
def test_each_picture_is_encoded_once_and_no_run_is_wider(tiny, documents, size, monkeypatch):
    vlm, _ = tiny
    encoded, widths, see, generate = [], [], vlm.see, vlm.generate
    monkeypatch.setattr(
        vlm, "see", lambda inputs, *rest: encoded.extend(inputs.get("image_key", [])) or see(inputs, *rest)
    )
    monkeypatch.setattr(vlm, "generate", lambda **k: widths.append(len(k["input_ids"])) or generate(**k))
    answers(tiny, documents, size)
    assert len(encoded) == len({int(key) for key in encoded}) == 2
    assert max(widths) == min(size, 12)


def test_pictures_with_one_question_each_take_one_pass(tiny, documents, monkeypatch):
    def refuse(_):
        raise AssertionError("a prefix saves nothing here")

    monkeypatch.setattr(tiny[0], "encode_image", refuse)
    few = [documents[0], documents[5]]
    assert len(answers(tiny, few, 4)) == 2


def test_sampling_follows_torchs_seed(tiny, documents):
    drawn = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            drawn.append(answers(tiny, documents[:4], 4, do_sample=True, temperature=5.0))
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_answer_may_be_empty(tiny, documents):
    (said,) = set(answers(tiny, documents[:1], 1))
    assert said
    assert answers(tiny, documents[:1], 1, until=[said[0]]) == [""]


def test_a_mistake_names_the_document_and_is_not_swallowed(tiny, documents):
    broken = [*documents[:3], {"image": None, "question": " "}, *documents[3:]]
    with pytest.raises(UserError, match=r"^Task 'toy', document 3 of 'test': A question of the chat is empty"):
        answers(tiny, broken, 2)


def test_documents_are_read_when_they_are_asked_for(tiny, documents):
    split = Documents(documents)
    asked = read_requests(requests(documents), {"toy": {"test": split}}, tiny[1])
    assert split.read == []
    next(asked)
    assert split.read == [0]
