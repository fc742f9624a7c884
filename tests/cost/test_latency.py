"""The bench measures what it says: alternating rounds, the stage's own time, memory, ratios within a round."""

import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch

import deltaprune as dp
from deltaprune.cli._bench_tables import bench_table
from deltaprune.cost import latency
from deltaprune.cost.latency import bench
from deltaprune.cost.peers import peers
from deltaprune.cost.rounds import Round, prompts
from deltaprune.cost.short import ShortPrompt, ShortTimes
from deltaprune.cost.stopwatch import Stopwatch
from deltaprune.cost.timing import spread, timed, unmeasured
from deltaprune.mllm.processor import Processor
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.trace import Trace
from deltaprune.vlm import VLM

METHODS = {"none": dp.NoPruning(), "dtp": dp.DTP(0.5)}


@dataclass(frozen=True)
class SlowDelta(Delta):
    """Delta, five milliseconds late."""

    def __call__(self, tokens: Rows, trace: Trace) -> torch.Tensor:
        time.sleep(0.005)
        return super().__call__(tokens, trace)


def test_a_row_for_each_method_in_order(tiny: tuple[VLM, Processor]) -> None:
    heard: list[tuple[int, int]] = []
    rows, ratios = bench(tiny[0], METHODS, 7, batch=2, rounds=2, on_round=lambda *done: heard.append(done))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert [row.method for row in rows] == ["none", "dtp"]
    assert list(ratios) == ["dtp/none", "none/products", "dtp/products"]
    for row in rows:
        assert (row.name, row.tokens, row.batch) == ("tiny", 16 + 7, 2)
        assert (row.dtype, row.device, row.kernel) == ("float32", "cpu", "numba")
        assert min(row.vision_ms, row.prefill_ms, row.decode_ms, row.products_ms, row.weights_ms, row.short_ms) > 0
        assert row.total_ms >= row.vision_ms
        assert row.components == {}
        assert row.peak_bytes > 1e7
        assert set(row.spread) == {"vision", "prefill", "decode", "products", "total", "short"}
    assert rows[0].choose_ms == 0 < rows[1].choose_ms


def test_a_slow_score_is_seen_in_choose_and_in_prefill(tiny: tuple[VLM, Processor]) -> None:
    rows, _ = bench(tiny[0], {"slow": dp.DTP(0.5, score=SlowDelta())}, rounds=1)
    assert rows[0].choose_ms >= 5
    assert rows[0].prefill_ms >= 5


def test_the_stopwatch_changes_no_choice(tiny: tuple[VLM, Processor]) -> None:
    vlm = tiny[0]
    pixels, ids = prompts(vlm, 2, 5)
    tokens = Rows.pack(list(vlm.model.encode(pixels)), list(vlm.model.lm.embed(ids)))
    stages = dp.DTP(0.5).checked_steps(vlm.shape)
    watch = Stopwatch(vlm.device)
    plain, watched = (prefill(vlm.model.lm, tokens, s) for s in (stages, tuple(watch.on(s) for s in stages)))
    assert torch.equal(plain.hidden, watched.hidden)


def test_ratios_are_medians_within_rounds(tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 0, 10, 5, 20, 5, 40, 30])  # a warm-up, then 10/5, 20/5, 40/30: the machine slows down
    floor = iter([9, 9, 5, 5, 10, 5, 10, 10])
    monkeypatch.setattr(latency, "method_round", lambda *_: Round(1, next(clock), 2, 0))
    monkeypatch.setattr(latency, "timed", lambda *_: (None, next(floor)))
    rows, ratios = bench(tiny[0], METHODS, rounds=3, new_tokens=3)
    assert ratios == {"dtp/none": 0.5, "none/products": 2, "dtp/products": 1}
    assert [row.prefill_ms for row in rows] == [20, 5]
    assert [row.total_ms for row in rows] == [27, 12]


