"""The mean states that images leave, one per layer, in a safetensors file beside the plan they belong to."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from deltaprune.disk import save_tensors
from deltaprune.errors import UserError, in_words

FORMAT = "deltaprune mean states"
SUFFIX = ".means.safetensors"  # plan.json -> plan.means.safetensors
FILE = "plan" + SUFFIX  # in a model folder


@dataclass(frozen=True)
class MeanStates:
    """What the rows of an image leave in some layers on average, over calibration pictures and without pruning.

    Two of them are equal when their digests are.

    Attributes:
        digest: SHA-256 of the tensors; a plan names the file it belongs to by it.
        layers: layer (0-based) -> the tensors of its state by name, without a samples axis, float32; empty if only the
            plan was read and not the file.
    """

    digest: str
    layers: Mapping[int, Mapping[str, Float[Tensor, "..."]]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, layers: Mapping[int, Mapping[str, Tensor]]) -> "MeanStates":
        """From tensors."""
        kept = {
            l: {name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}
            for l, state in sorted(layers.items())
        }
        return cls(_digest(kept), kept)

    def only(self, layers: "set[int]") -> "MeanStates":
        """Those of some layers."""
        return MeanStates.of({l: state for l, state in self.layers.items() if l in layers})

    def save(self, path: str | os.PathLike[str], fingerprint: str = "") -> None:
        """Write one file, whole or not at all.

        Args:
            path: where to.
            fingerprint: of the model they were measured on, for the record.

        Raises:
            UserError: the folder does not exist or cannot be written to.
        """
        tensors = {f"{l}.{name}": tensor for l, state in self.layers.items() for name, tensor in state.items()}
        save_tensors(path, tensors, {"format": FORMAT, "digest": self.digest, "model": fingerprint})

    @classmethod
    def load(cls, path: str | os.PathLike[str], digest: str) -> "MeanStates":
        """Read what `save` wrote.

        Args:
            path: the file.
            digest: of the mean states that the plan names.

        Raises:
            UserError: no such file, damaged, or another plan's.
        """
        file = Path(path)
        try:
            with safe_open(file, framework="pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"The plan's mean states {str(file)!r} cannot be read ({in_words(error)}): calibrate again, or copy "
                "the file that belongs to the plan."
            ) from error
        layers: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            l, _, part = name.partition(".")
            layers.setdefault(int(l), {})[part] = tensor
        found = cls.of(layers)
        if found.digest != digest:
            raise UserError(
                f"The mean states {str(file)!r} are another plan's or damaged: their digest is {found.digest[:12]}, "
                f"and the plan names {digest[:12]}. Calibrate again, or copy the file that belongs to the plan."
            )
        return found


def beside(plan: str | os.PathLike[str]) -> Path:
    """Where the mean states of a plan file are: plan.json -> plan.means.safetensors."""
    return Path(plan).with_suffix(SUFFIX)


def _digest(layers: Mapping[int, Mapping[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for l, state in layers.items():
        for name, tensor in sorted(state.items()):
            digest.update(f"{l} {name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
