"""What the seven published benchmarks share: reading files or hub datasets, and checks that they are complete."""

import abc
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from deltaprune.benchmarks._base import Benchmark, Sample
from deltaprune.benchmarks._images import Picture
from deltaprune.checks import check_local
from deltaprune.errors import UserError, did_you_mean


@dataclass(frozen=True)
class OfficialBenchmark(Benchmark):
    """A benchmark read from its official files, or from a hub dataset with the same content.

    Questions come in the files' order, except that all questions about a picture follow its first one. They are read
    once per object; pictures are opened only when a sample's `load` is called.

    Args:
        data: the folder of the official files, as `layout` describes it.
        images: the folder of the pictures, if it is another one.
        hub: the id of a hub dataset instead, one of `hub_ids` or a copy.
        allow_partial: do not insist on the official number of questions and pictures.
        protocol: whose rules; a key of `protocols`.

    Class attributes:
        split: the split when none is named.
        counts: questions and pictures of each split, as published.
        variants: other numbers of questions that a split was published with, and what they are.
        layout: which files to download from where.
        hub_ids: hub datasets with this content; any copy will do.
        hub_has_images: whether their rows hold the pictures.
    """

    data: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    images: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    hub: str | None = field(default=None, kw_only=True)
    allow_partial: bool = field(default=False, kw_only=True)
    _read: dict[str, tuple[Sample, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    split: ClassVar[str]
    counts: ClassVar[Mapping[str, tuple[int, int]]]
    variants: ClassVar[Mapping[str, Mapping[int, str]]] = {}
    layout: ClassVar[str]
    hub_ids: ClassVar[tuple[str, ...]]
    hub_has_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None and self.hub is not None:
            raise UserError(f"{self.name} is given both data={str(self.data)!r} and hub={self.hub!r}: choose one.")
        if self.hub is not None and self.hub_has_images and self.images is not None:
            raise UserError(f"The rows of {self.hub!r} hold their pictures: leave out images={str(self.images)!r}.")

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without the questions that were read: another process is sent samples, or reads the files itself."""
        return {**self.__dict__, "_read": {}}

    @abc.abstractmethod
    def from_files(self, data: Path, split: str) -> Iterable[Sample]:
        """The questions of a split in the order of the official files."""

    @abc.abstractmethod
    def from_hub(self, hub: str, split: str) -> Iterable[Sample]:
        """The same from a hub dataset."""

    def samples(self, split: str, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        """The questions of a split, the first `limit` of them; `seed` has no effect: the order is the files'.

        Raises:
            UserError: an unknown split; no data; anything wrong with a file; an id that occurs twice; or, where neither
                `limit` nor `allow_partial` is given, not the official number of questions or pictures.
        """
        samples = self._all(split)
        if limit is None and not self.allow_partial:
            self._check_counts(split, samples)
        return islice(iter(samples), limit)

    def is_partial(self, split: str, n: int) -> bool:
        """Whether `n` questions are fewer than the split officially has."""
        whole = len(self._all(split))
        official = whole == self.counts[split][0] or self.variant(split) is not None
        return n < whole or not official

    def total(self, split: str) -> int:
        """How many questions the split has: as published, or as in a known variant of its files."""
        return self.counts[split][0] if self.variant(split) is None else len(self._all(split))

    def variant(self, split: str) -> str | None:
        """What is special about the files that were read, where the split was published in several sizes."""
        return self.variants.get(split, {}).get(len(self._all(split)))

    def note(self, split: str) -> str:
        """The `variant`, if any."""
        return self.variant(split) or ""

    def file(self, data: Path, *names: str) -> Path:
        """The first of `names` that is in the folder.

        Raises:
            UserError: none is.
        """
        found = next((data / name for name in names if (data / name).is_file()), None)
        if found is None:
            raise UserError(f"There is no {str(data / names[0])!r}: {self.name} reads {self.layout}.")
        return found

    def picture_folder(self, data: Path, *names: str) -> Path:
        """`images` where it is given, else the first of `names` that is a folder in `data`.

        Raises:
            UserError: there is no such folder.
        """
        if self.images is not None:
            return _folder(self.images, "images")
        found = next((data / name for name in names if (data / name).is_dir()), None)
        if found is None:
            raise UserError(
                f"There is no folder {str(data / names[0])!r}: {self.name} reads {self.layout}; "
                "give another folder of pictures with images=DIR."
            )
        return found

    def _all(self, split: str) -> tuple[Sample, ...]:
        """Every question of a split; those about one picture are neighbours."""
        if split not in self.counts:
            raise UserError(f"{self.name} has no split {split!r}: {did_you_mean(split, self.counts)}.")
        if split not in self._read:
            self._read[split] = self._grouped(self._source(split))
        return self._read[split]

    def _source(self, split: str) -> Iterable[Sample]:
        if self.data is not None:
            return self.from_files(_folder(self.data, "data"), split)
        if self.hub is not None:
            return self.from_hub(self.hub, split)
        raise UserError(
            f"{self.name} is given neither data nor hub: give data=DIR (--data DIR), a folder with {self.layout}, or "
            f"hub={self.hub_ids[0]!r} (--hub)."
        )

    def _grouped(self, samples: Iterable[Sample]) -> tuple[Sample, ...]:
        by_picture: dict[str, list[Sample]] = {}
        ids: set[str] = set()
        for sample in samples:
            if sample.id in ids:
                raise UserError(f"Question {sample.id!r} occurs twice in {self._origin}: download the files again.")
            ids.add(sample.id)
            by_picture.setdefault(sample.image_id, []).append(sample)
        return tuple(sample for about_one in by_picture.values() for sample in about_one)

    def _check_counts(self, split: str, samples: tuple[Sample, ...]) -> None:
        """A hub dataset need not say which questions share a picture, so only its questions are counted."""
        questions, pictures = self.counts[split]
        found = len({sample.image_id for sample in samples})
        if self.variant(split) is not None:
            questions = len(samples)
        if (len(samples), found) == (questions, pictures) or (self.hub and len(samples) == questions):
            return
        raise UserError(
            f"{self.name} {split} has {questions:,} questions about {pictures:,} pictures, but {self._origin} has "
            f"{len(samples):,} about {found:,}: download it again, or say that a part is meant (limit, allow_partial)."
        )

    @property
    def _origin(self) -> str:
        return repr(str(self.hub if self.data is None else self.data))


def coco_2014(folder: Path, image_id: str) -> Picture:
    """A picture of COCO's val2014 by its number, such as "262148".

    Raises:
        UserError: the id is no number.
    """
    if not image_id.isdecimal():
        raise UserError(f"{image_id!r} is no COCO image id: it is a whole number.")
    return Picture(str(folder), f"COCO_val2014_{int(image_id):012d}.jpg")


def _folder(path: str | os.PathLike[str], name: str) -> Path:
    check_local(name, path)
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{name}={str(folder)!r} {what}: give the folder.")
    return folder.absolute()  # other processes may run in another folder
