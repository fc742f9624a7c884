"""POPE: is there such a thing in the picture? Half of the questions ask for things that are not.

Paper: Li et al., 2023, arXiv:2305.10355.
Splits: random, popular and adversarial, by how the absent things were drawn; 3,000 questions each about the same 500
COCO pictures, half of them answered yes. `test` is all three, 9,000 questions. At commit e3e39262 of AoiDragon/POPE,
which LLaVA and vlm-evaluation use, the random file has 2,910 questions (8,910 in all); both are accepted, and
`note(split)` says when it is the older.
Headline: accuracy, percent, the mean over the three splits, or over questions (robomamba, lmms-eval); F1 is among the
metrics.
Skills: the split.
Checked against the official scorer: see `checked` of each protocol.

Each file holds one object a line. Question ids start over in each file, so ours are "random/1":

    {"question_id": 1, "image": "COCO_val2014_000000000009.jpg", "text": "Is there a bowl in the image?",
     "label": "yes"}
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._base import Protocol, Sample
from deltaprune.benchmarks._files import Entry, read_json_lines
from deltaprune.benchmarks._hub import HubPicture, entries, load_rows
from deltaprune.benchmarks._images import Picture
from deltaprune.benchmarks._official import OfficialBenchmark
from deltaprune.benchmarks.graders import protocols
from deltaprune.errors import UserError

SPLITS = ("random", "popular", "adversarial")
_OLD = "the older random file of 2,910 questions"


@registry.register("pope")
@dataclass(frozen=True)
class POPE(OfficialBenchmark):
    """POPE on COCO; see the file's docstring."""

    name: ClassVar[str] = "pope"
    version: ClassVar[int] = 2
    protocols: ClassVar[Mapping[str, Protocol]] = protocols.POPE
    split: ClassVar[str] = "test"
    counts: ClassVar[Mapping[str, tuple[int, int]]] = {
        "test": (9_000, 500),
        "random": (3_000, 500),
        "popular": (3_000, 500),
        "adversarial": (3_000, 500),
    }
    variants: ClassVar[Mapping[str, Mapping[int, str]]] = {"test": {8_910: _OLD}, "random": {2_910: _OLD}}
    layout: ClassVar[str] = (
        "coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json (from output/coco of "
        "github.com/AoiDragon/POPE) and the folder val2014 (from images.cocodataset.org/zips/val2014.zip)"
    )
    hub_ids: ClassVar[tuple[str, ...]] = ("lmms-lab/POPE", "lmms-lab-encoder/POPE")

    def from_files(self, data: Path, split: str) -> Iterator[Sample]:
        """File after file; one picture's questions come together afterwards."""
        folder = str(self.picture_folder(data, "val2014"))
        for part in _parts(split):
            name = f"coco_pope_{part}.json"
            for entry in read_json_lines(self.file(data, name, f"output/coco/{name}", f"coco/{name}")):
                image = entry.text("image")
                load = Picture(folder, image)
                yield _sample(part, entry, image.removesuffix(".jpg"), load, entry.text("text"), entry.text("label"))

    def from_hub(self, hub: str, split: str) -> Iterator[Sample]:
        """The default configuration holds all three; `category` tells them apart, `image_source` the pictures."""
        rows = load_rows(hub, "test")
        for index, entry in entries(rows, hub):
            part = entry.text("category")
            if part in _parts(split):
                image = entry.text("image_source").removesuffix(".jpg")
                load = HubPicture(rows, index, hub)
                yield _sample(part, entry, image, load, entry.text("question"), entry.text("answer"))


def _parts(split: str) -> tuple[str, ...]:
    return SPLITS if split == "test" else (split,)


def _sample(part: str, entry: Entry, image_id: str, load: "Picture | HubPicture", question: str, answer: str) -> Sample:
    if answer not in ("yes", "no"):
        raise UserError(f"{entry.source}, {entry.place}: the label is yes or no, not {answer!r:.60}.")
    return Sample(f"{part}/{entry.id('question_id')}", image_id, load, question, answer, skill=part)
