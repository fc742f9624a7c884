"""Benchmarks from the Hugging Face hub, read with the `datasets` library, imported only here and only when needed."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from deltaprune.benchmarks._files import Entry
from deltaprune.errors import UserError, in_words
from deltaprune.vision.images import to_rgb


def load_rows(name: str, split: str, config: str | None = None, data_files: dict[str, str] | None = None) -> Any:
    """A split of a dataset, as `datasets.load_dataset` gives it; downloaded on first use.

    Args:
        name: the dataset's id, such as "lmms-lab/GQA", or a folder in its layout.
        split, config, data_files: passed on.

    Raises:
        UserError: the library is not installed, there is no such dataset, or it cannot be fetched.
    """
    try:
        library = importlib.import_module("datasets")
    except ImportError as error:
        raise UserError(
            f"Reading {name!r} from the hub needs the datasets library: pip install datasets, or give data=DIR, the "
            "folder of the official files."
        ) from error
    try:
        return library.load_dataset(name, config, split=split, data_files=data_files)
    except Exception as error:  # the library, the hub and the network each raise their own errors
        raise UserError(
            f"The hub dataset {name!r} (split {split!r}) could not be read ({in_words(error)}): check its id and the "
            "network, or give data=DIR, the folder of the official files."
        ) from error


def entries(rows: Any, name: str, without: str = "image") -> Iterator[tuple[int, Entry]]:
    """Index and columns of each row without the pictures' column, so that no picture is decoded."""
    plain = rows.remove_columns(without) if without in rows.column_names else rows
    for index, values in enumerate(plain):
        yield index, Entry(name, f"row {index}", values)


@dataclass(frozen=True)
class HubPicture:
    """Decodes the picture of one row when called."""

    rows: Any
    index: int
    name: str

    def __call__(self) -> Image.Image:
        """The picture as RGB.

        Raises:
            UserError: the row holds no picture, or a damaged one.
        """
        try:
            image = self.rows[self.index]["image"]
            if not isinstance(image, Image.Image):
                raise TypeError(f"a {type(image).__name__}")
            return to_rgb(image)
        except UserError as error:
            raise UserError(f"The picture of row {self.index} of {self.name!r} cannot be read: {error}") from error
        except Exception as error:  # decoding happens inside the library, which raises its own errors
            raise UserError(
                f"The picture of row {self.index} of {self.name!r} cannot be read ({in_words(error)}): "
                "download the dataset again."
            ) from error
