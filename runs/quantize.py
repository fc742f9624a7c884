"""int8 and int4 weights beside the ones they were made from: answers, logits, kept tokens, and time.

    python runs/quantize.py accuracy    # the bundled model on 5,000 questions of scenes: 10 minutes on 1 core
    python runs/quantize.py speed       # 8 layers of mamba-2.8b's width, random weights, bfloat16: 2 minutes on 2 cores

Each writes its part of numbers/quantize.json and the page numbers/quantize.md anew.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

import deltaprune as dp
from answering import answered
from deltaprune.benchmarks import registry
from deltaprune.checkpoints.quantize import quantize_model
from deltaprune.checkpoints.random import cut, random_mllm
from deltaprune.cost.floors import copy_bandwidth, weight_bytes
from deltaprune.cuda_graphs.step import stepping
from deltaprune.kernels.quantized import FORMS
from deltaprune.mllm.lm import MambaLM
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models.cobra import COBRA
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from provenance import NUMBERS, footer, provenance, publish

METHODS = ("none", "dtp:keep=0.5")
ROWS, TOKENS = (752, 388, 23), 8  # of the prompts; decoded after the shortest
ACTIVATIONS = ("float32", "bfloat16")
ALLOWED = {"int8": 0.3, "int4": 1.0}  # points of accuracy
NAME = "quantize"


class Part(StrEnum):
    """What can be measured."""

    ACCURACY = "accuracy"
    SPEED = "speed"


def accuracy(questions: int, pictures: int) -> list[dict[str, Any]]:
    """A row for each type of activations and form of weights: right answers, and how logits and kept tokens differ."""
    benchmark, rows, first = registry["scenes"](), [], None
    for dtype, form in product(ACTIVATIONS, (None, *FORMS)):
        vlm, processor = dp.load("bundled", dtype=dtype, quantize=form)
        results = answered(vlm, processor, benchmark, METHODS, "test", questions, f"{form or dtype} x {dtype}")
        seen = seen_by(vlm, processor, pictures)
        first = first or seen
        rows.append(
            {
                "weights": form or dtype,
                "activations": dtype,
                "questions": questions,
                "right": {result.method: result.mean for result in results},
                "lm_bytes": weight_bytes(vlm.model.lm),
                "logits_apart": apart(seen[0], first[0]),
                "kept_moved": moved(seen[1], first[1]),
                "pictures": pictures,
            }
        )
    return rows


@torch.no_grad()
def seen_by(vlm: dp.VLM, processor: Any, pictures: int) -> tuple[Tensor, list[set[int]]]:
    """Unpruned logits after so many questions, and the tokens of each picture that DTP keep=0.5 keeps."""
    benchmark = registry["scenes"]()
    logits, kept = [], []
    for sample in benchmark.samples("test", 0, pictures):
        inputs = processor(images=sample.image, text=benchmark.rules.message(sample), return_tensors="pt")
        logits.append(vlm.model.lm.logits(vlm.start(inputs).hidden)[0])
        with vlm.pruned_by(METHODS[1]):
            kept.append(set(vlm.start(inputs).kept[0].origin[0].tolist()))
    return torch.stack(logits), kept


def apart(logits: Tensor, reference: Tensor) -> float:
    """The difference's norm over the reference's."""
    return ((logits - reference).norm() / reference.norm()).item()


def moved(kept: Sequence[set[int]], reference: Sequence[set[int]]) -> float:
    """The share of kept tokens that the reference does not keep."""
    return sum(len(a - b) for a, b in zip(kept, reference, strict=True)) / sum(map(len, reference))


def speed(config: MLLMConfig, lengths: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """A row for bfloat16 and each form: medians of rounds in which they take turns."""
    base = random_mllm(config, torch.bfloat16)
    lms = {None: base.lm, **{form: quantize_model(base, form).lm for form in FORMS}}
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.lm.vocab_size, (max(lengths) + TOKENS,), generator=generator)
    times: dict[str | None, dict[str, list[float]]] = {form: {} for form in lms}
    for i in range(rounds + 1):
        for length in lengths:
            for form, lm in lms.items():
                for what, ms in ran(lm, ids, length, length == lengths[-1]).items():
                    times[form].setdefault(what, []).extend([ms] if i else [])
        print(f"round {i} of {rounds}", flush=True)
    bandwidth = copy_bandwidth(torch.device("cpu"))
    return [
        {
            "weights": form or "bfloat16",
            "layers": config.lm.n_layers,
            "ms": {what: median(each) for what, each in times[form].items()},
            "of_bfloat16": {
                what: median(a / b for a, b in zip(each, times[None][what], strict=True))
                for what, each in times[form].items()
            },
            "lm_bytes": weight_bytes(lm),
            "decode_floor_ms": 1000 * weight_bytes(lm) / bandwidth,
        }
        for form, lm in lms.items()
    ]


@torch.no_grad()
def ran(lm: MambaLM, ids: Tensor, length: int, decodes: bool) -> dict[str, float]:
    """Milliseconds of a prompt up to its last logits, and of one token after it."""
    x = lm.embed(ids[:length])
    done, prompt = clocked(lambda: prefill(lm, Rows.pack([x[:0]], [x])))
    _, head = clocked(lambda: lm.logits(done.hidden))
    found = {f"prefill {length}": prompt + head}
    if decodes:
        with stepping(lm, list(done.states)) as step:
            found["decode"] = median(
                clocked(partial(step, token))[1] for token in ids[length : length + TOKENS].split(1)
            )
    return found


def clocked(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and milliseconds."""
    start = time.perf_counter()
    made = run()
    return made, 1000 * (time.perf_counter() - start)


