"""What many tests share: a tiny random model, the same in every run.

Without a GPU the Triton kernels run in Triton's interpreter. It must be chosen before anything imports triton, which
torch does on its own.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from jaxtyping import config

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from deltaprune.benchmarks import registry as benchmarks
from deltaprune.benchmarks.scenes import corpus
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.methods import registry as methods
from deltaprune.mllm.network import MLLM, MLLMConfig
from deltaprune.mllm.processor import Processor
from deltaprune.models.cobra import dino, siglip
from deltaprune.scores import registry as scores
from deltaprune.steps import Plan
from deltaprune.vlm import VLM
from training.vocabulary import train_tokenizer

LEFT_OUT = {"gpu": "need a GPU: sh runs/gpu.sh runs them there", "slow": "are slow: pytest -m slow runs them"}
_left_out: Counter[str] = Counter()


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count what the command line left out, by its mark."""
    for item in items:
        _left_out.update([next((mark for mark in LEFT_OUT if item.get_closest_marker(mark)), "")])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Nothing is left out in silence."""
    for mark, why in LEFT_OUT.items():
        if _left_out[mark]:
            terminalreporter.write_line(f"{_left_out[mark]} tests were left out that {why}")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As for users: what has the wrong type is refused by the library itself, not by the tests' checks of types."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def _a_loop_that_is_closed() -> Iterator[None]:
    """Gradio asks for this thread's event loop, and asyncio makes one that nobody closes where there is none."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="session")
def tiny() -> tuple[VLM, Processor]:
    """Two towers at 32 x 32 (16 visual tokens), 4 Mamba layers of width 32, a plan; random weights, seed 0.

    The layers are loud and their skip D u is quiet, so that what the image wrote into the state reaches the answer.
    """
    tokenizer = train_tokenizer(corpus(200), vocab_size=320)
    config = MLLMConfig(
        name="tiny",
        towers={"dino": dino(32, 8, 32, 3, 2), "siglip": siglip(32, 8, 32, 3, 2, 64)},
        projector=(64, 32, 32),
        lm=MambaConfig(d_model=32, n_layers=4, vocab_size=tokenizer.get_vocab_size()),
        template="zephyr",
        plan=Plan(early=1, late=3),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MLLM(config)
        model.lm.reset_parameters()
    model.eval().requires_grad_(False)
    for layer in model.lm.blocks:
        layer.mixer.out_proj.weight.mul_(100)
        layer.mixer.D.mul_(0.01)
    processor = Processor(config, tokenizer)
    return VLM(model, processor.eos_id), processor


@pytest.fixture
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test registers is forgotten after it."""
    for registry in (scores, methods, benchmarks):
        registry.names()  # all of ours are there from now on
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr("deltaprune.plugins._LOADED", {})
