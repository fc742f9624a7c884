"""Clocks and memory meters that the measuring commands share."""

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

import torch

from deltaprune.cuda_graphs.prefills import WARM_UP
from deltaprune.timing import timed as timed
from deltaprune.timing import wait as wait

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def unmeasured(device: torch.device) -> int:
    """How many times something runs before it is measured: it compiles; on a GPU its CUDA graph is captured, too."""
    return WARM_UP if device.type == "cuda" else 1


def forget_peak(device: torch.device) -> None:
    """Reset the peak of memory. Without Linux' /proc the peak is that of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_bytes(b"5")


def release_freed() -> None:
    """Give freed memory back to the system, where the C library can, lest a small peak hide below it.

    What is timed next pays for new pages.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)


def peak_bytes(device: torch.device) -> int:
    """Most memory held since `forget_peak`, bytes: of the GPU by torch, else resident of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_bytes().splitlines() if line.startswith(b"VmHWM"))
        return 1024 * int(line.split()[1])
    return _peak_elsewhere()


def _peak_elsewhere() -> int:
    """The peak of the whole process where there is no /proc."""
    if sys.platform == "win32":  # which has no `resource`
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def spread(values: Sequence[float]) -> float:
    """Half the interquartile range over the median; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / (2 * middle)
