"""GQA: compositional questions about real scenes, generated from scene graphs.

Paper: Hudson and Manning, 2019, arXiv:1902.09506. Version 1.2 of the questions.
Split: testdev_balanced, 12,578 questions about 398 pictures.
Headline: accuracy, percent, over questions; exact match of one word or short phrase.
Skills: the structural type (verify, query, choose, logical, compare).
Checked against the official scorer: see `checked` of each protocol.

The question file is one object, question id -> entry:

    {"201307251": {"imageId": "n161313", "question": "Is the cup to the left of the plate?", "answer": "yes",
                   "fullAnswer": "Yes, the cup is to the left of the plate.", "isBalanced": true,
                   "types": {"structural": "verify", "semantic": "rel", "detailed": "relVerify"}, ...}, ...}
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._base import Protocol, Sample
from deltaprune.benchmarks._files import Entry, read_json
from deltaprune.benchmarks._hub import HubPicture, entries, load_rows
from deltaprune.benchmarks._images import Picture
from deltaprune.benchmarks._official import OfficialBenchmark
from deltaprune.benchmarks.graders import protocols
from deltaprune.errors import UserError


@registry.register("gqa")
@dataclass(frozen=True)
class GQA(OfficialBenchmark):
    """GQA testdev_balanced; see the file's docstring."""

    name: ClassVar[str] = "gqa"
    version: ClassVar[int] = 2
    protocols: ClassVar[Mapping[str, Protocol]] = protocols.GQA
    split: ClassVar[str] = "testdev_balanced"
    counts: ClassVar[Mapping[str, tuple[int, int]]] = {"testdev_balanced": (12_578, 398)}
    layout: ClassVar[str] = (
        "testdev_balanced_questions.json (from questions1.2.zip) and the folder images (from images.zip), both from "
        "cs.stanford.edu/people/dorarad/gqa/download.html"
    )
    hub_ids: ClassVar[tuple[str, ...]] = ("lmms-lab/GQA", "lmms-lab-encoder/GQA")

    def from_files(self, data: Path, split: str) -> Iterator[Sample]:
        """Pictures are named by their id."""
        file = self.file(data, f"{split}_questions.json", f"questions1.2/{split}_questions.json")
        folder = str(self.picture_folder(data, "images"))
        for key, values in read_json(file, dict).items():
            if not isinstance(values, dict):
                raise UserError(f"{file}, question {key}, is not an object: download it again.")
            entry = Entry(str(file), f"question {key}", values)
            yield _sample(key, entry, Picture(folder, f"{entry.text('imageId')}.jpg"))

    def from_hub(self, hub: str, split: str) -> Iterator[Sample]:
        """Questions and pictures are two configurations, joined by the picture's id."""
        pictures = load_rows(hub, "testdev", f"{split}_images")
        index = {entry.id("id"): row for row, entry in entries(pictures, hub)}
        for _, entry in entries(load_rows(hub, "testdev", f"{split}_instructions"), hub):
            image_id = entry.text("imageId")
            if image_id not in index:
                raise UserError(f"{hub!r} has no picture {image_id!r}, about which {entry.place} asks.")
            yield _sample(entry.id("id"), entry, HubPicture(pictures, index[image_id], hub))


def _sample(key: str, entry: Entry, load: "Picture | HubPicture") -> Sample:
    return Sample(
        id=key,
        image_id=entry.text("imageId"),
        load=load,
        question=entry.text("question"),
        answer=entry.text("answer"),
        skill=entry.inner("types").text("structural"),
    )
