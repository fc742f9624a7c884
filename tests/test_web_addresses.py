"""Where a file is wanted and a web address is given, the address is told as it was: `Path` drops one of its slashes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deltaprune as dp
from deltaprune.benchmarks import registry
from deltaprune.benchmarks.graders.predictions import read_predictions
from deltaprune.calibrate import load_plan
from deltaprune.checks import check_local
from deltaprune.vision.images import open_image

URL = "https://upload.example.org/a/b.png"


@pytest.mark.parametrize("form", [str, Path], ids=["text", "path"])
@pytest.mark.parametrize(
    "use",
    [
        open_image,
        dp.load,
        lambda path: load_plan(path, dp.load("bundled")[0].config),
        lambda path: list(read_predictions(Path(path))),
        lambda path: list(registry["gqa"](data=path).samples("testdev_balanced")),
    ],
    ids=["picture", "model", "plan", "answers", "benchmark"],
)
def test_it_is_told_as_it_was(use: Callable[[Any], object], form: Callable[[str], Any]) -> None:
    with pytest.raises(dp.UserError, match=f"{URL!r} is a web address: download it and give the path"):
        use(form(URL))


@pytest.mark.parametrize("path", ["https", "c:/pictures/a.png", "http.png", "/https:/x", "./s3:/x", "han1997/cobra"])
def test_a_path_is_none(path: str) -> None:
    check_local("The file", path)
