"""Triton kernels on a GPU: first whether they are right, then how fast they are; under 9 minutes in one go.

    python runs/gpu.py [--out DIR] [--sweep]
    TRITON_INTERPRET=1 python runs/gpu.py --device cpu --tiny      the same path, in the interpreter, without a GPU

Needs torch with CUDA, triton, jaxtyping and numpy; transformers only for the peers. A figure is taken only when
every check of this run passed. Writes gpu.json and bench_gpu.md into DIR (numbers/ unless told) and prints the table.
"""

import argparse
import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from deltaprune.kernels import use
from deltaprune.mamba import MambaConfig
from gpu_checks import Check, check_conv, check_model, check_norm, check_scan
from gpu_tables import Row, decoding, kernels, others, prefills, random_lm
from provenance import footer, provenance

NUMBERS = Path(__file__).parents[1] / "numbers"
COBRA = MambaConfig()
TINY = MambaConfig(d_model=32, n_layers=3, vocab_size=64, d_state=4)


def checks(config: MambaConfig, device: torch.device, tiny: bool) -> Iterator[Check]:
    """Every kernel at the model's width, then a small model as a whole."""
    for dtype in (torch.float32, torch.bfloat16):
        yield check_scan(device, dtype, 10 if tiny else config.d_inner, tiny)
        yield check_conv(device, dtype, config.d_inner, tiny)
        yield check_norm(device, dtype, config.d_model)
    small = MambaConfig(d_model=32, n_layers=3, vocab_size=64) if tiny else MambaConfig(d_model=256, n_layers=8)
    yield from check_model(random_lm(small, device, torch.bfloat16), 4 if tiny else 200)


def sections(config: MambaConfig, device: torch.device, tiny: bool, sweep: bool) -> Iterator[Iterator[Row]]:
    """All tables, one after the other."""
    rounds = 1 if tiny else 15
    yield kernels(config, device, [3] if tiny else [22, 64, 388, 750, 2048, 16384], rounds, sweep)
    lm = random_lm(config, device, torch.bfloat16)
    visual, text, early, late = (4, 2, 1, 2) if tiny else (728, 22, 15, 45)
    yield prefills(lm, visual, text, rounds, early, late)
    yield decoding(lm, (1,) if tiny else (1, 4, 16), rounds)
    if not tiny:
        yield others(lm, visual + text, rounds=1)


def measure(tables: Iterator[Iterator[Row]]) -> tuple[list[Row], list[str]]:
    """All rows, and what went wrong: one broken table must not take the others with it."""
    found, errors = [], []
    for table in tables:
        try:
            for row in table:
                print(f"{row.table}: {row.name}, {row.tokens} rows: {row.ms:.3f} ms", flush=True)
                found.append(row)
        except Exception as error:
            errors.append("".join(traceback.format_exception(error)[-6:]))
            print(errors[-1], flush=True)
    return found, errors


def markdown(done: list[Check], found: list[Row], source: dict[str, str], on_gpu: bool) -> str:
    """Checks, then one table per kind."""
    title = "# The GPU kernels" if on_gpu else "# A rehearsal in Triton's interpreter: its times mean nothing"
    lines = [title, "", "| check | worst distance | allowed | cases | |", "|---|---:|---:|---:|---|"]
    lines += [
        f"| {c.op} | {c.worst:.1e} | {c.allowed:.0e} | {c.cases} | {'passed' if c.passed else 'FAILED'} |" for c in done
    ]
    for table in dict.fromkeys(row.table for row in found):
        lines += ["", f"## {table[0].upper()}{table[1:]}", "", "| what | rows | ms | floor, ms | times | |"]
        lines += ["|---|---:|---:|---:|---:|---|"]
        for row in (row for row in found if row.table == table):
            floor, ratio = ("" if x is None else f"{x:.3f}" for x in (row.floor_ms, row.ratio))
            lines.append(f"| {row.name} | {row.tokens} | {row.ms:.3f} | {floor} | {ratio} | {row.note} |")
    return "\n".join([*lines, "", footer(source)])


def main() -> None:
    """Check, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes: does the script run at all?")
    parser.add_argument("--sweep", action="store_true", help="time the scan under many plans, too")
    parser.add_argument("--out", type=Path, default=NUMBERS)
    given = parser.parse_args()
    device, config, begun = torch.device(given.device), TINY if given.tiny else COBRA, time.perf_counter()
    if given.device == "cpu" and given.out == NUMBERS:
        parser.error("--device cpu is a rehearsal: give it an --out of its own")
    done, found, errors = [], [], ["a check failed, so nothing was measured"]
    with use("triton"):
        for check in checks(config, device, given.tiny):
            print(f"{check.op}: {check.worst:.1e}, allowed {check.allowed:.0e}", flush=True)
            done.append(check)
        if all(check.passed for check in done):
            found, errors = measure(sections(config, device, given.tiny, given.sweep))
    source = provenance(given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    document = {
        "checks": [{**asdict(check), "passed": check.passed} for check in done],
        "rows": [{**asdict(row), "ratio": row.ratio} for row in found],
        "errors": errors,
        "seconds": time.perf_counter() - begun,
        **source,
    }
    (given.out / "gpu.json").write_text(json.dumps(document, indent=1) + "\n")
    told = markdown(done, found, source, device.type == "cuda")
    (given.out / "bench_gpu.md").write_text(told)
    print("\n" + told)
    if errors:
        raise SystemExit("\n".join(errors))


if __name__ == "__main__":
    main()
