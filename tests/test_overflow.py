"""Logits that are not finite are an error, and never an empty answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from PIL import Image

import deltaprune as dp
from deltaprune.ask import ask
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.folder import save_folder
from deltaprune.generate import NonFiniteLogits, Sampling, finite, generate, greedy, stream
from deltaprune.mllm.lm import MambaLM
from deltaprune.mllm.processor import Processor
from deltaprune.prefill import Prefilled, prefill
from deltaprune.protocols import Step
from deltaprune.rows import Rows

PICTURE = Image.radial_gradient("L").convert("RGB")
SAMPLERS = [greedy, Sampling(), Sampling(0.5, 3, 0.9)]


@pytest.fixture(scope="module")
def lm() -> MambaLM:
    torch.manual_seed(1)
    return MambaLM(MambaConfig(d_model=16, n_layers=2, vocab_size=32, d_state=4)).eval().requires_grad_(False)


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[torch.Tensor, int], None]], None]:
    """Let a function write to the logits of each token, the prompt's first; it is told how many came before."""

    def install(spoil: Callable[[torch.Tensor, int], None]) -> None:
        logits, prepared, calls = MambaLM.logits, MambaLM.prepared_step, []

        def written(found: torch.Tensor) -> torch.Tensor:
            spoil(found, len(calls))
            calls.append(found)
            return found

        def step_of(lm: MambaLM) -> Step:
            step = prepared(lm)

            def spoiled_step(ids: torch.Tensor, states: Any, in_place: bool = False) -> tuple[torch.Tensor, list[Any]]:
                found, new = step(ids, states, in_place)
                return written(found), new

            return spoiled_step

        monkeypatch.setattr(MambaLM, "logits", lambda lm, x: written(logits(lm, x)))
        monkeypatch.setattr(MambaLM, "prepared_step", step_of)

    return install


@pytest.fixture(scope="module")
def prefilled(lm: MambaLM) -> Prefilled:
    text = [lm.embed(torch.tensor(ids)) for ids in ([3, 1, 4], [9, 9])]
    return prefill(lm, Rows.pack([rows[:0] for rows in text], text))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_value_is_enough(value: float) -> None:
    logits = torch.full((3, 50_000), 3e38)
    logits[1, 777] = value
    assert finite(logits).tolist() == [True, False, True]


def test_float16_that_overflows_says_so(tiny: tuple[dp.VLM, Processor], tmp_path) -> None:
    """The product with the vocabulary leaves float16's range; the answer used to be empty."""
    save_folder(tmp_path, tiny[0].model, tiny[1].tokenizer)
    vlm, processor = dp.load(tmp_path, dtype="float16")
    vlm.model.lm.backbone.norm_f.weight.fill_(60_000.0)
    vlm.model.lm.backbone.embedding.weight.mul_(100)
    inputs = processor(images=PICTURE, text="What?")
    sentence = "not finite .*: float16 holds no number above 65504, load the model with dtype='bfloat16' or 'float32'"
    for run in (
        lambda: vlm.generate(**inputs),
        lambda: vlm.generate(**inputs, do_sample=True),
        lambda: vlm.generate(**inputs, method=dp.VTW(2)),
        lambda: vlm.generate(**processor(text="What?"), prefix=vlm.encode_image(PICTURE)),
        lambda: ask(vlm, processor, PICTURE, ["What?"], "vtw:after=2"),
    ):
        with pytest.raises(NonFiniteLogits, match=sentence):
            run()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("which", [0, 1, 3])
def test_at_any_token(lm: MambaLM, prefilled: Prefilled, spoiled: Callable, sampler: Callable, which: int) -> None:
    """The tokens before it are handed out, it is not."""
    given = []

    def broken(found: torch.Tensor, before: int) -> None:
        if before == which:
            found[1, 3] = torch.nan

    spoiled(broken)
    with pytest.raises(NonFiniteLogits, match="the weights or the activations are broken"):
        given.extend(stream(lm, prefilled, -1, 4, sampler))  # takes over what comes before the error
    assert len(given) == which


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_row_that_has_ended_is_not_asked(
    lm: MambaLM, prefilled: Prefilled, spoiled: Callable, sampler: Callable
) -> None:
    """What becomes of its state is of no account: a batch answers as its rows do alone."""
    calls = []

    def ending(found: torch.Tensor, before: int) -> None:
        calls.append(before)
        found[1] = torch.where(torch.arange(32) == 7, 0.0, -1e9) if before == 0 else torch.nan

    spoiled(ending)
    ids = generate(lm, prefilled, 7, 5, sampler)
    assert len(calls) > 1
    assert ids[1].tolist() == [7] * ids.shape[1]
    assert ids.shape[1] > 1


def test_the_device_is_asked_once_per_token(lm: MambaLM, prefilled: Prefilled, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU every further question would hold it up."""
    asked: list[str] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(function, "__name__", "")
            if name in ("item", "tolist", "__bool__", "__int__", "__float__"):
                asked.append(name)
            return function(*args, **(kwargs or {}))

    @contextmanager
    def stepping(*args: object) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
        yield lambda ids: torch.zeros(2, 32)  # the CPU's kernels ask for lengths

    monkeypatch.setattr("deltaprune.generate.stepping", stepping)
    for sampler in SAMPLERS:
        asked.clear()
        with Watch():
            tokens = list(stream(lm, prefilled, -1, 5, sampler))
        assert len(tokens) == 5
        assert asked == ["tolist"] * 5
