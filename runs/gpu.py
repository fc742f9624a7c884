"""Triton kernels on a GPU: first whether they are right, then how fast they are; under 9 minutes in one go.

    python runs/gpu.py [--out DIR] [--sweep]
    TRITON_INTERPRET=1 python runs/gpu.py --device cpu --tiny --out DIR      the same path, in the interpreter

Needs torch with CUDA, triton, jaxtyping and numpy; transformers only for the peers. A kernel whose check failed has no
figure, and neither has the model that runs on it. Writes gpu.json and bench_gpu.md into DIR (numbers/ unless told)
after every line, so that what was found stands when the time is up, and prints the table last.
"""

import argparse
import functools
import json
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.kernels import use
from deltaprune.steps import Plan as Layers
from gpu_checks import (
    GRAPH,
    MODEL,
    REPLAY,
    Check,
    check_attention,
    check_conv,
    check_graph,
    check_model,
    check_norm,
    check_replay,
    check_scan,
    check_state,
    check_step,
    random_lm,
)
from gpu_peers import other_scans, others
from gpu_tables import Row, decoding, kernels, prefills, sweep, sweep_steps
from provenance import footer, provenance

NUMBERS = Path(__file__).parents[1] / "numbers"
COBRA = MambaConfig()
TINY = MambaConfig(d_model=32, n_layers=3, vocab_size=64, d_state=4)
LENGTHS = [22, 64, 388, 750, 2048, 16384]

Checks = Iterable[tuple[str, Callable[[], Check]]]
Tables = Iterable[Callable[[], Iterator[Row]]]


def checks(config: MambaConfig, device: torch.device, tiny: bool) -> Iterator[tuple[str, Callable[[], Check]]]:
    """What each check guards, and the check: every kernel at the model's width, then a small model as a whole."""
    for dtype in (torch.float32, torch.bfloat16):
        yield "selective_scan", functools.partial(check_scan, device, dtype, 10 if tiny else config.d_inner, tiny)
        yield "scan_state", functools.partial(check_state, device, dtype, 10 if tiny else config.d_inner, tiny)
        yield "causal_conv1d", functools.partial(check_conv, device, dtype, config.d_inner, tiny)
        yield "rms_norm", functools.partial(check_norm, device, dtype, config.d_model, tiny)
        yield "layer_step", functools.partial(check_step, device, dtype, config, 2 if tiny else 30)
        yield "hidden_attention", functools.partial(check_attention, device, dtype, config.d_inner, tiny)
    small = MambaConfig(d_model=32, n_layers=3, vocab_size=64) if tiny else MambaConfig(d_model=256, n_layers=8)
    lm = functools.cache(lambda: random_lm(small, device, torch.bfloat16))
    yield MODEL, lambda: check_model(lm(), 4 if tiny else 200)
    if device.type == "cuda":
        yield GRAPH, lambda: check_graph(lm(), 200)
        yield REPLAY, lambda: check_replay(lm(), 200)


def sections(
    config: MambaConfig, device: torch.device, tiny: bool, swept: bool, broken: frozenset[str]
) -> Iterator[Callable[[], Iterator[Row]]]:
    """The tables, the most telling first, without what is broken; a model runs on every kernel."""
    rounds, whole = 1 if tiny else 15, not broken - {GRAPH, REPLAY, "layer_step", "hidden_attention"}
    visual, text, early, late = (4, 2, 1, 2) if tiny else (728, 22, 15, 45)
    lm = functools.cache(lambda: random_lm(config, device, torch.bfloat16))
    if whole:
        graphs = REPLAY not in broken
        yield lambda: prefills(lm(), visual, text, rounds, Layers(early=early, late=late), graphs)
    if whole and "layer_step" not in broken:
        yield lambda: decoding(lm(), (1,) if tiny else (1, 4, 16), rounds, GRAPH not in broken)
    yield lambda: kernels(config, device, [3] if tiny else LENGTHS, rounds, broken)
    if whole:
        yield lambda: others(lm(), visual + text, rounds)
    if "selective_scan" not in broken:
        yield lambda: other_scans(config, device, LENGTHS, rounds)
    if swept and "layer_step" not in broken:
        yield lambda: sweep_steps(config, device, *(1, 1) if tiny else (4, 10))
    if swept and "selective_scan" not in broken:
        yield lambda: sweep(config, device, [3] if tiny else LENGTHS)


@dataclass
class Report:
    """What was found so far; every addition is written at once."""

    out: Path
    device: torch.device
    source: dict[str, str]
    checks: list[Check] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    def check(self, asked: Checks) -> frozenset[str]:
        """Make the checks; what failed, or broke down, has no figures."""
        for guards, run in asked:
            try:
                found = run()
            except Exception as error:
                self.fail(error)
                found = Check(f"{guards}: broke down", 0, float("nan"), 0.0, guards)
            print(f"{found.op}: {found.worst:.1e}, allowed {found.allowed:.0e}", flush=True)
            self.checks.append(found)
            if not found.passed:
                self.errors.append(f"{found.op} failed: no figure of what it guards, {guards}, was taken")
            self.write()
        return frozenset(check.guards for check in self.checks if not check.passed)

    def measure(self, tables: Tables) -> None:
        """Take all rows; one broken table must not take the others with it."""
        for table in tables:
            try:
                for row in table():
                    print(f"{row.table}: {row.name}, {row.tokens} rows: {row.ms:.3f} ms", flush=True)
                    self.rows.append(row)
                    self.write()
            except Exception as error:
                self.fail(error)

    def fail(self, error: Exception) -> None:
        """Keep and show the end of a traceback."""
        self.errors.append("".join(traceback.format_exception(error)[-6:]))
        print(self.errors[-1], flush=True)

    def write(self) -> str:
        """Both files as they stand; returns the table."""
        document = {
            "checks": [{**asdict(check), "passed": check.passed} for check in self.checks],
            "rows": [{**asdict(row), "ratio": row.ratio} for row in self.rows],
            "errors": self.errors,
            "seconds": time.perf_counter() - self.begun,
            **self.source,
        }
        told = markdown(self.checks, self.rows, self.source, self.device.type == "cuda")
        self.out.mkdir(parents=True, exist_ok=True)
        for name, text in (("gpu.json", json.dumps(document, indent=1) + "\n"), ("bench_gpu.md", told)):
            partial = self.out / f"{name}.partial"
            partial.write_text(text)
            partial.replace(self.out / name)
        return told


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
    device, config = torch.device(given.device), TINY if given.tiny else COBRA
    if given.device == "cpu" and given.out == NUMBERS:
        parser.error("--device cpu is a rehearsal: give it an --out of its own")
    report = Report(given.out, device, provenance(given.device))
    try:
        with use("triton"):
            broken = report.check(checks(config, device, given.tiny))
            report.measure(sections(config, device, given.tiny, given.sweep, broken))
    except KeyboardInterrupt:
        report.errors.append("stopped before the end: what is missing was not measured")
    print("\n" + report.write())
    if report.errors:
        raise SystemExit("\n".join(report.errors))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `timeout` stops it as Ctrl-C does: with its tables
    main()
