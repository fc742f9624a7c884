"""The figure of a training: what a log says is what is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deltaprune.errors import UserError
from training.curves import curves, entries, main
from training.recipe import Recipe

RECIPE = Recipe(pictures=3000)


def learnt(pictures: int, reading: float) -> dict:
    return {"pictures": pictures, "answers": 1.0, "existence": 0.5, "reading": reading, "drill color": 0.9}


def watched(pictures: int, none: float) -> dict:
    early = {f"{name} 3 {keep}": none - keep for name in ("dtp", "random") for keep in (0.5, 0.25)}
    return {"pictures": pictures, "methods": {"none": none, "vtw 10": none - 9, "vtw 14": none, **early}}


def text(*log: dict) -> str:
    return "a line of the progress bar\n" + "".join(json.dumps(entry) + "\n" for entry in log)


LOG = text(learnt(800, 0.1), watched(1000, 40.0), learnt(1600, 0.2), watched(2400, 60.0), learnt(2400, 0.3))


def test_what_was_done_again_counts_once() -> None:
    again = LOG + text(learnt(1600, 0.6), learnt(2400, 0.7))
    assert [entry["pictures"] for entry in entries(again)] == [800, 1000, 1600, 1600, 2400]
    assert entries(again)[-2:] == [learnt(1600, 0.6), learnt(2400, 0.7)]


@pytest.mark.parametrize("log", ["", text(learnt(800, 0.1)), text(watched(800, 9.0))])
def test_a_file_that_is_no_log_is_refused_in_a_sentence(log: str) -> None:
    with pytest.raises(UserError, match="no log of a training"):
        entries(log)


def test_every_line_is_the_log_s() -> None:
    skills, late, early = curves(entries(LOG), RECIPE).axes
    drawn = [
        {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.lines}
        for axes in (skills, late, early)
    ]
    assert drawn[0]["reading"] == [[800, 10], [1600, 20], [2400, 30]]
    assert drawn[1]["vtw:after=10"] == [[1000, 31], [2400, 51]]
    assert drawn[1]["vtw:after=14"] == drawn[1]["none"] == drawn[2]["none"] == [[1000, 40], [2400, 60]]
    assert drawn[2]["dtp, early=3"] == drawn[2]["random, early=3"] == [[1000, 39.5], [2400, 59.5]]
    assert {label.get_text() for label in skills.texts} == {"sizes vary", "rate falls"}


def test_the_page_is_white_whatever_lies_behind_it(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(LOG)
    main(tmp_path / "log.jsonl", tmp_path / "drawn.png")
    pixels = np.asarray(Image.open(tmp_path / "drawn.png").convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    assert (pixels[0, 0] == 255).all()