@pytest.mark.parametrize(("products", "floor"), [(6.0, 6.0), (1e-9, None)])
def test_a_short_prompt_is_held_against_the_longer_of_its_floors(
    tiny: tuple[VLM, Processor], products: float, floor: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its products, or its layers' weights at the bandwidth of a copy."""
    vlm = tiny[0]
    ran = iter([9.0, 8.0, 7.0])
    monkeypatch.setattr(ShortPrompt, "times", lambda self, label: ShortTimes(next(ran), products))
    monkeypatch.setattr(latency, "copy_bandwidth", lambda device, rounds: 1e6)
    (row,), _ = bench(vlm, {"none": dp.NoPruning()}, rounds=2)
    assert row.short_ms == 7.5
    reading = 1e-3 * sum(4 * p.numel() for block in vlm.model.lm.blocks for p in block.parameters())
    assert row.short_floor_ms == pytest.approx(reading if floor is None else max(floor, reading))
    assert row.weights_ms > reading


def test_a_row_says_whether_graphs_were_replayed(tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = iter([False, False, True, True, True, False])  # a warm-up, then two rounds of two methods
    monkeypatch.setattr(latency, "method_round", lambda *_: Round(1, 1, 1, 0, replayed=next(replayed)))
    rows, _ = bench(tiny[0], METHODS, rounds=2)
    assert [row.graphed for row in rows] == [True, False]
    document = [*(row.to_dict() for row in rows), {"ratios": {"dtp/none": 1, "none/products": 1, "dtp/products": 1}}]
    lines = filter(None, bench_table(document).lines)
    assert [str(line[0]) for line in lines] == ["none, CUDA graph", "dtp"]


def test_on_a_gpu_a_second_round_captures_graphs_before_any_is_measured() -> None:
    assert [unmeasured(torch.device(kind)) for kind in ("cpu", "cuda")] == [1, 2]


def test_a_peer_takes_part_and_components_add_up(tiny: tuple[VLM, Processor]) -> None:
    vlm = tiny[0]
    rows, ratios = bench(vlm, METHODS, rounds=1, peers=peers(vlm.model.lm), by_component=True)
    ours, theirs = rows[:2], rows[2:]
    assert [row.kernel for row in theirs][:1] == ["transformers"]
    for row in theirs:
        assert (row.method, row.choose_ms, row.components) == ("none", 0, {})
        assert row.decode_ms > 0 < ratios[f"{row.kernel}/none"]
    for row in ours:
        assert list(row.components) == ["vision", "projector", "linear", "conv", "scan", "other"]
        lm = sum(row.components[part] for part in ("linear", "conv", "scan", "other"))
        assert lm == pytest.approx(row.prefill_ms)
        assert row.to_dict()["choose_share"] == row.choose_ms / row.prefill_ms


def test_spread() -> None:
    assert spread([3.0]) == 0
    assert spread([4.0, 4.0, 4.0]) == 0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(1 / 3)


PEAK = """
import torch
from deltaprune.cost.timing import forget_peak, peak_bytes

cpu = torch.device("cpu")
forget_peak(cpu)
before = peak_bytes(cpu)
torch.ones(20_000_000).sum()
print(peak_bytes(cpu) - before)
"""


def test_peak_memory_sees_a_buffer_that_is_gone() -> None:
    """In a process of its own: the kernel may take pages away from a large one meanwhile, and its peak stays."""
    ran = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(ran.stdout) > 60_000_000


def test_timed() -> None:
    result, ms = timed(lambda: time.sleep(0.01) or "done", torch.device("cpu"))
    assert result == "done"
    assert 10 <= ms < 1000, "milliseconds"


def test_nothing_to_measure_is_a_sentence(tiny: tuple[VLM, Processor]) -> None:
    with pytest.raises(dp.UserError, match="rounds=0 must be at least 1"):
        bench(tiny[0], METHODS, rounds=0)
