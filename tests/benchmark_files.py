"""Small fixtures in the seven official formats; the pictures and questions are our own.

Every set has three pictures and six questions that ask about them in turn, so that one picture's questions are no
neighbours in the files.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._official import OfficialBenchmark
from deltaprune.errors import UserError

COLORS = ("red", "green", "blue")
PICTURES = (9, 25, 30)
ORDER = (0, 1, 2, 0, 1, 2)
TYPES = ("other", "number", "yes/no")
SAID = [["red"] * 7 + ["Red", "crimson", "red "], ["2"] * 10, ["yes"] * 6 + ["no"] * 4] * 2
ASKED = [f"what is in corner {number}?" for number in range(6)]


def coco(number: int) -> str:
    return f"COCO_val2014_{number:012d}.jpg"


def picture(index: int) -> Image.Image:
    return Image.new("RGB", (8, 6), COLORS[index])


def save_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        picture(index).save(folder / name)


def dump(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), "utf-8")


def dump_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def annotator(answer: str, number: int) -> dict[str, Any]:
    return {"answer": answer, "answer_confidence": "yes", "answer_id": number}


def gqa_entries() -> dict[str, dict[str, Any]]:
    kinds = ("query", "verify", "choose")
    return {
        f"20{number}": {
            "imageId": f"n{PICTURES[index]}",
            "question": ASKED[number],
            "answer": ("cup", "yes", "left")[index],
            "fullAnswer": "It is.",
            "isBalanced": True,
            "types": {"structural": kinds[index], "semantic": "rel", "detailed": "relO"},
        }
        for number, index in enumerate(ORDER)
    }


def write_gqa(folder: Path) -> None:
    dump(folder / "testdev_balanced_questions.json", gqa_entries())
    save_pictures(folder / "images", [f"n{number}.jpg" for number in PICTURES])


def vqa_questions() -> list[dict[str, Any]]:
    return [
        {"image_id": PICTURES[index], "question": ASKED[number], "question_id": PICTURES[index] * 1000 + number}
        for number, index in enumerate(ORDER)
    ]


def vqa_annotations() -> list[dict[str, Any]]:
    return [
        {
            "question_id": row["question_id"],
            "image_id": row["image_id"],
            "question_type": "what is",
            "answer_type": TYPES[ORDER[number]],
            "multiple_choice_answer": SAID[number][0],
            "answers": [annotator(answer, place) for place, answer in enumerate(SAID[number], 1)],
        }
        for number, row in enumerate(vqa_questions())
    ]


def write_vqa(folder: Path, prefix: str) -> None:
    dump(folder / f"{prefix}OpenEnded_mscoco_val2014_questions.json", {"info": {}, "questions": vqa_questions()})
    annotations = list(reversed(vqa_annotations()))
    dump(folder / f"{prefix}mscoco_val2014_annotations.json", {"info": {}, "annotations": annotations})
    save_pictures(folder / "val2014", [coco(number) for number in PICTURES])


def textvqa_questions() -> list[dict[str, Any]]:
    return [
        {
            "question_id": 34602 + number,
            "image_id": f"00{PICTURES[index]}f",
            "question": ASKED[number],
            "answers": SAID[number],
        }
        for number, index in enumerate(ORDER)
    ]


OCR = [["STOP", "A,B", "50%"], [], ["one"], ["K7"], ["x", "", "y"], ["last"]]


def textvqa_ocr() -> list[dict[str, Any]]:
    end = "\nAnswer the question using a single word or phrase."
    return [
        {
            "question_id": row["image_id"],
            "image": f"{row['image_id']}.jpg",
            "text": f"{row['question']}\nReference OCR token: {', '.join(tokens)}{end}",
            "category": "default",
        }
        for row, tokens in zip(textvqa_questions(), OCR, strict=True)
    ]


def write_textvqa(folder: Path) -> None:
    dump(folder / "TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": textvqa_questions()})
    dump_lines(folder / "llava_textvqa_val_v051_ocr.jsonl", textvqa_ocr())
    save_pictures(folder / "train_images", [f"00{number}f.jpg" for number in PICTURES])


POPE_SPLITS = ("random", "popular", "adversarial")


def pope_rows() -> list[dict[str, Any]]:
    return [
        {
            "question_id": number + 1,
            "image": coco(PICTURES[index]),
            "text": f"Is there a thing {number} in the image?",
            "label": ("yes", "no")[number % 2],
        }
        for number, index in enumerate(ORDER)
    ]


def write_pope(folder: Path) -> None:
    for split in POPE_SPLITS:
        dump_lines(folder / f"coco_pope_{split}.json", pope_rows())
    save_pictures(folder / "val2014", [coco(number) for number in PICTURES])


def vsr_rows() -> list[dict[str, Any]]:
    relations = ("left of", "touching", "among", "facing", "near", "orbiting")
    return [
        {
            "image": f"{PICTURES[index]:012d}.jpg",
            "image_link": f"http://images.cocodataset.org/{('train', 'val')[index % 2]}2017/{PICTURES[index]:012d}.jpg",
            "caption": f"The cup is {relations[number]} the plate.",
            "label": number % 2,
            "relation": relations[number],
            "subj": "cup",
            "obj": "plate",
        }
        for number, index in enumerate(ORDER)
    ]


def write_vsr(folder: Path) -> None:
    dump_lines(folder / "test.jsonl", vsr_rows())
    save_pictures(folder / "images", [f"{number:012d}.jpg" for number in PICTURES])


VIZWIZ_ORDER = range(6)  # each question has a picture of its own


def vizwiz_rows() -> list[dict[str, Any]]:
    return [
        {
            "image": f"VizWiz_val_{number:08d}.jpg",
            "question": ASKED[number],
            "answers": [{"answer": answer, "answer_confidence": "maybe"} for answer in SAID[number]],
            "answer_type": TYPES[ORDER[number]],
            "answerable": 1,
        }
        for number in VIZWIZ_ORDER
    ]


def write_vizwiz(folder: Path) -> None:
    dump(folder / "val.json", vizwiz_rows())
    folder.joinpath("val").mkdir(parents=True)
    for number in VIZWIZ_ORDER:
        picture(ORDER[number]).save(folder / "val" / f"VizWiz_val_{number:08d}.jpg")


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "gqa": write_gqa,
    "vqav2": lambda folder: write_vqa(folder, "v2_"),
    "okvqa": lambda folder: write_vqa(folder, ""),
    "textvqa": write_textvqa,
    "pope": write_pope,
    "vsr": write_vsr,
    "vizwiz": write_vizwiz,
}
NAMES = sorted(WRITERS)  # the seven official ones
QUESTIONS = {  # the file that holds each benchmark's questions
    "gqa": "testdev_balanced_questions.json",
    "vqav2": "v2_OpenEnded_mscoco_val2014_questions.json",
    "okvqa": "OpenEnded_mscoco_val2014_questions.json",
    "textvqa": "TextVQA_0.5.1_val.json",
    "pope": "coco_pope_popular.json",
    "vsr": "test.jsonl",
    "vizwiz": "val.json",
}
LINES = ("pope", "vsr")  # whose question files are JSON lines


def written(name: str, folder: Path, **fields: Any) -> OfficialBenchmark:
    """A benchmark over a fresh fixture in `folder`, partial unless `fields` say otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    WRITERS[name](folder)
    return opened(name, folder, **fields)


def opened(name: str, folder: Path, **fields: Any) -> OfficialBenchmark:
    """A benchmark over a fixture that is there already."""
    benchmark = registry[name](**{"data": str(folder), "allow_partial": True, **fields})
    assert isinstance(benchmark, OfficialBenchmark)
    return benchmark


def refusal(name: str, folder: Path, split: str | None = None, **fields) -> str:
    """What is said when the samples are asked for; one sentence on one line."""
    benchmark = opened(name, folder, **fields)
    with pytest.raises(UserError) as caught:
        list(benchmark.samples(split or benchmark.split))
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text
