"""VQA v2: open questions about COCO pictures, ten annotators' answers to each.

Paper: Goyal et al., 2017, arXiv:1612.00837. Version 2.0 of questions and annotations.
Split: val2014, 214,354 questions about 40,504 pictures. (The answers of test-dev are hidden; its numbers, such as
LLaVA's 78.5, are of another split.)
Headline: VQA accuracy, percent, over questions.
Skills: the answer type (yes/no, number, other).
Checked against the official scorer: see `checked` of each protocol.

Questions and annotations are two files:

    {"questions": [{"image_id": 9, "question": "How many bowls are there?", "question_id": 9001}, ...], ...}
    {"annotations": [{"question_id": 9001, "image_id": 9, "question_type": "how many", "answer_type": "number",
                      "multiple_choice_answer": "4",
                      "answers": [{"answer": "4", "answer_confidence": "yes", "answer_id": 1}, ...]}, ...], ...}
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._base import Protocol, Sample
from deltaprune.benchmarks._official import OfficialBenchmark
from deltaprune.benchmarks._vqa import read_vqa, read_vqa_rows
from deltaprune.benchmarks.graders import protocols


@registry.register("vqav2")
@dataclass(frozen=True)
class VQAv2(OfficialBenchmark):
    """VQA v2 val2014; see the file's docstring."""

    name: ClassVar[str] = "vqav2"
    version: ClassVar[int] = 2
    protocols: ClassVar[Mapping[str, Protocol]] = protocols.VQAV2
    split: ClassVar[str] = "val2014"
    counts: ClassVar[Mapping[str, tuple[int, int]]] = {"val2014": (214_354, 40_504)}
    layout: ClassVar[str] = (
        "v2_OpenEnded_mscoco_val2014_questions.json and v2_mscoco_val2014_annotations.json (from visualqa.org) and the "
        "folder val2014 (from images.cocodataset.org/zips/val2014.zip)"
    )
    hub_ids: ClassVar[tuple[str, ...]] = ("lmms-lab/VQAv2", "lmms-lab-encoder/VQAv2")

    def from_files(self, data: Path, split: str) -> Iterator[Sample]:
        """See `read_vqa`."""
        return read_vqa(
            self.file(data, f"v2_OpenEnded_mscoco_{split}_questions.json"),
            self.file(data, f"v2_mscoco_{split}_annotations.json"),
            self.picture_folder(data, split),
        )

    def from_hub(self, hub: str, split: str) -> Iterator[Sample]:
        """One row per question, annotation and picture included. The download holds all splits, 45 GB."""
        return read_vqa_rows(hub, "validation", "image_id")
