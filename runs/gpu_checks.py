"""The correctness half of `gpu.py`: every Triton kernel against the reference in float64, on random inputs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.mamba_lm import kept_in_float32
from deltaprune.cost.verify import Case, cases, tensors
from deltaprune.generate import stream
from deltaprune.kernels import use
from deltaprune.kernels.layer_step.triton import MOST_ROWS
from deltaprune.kernels.layer_step.triton import Plan as StepPlan
from deltaprune.kernels.layer_step.triton import step as triton_step
from deltaprune.kernels.scan_state.triton import scan as triton_state
from deltaprune.kernels.selective_scan.triton import Plan
from deltaprune.kernels.selective_scan.triton import scan as triton_scan
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import Prefilled, prefill
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.steps import Stage

ALLOWED = {torch.float32: 2e-5, torch.bfloat16: 4e-3}  # of the norm; a bfloat16 output rounds by 2^-9 on average
INTERPRETED = 8e-3  # Triton's interpreter cuts bits off where a GPU rounds to nearest
LENGTHS = ([1], [2], [3], [63], [64], [65], [257], [750], [65, 1, 0, 7, 33], [1] * 8, [0, 5, 0])
TINY = ([1], [3], [5, 0, 1])
EXTRAS = frozenset({"delta", "delta_mean", "y"})
PLANS = (None, Plan(8, 1), Plan(32, 3), Plan(32, 7))  # the kernel's own, and time split
MODEL, GRAPH, REPLAY = "prefill", "graphed decoding", "graphed prefill"


@dataclass(frozen=True)
class Check:
    """One kernel on one device: the worst relative distance over all cases, and what was allowed.

    `guards` is what has no figures when it fails: a kernel, or `MODEL`, `GRAPH`, `REPLAY`.
    """

    op: str
    cases: int
    worst: float
    allowed: float
    guards: str

    @property
    def passed(self) -> bool:
        """NaN does not pass."""
        return self.worst <= self.allowed


def distance(got: Tensor, want: Tensor) -> float:
    """‖got - want‖ / ‖want‖ in float64; NaN where something was not written."""
    return ((got.double() - want.double()).norm() / want.double().norm().clamp(min=1e-30)).item()


def verdict(kernel: str, dtype: torch.dtype, distances: list[float], allowed: float) -> Check:
    """The worst of all cases; NaN if one is, which Python's `max` would pass over."""
    worst = torch.tensor(distances, dtype=torch.float64).max().item()
    return Check(f"{kernel} {dtype}".replace("torch.", ""), len(distances), worst, allowed, kernel)


def drawn(op: str, device: torch.device, dtype: torch.dtype, channels: int, tiny: bool, taps: int = 4) -> list[Case]:
    """One op's case of every length, as `verify_kernels` draws them."""
    every = TINY if tiny else LENGTHS
    return [cases(device, dtype, lengths, channels, taps, seed)[op]() for seed, lengths in enumerate(every)]


def check(given: Iterable[Case], dtype: torch.dtype, allowed: float) -> Check:
    """Triton's results against the reference's in float64."""
    kernel, distances = "", []
    for case in given:
        kernel = case.op.__name__
        distances += [distance(got, want) for got, want in zip(case.run("triton"), case.exact(), strict=True)]
    return verdict(kernel, dtype, distances, allowed)


def planned(case: Case, kernel: Callable[..., Any], extras: frozenset[str]) -> Iterator[list[float]]:
    """The distances of all that a scan gives, extras included, under every plan."""
    inputs: tuple[Any, ...] = (*case.inputs[:-1], extras)
    truth = replace(case, inputs=inputs).exact()
    for how in PLANS:
        yield [distance(*pair) for pair in zip(tensors(kernel(*inputs, how=how)), truth, strict=True)]


def check_scan(device: torch.device, dtype: torch.dtype, channels: int, tiny: bool) -> Check:
    """All lengths, carried states, every extra, under the plan that the kernel takes and with time split."""
    distances, scale = [], ALLOWED[torch.float32] / ALLOWED[dtype]
    for case in drawn("selective_scan", device, dtype, channels, tiny):
        for out, *rest in planned(case, triton_scan, EXTRAS):
            distances += [out * scale, *rest]
    return verdict("selective_scan", dtype, distances, limit(dtype, True))


def check_state(device: torch.device, dtype: torch.dtype, channels: int, tiny: bool) -> Check:
    """As `check_scan`, without outputs."""
    given = drawn("scan_state", device, dtype, channels, tiny)
    distances = [each for case in given for found in planned(case, triton_state, EXTRAS - {"y"}) for each in found]
    return verdict("scan_state", dtype, distances, limit(dtype, True))


def check_conv(device: torch.device, dtype: torch.dtype, channels: int, tiny: bool) -> Check:
    """All lengths, widths 2 to 4, carried states."""
    given = (case for taps in (2, 3, 4) for case in drawn("causal_conv1d", device, dtype, channels, tiny, taps))
    return check(given, dtype, limit(dtype))


