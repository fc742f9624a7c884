"""VizWiz-VQA: questions that blind people asked about their own photographs, ten annotators' answers to each.

Paper: Gurari et al., 2018, arXiv:1802.08218.
Split: val, 4,319 questions, each about a picture of its own. (The answers of test are hidden; its numbers, such as
LLaVA's 50.0, are of another split.)
Headline: VQA accuracy, percent, over questions.
Skills: the answer type (yes/no, number, other, unanswerable).
Checked against the official scorer: see `checked` of each protocol.

A question's id is the name of its picture. `val.json` is one list:

    [{"image": "VizWiz_val_00000000.jpg", "question": "What is in this can?",
      "answers": [{"answer": "tomato soup", "answer_confidence": "yes"}, ...],
      "answer_type": "other", "answerable": 1}, ...]
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._base import Protocol, Sample
from deltaprune.benchmarks._files import Entry, listed, read_json
from deltaprune.benchmarks._hub import HubPicture, entries, load_rows
from deltaprune.benchmarks._images import Picture
from deltaprune.benchmarks._official import OfficialBenchmark
from deltaprune.benchmarks._vqa import answered
from deltaprune.benchmarks.graders import protocols


@registry.register("vizwiz")
@dataclass(frozen=True)
class VizWiz(OfficialBenchmark):
    """VizWiz-VQA val; see the file's docstring."""

    name: ClassVar[str] = "vizwiz"
    version: ClassVar[int] = 2
    protocols: ClassVar[Mapping[str, Protocol]] = protocols.VIZWIZ
    split: ClassVar[str] = "val"
    counts: ClassVar[Mapping[str, tuple[int, int]]] = {"val": (4_319, 4_319)}
    layout: ClassVar[str] = (
        "val.json (from Annotations.zip) and the folder val (from val.zip), both from vizwiz.org/tasks-and-datasets/vqa"
    )
    hub_ids: ClassVar[tuple[str, ...]] = ("lmms-lab/VizWiz-VQA", "lmms-lab-encoder/VizWiz-VQA")

    def from_files(self, data: Path, split: str) -> Iterator[Sample]:
        """Pictures are named in the entries."""
        file = self.file(data, f"{split}.json", f"Annotations/{split}.json")
        folder = str(self.picture_folder(data, split, f"{split}_images"))
        for entry in listed(file, read_json(file, list), "questions"):
            image = entry.text("image")
            load = Picture(folder, image)
            sample = answered(entry, entry.answers(), image, image, load, entry.text("answer_type"))
            yield replace(sample, confidences=_confidences(entry))

    def from_hub(self, hub: str, split: str) -> Iterator[Sample]:
        """`question_id` is the picture's name, with or without its ending; `category` is the answer type."""
        rows = load_rows(hub, split)
        for index, entry in entries(rows, hub):
            image = entry.text("question_id").removesuffix(".jpg") + ".jpg"
            load = HubPicture(rows, index, hub)
            yield answered(entry, entry.answers(), image, image, load, entry.text("category"))


def _confidences(entry: Entry) -> tuple[str, ...]:
    """How sure each annotator was (yes, maybe, no), which protocol robomamba reads; empty if it is missing for one."""
    told = [each.get("answer_confidence") for each in entry.values["answers"] if isinstance(each, Mapping)]
    return tuple(map(str, told)) if told and None not in told else ()
