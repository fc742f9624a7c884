"""Launching on the right GPU."""

import contextlib

import torch
from torch import Tensor


def on_device_of(x: Tensor) -> contextlib.AbstractContextManager:
    """Launches within it go to the GPU that holds `x`, whichever is current."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