def check_norm(device: torch.device, dtype: torch.dtype, width: int, tiny: bool) -> Check:
    """All lengths, with and without something to add."""
    added = drawn("rms_norm", device, dtype, width, tiny)
    bare = [replace(case, inputs=(*case.inputs[:3], None, *case.inputs[4:])) for case in added]
    return check(added + bare, dtype, limit(dtype))


def check_attention(device: torch.device, dtype: torch.dtype, channels: int, tiny: bool) -> Check:
    """The last token's row at all lengths."""
    given = drawn("hidden_attention", device, dtype, channels, tiny)
    return check(given, dtype, ALLOWED[torch.float32])  # all of it in float32


def check_step(device: torch.device, dtype: torch.dtype, config: MambaConfig, tokens: int) -> Check:
    """`tokens` steps one after the other over one layer, in place; launches that overlap must not overtake."""
    layer, distances = random_lm(replace(config, n_layers=1, vocab_size=8), device, dtype).blocks[0], []
    for batch in (1, MOST_ROWS):
        start = torch.randn(batch, config.d_model, device=device)
        with use("reference"), torch.no_grad():
            want, state = start, layer.empty_state(batch)
            for _ in range(tokens):
                want, state = layer.step(want, state)
        for how in (StepPlan(), StepPlan(early=False)):
            got, own = start, layer.empty_state(batch)
            for _ in range(tokens):
                got, _, _ = triton_step(got, layer.weights, own.ssm, own.conv, True, how)
            distances += [distance(got, want), distance(own.ssm, state.ssm), distance(own.conv, state.conv)]
    return verdict("layer_step", dtype, distances, 5 * limit(dtype))  # five roundings


def random_lm(config: MambaConfig, device: torch.device, dtype: torch.dtype) -> MambaLM:
    """Random weights of any size, made on the device."""
    with torch.device(device):
        lm = MambaLM(config)
    lm.reset_parameters()
    for name, weight in lm.named_parameters():
        weight.data = weight.data.to(torch.float32 if kept_in_float32(name) else dtype)
    return lm.eval().requires_grad_(False)


def limit(dtype: torch.dtype, scaled: bool = False) -> float:
    """What is allowed; `scaled`: the distances were scaled to float32's."""
    cut = dtype == torch.bfloat16 and not torch.cuda.is_available()
    allowed = ALLOWED[torch.float32] if scaled else ALLOWED[dtype]
    return allowed * (INTERPRETED / ALLOWED[torch.bfloat16] if cut else 1)


def check_model(lm: MambaLM, rows: int) -> Check:
    """A whole prefill on Triton against the reference's."""
    start = prompt(lm, 1, rows)
    with use("triton"):
        ours = prefill(lm, start)
    with use("reference"):
        truth = prefill(lm, start)
    return Check("prefill against reference", 1, distance(ours.hidden, truth.hidden), 3e-2, MODEL)


def check_graph(lm: MambaLM, rows: int) -> Check:
    """Graphed decoding on Triton against eager: the same ids."""
    return Check("graphed decoding against eager", 1, float(differ(lm, prefill(lm, prompt(lm, 1, rows)))), 0.0, GRAPH)


def check_replay(lm: MambaLM, rows: int) -> Check:
    """Replayed prefills against eager ones: pruned, then a question on what they left, each time with new inputs."""
    middle, distances, allowed = lm.config.n_layers // 2, [], limit(torch.bfloat16)
    stages = (Stage(after=1, keep=0.5, score=Delta()), Stage(after=middle, keep=0.0))
    for _ in range(3):
        image, question = prompt(lm, 1, rows, rows - 22), prompt(lm, 1, 22)
        eager, replayed = (prefill(lm, image, stages, graphed=how) for how in (False, True))
        more, again = (prefill(lm, question, stages, eager, graphed=how) for how in (False, True))
        for want, got in ((eager, replayed), (more, again)):
            distances += [
                distance(got.hidden, want.hidden),
                distance(got.states[-1].tensors()["ssm"], want.states[-1].tensors()["ssm"]),
            ]
    return replace(verdict(REPLAY, torch.bfloat16, distances, allowed), op="graphed prefill against eager")


def differ(lm: MambaLM, start: Prefilled) -> bool:
    """Whether eight graphed steps give other ids than eight eager ones."""

    def answer(graphed: bool) -> Tensor:
        return torch.stack(list(stream(lm, start, -1, 8, graphed=graphed)))

    return not torch.equal(answer(True), answer(False))


def prompt(lm: MambaLM, batch: int, rows: int, visual: int = 0) -> Rows:
    """Random rows as an image of `visual` tokens and text."""
    x = torch.randn(batch, rows, lm.config.d_model, device=lm.backbone.embedding.weight.device)
    return Rows.pack([row[:visual] for row in x], [row[visual:] for row in x])
