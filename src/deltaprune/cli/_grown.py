"""What `plot growth` draws: rows of `bench --growth`, read from a file or measured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deltaprune.cli._progress import Working
from deltaprune.cli._reports import read_json
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.vlm import VLM

LENGTHS = (256, 512, 1024, 2048, 4096)
MAKE = "give the file of deltaprune bench --growth --json"
READ = {"name", "method", "tokens", "batch", "dtype", "device", "prefill_ms", "peak_bytes"}


def read_growth(files: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the one file.

    Raises:
        UserError: several files, one that cannot be read, or one that holds no growth.
    """
    if len(files) > 1:
        raise UserError(f"plot growth draws one file and was given {len(files)}: {MAKE}.")
    (file,) = files
    document = read_json(file, MAKE)
    rows = document[:-1] if isinstance(document, list) else []
    if not all(isinstance(row, dict) and row.keys() >= READ for row in rows):
        rows = []
    lengths = [row["tokens"] for row in rows]
    if len(rows) < 2 or lengths != sorted(set(lengths)):
        raise UserError(f"{file!r} holds no growth, two or more lengths ascending: {MAKE}.")
    return rows


def measured_growth(vlm: "VLM", working: Working) -> list[dict[str, Any]]:
    """256 to 4,096 tokens, the median of three rounds."""
    from deltaprune.cost.growth import growth

    working.say("measuring (the first round compiles the kernels)")
    return growth(vlm.model.lm, vlm.config.name, LENGTHS, 3, working.count)[0]
