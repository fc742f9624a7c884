"""The poster's efficiency table: cost, latency and memory of every method on Cobra's full shape, random weights.

    python runs/efficiency.py                    # CPU, then a GPU where there is one: 3 and 200 questions a method
    python runs/efficiency.py --device cpu       # about 5 minutes on 2 cores
    python runs/efficiency.py --tiny

Every question is an image and 22 text tokens, and its answer takes 1.7 decode steps on average, as short answers to
POPE's questions do. The methods take turns, question by question. Writes numbers/efficiency.md and .json, on a GPU
numbers/efficiency_gpu.*. A dense recurrence takes the same time whatever its weights are.
"""

import argparse
from dataclasses import dataclass
from statistics import mean, median

import torch

from bench_cpu import sizes
from deltaprune.checkpoints.random import random_mllm
from deltaprune.cost import macs
from deltaprune.cost.rounds import Round, method_round, prompts
from deltaprune.cost.timing import forget_peak, peak_bytes
from deltaprune.cost.verify import verify_kernels
from deltaprune.methods import parse
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models.cobra import COBRA
from deltaprune.vlm import VLM
from provenance import footer, provenance, publish

TEXT_TOKENS, STEPS = 22, 1.7
QUESTIONS = {"cpu": 3, "cuda": 200}  # a method
POPE = 9000  # questions: with 1.7 steps each, the poster's means then add up to its totals


@dataclass(frozen=True)
class Printed:
    """A row of the poster, measured there on one GPU.

    Attributes:
        name, method: the poster's name and ours.
        tera: "FLOPs", which are MACs, in T.
        prefill, decode: means, ms.
        seconds: total latency.
        gigabytes: GPU memory.
    """

    name: str
    method: str
    tera: float
    prefill: float
    decode: float
    seconds: int
    gigabytes: float


POSTER = (
    Printed("Cobra", "none", 2.01, 98.04, 5.04, 965, 8.8),
    Printed("FastV", "fastv:keep=0.5", 1.06, 60.64, 4.94, 624, 8.5),
    Printed("VTW", "vtw:after=32", 1.04, 67.31, 4.99, 685, 8.3),
    Printed("DART", "dart:keep=0.44", 0.96, 76.45, 4.95, 764, 8.5),
    Printed("DTP", "dtp:keep=0.5", 0.97, 61.54, 5.02, 635, 8.3),
)


def steps_of(question: int) -> int:
    """Decode steps of a question: 1 or 2, 1.7 on average."""
    return int(STEPS * (question + 1) + 1e-9) - int(STEPS * question + 1e-9)


def measure(vlm: VLM, methods: dict[str, str], questions: int) -> tuple[dict[str, list[Round]], dict[str, int]]:
    """Times of every question, and peak memory, by method; one more question warms up."""
    stages = {name: parse(method).checked_steps(vlm.shape) for name, method in methods.items()}
    times: dict[str, list[Round]] = {name: [] for name in methods}
    peaks = dict.fromkeys(methods, 0)
    for question in range(-1, questions):
        steps = steps_of(max(question, 0))
        pixels, ids = prompts(vlm, 1, TEXT_TOKENS, seed=question + 1)
        for name in methods:
            forget_peak(vlm.device)
            measured = method_round(vlm, stages[name], pixels, ids, steps, with_choose=False)
            peaks[name] = max(peaks[name], peak_bytes(vlm.device))
            measured.total = measured.vision + measured.prefill + steps * measured.decode
            times[name] += [measured] if question >= 0 else []
        print(f"question {question + 1} of {questions}", flush=True)
    return times, peaks


def summary(vlm: VLM, method: str, times: list[Round], peak: int) -> dict[str, float]:
    """One method's means, its cost and its memory."""
    return {
        "macs": macs(vlm.config, parse(method), TEXT_TOKENS, "paper").total,
        "vision_ms": mean(each.vision for each in times),
        "lm_prefill_ms": mean(each.prefill for each in times),
        "prefill_ms": mean(each.vision + each.prefill for each in times),
        "prefill_median_ms": median(each.vision + each.prefill for each in times),
        "decode_ms": mean(each.decode for each in times),
        "question_ms": mean(each.total for each in times),
        "peak_bytes": peak,
    }


