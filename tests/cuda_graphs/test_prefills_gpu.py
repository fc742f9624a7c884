"""Graphed prefills on a GPU, with real graphs; their bookkeeping is tested in `test_replays.py`."""

import logging
import threading

import pytest
import torch
from prefills import ROWS, SAMPLES, Reading, drawn, parts, small, stages_of

from deltaprune.methods import registry
from deltaprune.prefill import Prefilled, prefill
from deltaprune.steps import Stage

pytestmark = pytest.mark.gpu


def close(done: Prefilled, want: Prefilled) -> None:
    """The same choices, and values apart by no more than the order of a sum."""
    (layout, tensors), (wanted_layout, wanted) = parts(done), parts(want)
    assert layout == wanted_layout
    torch.testing.assert_close(tensors, wanted)


@pytest.mark.parametrize("text", registry.names())
def test_every_method_on_a_gpu(text):
    model, stages = small("cuda"), stages_of(text)
    for turn in range(4):
        tokens = drawn(device="cuda")
        done = prefill(model, tokens, stages)
        assert done.replayed == (turn > 0)
        close(done, prefill(model, tokens, stages, graphed=False))


@pytest.mark.parametrize("text", ["none", "dtp", "dart"])
def test_questions_on_a_prefix_on_a_gpu(text):
    model, stages = small("cuda"), stages_of(text)
    held = []
    for _ in range(4):
        image = prefill(model, drawn(((9, 0), (5, 0)), "cuda"), stages, awaits_text=True)
        image = image.repeat(torch.tensor([0, 1, 1], device="cuda"))
        asked = drawn(((0, 3), (0, 2), (0, 3)), "cuda")
        held.append((prefill(model, asked, stages, image), prefill(model, asked, stages, image, graphed=False)))
    assert [done.replayed for done, _ in held] == [False, True, True, True]
    for done, want in held:
        close(done, want)


def test_streams_and_threads_on_a_gpu():
    model, stages, wrong = small("cuda"), stages_of("dtp"), []
    torch.cuda.synchronize()

    def work(samples: tuple[tuple[int, int], ...]) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            inputs = [drawn(samples, "cuda") for _ in range(30)]
            results = [prefill(model, tokens, stages) for tokens in inputs]
            wanted = [prefill(model, tokens, stages, graphed=False) for tokens in inputs]
            torch.cuda.current_stream().synchronize()
            for done, want in zip(results, wanted, strict=True):
                try:
                    close(done, want)
                except AssertionError as error:
                    wrong.append(error)

    threads = [threading.Thread(target=work, args=(samples,)) for samples in (SAMPLES, SAMPLES, ROWS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_stage_that_reads_leaves_the_gpu_usable(caplog):
    model, stages = small("cuda"), (Stage(after=1, keep=0.5, score=Reading()),)
    here = torch.cuda.current_stream()
    with caplog.at_level(logging.WARNING, "deltaprune.kernels"):
        for _ in range(4):
            tokens = drawn(device="cuda")
            close(prefill(model, tokens, stages), prefill(model, tokens, stages, graphed=False))
    assert torch.cuda.current_stream() == here
    (told,) = caplog.messages
    assert "Reading()" in told
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert prefill(model, drawn(device="cuda"), stages_of("dtp"), graphed=True).replayed
