"""Tables on consoles of 80 and 120 letters: nothing is wider, no word is broken, notes are as wide as the console."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaprune.cli._cost_tables import ask_tables
from deltaprune.cli._grid import Grid, show

COMMANDS = [
    "cost",
    "cost --flops",
    "budget --macs 0.5 --method dtp --method vtw",
    "methods",
    "evaluate --limit 12 --method dtp --method random:keep=0.25 --model MODEL",
    "ask SCENE What? --model MODEL --method dtp:keep=0.25,late=2 --method dart",
    "calibrate --samples 2 --rule argmin --model MODEL",
    "bench --rounds 1 --components --peers --model MODEL",
    "bench --rounds 1 --growth --most-tokens 32 --model MODEL",
    "bench --rounds 1 --questions 2 --model MODEL",
]
HEADINGS = {
    "cost": "method kept share vision projector linear conv scan head total",
    "evaluate": "method mean attribute counting existence reading spatial unanswerable agreement MACs",
    "bench": "method vision prefill decode total choose ratio floor peak projector linear conv scan other",
}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("argv", COMMANDS)
def test_it_fits_the_console(
    argv: str, width: int, cli: Callable[..., Any], model: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    words = [{"MODEL": str(model), "SCENE": str(scene)}.get(word, word) for word in argv.split()]
    ran = cli(*words)
    assert (ran.code, ran.err) == (0, "")
    lines = [line.rstrip() for line in ran.out.splitlines()]
    assert max(map(len, lines)) <= width
    for heading in HEADINGS.get(words[0], "").split() if "--growth" not in words and "--questions" not in words else ():
        assert heading in ran.out.split()
    notes = [line for line in lines if " · " in line]
    for note, after in itertools.pairwise(notes):  # a line of a note is filled before the next begins
        if lines.index(after) == lines.index(note) + 1:
            assert len(note) + 1 + len(after.split()[0]) > width


@pytest.mark.parametrize("width", [80, 120, 300])
def test_every_cell_is_whole_and_every_block_names_its_lines(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    header = ["method", *(f"column{i} of{i}" for i in range(20))]
    lines: list[list[str] | None] = [["first", *(f"{1000 * i}.125" for i in range(20))], None]
    lines.append(["second", *(f"{7 * i}%" for i in range(20))])
    show(Grid(header, lines))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    for word in {word for line in [*filter(None, lines), header] for cell in line for word in cell.split()}:
        assert word in out.split()
    blocks = out.split().count("method")
    assert blocks == out.split().count("first") == out.split().count("second")
    assert (blocks > 1) == (width < 300)


def test_only_as_many_blocks_as_are_needed() -> None:
    grid = Grid(["method", *"abcdef"], [["x" * 20, *["1" * 8] * 6]])
    assert [list(block) for block in grid.blocks(83)] == [[0, 1, 2, 3, 4, 5, 6]]
    assert [list(block) for block in grid.blocks(82)] == [[0, 1, 2, 3, 4, 5], [0, 6]]
    assert [list(block) for block in grid.blocks(10)] == [[0, i] for i in range(1, 7)]  # runs over, nothing is cut


def test_free_text_takes_what_is_left_and_wraps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = "a long answer of many words that does not fit on one line of a narrow console " * 2
    ms = {"vision": 1.0, "prefill": 2.0, "decode": 3.0}
    row = {"question": "Why?", "method": "dtp:keep=0.5", "answer": answer, "kept": [8, 0], "macs_share": 0.5, "ms": ms}
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        show(*ask_tables([row], "cpu"))
        lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert width - 4 <= max(map(len, lines)) <= width
        assert answer.split()[0] in " ".join(lines)
        assert sum("narrow" in line for line in lines) == 2
