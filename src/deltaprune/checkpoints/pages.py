"""Pages of mapped files, released from this process's memory once their tensor has been copied."""

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

from jaxtyping import Shaped
from torch import Tensor

MAPS = Path("/proc/self/maps")  # Linux; elsewhere nothing is released


class MappedFiles:
    """Where these files are mapped right now.

    The kernel reclaims the clean pages of a mapped file when memory is short, but until then they count as this
    process's: a checkpoint that is cast while it is read would be in memory twice.
    """

    def __init__(self, files: Iterable[Path]):
        paths = {str(file.resolve()) for file in files}
        maps = os.fsdecode(MAPS.read_bytes()) if MAPS.exists() else ""
        lines = [line.split(maxsplit=5) for line in maps.split("\n")]
        spans = [line[0].split("-") for line in lines if len(line) == 6 and line[5] in paths]
        self._spans = [(int(start, 16), int(end, 16)) for start, end in spans]

    def give_back(self, tensor: Shaped[Tensor, "..."]) -> None:
        """Drop a tensor's whole pages, if it lies in one of the files; reading it again reads the file again."""
        if not tensor.is_contiguous():
            return
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if start < end and any(first <= start and end <= last for first, last in self._spans):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
