"""Speed on the CPU against other engines, floors and targets, as ratios within one run.

    python runs/bench_cpu.py            # about 14 minutes on 2 idle cores, 8 GB
    python runs/bench_cpu.py --tiny     # a smoke test in seconds; nothing is written

The LM of Cobra, full width, random weights, 729 visual and 22 text tokens; the vision towers are shrunk except where
they are measured themselves. Everything that is compared takes turns in one process, and its kernels are checked first.
Writes numbers/bench_cpu.md and numbers/bench_cpu.json.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from deltaprune.checkpoints.random import cut, random_mllm
from deltaprune.cost import share_of
from deltaprune.cost.growth import growth
from deltaprune.cost.latency import BenchRow, bench
from deltaprune.cost.peers import peers
from deltaprune.cost.questions import questions
from deltaprune.cost.short import ROWS as SHORT
from deltaprune.cost.towers import towers as tower_times
from deltaprune.kernels._numba_vectors import TILES
from deltaprune.methods import parse
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models.cobra import COBRA
from deltaprune.vlm import VLM
from provenance import footer, provenance, publish

NONE, DTP, TEXT_TOKENS, ASKED = "none", "dtp:keep=0.5", 22, 10
METHODS = {label: parse(label) for label in (NONE, DTP)}
OF_PRODUCTS, HALF = (1.30, 0.52) if TILES else (1.12, 0.49)  # ours / its products, DTP / none: with AMX, and without
FROZEN = 0.53


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        config: the model, its towers shrunk.
        seen: the model with its towers as they are.
        few, fewer: layers of the float32 run and of the growth run.
        lengths: of the growth run.
        rounds: of each run, besides one that warms up.
        budget: of Freeze, a share of the MACs that its plan without a calibration can meet.
    """

    config: MLLMConfig
    seen: MLLMConfig
    few: int
    fewer: int
    lengths: tuple[int, ...]
    rounds: int
    budget: float


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        what: is compared.
        measured: the value.
        target: None where there is none.
        most: whether the target is the most allowed, else the least.
        note: what to know about it.
    """

    what: str
    measured: float
    target: float | None
    most: bool
    note: str

    @property
    def verdict(self) -> str:
        """Met, or missed by how much."""
        if self.target is None:
            return "reported"
        met = self.measured <= self.target if self.most else self.measured >= self.target
        return "met" if met else f"MISSED by {abs(self.measured - self.target):.3g}"


def sizes(tiny: bool) -> Sizes:
    """The measurement, or a smoke test of it."""
    towers = {
        name: replace(tower, width=64, n_blocks=2, n_heads=1, mlp_width=64) for name, tower in COBRA.towers.items()
    }
    config = replace(COBRA, towers=towers)
    if not tiny:
        return Sizes(config, COBRA, few=8, fewer=4, lengths=tuple(1024 * 2**i for i in range(5)), rounds=3, budget=0.48)
    lm = replace(COBRA.lm, d_model=64, vocab_size=500)
    small = replace(config, name="tiny", lm=lm, projector=(64, 64))
    return Sizes(cut(small, 8), small, few=4, fewer=2, lengths=(128, 256, 512), rounds=1, budget=0.6)


def build(config: MLLMConfig, layers: int, dtype: torch.dtype) -> VLM:
    """Random weights, built in their type."""
    shape = cut(config, layers)
    print(f"filling {shape.name} with random {str(dtype).removeprefix('torch.')} weights", flush=True)
    return VLM(random_mllm(shape, dtype), eos_id=0)


def report(done: int, total: int) -> None:
    """A line of progress."""
    print(f"  round {done} of {total}", flush=True)


def whole(size: Sizes) -> tuple[list[Line], list[dict[str, Any]]]:
    """All layers in bfloat16: transformers, the matrix products, DTP, choosing, and many questions."""
    vlm = build(size.config, size.config.lm.n_layers, torch.bfloat16)
    freeze = f"freeze:budget={size.budget}"
    methods = {**METHODS, freeze: parse(freeze)}
    rows, ratios = bench(vlm, methods, TEXT_TOKENS, rounds=size.rounds, on_round=report, peers=peers(vlm.model.lm))
    none, dtp, _, *others = rows
    shares = {label: f"MACs share {share_of(vlm.config, method, TEXT_TOKENS):.3f}" for label, method in methods.items()}
    lines = [
        Line(f"{peer.kernel} / ours, bf16", ratios[f"{peer.kernel}/{NONE}"], 3.0, False, "prefill, the same weights")
        for peer in others
    ]
    lines += [
        Line("ours / its matrix products, bf16", ratios[f"{NONE}/products"], OF_PRODUCTS, True, ""),
        Line(f"{DTP} / its matrix products, bf16", ratios[f"{DTP}/products"], None, True, "at its own row counts"),
        Line(f"{DTP} / {NONE}", ratios[f"{DTP}/{NONE}"], HALF, True, shares[DTP]),
        Line(f"{freeze} / {NONE}", ratios[f"{freeze}/{NONE}"], FROZEN, True, shares[freeze]),
        Line("score and select / prefill", dtp.choose_ms / dtp.prefill_ms, 0.01, True, f"{dtp.choose_ms:.1f} ms"),
        Line("decode / its weights at copy bandwidth", none.decode_ms / none.weights_ms, 1.35, True, "one token, bf16"),
        short_line(none),
    ]
    asked, faster = questions(vlm, METHODS, (1, ASKED), TEXT_TOKENS, size.rounds, report)
    for label, target in ((NONE, 6.0), (DTP, None)):
        what = f"{ASKED} full prefills / image and one packed batch, {label}"
        lines.append(Line(what, faster[f"{label} {ASKED}"], target, False, "the LM's part; vision would raise it"))
    return lines, [*(row.to_dict() for row in rows), *asked]


def short_line(row: BenchRow) -> Line:
    """A short prompt without a picture."""
    what = f"{SHORT} rows of text / the longer of products and weights, {row.dtype}"
    return Line(what, row.short_ms / row.short_floor_ms, None, True, f"{row.short_ms:.0f} ms")


def float32(size: Sizes) -> tuple[list[Line], list[dict[str, Any]]]:
    """Few layers in float32: transformers, plain and with mambapy, and the matrix products."""
    vlm = build(size.config, size.few, torch.float32)
    others = peers(vlm.model.lm)
    rows, ratios = bench(vlm, {NONE: METHODS[NONE]}, TEXT_TOKENS, rounds=size.rounds, on_round=report, peers=others)
    note = f"{size.few} layers"
    lines = [
        Line(f"{name} / ours, float32", ratios[f"{name}/{NONE}"], target, False, note)
        for name, target in ((peer.name, 2.0 if peer.name == "transformers" else None) for peer in others)
    ]
    lines.append(Line("ours / its matrix products, float32", ratios[f"{NONE}/products"], 1.2, True, note))
    reading = rows[0].decode_ms / rows[0].weights_ms
    lines.append(Line("decode / its weights at copy bandwidth, float32", reading, None, True, note))
    lines.append(short_line(rows[0]))
    return lines, [row.to_dict() for row in rows]


def towers(size: Sizes) -> tuple[list[Line], list[dict[str, Any]]]:
    """The vision towers in bfloat16, one picture and several at once."""
    vlm = build(size.seen, 1, torch.bfloat16)
    lines, rows = [], []
    for images in (1, 4):
        for name, found in tower_times(vlm, images, size.rounds).items():
            note = f"{images} picture{'s' if images > 1 else ''}, {found['ms']:.0f} ms"
            lines.append(Line(f"vision tower {name} / its matrix products", found["ratio"], 1.25, True, note))
            rows.append({"name": name, "images": images, "dtype": "bfloat16", "device": "cpu", **found})
    return lines, rows


def lengths(size: Sizes) -> tuple[list[Line], list[dict[str, Any]]]:
    """Very few layers in bfloat16: time and memory against tokens."""
    vlm = build(size.config, size.fewer, torch.bfloat16)
    lm = vlm.model.lm.config
    rows, ratios = growth(vlm.model.lm, vlm.config.name, size.lengths, size.rounds, report)
    peaks = [(row["tokens"], row["peak_bytes"]) for row in rows]
    slopes = [(y - x) / (b - a) for (a, x), (b, y) in pairwise(peaks)]
    buffer = 4 * lm.d_inner * lm.d_state
    note = f"{size.fewer} layers, {size.lengths[0]} to {size.lengths[-1]} tokens, the worst step"
    lines = [
        Line("time(2L) / time(L)", max(ratios.values()), 2.2, True, note),
        Line("bytes of peak memory per added token", slopes[-1], buffer, True, "target: one (L, D, N) float32 buffer"),
        Line("the same, last step / first step", slopes[-1] / slopes[0] if slopes[0] else 1.0, 1.1, True, "linear: 1"),
    ]
    return lines, rows


def page(config: MLLMConfig, lines: list[Line], source: dict[str, str]) -> str:
    """The Markdown table."""
    body = [
        f"| {line.what} | {line.measured:,.4g} | {_target(line)} | {line.verdict} | {line.note} |" for line in lines
    ]
    return "\n".join(
        [
            "# Speed on the CPU",
            "",
            f"The LM of {config.name}, full width, random weights, {config.n_visual} visual and {TEXT_TOKENS} text "
            "tokens; all layers unless the note says fewer. Ratios are medians of ratios within a round, in which "
            "everything compared takes its turn; times and spreads are in the JSON file. The kernels were checked "
            "against their references, and the peers' logits against ours, in the same run.",
            "",
            "| what | measured | target | | note |",
            "|---|---:|---:|---|---|",
            *body,
            "",
            footer(source),
        ]
    )


def _target(line: Line) -> str:
    """A bound with its direction."""
    return "" if line.target is None else f"{'<=' if line.most else '>='} {line.target:,.4g}"


def main() -> None:
    """Measure, print and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tiny", action="store_true", help="a smoke test; nothing is written")
    tiny = options.parse_args().tiny
    size = sizes(tiny)
    lines, rows = [], []
    for part in (whole, float32, towers, lengths):
        found, measured = part(size)
        lines += found
        rows += measured
    source = provenance()
    text = page(size.config, lines, source)
    print(text)
    if not tiny:
        judged = [{**asdict(line), "verdict": line.verdict} for line in lines]
        publish("bench_cpu", {"provenance": source, "lines": judged, "rows": rows}, text)


if __name__ == "__main__":
    main()
