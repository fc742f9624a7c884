"""TextVQA: questions about text in the picture, ten annotators' answers to each.

Paper: Singh et al., 2019, arXiv:1904.08920. Version 0.5.1.
Split: val, 5,000 questions about 3,166 pictures.
Headline: VQA accuracy, percent, over questions.
Skills: one, "textvqa"; the files name no answer types.
Checked against the official scorer: see `checked` of each protocol.

Many published numbers, Cobra's 58.2 among them, put the words an OCR system found into the prompt. They come from a
file of LLaVA's, one object a line in the order of the questions, and are in `Sample.context`; `ocr=False` leaves them
out. Where the system found nothing, `context` is one empty string, because the prompt then has the line without words.

    {"data": [{"question_id": 34602, "image_id": "0054c91397f2fe05", "question": "what does the sign say?",
               "answers": ["stop", ...], ...}, ...], ...}
    {"question_id": "0054c91397f2fe05", "image": "0054c91397f2fe05.jpg",
     "text": "what does the sign say?\\nReference OCR token: STOP, ALL\\nAnswer the question using ...", ...}
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._base import Protocol, Sample
from deltaprune.benchmarks._files import Entry, listed, read_json, read_json_lines
from deltaprune.benchmarks._hub import HubPicture, entries, load_rows
from deltaprune.benchmarks._images import Picture
from deltaprune.benchmarks._official import OfficialBenchmark
from deltaprune.benchmarks._vqa import answered
from deltaprune.benchmarks.graders import protocols
from deltaprune.errors import UserError

_MARK = "\nReference OCR token:"


@registry.register("textvqa")
@dataclass(frozen=True)
class TextVQA(OfficialBenchmark):
    """TextVQA val; see the file's docstring.

    Args:
        ocr: whether the samples carry OCR tokens.
    """

    ocr: bool = field(default=True, kw_only=True)

    name: ClassVar[str] = "textvqa"
    version: ClassVar[int] = 2
    protocols: ClassVar[Mapping[str, Protocol]] = protocols.TEXTVQA
    split: ClassVar[str] = "val"
    counts: ClassVar[Mapping[str, tuple[int, int]]] = {"val": (5_000, 3_166)}
    layout: ClassVar[str] = (
        "TextVQA_0.5.1_val.json and the folder train_images (from train_val_images.zip), both from textvqa.org, "
        "and with ocr=True llava_textvqa_val_v051_ocr.jsonl (from LLaVA's eval.zip)"
    )
    hub_ids: ClassVar[tuple[str, ...]] = ("lmms-lab/textvqa", "lmms-lab-encoder/textvqa")

    def note(self, split: str) -> str:
        """Whether the OCR tokens, which are worth ten points, are left out."""
        return "" if self.ocr else "without OCR tokens"

    def from_files(self, data: Path, split: str) -> Iterator[Sample]:
        """Questions, joined by place with the OCR file where `ocr`."""
        file = self.file(data, f"TextVQA_0.5.1_{split}.json")
        folder = str(self.picture_folder(data, "train_images", "train_val_images/train_images", "train_val_images"))
        questions = listed(file, read_json(file, dict).get("data"), "data")
        read = [_sample(entry, Picture(folder, f"{entry.text('image_id')}.jpg")) for entry in questions]
        if not self.ocr:
            yield from read
            return
        name = f"textvqa_{split}_v051_ocr.jsonl"
        ocr = self.file(data, f"llava_{name}", name)
        found = list(read_json_lines(ocr))
        if len(found) != len(read):
            raise UserError(f"{ocr} has {len(found):,} questions and {file} {len(read):,}: take the pair that matches.")
        if not any(_MARK in entry.text("text") for entry in found):
            raise UserError(f"{ocr} has no 'Reference OCR token:' at all: take the file with OCR tokens, or ocr=False.")
        for sample, entry in zip(read, found, strict=True):
            yield replace(sample, context=_tokens(entry, sample.question))

    def from_hub(self, hub: str, split: str) -> Iterator[Sample]:
        """One row per question, OCR tokens included."""
        rows = load_rows(hub, {"val": "validation"}[split])
        for index, entry in entries(rows, hub):
            sample = _sample(entry, HubPicture(rows, index, hub))
            yield replace(sample, context=entry.texts("ocr_tokens") or ("",)) if self.ocr else sample


def _sample(entry: Entry, load: "Picture | HubPicture") -> Sample:
    image_id = entry.text("image_id")
    return answered(entry, entry.answers(), entry.id("question_id"), image_id, load, "textvqa")


def _tokens(entry: Entry, question: str) -> tuple[str, ...]:
    """What follows the mark, split where `", ".join` puts it together again; nothing where there is no mark."""
    asked, mark, tokens = entry.text("text").partition(_MARK)
    asked = asked if mark else asked.split("\n")[0]
    if asked.strip().lower() != question.strip().lower():
        raise UserError(f"{entry.source}, {entry.place}, asks {asked!r:.60}, not {question!r:.60}: the order differs.")
    return tuple(tokens.split("\n")[0].removeprefix(" ").split(", ")) if mark else ()
