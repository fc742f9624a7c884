"""A worker packed for other processes: its weights are plain bytes, which a receiver uses without copying.

Torch pickles a tensor by copying it. Arrays can leave a pickle as separate buffers instead (pickle protocol 5), so that
all receivers on one machine read the same shared memory.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from deltaprune.checkpoints.checkpoint import ALIGNMENT
from deltaprune.evaluate.engines import Answers
from deltaprune.mllm.network import MLLMConfig, blank, restore_buffers
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class Flat:
    """A tensor as bytes; numpy knows no bfloat16."""

    data: np.ndarray
    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "Flat":
        """The tensor's values on the CPU, without a copy if it is contiguous there."""
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return cls(data, tensor.dtype, tuple(tensor.shape))

    def tensor(self) -> Tensor:
        """A view of the bytes; a copy if they are not aligned, since alignment decides a product's last bits."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # and it is only read
            view = torch.from_numpy(self.data).view(self.dtype).reshape(self.shape)
        return view.clone() if view.data_ptr() % ALIGNMENT else view


@dataclass(frozen=True)
class Parcel:
    """All of a worker.

    Attributes:
        config, weights, eos_id: of its model, whatever device that is on.
        kind: its class.
        rest: its other fields.
    """

    config: MLLMConfig
    weights: Mapping[str, Flat]
    eos_id: int
    kind: Callable[..., Answers]
    rest: Mapping[str, Any]

    @classmethod
    def of(cls, worker: Answers) -> "Parcel":
        """Pack; the worker is not changed."""
        vlm = worker.vlm
        weights = {name: Flat.of(tensor) for name, tensor in vlm.model.state_dict().items()}
        rest = {each.name: getattr(worker, each.name) for each in fields(cast(Any, worker)) if each.name != "vlm"}
        return cls(vlm.config, weights, vlm.eos_id, type(worker), rest)

    def worker(self, device: torch.device) -> Answers:
        """Unpack; on the CPU the model's weights are views of the received bytes, read only."""
        model = blank(self.config)
        model.load_state_dict({name: flat.tensor() for name, flat in self.weights.items()}, assign=True)
        restore_buffers(model)
        model.to(device=device).eval().requires_grad_(False)
        return self.kind(VLM(model, self.eos_id), **self.rest)