def page(document: Mapping[str, Any]) -> str:
    """The Markdown page of the parts that there are."""
    parts = {"accuracy": accuracy_table, "speed": speed_table}
    told = [part for name, table in parts.items() if name in document for part in table(document[name])]
    return "\n".join(["# int8 and int4 weights", "", *told])


def accuracy_table(part: Mapping[str, Any]) -> list[str]:
    """The bundled model."""
    first = part["rows"][0]
    lines = [
        f"The bundled model on {first['questions']:,} test questions of `scenes`, in percent; logits of "
        f"{first['pictures']} questions, unpruned, as the norm of the difference over the norm; kept tokens of "
        f"`{METHODS[1]}` that the float32 model drops, on the same pictures.",
        "",
        f"| weights | activations | LM, MB | none | against float32 | allowed | {METHODS[1]} | logits apart | "
        "kept tokens moved |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in part["rows"]:
        change, allowed = row["right"]["none"] - first["right"]["none"], ALLOWED.get(row["weights"])
        lines.append(
            f"| {row['weights']} | {row['activations']} | {row['lm_bytes'] / 1e6:.2f} | {row['right']['none']:.2f} | "
            f"{change:+.2f} | {'' if allowed is None else f'-{allowed}'} | {row['right'][METHODS[1]]:.2f} | "
            f"{row['logits_apart']:.4f} | {100 * row['kept_moved']:.2f} % |"
        )
    return [*lines, "", footer(part["provenance"])]


def speed_table(part: Mapping[str, Any]) -> list[str]:
    """Times beside bfloat16's."""
    first = part["rows"][0]
    what = list(first["ms"])
    lines = [
        f"{first['layers']} layers of mamba-2.8b's width and its head, random weights, bfloat16 activations: "
        "milliseconds, and in brackets the median of the ratios to bfloat16 within a round. The floor is the weights' "
        "bytes at the bandwidth of a large copy.",
        "",
        f"| weights | LM, MB | {' | '.join(what)} | decode, floor |",
        f"|---|---:|{'---:|' * len(what)}---:|",
    ]
    for row in part["rows"]:
        cells = " | ".join(f"{row['ms'][name]:.1f} ({row['of_bfloat16'][name]:.2f})" for name in what)
        lines.append(f"| {row['weights']} | {row['lm_bytes'] / 1e6:.0f} | {cells} | {row['decode_floor_ms']:.1f} |")
    return [*lines, "", footer(part["provenance"])]


def main(
    part: Annotated[Part, typer.Argument(help="What to measure.")],
    tiny: Annotated[bool, typer.Option("--tiny", help="A smoke test; nothing is written.")] = False,
    numbers: Annotated[Path, typer.Option("--numbers", help="Where the numbers lie.")] = NUMBERS,
) -> None:
    """Measure one part, print and write."""
    if part == Part.ACCURACY:
        rows = accuracy(*((12, 2) if tiny else (5000, 200)))
    else:
        small = replace(COBRA, towers={n: replace(t, width=64, n_blocks=2, n_heads=1) for n, t in COBRA.towers.items()})
        small = cut(replace(small, projector=(64, COBRA.lm.d_model)), 8)
        if tiny:
            lm = replace(small.lm, d_model=64, n_layers=2, vocab_size=100)
            small = replace(small, lm=lm, projector=(64, 64), plan=None)
        rows = speed(small, (40, 8) if tiny else ROWS, 1 if tiny else 5)
    file = numbers / f"{NAME}.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() and not tiny else {}
    document = {**known, part.value: {"rows": rows, "provenance": provenance()}}
    print(page(document))
    if not tiny:
        publish(NAME, document, page(document), numbers)


if __name__ == "__main__":
    typer.run(main)
