"""The time of a layer by what it does with an image: a budget in milliseconds is computed from this table.

A prefill is timed with all layers at "full", all at "write", all at "mean" and all at "skip", in turn, in every round.
A layer's time is the median over the rounds, divided by the number of layers: it holds a share of all else there is.
"""

from collections.abc import Callable
from statistics import median

import torch

from deltaprune.cost.machine import processor
from deltaprune.cost.rounds import prompts
from deltaprune.cost.timing import timed, unmeasured
from deltaprune.errors import UserError
from deltaprune.mean_states import MeanStates
from deltaprune.plan import LayerTimes
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.steps import Pass
from deltaprune.vlm import VLM

ROUNDS = 9


@torch.no_grad()
def layer_times(
    vlm: VLM, text_tokens: int, rounds: int = ROUNDS, on_round: Callable[[int, int], None] | None = None
) -> LayerTimes:
    """Measure the table on this machine, for one image and one text.

    Args:
        vlm: the model; random weights will do.
        text_tokens: of the prompt, template included.
        rounds: measured ones; more warm up.
        on_round: called with (done, total).

    Raises:
        UserError: no text or no rounds.
    """
    for name, value in (("text_tokens", text_tokens), ("rounds", rounds)):
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1.")
    lm, every = vlm.model.lm, tuple(range(vlm.shape.n_layers))
    pixels, ids = prompts(vlm, 1, text_tokens)
    visual, text = vlm.model.encode(pixels), lm.embed(ids)
    rows = Rows.pack(list(visual), list(text))
    states = prefill(lm, Rows.pack(list(visual), [text[0, :0]]), ()).states
    means = MeanStates.of({l: {n: t[0] for n, t in state.tensors().items()} for l, state in enumerate(states)})
    steps = {
        "full": (),
        "write": (Pass(every, "write"),),
        "mean": (Pass(every, "mean", means),),
        "skip": (Pass(every, "skip"),),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    first = unmeasured(vlm.device)
    for i in range(first + rounds):
        for name, each in steps.items():
            ms = timed(lambda each=each: prefill(lm, rows, each), vlm.device)[1]
            taken[name] += [ms] if i >= first else []
        if on_round:
            on_round(i + 1, first + rounds)
    return LayerTimes(
        device=vlm.device.type,
        processor=processor(vlm.device),
        threads=torch.get_num_threads(),
        dtype=str(lm.dtype).removeprefix("torch."),
        n_visual=vlm.config.n_visual,
        text_tokens=text_tokens,
        **{name: median(values) / len(every) for name, values in taken.items()},
    )


def check_times(times: LayerTimes | None, n_visual: int, text_tokens: int | None = None) -> LayerTimes:
    """A plan's table, where it holds here: measured on this machine and for these prompts.

    Args:
        times: the plan's.
        n_visual, text_tokens: of a prompt; None is that of the table.

    Raises:
        UserError: no table, or one for another processor, number of threads, or prompt.
    """
    again = "measure here with deltaprune calibrate --budget MS --in ms, or give a share of the MACs"
    if times is None:
        raise UserError(f"This plan has no layer times, so a budget in milliseconds has no meaning: {again}.")
    device = torch.device(times.device)
    on_gpu = device.type == "cuda" and torch.cuda.is_available()
    here = {
        "processor": processor(device if on_gpu else torch.device("cpu")),
        "threads": times.threads if on_gpu else torch.get_num_threads(),
        "n_visual": n_visual,
        "text_tokens": times.text_tokens if text_tokens is None else text_tokens,
    }
    for name, value in here.items():
        if (measured := getattr(times, name)) != value:
            raise UserError(f"The plan's layer times were measured for {name} {measured}, not {value}: {again}.")
    return times
