"""The seven official formats, good ones: what becomes of every field, in which order, under which ids."""

from itertools import groupby
from pathlib import Path

import pytest
from benchmark_files import (
    ASKED,
    COLORS,
    NAMES,
    OCR,
    ORDER,
    POPE_SPLITS,
    SAID,
    TYPES,
    opened,
    pope_rows,
    written,
)
from PIL import Image, ImageColor

from deltaprune.benchmarks import Sample


def read(name: str, folder: Path, **fields) -> list[Sample]:
    benchmark = written(name, folder, **fields)
    return list(benchmark.samples(benchmark.split))


def number_of(name: str, sample: Sample) -> int:
    """Which of the fixture's six questions this is."""
    if name == "pope":
        return int(sample.id.split("/")[1]) - 1
    return int(sample.id) if name == "vsr" else ASKED.index(sample.question)


@pytest.mark.parametrize("name", NAMES)
def test_one_pictures_questions_are_neighbours_in_the_order_of_the_files(name, tmp_path):
    samples = read(name, tmp_path)
    pictures = [picture for picture, _ in groupby(samples, key=lambda sample: sample.image_id)]
    assert len(pictures) == len(set(pictures)) == (6 if name == "vizwiz" else 3)
    order = {"vizwiz": [0, 1, 2, 3, 4, 5], "pope": [0, 3] * 3 + [1, 4] * 3 + [2, 5] * 3}.get(name, [0, 3, 1, 4, 2, 5])
    assert [number_of(name, sample) for sample in samples] == order


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_of_each_sample_is_its_own(name, tmp_path):
    benchmark = written(name, tmp_path)
    for sample in benchmark.samples(benchmark.split):
        wanted = ImageColor.getrgb(COLORS[ORDER[number_of(name, sample)]])
        seen = sample.image.getpixel((3, 3))
        assert sample.image.mode == "RGB"
        assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) < 8, sample


@pytest.mark.parametrize("name", NAMES)
def test_no_picture_is_opened_before_it_is_asked_for(name, tmp_path, monkeypatch):
    benchmark = written(name, tmp_path)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    assert list(benchmark.samples(benchmark.split))


def test_gqa(tmp_path):
    first, second, *_ = read("gqa", tmp_path)
    assert (first.id, first.image_id, first.question) == ("200", "n9", ASKED[0])
    assert (first.answer, first.skill, first.answers, first.context) == ("cup", "query", (), ())
    assert (second.id, second.image_id) == ("203", "n9")


@pytest.mark.parametrize("name", ["vqav2", "okvqa"])
def test_the_vqa_format_joins_questions_and_annotations_by_id(name, tmp_path):
    samples = read(name, tmp_path)
    assert [sample.id for sample in samples] == ["9000", "9003", "25001", "25004", "30002", "30005"]
    for sample in samples:
        number = ASKED.index(sample.question)
        assert sample.image_id == sample.id[:-3]
        assert sample.answers == tuple(SAID[number])  # raw, in the annotators' order
        assert sample.answer == SAID[number][0]
        assert sample.skill == TYPES[ORDER[number]]


def test_okvqa_takes_the_stemmed_answer(tmp_path):
    written("okvqa", tmp_path)
    file = tmp_path / "mscoco_val2014_annotations.json"
    file.write_text(file.read_text().replace('{"answer": "2",', '{"raw_answer": "twos", "answer": "2",'))
    benchmark = opened("okvqa", tmp_path)
    (sample,) = (sample for sample in benchmark.samples("val2014") if sample.id == "25001")
    assert sample.answers == ("2",) * 10


def test_of_equally_common_answers_the_first_counts(tmp_path):
    written("vizwiz", tmp_path)
    file = tmp_path / "val.json"
    tied = '"answers": [{"answer": "b", "answer_confidence": "yes"}, {"answer": "a", "answer_confidence": "yes"}]'
    head, rest = file.read_text().split('"answers": [', 1)
    file.write_text(head + tied + rest.split("]", 1)[1])
    assert next(opened("vizwiz", tmp_path).samples("val")).answer == "b"


