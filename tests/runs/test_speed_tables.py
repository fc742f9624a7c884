"""The scripts of the speed tables: a miss is never hidden, and the poster's numbers are read as they add up."""

import pytest

from bench_cpu import Line, sizes, towers
from efficiency import POPE, POSTER, STEPS, page, steps_of


@pytest.mark.parametrize(
    ("measured", "target", "most", "verdict"),
    [
        (1.2, 1.35, True, "met"),
        (1.35, 1.35, True, "met"),
        (1.5, 1.35, True, "MISSED by 0.15"),
        (3.1, 3.0, False, "met"),
        (2.5, 3.0, False, "MISSED by 0.5"),
        (float("nan"), 3.0, True, "MISSED by nan"),
        (7.0, None, True, "reported"),
    ],
)
def test_verdict(measured: float, target: float | None, most: bool, verdict: str) -> None:
    assert Line("", measured, target, most, "").verdict == verdict


def test_full_width_and_the_paper_s_tokens() -> None:
    size = sizes(tiny=False)
    lm = size.config.lm
    assert (lm.d_model, lm.n_layers, size.config.n_visual) == (2560, 64, 729)
    assert size.lengths == (1024, 2048, 4096, 8192, 16384)


def test_every_tower_has_a_line_for_one_picture_and_for_several() -> None:
    lines, rows = towers(sizes(tiny=True))
    assert [(row["name"], row["images"]) for row in rows] == [(n, i) for i in (1, 4) for n in ("dino", "siglip")]
    assert [(line.target, line.most) for line in lines] == [(1.25, True)] * 4
    assert [line.measured for line in lines] == [row["ratio"] for row in rows]
    assert sizes(tiny=False).seen.towers["dino"].width == 1024


def test_steps_are_1_7_on_average() -> None:
    steps = [steps_of(question) for question in range(1000)]
    assert set(steps) == {1, 2}
    assert sum(steps) == 1700


def test_the_poster_s_totals_are_its_means_over_pope() -> None:
    for row in POSTER:
        assert POPE * (row.prefill + STEPS * row.decode) / 1000 == pytest.approx(row.seconds, rel=0.01)


def test_the_page_puts_ratios_beside_the_poster_s() -> None:
    config = sizes(tiny=True).config
    names = ("macs", "vision_ms", "lm_prefill_ms", "prefill_ms", "decode_ms", "question_ms", "peak_bytes")
    rows = {row.method: dict.fromkeys(names, 4.0) for row in POSTER}
    rows["dtp:keep=0.5"] = dict.fromkeys(names, 3.0)
    source = dict.fromkeys(("command", "commit", "date", "device", "torch", "python"), "x")
    (line,) = [line for line in page(config, rows, 3, source).splitlines() if line.startswith("| DTP")]
    assert line.endswith("| 0.75 / 0.63 | 0.75 / 1.00 | 0.75 / 0.66 | 0.75 / 0.94 |")
