"""Force written files to the disk before anything relies on them, also where a system cannot sync a folder."""

import os
from contextlib import suppress
from pathlib import Path


def sync_file(file: Path) -> None:
    """Force a file's content to the disk.

    Raises:
        OSError: the disk is full or gone.
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