def page(config: MLLMConfig, rows: dict[str, dict[str, float]], questions: int, source: dict[str, str]) -> str:
    """The Markdown table: ours, and the ratios to no pruning beside the poster's."""
    base, printed_base = rows["none"], POSTER[0]
    lines = []
    for printed in POSTER:
        row = rows[printed.method]
        pairs = (
            (row["prefill_ms"] / base["prefill_ms"], printed.prefill / printed_base.prefill),
            (row["decode_ms"] / base["decode_ms"], printed.decode / printed_base.decode),
            (row["question_ms"] / base["question_ms"], printed.seconds / printed_base.seconds),
            (row["peak_bytes"] / base["peak_bytes"], printed.gigabytes / printed_base.gigabytes),
        )
        cells = (
            f"{printed.name} `{printed.method}`",
            f"{row['macs'] / 1e12:.2f} ({row['macs'] / base['macs']:.2f})",
            f"{row['vision_ms']:.1f}",
            f"{row['lm_prefill_ms']:.1f} ({row['lm_prefill_ms'] / base['lm_prefill_ms']:.2f})",
            f"{row['prefill_ms']:.1f}",
            f"{row['decode_ms']:.1f}",
            f"{POPE * row['question_ms'] / 60000:.1f}",
            f"{row['peak_bytes'] / 1e9:.1f}",
            *(f"{ours:.2f} / {theirs:.2f}" for ours, theirs in pairs),
        )
        lines.append(f"| {' | '.join(cells)} |")
    about = (
        f"{config.name}, random bfloat16 weights, {config.n_visual} visual and {TEXT_TOKENS} text tokens; means over "
        f"{questions} questions a method, the methods taking turns. MACs: of the LM's prefill, in T, as the paper "
        "counts them. Prefill: vision and the LM's prefill. Decode: one step; a question takes 1.7. Total: minutes for "
        f"{POPE:,} questions, extrapolated. Memory: peak, weights included. In brackets: share of no pruning. Last "
        "four columns: ratios to no pruning, ours / the poster's."
    )
    head = "| method | MACs | vision, ms | LM prefill, ms | prefill, ms | decode, ms | total, min | memory, GB "
    head += "| prefill | decode | total | memory |"
    rule = "|---" + "|---:" * 11 + "|"
    return "\n".join(["# Efficiency: the poster's table", "", about, "", head, rule, *lines, "", footer(source)])


def run(device: torch.device, questions: int, tiny: bool) -> None:
    """Measure on a device, print and write."""
    config = sizes(tiny=True).config if tiny else COBRA
    methods = {row.method: row.method for row in POSTER}
    if tiny:
        methods["vtw:after=32"] = f"vtw:after={config.lm.n_layers // 2}"
    verify_kernels(device, torch.bfloat16)
    print(f"filling {config.name} with random weights", flush=True)
    vlm = VLM(random_mllm(config, torch.bfloat16), eos_id=0).to(device=device)
    times, peaks = measure(vlm, methods, questions)
    rows = {name: summary(vlm, methods[name], times[name], peaks[name]) for name in methods}
    source = provenance(device.type)
    text = page(config, rows, questions, source)
    print(text)
    if not tiny:
        poster = [vars(row) for row in POSTER]
        document = {"provenance": source, "questions": questions, "rows": rows, "poster": poster}
        publish("efficiency" if device.type == "cpu" else "efficiency_gpu", document, text)


def main() -> None:
    """On the device asked for, or on all there are."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=QUESTIONS, help="by default the CPU, and a GPU where torch sees one")
    options.add_argument("--questions", type=int, help=f"a method; by default {QUESTIONS}")
    options.add_argument("--tiny", action="store_true", help="a smoke test in seconds; nothing is written")
    asked = options.parse_args()
    there = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in there if asked.device is None else [asked.device]:
        run(torch.device(device), asked.questions or QUESTIONS[device], asked.tiny)


if __name__ == "__main__":
    main()
