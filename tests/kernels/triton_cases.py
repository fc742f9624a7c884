"""Where the Triton backends are tested: on the GPU, or in the interpreter on the CPU."""

import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def there(made: dict) -> dict:
    """A call's tensors on the device under test."""
    return {name: x.to(DEVICE) if isinstance(x, Tensor) else x for name, x in made.items()}


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that nobody has written is NaN."""
    real = torch.empty

    def empty(*args, **kwargs):
        made = real(*args, **kwargs)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", empty)
