"""Prefill of a hybrid of transformers' own, pruned and frozen in place: time beside operations, on the CPU.

    python runs/inplace_prefill.py            # about a minute on an idle core, 4 GB
    python runs/inplace_prefill.py --tiny     # a smoke test in seconds; nothing is written

Four layers of Qwen3.5-9B's text model (three of gated DeltaNet, one of attention), random bfloat16 weights, 1,024
visual tokens between 43 of text; the vision tower is shrunk and not timed. The methods take turns, and a share is the
median over rounds of the ratio within a round. Writes numbers/inplace_prefill.md and numbers/inplace_prefill.json.
"""

import argparse
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from deltaprune.cost.timing import spread
from deltaprune.methods import parse
from provenance import footer, provenance, publish

IMAGE, OPEN, CLOSE = 120, 122, 123
LAYERS, BEFORE, AFTER = 4, 21, 20  # tokens of text around the image and its two marks: 43 in all
METHODS = {
    "none": "none",
    "half of the image after layer 1": "dtp:keep=0.5,early=1,late=none",
    "image rows only write in layers 1 to 3": "freeze:write=1-3",
    "the same, and half of them after layer 1": "freeze:write=1-3,keep=0.5,early=1,score=delta",
}
TARGET = 0.05  # that a share of time may be above that of operations


@dataclass
class Times:
    """Seconds of one method, a number a round: of the wall clock, and of this process's CPU."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Stopwatch:
    """The time that a module takes: the text model, which is called once in a forward pass."""

    def __init__(self, module: nn.Module):
        self.wall = self.cpu = 0.0
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(self._stop)

    def _start(self, *_: Any) -> None:
        self._began = time.perf_counter(), time.process_time()

    def _stop(self, *_: Any) -> None:
        self.wall, self.cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]


def model_of(tiny: bool) -> Any:
    """Qwen3.5 with the text model's real widths; a vocabulary and a vision tower that cost nothing."""
    narrow = {
        "hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    }  # fmt: skip
    text = {"num_hidden_layers": LAYERS, "vocab_size": 512, **(narrow if tiny else {})}
    vision = {
        "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": 4,
        "num_position_embeddings": 64, "out_hidden_size": text.get("hidden_size", 4096),
    }  # fmt: skip
    config = transformers.AutoConfig.for_model("qwen3_5", text_config=text, vision_config=vision, image_token_id=IMAGE)
    torch.manual_seed(0)
    return transformers.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).eval()


def prompt_of(side: int) -> dict[str, Tensor]:
    """Text, an image of side x side visual tokens, text."""
    ids = torch.tensor([[5] * BEFORE + [OPEN] + [IMAGE] * side**2 + [CLOSE] + [9] * AFTER])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE).long(),
        "pixel_values": torch.randn(4 * side**2, 96).bfloat16(),
        "image_grid_thw": torch.tensor([[1, 2 * side, 2 * side]]),
    }


@torch.no_grad()
def operations(model: Any, inputs: Mapping[str, Tensor], method: str) -> int:
    """Multiply-accumulates of the text model's products, as torch counts them; a run that warms up as well."""
    counter = FlopCounterMode(display=False)
    with ExitStack() as stack:
        stack.enter_context(parse(method)(model))
        hooks = [
            model.model.language_model.register_forward_pre_hook(lambda *_: counter.__enter__() and None),
            model.model.language_model.register_forward_hook(lambda *_: counter.__exit__(None, None, None)),
        ]
        model(**inputs, logits_to_keep=1)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2


@torch.no_grad()
def measure(model: Any, inputs: Mapping[str, Tensor], rounds: int) -> dict[str, Times]:
    """Every method in turn, round after round."""
    times = {name: Times() for name in METHODS}
    watch = Stopwatch(model.model.language_model)
    for i in range(rounds):
        for name, method in METHODS.items():
            with parse(method)(model):
                model(**inputs, logits_to_keep=1)
            times[name].wall.append(watch.wall)
            times[name].cpu.append(watch.cpu)
        print(f"round {i + 1} of {rounds}", flush=True)
    return times


def ratio(these: list[float], base: list[float]) -> float:
    """The median of the ratios within a round."""
    return median(a / b for a, b in zip(these, base, strict=True))


def page(rows: Mapping[str, Mapping[str, float]], rounds: int, tokens: int, source: dict[str, str]) -> str:
    """The Markdown table."""
    lines = [
        f"| {name} | `{METHODS[name]}` | {row['macs'] / 1e9:.0f} | {row['macs_share']:.3f} | {row['wall_ms']:.0f} | "
        f"{row['time_share']:.3f} | {row['time_share'] - row['macs_share']:+.3f} | {row['cpu_share']:.3f} |"
        for name, row in rows.items()
    ]
    worst = max(row["time_share"] - row["macs_share"] for row in rows.values())
    about = (
        f"Four layers of Qwen3.5-9B's text model, random weights, bfloat16, {tokens:,} tokens, 1,024 of them visual; "
        f"medians over {rounds} rounds in which the methods take turns, and of the ratios within a round. MACs: of the "
        "text model's products as torch's `FlopCounterMode` counts them, G; on a CPU it leaves out "
        "attention's square. Time: of the text model by the wall clock, pruning included, the machine otherwise idle; "
        "CPU: the same by the process's own clock. Target: a share of time at most "
        f"{TARGET} above that of the MACs: "
        f"{'met' if worst <= TARGET else 'missed'} (largest difference {worst:+.3f})."
    )
    head = "| | method | MACs | MACs share | time, ms | time share | time less MACs | CPU share |"
    return "\n".join(
        ["# Prefill in place: time beside operations", "", about, "", head, "|---|---|" + "---:|" * 6, *lines, "",
         footer(source)]
    )  # fmt: skip


def main() -> None:
    """Count, measure, print and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--tiny", action="store_true", help="a smoke test in seconds; nothing is written")
    asked = options.parse_args()
    model, inputs = model_of(asked.tiny), prompt_of(4 if asked.tiny else 32)
    macs = {name: operations(model, inputs, method) for name, method in METHODS.items()}
    times = measure(model, inputs, 2 if asked.tiny else asked.rounds)
    base = times["none"]
    rows = {
        name: {
            "macs": macs[name],
            "macs_share": macs[name] / macs["none"],
            "wall_ms": 1000 * median(each.wall),
            "cpu_ms": 1000 * median(each.cpu),
            "time_share": ratio(each.wall, base.wall),
            "cpu_share": ratio(each.cpu, base.cpu),
            "spread": spread(each.wall),
        }
        for name, each in times.items()
    }
    source = provenance()
    text = page(rows, len(base.wall), inputs["input_ids"].shape[1], source)
    print(text)
    if not asked.tiny:
        publish("inplace_prefill", {"provenance": source, "methods": METHODS, "rows": rows}, text)


if __name__ == "__main__":
    main()
