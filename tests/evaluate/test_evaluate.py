"""evaluate: the same answers as asking one question at a time, each picture once, and rows with the promised keys."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from statistics import fmean
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

from deltaprune import DTP, NoPruning, RandomPruning, UserError
from deltaprune.benchmarks import Benchmark, Greedy, Protocol, Sample, mean_of_skills
from deltaprune.benchmarks.graders import vqa_accuracy
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.cost import share_of
from deltaprune.evaluate import evaluate
from deltaprune.mllm.processor import Inputs
from deltaprune.prefill import Prefilled
from deltaprune.steps import side_of

METHODS = ["dtp:keep=0.5", NoPruning(), RandomPruning(keep=0.1, early=0), "none"]
N = 9
short = partial(evaluate, max_new_tokens=4)


RULES = Protocol(
    message=lambda sample: sample.question,
    grade=lambda sample, prediction: float(prediction == sample.answer),
    decoding=Greedy(max_new_tokens=8),
    summary=mean_of_skills,
    source="this test",
)


@dataclass(frozen=True)
class Toy(Benchmark):
    """A fixed list of samples, in one split."""

    name = "toy"
    version = 1
    split = "test"
    protocols: ClassVar = {"official": RULES}
    items: tuple[Sample, ...]

    def samples(self, split: str, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        return islice(self.items if split == "test" else (), limit)


class Loads:
    """Draws pictures and counts how often each was drawn."""

    def __init__(self):
        self.times: Counter[str] = Counter()

    def of(self, sample: Sample) -> Sample:
        def load() -> Image.Image:
            self.times[sample.image_id] += 1
            return sample.image

        return replace(sample, load=load)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Three questions about each of three pictures of `scenes`."""
    pictures = groupby(Scenes().samples("test", 0, 3 * 6), key=lambda sample: sample.image_id)
    return [sample for _, about_one in pictures for sample in list(about_one)[:3]][:N]


@pytest.fixture(scope="module")
def alone(tiny, samples) -> list[list[str]]:
    """Each method's answers, one question at a time through the user's door."""
    vlm, processor = tiny
    answers = []
    for method in (DTP(keep=0.5), NoPruning(), METHODS[2]):
        with method(vlm):
            asked = (processor(images=sample.image, text=sample.question) for sample in samples)
            answers.append([processor.decode(vlm.generate(**inputs, max_new_tokens=4)[0]) for inputs in asked])
    return [*answers, answers[1]]


@pytest.fixture(scope="module")
def toy(samples, alone) -> Toy:
    """Every other right answer is what the unpruned tiny model says."""
    said = [*alone[1]]
    said[::2] = [sample.answer for sample in samples[::2]]
    return Toy(tuple(replace(sample, answer=answer) for sample, answer in zip(samples, said, strict=True)))


@pytest.fixture(scope="module")
def rows(tiny, toy):
    return short(*tiny, toy, METHODS)


def test_answers_equal_one_question_at_a_time(rows, alone):
    assert [[record.prediction for record in row.records] for row in rows] == alone
    assert len({answer for answers in alone for answer in answers}) > 3


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_nothing(tiny, toy, rows, batch_size):
    assert short(*tiny, toy, METHODS, batch_size=batch_size) == rows


def test_scores_are_those_of_the_records(rows, toy):
    unpruned = [record.prediction for record in rows[1].records]
    skills = sorted({sample.skill for sample in toy.items})  # in an order that no seed changes
    assert 0 < rows[1].mean < 100
    assert rows[0].agreement < 100
    for row in rows:
        for record, sample in zip(row.records, toy.items, strict=True):
            assert (record.id, record.question, record.answer) == (sample.id, sample.question, sample.answer)
            assert record.correct == (record.prediction == record.answer)
        each = {skill: 100 * fmean(r.correct for r in row.records if r.skill == skill) for skill in skills}
        assert list(row.by_skill.items()) == list(each.items())
        assert row.mean == pytest.approx(sum(each.values()) / len(each))
        same = sum(r.prediction == u for r, u in zip(row.records, unpruned, strict=True))
        assert row.agreement == pytest.approx(100 * same / len(unpruned))
        assert row.floor_by_skill == toy.guess(toy.items).by_skill
        assert row.floor == pytest.approx(fmean(row.floor_by_skill.values()))


def test_rows_stand_in_the_order_asked_for(rows):
    assert [row.method for row in rows] == ["dtp:keep=0.5", "NoPruning()", repr(METHODS[2]), "none"]
    assert {(row.model, row.benchmark, row.n, row.seed) for row in rows} == {("tiny", "toy", N, 0)}
    assert rows[1].agreement == rows[3].agreement == 100
    assert rows[1].records == rows[3].records


def test_the_share_is_that_of_the_mean_prompt(tiny, toy, rows):
    vlm, processor = tiny
    lengths = [int(processor.encode_text([sample.question])["attention_mask"].sum()) for sample in toy.items]
    assert {row.text_tokens for row in rows} == {fmean(lengths)}
    assert rows[0].macs_share == share_of(vlm.config, DTP(keep=0.5), fmean(lengths)) < 1
    assert rows[1].macs_share == rows[3].macs_share == 1


def test_the_json_row(rows):
    promised = {"model", "benchmark", "method", "n", "seed", "mean", "by_skill", "floor", "agreement", "macs_share"}
    for row in rows:
        assert row.to_dict().keys() >= promised | {"protocol", "partial", "errors", "metrics", "kept", "ms"}
        assert not row.to_dict().keys() & {"records", "failed"}
        assert json.loads(json.dumps(row.to_dict())) == row.to_dict()


