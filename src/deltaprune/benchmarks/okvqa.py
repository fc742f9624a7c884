"""OK-VQA: questions about COCO pictures that need knowledge of the world, ten answers to each.

Paper: Marino et al., 2019, arXiv:1906.00067. Version 1.1 of questions and annotations.
Split: val2014, which is the test split; 5,046 questions about 5,033 pictures.
Headline: VQA accuracy, percent, over questions.
Skills: the answer type, which is "other" throughout.
Checked against the official scorer: see `checked` of each protocol.

The files have the format of the VQA challenge (see vqav2.py), but each answer comes twice, as written and stemmed:

    {"answers": [{"answer_id": 1, "raw_answer": "racing", "answer_confidence": "yes", "answer": "race"}, ...], ...}

Grading takes `answer`, the stemmed one, as the scorer of the VQA challenge does.
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


@registry.register("okvqa")
@dataclass(frozen=True)
class OKVQA(OfficialBenchmark):
    """OK-VQA val2014; see the file's docstring."""

    name: ClassVar[str] = "okvqa"
    version: ClassVar[int] = 2
    protocols: ClassVar[Mapping[str, Protocol]] = protocols.OKVQA
    split: ClassVar[str] = "val2014"
    counts: ClassVar[Mapping[str, tuple[int, int]]] = {"val2014": (5_046, 5_033)}
    layout: ClassVar[str] = (
        "OpenEnded_mscoco_val2014_questions.json and mscoco_val2014_annotations.json (from okvqa.allenai.org) and the "
        "folder val2014 (from images.cocodataset.org/zips/val2014.zip)"
    )
    hub_ids: ClassVar[tuple[str, ...]] = ("lmms-lab/OK-VQA", "lmms-lab-encoder/OK-VQA")

    def from_files(self, data: Path, split: str) -> Iterator[Sample]:
        """See `read_vqa`."""
        return read_vqa(
            self.file(data, f"OpenEnded_mscoco_{split}_questions.json"),
            self.file(data, f"mscoco_{split}_annotations.json"),
            self.picture_folder(data, split),
        )

    def from_hub(self, hub: str, split: str) -> Iterator[Sample]:
        """The rows do not say which picture is whose: each counts as its own, and is named after its question."""
        return read_vqa_rows(hub, split, "question_id")