def test_textvqa_with_ocr_tokens(tmp_path):
    samples = read("textvqa", tmp_path)
    assert [sample.id for sample in samples] == ["34602", "34605", "34603", "34606", "34604", "34607"]
    for sample in samples:
        tokens = OCR[ASKED.index(sample.question)]
        assert ", ".join(sample.context) == ", ".join(tokens)
        assert sample.context  # also where nothing was found: the prompt then has the line without words
    assert samples[0].context == ("STOP", "A,B", "50%")
    assert {sample.skill for sample in samples} == {"textvqa"}


def test_textvqa_without_ocr_tokens_needs_no_ocr_file(tmp_path):
    written("textvqa", tmp_path)
    (tmp_path / "llava_textvqa_val_v051_ocr.jsonl").unlink()
    samples = list(opened("textvqa", tmp_path, ocr=False).samples("val"))
    assert len(samples) == 6
    assert {sample.context for sample in samples} == {()}


def test_textvqa_prompts_with_and_without(tmp_path):
    with_ocr, without = (next(written("textvqa", tmp_path / str(o), ocr=o).samples("val")) for o in (True, False))
    message = opened("textvqa", tmp_path / "True").rules.message
    assert "Reference OCR token: STOP, A,B, 50%" in message(with_ocr)
    assert "OCR" not in message(without)


def test_pope_keeps_the_splits_apart(tmp_path):
    samples = read("pope", tmp_path)
    assert len(samples) == 18
    assert [sample.id for sample in samples[:6]] == [f"{split}/{n}" for split in POPE_SPLITS for n in (1, 4)]
    assert {sample.skill for sample in samples} == set(POPE_SPLITS)
    assert {sample.id.split("/")[0] == sample.skill for sample in samples} == {True}
    for sample in samples:
        row = pope_rows()[int(sample.id.split("/")[1]) - 1]
        assert (sample.question, sample.answer) == (row["text"], row["label"])
        assert f"{sample.image_id}.jpg" == row["image"]


@pytest.mark.parametrize("split", POPE_SPLITS)
def test_pope_one_split_alone(split, tmp_path):
    whole = read("pope", tmp_path)
    alone = list(opened("pope", tmp_path).samples(split))
    assert alone == [sample for sample in whole if sample.skill == split]


def test_pope_reads_a_clone_of_its_repository(tmp_path):
    written("pope", tmp_path)
    folder = tmp_path / "output" / "coco"
    folder.mkdir(parents=True)
    for split in POPE_SPLITS:
        (tmp_path / f"coco_pope_{split}.json").rename(folder / f"coco_pope_{split}.json")
    assert len(list(opened("pope", tmp_path).samples("test"))) == 18


def test_vsr(tmp_path):
    samples = read("vsr", tmp_path)
    assert [sample.id for sample in samples] == ["0", "3", "1", "4", "2", "5"]
    by_id = {sample.id: sample for sample in samples}
    assert [by_id[str(i)].answer for i in range(6)] == ["False", "True"] * 3
    groups = ["Projective", "Topological", "Unallocated", "Orientation", "Proximity", "Unallocated"]
    assert [by_id[str(i)].skill for i in range(6)] == groups
    assert by_id["0"].question == "The cup is left of the plate."


def test_vsr_finds_the_pictures_in_cocos_own_folders(tmp_path):
    written("vsr", tmp_path / "data")
    for part in ("train2017", "val2017"):
        (tmp_path / "coco" / part).mkdir(parents=True)
    for sample in opened("vsr", tmp_path / "data").samples("test"):
        part = "val2017" if sample.image_id == "000000000025.jpg" else "train2017"
        sample.image.save(tmp_path / "coco" / part / sample.image_id)
    for sample in opened("vsr", tmp_path / "data", images=tmp_path / "coco").samples("test"):
        assert sample.image.size == (8, 6)


def test_vizwiz(tmp_path):
    samples = read("vizwiz", tmp_path)
    assert [sample.id for sample in samples] == [f"VizWiz_val_{number:08d}.jpg" for number in range(6)]
    assert [sample.skill for sample in samples] == [TYPES[i] for i in ORDER]
    assert [sample.answers for sample in samples] == [tuple(said) for said in SAID]