def test_each_picture_is_drawn_and_encoded_once(tiny, toy, monkeypatch):
    vlm, processor = tiny
    loads, encoded, see = Loads(), [], vlm.see
    counted = Toy(tuple(loads.of(sample) for sample in toy.items))

    def counting(inputs, method=None):
        if method is not None:  # else a question without a picture
            encoded.append((len(inputs["image_key"]), side_of(method.checked_steps(vlm.shape))))
        return see(inputs, method)

    monkeypatch.setattr(vlm, "see", counting)
    short(vlm, processor, counted, ["none", "dtp"], batch_size=2)
    assert set(loads.times.values()) == {1}
    assert sum(n for n, _ in encoded) == len(loads.times) == 3
    assert {side for _, side in encoded} == {None}
    encoded.clear()
    short(vlm, processor, counted, ["none", "downscale:keep=0.6", "dtp", "downscale:keep=0.7"], batch_size=2)
    assert sum(n for n, side in encoded if side == 3) == 3  # once for both that shrink it to 3 x 3 patches
    assert sum(n for n, _ in encoded) == 6


def test_no_run_is_wider_than_the_batch_size(tiny, toy, monkeypatch):
    vlm, processor = tiny
    widths, before = [], vlm.start

    def counted(inputs: Inputs, *rest: Any, **named: Any) -> Prefilled:
        widths.append(len(inputs["input_ids"]))
        return before(inputs, *rest, **named)

    monkeypatch.setattr(vlm, "start", counted)
    for prefix in (True, False):
        widths.clear()
        short(vlm, processor, toy, ["none"], batch_size=2, prefix=prefix)
        assert widths == [2, 1] * 3


def test_a_prefix_changes_no_answer(tiny, toy, rows):
    assert short(*tiny, toy, METHODS, prefix=False) == rows


def test_progress(tiny, toy):
    seen = []
    short(*tiny, toy, ["none", "dtp"], batch_size=4, on_progress=lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [2 * N] * len(seen)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (2 * N, 2 * N)


def test_the_limit_counts_questions(tiny, toy):
    (row,) = short(*tiny, toy, ["none"], limit=3)
    assert (row.n, len(row.records)) == (3, 3)


def test_scenes_itself(tiny):
    first, again = (evaluate(*tiny, Scenes(), ["dtp:keep=0.25"], split="val", seed=5, limit=7) for _ in range(2))
    assert first == again
    assert first[0].seed == 5
    assert first[0].floor_by_skill == Scenes().guess(Scenes().samples("val", 5, 7)).by_skill


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": []}, "at least one"),
        ({"methods": ["none", "dpt"]}, "did you mean 'dtp'"),
        ({"methods": ["dtp:early=1,late=4"]}, "beyond the model"),
        ({"limit": 0}, "limit=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"split": "train"}, "no samples in split 'train'"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_mistakes_show_before_the_first_picture(tiny, toy, change, message):
    loads = Loads()
    counted = Toy(tuple(loads.of(sample) for sample in toy.items))
    with pytest.raises(UserError, match=message):
        evaluate(*tiny, counted, **{"methods": ["none"], **change})
    assert not loads.times


def test_the_model_is_left_as_it_was(tiny, toy):
    vlm, processor = tiny
    state = torch.get_rng_state()
    evaluate(vlm, processor, toy, ["random:keep=0.5"], limit=2)
    assert vlm.method is None
    assert torch.equal(torch.get_rng_state(), state)
    with DTP()(vlm), pytest.raises(UserError, match="do not nest"):
        evaluate(vlm, processor, toy, ["none"], limit=2)


def test_a_picture_that_cannot_be_encoded(tiny, toy, rows, monkeypatch):
    """The others are encoded one by one, and answered as before; its own questions are told and left out."""
    see, first = type(tiny[0]).see, toy.items[0].image_id
    broken = tiny[1].encode_images([toy.items[0].image])["image_key"]

    def fails(self, inputs, method=None):
        if "image_key" in inputs and (inputs["image_key"] == broken[0]).any():
            raise RuntimeError("CUDA out of memory")
        return see(self, inputs, method)

    monkeypatch.setattr(type(tiny[0]), "see", fails)
    found = short(*tiny, toy, METHODS)
    for row, whole in zip(found, rows, strict=True):
        assert row.records == tuple(record for record in whole.records if record.image_id != first)
        assert set(row.failed) == {sample.id for sample in toy.items if sample.image_id == first}
        assert row.errors == len(row.failed) == 3
        assert row.floor_by_skill == toy.guess(s for s in toy.items if s.image_id != first).by_skill


def test_failed_questions_make_a_run_partial(tiny, toy, monkeypatch):
    monkeypatch.setattr(Toy, "is_partial", lambda self, split, n: n < N)
    assert [row.partial for row in short(*tiny, toy, ["none"])] == [False]
    items = (replace(toy.items[0], image_id="missing", load=lambda: Image.open("nowhere.jpg")), *toy.items[1:])
    assert [(row.n, row.partial) for row in short(*tiny, Toy(items), ["none"])] == [(N - 1, True)]


def test_what_the_protocol_cannot_grade_is_refused_first(tiny, toy, monkeypatch):
    loads = Loads()
    monkeypatch.setattr(Toy, "protocols", {"official": replace(RULES, grade=vqa_accuracy.official)})
    with pytest.raises(UserError, match="no annotators' answers"):
        short(*tiny, Toy(tuple(loads.of(sample) for sample in toy.items)), ["none"])
    assert not loads.times
