"""An overflow ends a command in one sentence, and neither in a traceback nor in an empty answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deltaprune.mllm.lm import MambaLM
from deltaprune.scores.delta import Delta
from deltaprune.steps import Score


@pytest.mark.parametrize(
    ("owner", "name", "sentence"),
    [
        (MambaLM, "logits", "The logits of the next token are not finite (NaN or infinite): "),
        (Delta, "__call__", "The token scores of Delta(), read after layer 1, are not finite (NaN or infinite): "),
    ],
)
def test_ask(
    cli: Callable[..., Any],
    model: Path,
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type[MambaLM | Score],
    name: str,
    sentence: str,
) -> None:
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args: real(*args) * torch.inf)
    ran = cli("ask", scene, "What?", "--model", model, "--method", "dtp")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(sentence)
    assert ran.err.count("\n") == 1
