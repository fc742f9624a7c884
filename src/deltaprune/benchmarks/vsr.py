"""VSR, visual spatial reasoning: is a statement about where two things are true of the picture?

Paper: Liu, Emerson and Collier, 2023, arXiv:2205.00363.
Split: test of the zero-shot division, 1,222 statements about 715 pictures, 629 of them true (always-true scores 51.5).
The first release of that file had 616; the random division's test file, of the same name, has 2,195.
Headline: accuracy, percent, over statements.
Skills: the seven groups of relations by which the authors report results (`GROUPS`).
Checked against the official scorer: see `checked` of each protocol.

The file holds one object a line. Statements have no ids of their own: ours is the place in the file, from 0:

    {"image": "000000000009.jpg", "image_link": "http://images.cocodataset.org/train2017/000000000009.jpg",
     "caption": "The bowl is left of the fork.", "label": 1, "relation": "left of", "subj": "bowl", "obj": "fork", ...}
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from deltaprune.benchmarks import registry
from deltaprune.benchmarks._base import Protocol, Sample
from deltaprune.benchmarks._files import Entry, read_json_lines
from deltaprune.benchmarks._hub import entries, load_rows
from deltaprune.benchmarks._images import Picture
from deltaprune.benchmarks._official import OfficialBenchmark
from deltaprune.benchmarks.graders import protocols
from deltaprune.errors import UserError

# analysis_scripts/rel_meta_category_dict.txt of cambridgeltl/visual-spatial-reasoning. "among" is there in two
# groups, and the authors' script takes the later; a relation in none of them is reported as Unallocated.
GROUPS = {
    "Adjacency": "adjacent to, alongside, at the side of, at the right side of, at the left side of, attached to, "
    "at the back of, ahead of, against, at the edge of",
    "Directional": "off, past, toward, down, deep down, up, away from, along, around, from, into, to, across, "
    "across from, through, down from",
    "Orientation": "facing, facing away from, parallel to, perpendicular to",
    "Projective": "on top of, beneath, beside, behind, left of, right of, under, in front of, below, above, over, "
    "in the middle of",
    "Proximity": "by, close to, near, far from, far away from",
    "Topological": "connected to, detached from, has as a part, part of, contains, within, at, on, in, with, "
    "surrounding, consists of, out of, between, inside, outside, touching",
    "Unallocated": "beyond, next to, opposite to, after, among, enclosed by",
}
_GROUP = {relation: group for group, relations in GROUPS.items() for relation in relations.split(", ")}


@registry.register("vsr")
@dataclass(frozen=True)
class VSR(OfficialBenchmark):
    """VSR zero-shot test; see the file's docstring."""

    name: ClassVar[str] = "vsr"
    version: ClassVar[int] = 2
    protocols: ClassVar[Mapping[str, Protocol]] = protocols.VSR
    split: ClassVar[str] = "test"
    counts: ClassVar[Mapping[str, tuple[int, int]]] = {"test": (1_222, 715)}
    layout: ClassVar[str] = (
        "test.jsonl (from huggingface.co/datasets/cambridgeltl/vsr_zeroshot) and the folder images (vsr_images.zip, or "
        "COCO's train2017 and val2017; see data/README.md of github.com/cambridgeltl/visual-spatial-reasoning)"
    )
    hub_ids: ClassVar[tuple[str, ...]] = ("cambridgeltl/vsr_zeroshot",)
    hub_has_images: ClassVar[bool] = False

    def from_files(self, data: Path, split: str) -> Iterator[Sample]:
        """Pictures lie in one folder, or in COCO's two."""
        name = f"{split}.jsonl"
        file = self.file(data, name, f"zeroshot/{name}", f"splits/zeroshot/{name}", f"data/splits/zeroshot/{name}")
        folder = self.picture_folder(data, "images", "trainval2017", "vsr_images", "data/images")
        return _samples(read_json_lines(file), folder)

    def from_hub(self, hub: str, split: str) -> Iterator[Sample]:
        """The dataset is the same file; the pictures come from the folder `images`.

        Raises:
            UserError: `images` is not given.
        """
        if self.images is None:
            raise UserError(f"{hub!r} holds no pictures: give images=DIR, the folder unpacked from vsr_images.zip.")
        rows = load_rows(hub, split, data_files={split: f"{split}.jsonl"})
        named = entries(rows, hub, without="")  # its column "image" holds names
        return _samples((entry for _, entry in named), self.picture_folder(Path()))


def _samples(rows: Iterable[Entry], folder: Path) -> Iterator[Sample]:
    coco = (folder / "train2017").is_dir() or (folder / "val2017").is_dir()
    for index, entry in enumerate(rows):
        image = entry.text("image")
        part = PurePosixPath(entry.text("image_link")).parent.name if coco else ""
        label = entry.id("label")
        if label not in ("0", "1"):
            raise UserError(f"{entry.source}, {entry.place}: the label is 0 or 1, not {label!r:.60}.")
        yield Sample(
            id=str(index),
            image_id=image,
            load=Picture(str(folder / part), image),
            question=entry.text("caption"),
            answer="True" if label == "1" else "False",
            skill=_GROUP.get(entry.text("relation").strip(), "Unallocated"),
        )
