"""What a time was measured on."""

import platform
from pathlib import Path

import torch

_CPUS = Path("/proc/cpuinfo")


def processor(device: torch.device) -> str:
    """The name of a device's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = _CPUS.read_text(encoding="utf-8", errors="replace").splitlines() if _CPUS.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
