"""What the Triton backends share, without importing triton: where they run, and why they may not.

Triton compiles for the GPU at a kernel's first launch. With TRITON_INTERPRET=1 in the environment before that it runs
the same source in numpy, on CPU tensors too: slowly, for tests. That is then never an automatic choice.
"""

import functools
import importlib.util
import os

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = ("cuda", "cpu") if INTERPRETED else ("cuda",)
PRIORITY = -10 if INTERPRETED else 10
DTYPES = (torch.float32, torch.bfloat16)
FUSED = {"enable_fp_fusion": True}  # a b + c in one rounding; off by default since Triton 3.10


@functools.cache
def why_not() -> str | None:
    """Why Triton kernels cannot run in this process, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (it comes with the CUDA builds of torch)"
    if not INTERPRETED and not torch.cuda.is_available():
        return "there is no GPU"
    return None


def rows(x: Tensor) -> Tensor:
    """A matrix whose rows are contiguous; they may be cut from wider ones."""
    x = x.detach()
    return x if x.stride(1) == 1 else x.contiguous()


def weights(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Float32 and contiguous; no copy where they are already."""
    return tuple(w.detach().float().contiguous() for w in tensors)


def processors(x: Tensor) -> int:
    """How many multiprocessors the GPU that holds `x` has; what an H100 has, where it is interpreted."""
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 132
