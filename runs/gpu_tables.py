"""The measuring half of `gpu.py`: kernels alone, prefill and decoding, each beside its floor of the same run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cost.floors import copy_bandwidth, products, rows_per_layer, weight_bytes
from deltaprune.cost.timing import timed
from deltaprune.cuda_graphs.step import _capture, stepping
from deltaprune.kernels import causal_conv1d, rms_norm
from deltaprune.kernels.layer_step.triton import Plan as StepPlan
from deltaprune.kernels.layer_step.triton import step
from deltaprune.kernels.selective_scan.triton import Plan, scan
from deltaprune.methods import parse
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import cumulate
from deltaprune.steps import Plan as Layers
from deltaprune.steps import Shape
from gpu_checks import prompt, random_lm


@dataclass(frozen=True)
class Row:
    """One measured thing; `floor_ms` is what it cannot go below, of the same run."""

    table: str
    name: str
    tokens: int
    ms: float
    floor_ms: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Times the floor."""
        return None if self.floor_ms is None else self.ms / self.floor_ms


def graphed(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """`run` as a CUDA graph: its time without the launches; itself on a CPU."""
    if device.type != "cuda":
        return run
    with torch.no_grad():
        again, _ = _capture(run)

    def replay(inputs: object = run) -> None:  # what `run` holds is what the graph reads
        again()

    return replay


def milliseconds(run: Callable[[], object], device: torch.device, rounds: int, calls: int = 1) -> float:
    """Median over rounds of `calls` calls each, per call; two rounds warm up."""

    def many() -> None:
        for _ in range(calls):
            run()

    times = [timed(many, device)[1] / calls for _ in range(rounds + 2)]
    return median(times[2:])


def drawn(config: MambaConfig, device: torch.device, length: int) -> dict[str, Tensor]:
    """Random inputs of one layer's scan, convolution and norm, `length` rows, cut and typed as the layer has them."""
    e, n, width, d = config.d_inner, config.d_state, config.d_conv, config.d_model

    def draw(*shape: int, kind: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.randn(shape, device=device).to(kind)

    single = torch.float32
    before, z = draw(length, 2 * e).split(e, 1)
    _, b, c = draw(length, config.rank + 2 * n).split([config.rank, n, n], 1)
    rows = {"before": before, "u": draw(length, e), "dt": draw(length, e), "B": b, "C": c, "z": z}
    rows |= {"x": draw(length, d, kind=single), "branch": draw(length, d), "bounds": cumulate((length,), device)}
    weights = {"A": -draw(e, n, kind=single).exp(), "D": draw(e, kind=single), "bias": draw(e, kind=single) - 3}
    weights |= {"taps": draw(e, width), "shift": draw(e), "gain": draw(d, kind=single)}
    return rows | weights


def scanned(t: dict[str, Tensor], how: Plan | None = None) -> object:
    """The scan of what was `drawn`; `how` overrules the kernel's own plan."""
    names = ("u", "dt", "A", "B", "C", "D", "z", "bias", "bounds")
    return scan(*(t[name] for name in names), None, frozenset(), how)  # type: ignore[arg-type]


def kernels(
    config: MambaConfig, device: torch.device, lengths: list[int], rounds: int, broken: frozenset[str] = frozenset()
) -> Iterator[Row]:
    """Scan, convolution and norm of one layer, graphed, beside the bytes that they must move; but for the `broken`."""
    e, d, bandwidth = config.d_inner, config.d_model, copy_bandwidth(device)
    for length in lengths:
        t = drawn(config, device, length)
        runs = {
            "selective_scan": (partial(scanned, t), 8 * length * e + 4 * e * config.d_state),
            "causal_conv1d": (
                partial(causal_conv1d, t["before"], t["taps"], t["shift"], t["bounds"], None, "triton"),
                4 * length * e,
            ),
            "rms_norm": (
                partial(rms_norm, t["x"], t["gain"], 1e-5, t["branch"], torch.bfloat16, "triton"),
                12 * length * d,
            ),
        }
        for name, (run, moved) in runs.items():
            if name not in broken:
                ms = milliseconds(graphed(run, device), device, rounds, calls=10)
                yield Row("kernels alone", name, length, ms, 1000 * moved / bandwidth, "floor: bytes at copy bandwidth")


def sweep(config: MambaConfig, device: torch.device, lengths: list[int]) -> Iterator[Row]:
    """The scan under many plans: the best three of each length."""
    plans = [Plan(lanes, chunks) for lanes in (8, 16, 32, 64) for chunks in (1, 3, 4, 6, 8, 12, 16)]
    for length in lengths:
        t = drawn(config, device, length)
        swept = {how: milliseconds(graphed(partial(scanned, t, how), device), device, 3, 10) for how in plans}
        for how in sorted(swept, key=swept.__getitem__)[:3]:
            yield Row("best plans of the scan", f"lanes {how.lanes}, chunks {how.chunks}", length, swept[how])


def sweep_steps(config: MambaConfig, device: torch.device, count: int, rounds: int) -> Iterator[Row]:
    """One token through `count` layers, more than a cache holds, under many plans; floor: their weights."""
    lm = random_lm(replace(config, n_layers=count, vocab_size=8), device, torch.bfloat16)
    states = [layer.empty_state(1) for layer in lm.blocks]
    moved = sum(t.numel() * t.element_size() for layer in lm.blocks for t in layer.weights.tensors())
    floor = 1000 * moved / copy_bandwidth(device) / count

    def run(how: StepPlan) -> Tensor:
        x = torch.ones(1, config.d_model, device=device)
        for layer, state in zip(lm.blocks, states, strict=True):
            x, _, _ = step(x, layer.weights, state.ssm, state.conv, True, how)
        return x

    plans = [
        StepPlan(held, warps, early) for early in (True, False) for held in (2**15, 2**16, 2**17) for warps in (4, 8)
    ]
    for how in plans:
        ms = milliseconds(graphed(partial(run, how), device), device, rounds, calls=rounds) / count
        yield Row("one layer's step of decoding", str(how), 1, ms, floor, "floor: its weights at copy bandwidth")


def prefills(lm: MambaLM, visual: int, text: int, rounds: int, plan: Layers, graphs: bool = True) -> Iterator[Row]:
    """Unpruned and DTP keep .5, and a question on an encoded image, with and without the library's CUDA graphs.

    Floors: the matrix products alone; for the question, the layers' weights at a large copy's bandwidth.
    """
    weight = lm.backbone.embedding.weight
    device, shape = weight.device, Shape(lm.config.n_layers, visual, plan)
    whole, image, question = (prompt(lm, 1, *counts) for counts in ((visual + text, visual), (visual, visual), (text,)))
    ways = {False: "", True: ", CUDA graph"} if device.type == "cuda" and graphs else {False: ""}
    unpruned: dict[bool, float] = {}
    for name in ("none", "dtp:keep=0.5"):
        stages = parse(name).steps(shape)
        rows = rows_per_layer(stages, shape, text, batch=1)
        floor = milliseconds(graphed(products(lm, rows), device), device, rounds)
        for way, told in ways.items():
            ms = milliseconds(partial(prefill, lm, whole, stages, graphed=way), device, rounds)
            unpruned.setdefault(way, ms)
            note = f"floor: matrix products; {ms / unpruned[way]:.3f} of none's time"
            yield Row("prefill", name + told, visual + text, ms, floor, note)
    encoded = prefill(lm, image, stages, awaits_text=True)
    floor = 1000 * (weight_bytes(lm) - weight.nbytes) / copy_bandwidth(device)
    for way, told in ways.items():
        ms = milliseconds(partial(prefill, lm, question, stages, encoded, graphed=way), device, rounds)
        yield Row("prefill", "a question on an encoded image" + told, text, ms, floor, "floor: the layers' weights")


def decoding(lm: MambaLM, batches: tuple[int, ...], rounds: int, graphs: bool = True) -> Iterator[Row]:
    """One token of every row, greedy, with and without a CUDA graph; floor: the weights at a large copy's bandwidth."""
    device = lm.backbone.embedding.weight.device
    floor = 1000 * weight_bytes(lm) / copy_bandwidth(device)
    for batch in batches:
        start = prefill(lm, prompt(lm, batch, 8))
        for how in (True, False) if device.type == "cuda" and graphs else (False,):
            with stepping(lm, list(start.states), how) as step:
                ids = [torch.zeros(batch, dtype=torch.long, device=device)]

                def run(step=step, ids=ids) -> None:
                    ids[0] = step(ids[0]).argmax(-1)

                ms = milliseconds(run, device, rounds, calls=rounds)
            name = f"batch {batch}, {'CUDA graph' if how else 'eager'}"
            yield Row("decoding, per token", name, batch, ms, floor, "floor: weights read at copy bandwidth")
