"""The fingerprint of a model: a hash by which answers and image prefixes know the model that made them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deltaprune.mllm.network import MLLM

SAMPLED = 2**18  # values of a tensor that the fingerprint reads; tensors up to this size are read in full


class Fingerprint:
    """The fingerprint of a model that may change: computed when first asked for, and again after a change."""

    def __init__(self) -> None:
        self._known: tuple[object, str] | None = None

    def of(self, model: MLLM) -> str:
        """See `fingerprint`; a change of sizes, plan or weights is seen without reading the weights."""
        weights = tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in model.parameters())
        state, known = (model.config, weights), self._known
        if known is None or known[0] != state:
            known = self._known = (state, fingerprint(model))
        return known[1]


def fingerprint(model: MLLM) -> str:
    """A hash of a model's sizes, plan and weights, the same on every device and in every process.

    Tensors of more than 2**18 values are sampled evenly, so that a 3B model takes a fraction of a second: training or
    casting a model changes it, a single value altered by hand in a large tensor may not.
    """
    config = {key: value for key, value in model.config.to_dict().items() if key not in ("name", "about")}
    if config["plan"] is not None:
        del config["plan"]["source"]
        del config["plan"]["times"]  # which change no answer
        for name in ("found", "means", "thinning"):  # models without them keep the fingerprints they had
            if not config["plan"][name]:
                del config["plan"][name]
    return digest(model.state_dict(), config)


def digest(weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """A hash of weights, large ones sampled, and of what is said about them (plain JSON)."""
    return sha256({name: _sample(weight.detach().flatten()) for name, weight in weights.items()}, about)


def _sample(values: Tensor) -> Tensor:
    """Every n-th value, at most `SAMPLED` of them."""
    return values[:: max(1, -(-len(values) // SAMPLED))]


def sha256(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of the tensors' bytes and of what is said about them."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
