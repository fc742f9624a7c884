"""`deltaprune bench` on a model of transformers' own."""

from collections.abc import Mapping, Sequence
from typing import Any

from deltaprune.cli._common import check_device, quiet_transformers
from deltaprune.cli._grid import Grid
from deltaprune.cli._loading import ModelOptions, load_model
from deltaprune.cli._options import DEFAULT_METHODS
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import JsonRow, kept_tokens, planned, table
from deltaprune.errors import UserError


def check_bench_options(model: str, given: Mapping[str, object]) -> None:
    """Options that are about models of our own are not given, else a `UserError`."""
    for option, value in given.items():
        if value:
            raise UserError(
                f"{option} is not for {model}, a model of transformers' own: it takes --method, --text-tokens, "
                "--batch, --rounds, --dtype, --device and --random-weights."
            )


def bench_hosted(
    model: str,
    methods: Sequence[str] | None,
    sizes: tuple[int, Sequence[int], int],
    how: tuple[str | None, str, bool, str | None],
    working: Working,
) -> list[list[dict[str, Any]]]:
    """For each batch size a document: a row for each method, then the ratios.

    Args:
        model: its folder.
        methods: as texts; None for the usual.
        sizes: text tokens, batch sizes, rounds.
        how: dtype, device, whether with random weights, and a plan file.
        working: shows what is being done.
    """
    import torch

    from deltaprune.calibrate import load_plan
    from deltaprune.cost.hosted_bench import hosted_bench
    from deltaprune.hosted.config import suited
    from deltaprune.methods import parse

    (text_tokens, batches, rounds), (dtype, device, random_weights, plan) = sizes, how
    loaded: Any
    if random_weights:
        from deltaprune.hosted.folder import random_hosted

        check_device(device)
        quiet_transformers()
        working.say(f"filling {model} with random weights")
        loaded = random_hosted(model, dtype, device)
    else:
        loaded = load_model(ModelOptions(model, plan, dtype=dtype), device, working)
    vlm, processor = loaded
    if random_weights and plan is not None:
        vlm.use_plan(load_plan(plan, vlm.config))
    chosen = {text: parse(text) for text in methods or suited(DEFAULT_METHODS, vlm.config)}
    working.say("measuring")
    documents = []
    for batch in batches:
        rows, ratios = hosted_bench(vlm, processor, chosen, text_tokens, batch, rounds, on_round=working.count)
        about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        documents.append([*rows, {"ratios": ratios, **about}])
    return documents


def hosted_table(document: Sequence[JsonRow]) -> Grid:
    """Milliseconds by part, a row for each method; the last entry holds the ratios."""
    *rows, last = document
    first = rows[0]
    about = (
        f"{first['name']}, {first['dtype']} on {first['device']}, attention {first['kernel']}, batch {first['batch']}, "
        f"{first['tokens']} tokens of which {first['visual_tokens']} visual · ms, medians, by transformers' generate · "
        "vision: all before the text model · decode: one token · ±: half the interquartile range of the prefill · "
        f"ratio: of the prefill to {first['method']}'s, within a round · MACs: share of the LM prefill's without "
        f"pruning · peak: memory, weights included{planned(rows)}"
    )
    lines = []
    for row in rows:
        times = [f"{row[f'{part}_ms']:.2f}" for part in ("vision", "prefill")]
        ratio = last["ratios"].get(f"{row['method']}/{first['method']}", 1)
        more = [f"{100 * row['spread']['prefill']:.1f}%", f"{row['decode_ms']:.2f}", f"{row['total_ms']:.2f}"]
        shares = [f"{ratio:.3f}", f"{100 * row['macs_share']:.1f}%", f"{row['peak_bytes'] / 1e9:.2f} GB"]
        lines.append([row["method"], kept_tokens(row["kept"]), *times, *more, *shares])
    header = ["method", "kept", "vision", "prefill", "±", "decode", "total", "ratio", "MACs", "peak"]
    return table(about, header, lines)
