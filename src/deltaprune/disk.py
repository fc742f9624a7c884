"""Files written whole or not at all, and forced to the disk before anything relies on them."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from deltaprune.errors import UserError, in_words


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a safetensors file; it gets its name only when it is complete.

    Args:
        path: the file; one of that name is replaced.
        tensors: by name, contiguous.
        about: the file's metadata.

    Raises:
        UserError: the folder does not exist or cannot be written to.
    """
    file = Path(path)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        save_file(dict(tensors), partial, metadata=dict(about))
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{str(file)!r} cannot be written ({in_words(error)}): choose a name in a folder that you may write to."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def sync_file(file: Path) -> None:
    """Force a file's content to the disk.

    Raises:
        OSError: the disk is full or was removed.
    """
    with file.open("r+b") as opened:  # Windows refuses to sync what was opened for reading
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk; without its name a file that was synced can be lost in a power cut.

    Windows cannot open a folder as a file, and some network file systems cannot sync one: there the
    file system alone decides when names reach the disk.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
