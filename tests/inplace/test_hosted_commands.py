"""The commands on folders of transformers' own models."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folders
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("unchecked")
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "hybrids.md"
Folder = Callable[[str], Path]
Cli = Callable[..., Any]
BY_DEPTH = "after 2 and 6 of 8 layers, .234 and .703 of the depth as in the paper's model, not calibrated"


def width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.size[0]


def test_ask(cli: Cli, folder: Folder, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept.png"
    asked = ("ask", "--model", folder("qwen3_5"), scene, "What is this?", "--max-new-tokens", 3)
    methods = ("--method", "dtp:keep=0.5", "--method", "vtw:after=3", "--method", "freeze")
    none, dtp, vtw, freeze = cli(*asked, *methods, "--json").rows
    assert [none["kept"], dtp["kept"], vtw["kept"]] == [None, [8, 0], [0]]
    assert none["macs_share"] == 1 > dtp["macs_share"]
    assert (none["visual_tokens"], none["new_tokens"]) == (16, 3)
    assert BY_DEPTH in dtp["plan"]
    assert "plan" not in vtw
    assert "plan" not in freeze  # without an order of freezing it does not go by the plan's layers
    assert set(dtp["ms"]) == {"vision", "prefill", "decode"}
    ran = cli(*asked, "--overlay", out)
    assert ran.code == 0
    told = " ".join(ran.out.split())
    assert BY_DEPTH in told
    assert f"wrote {out}" in told
    assert width(out) >= 480


def test_ask_takes_a_score_that_the_layers_tell(cli: Cli, folder: Folder, scene: Path) -> None:
    asked = ("ask", "--model", folder("internvl"), scene, "What?", "--max-new-tokens", 1)
    shown = ["none", "dtp:keep=0.5,score=last_attention", "freeze"]
    assert [row["method"] for row in cli(*asked, "--json").rows] == shown
    ran = cli(*asked, "--method", "dtp:keep=0.5")
    assert (ran.code, "which no layer before it provides" in ran.err) == (2, True)


@pytest.mark.parametrize("method", ["utrc", "alignment", "downscale", "dtp:score=output"])
def test_cost_refuses_what_cannot_run(cli: Cli, folder: Folder, scene: Path, method: str) -> None:
    """In the words of `ask`; so does `budget`, with the keep that it tries."""
    name, sizes = folder("lfm2_vl"), ("--visual-tokens", 16)
    ran = cli("ask", "--model", name, scene, "What?", "--max-new-tokens", 1, "--method", method)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert cli("cost", "--model", name, *sizes, "--method", method) == ran
    met = cli("budget", "--model", name, *sizes, "--macs", 0.6, "--method", method)
    assert (met.code, met.err[:16]) == (2, ran.err[:16])


def test_sweep_leaves_out_what_cannot_run(cli: Cli, folder: Folder) -> None:
    asked = ("sweep", "--model", folder("lfm2_vl"), "--keep", 0.5, "--limit", 2)
    ran = cli(*asked, "--method", "utrc")
    assert (ran.code, "which no layer before it provides" in ran.err) == (2, True)
    ran = cli(*asked, "--method", "all", "--json")
    kept = {row["method"].split(":")[0] for row in json.loads(ran.out)}
    assert (ran.code, {"none", "dtp", "dart"} <= kept, "utrc" in kept) == (0, True, False)
    assert "ClippedOutput" in ran.err


def test_ask_drops_the_patches_that_are_named(cli: Cli, folder: Folder, scene: Path) -> None:
    """Of as many as the picture has, 16."""
    asked = ("ask", "--model", folder("qwen3_5"), scene, "What?", "--max-new-tokens", 1)
    _, some, all_but_one = cli(*asked, "--method", "chosen:drop=0-4", "--method", "chosen:drop=0-14", "--json").rows
    assert [some["kept"], all_but_one["kept"]] == [[11], [1]]
    ran = cli(*asked, "--method", "chosen:drop=16")
    assert (ran.code, "There is no patch 16: a picture has 16, numbered 0 to 15" in ran.err) == (2, True)


def test_overlay_needs_a_grid(cli: Cli, folder: Folder, scene: Path, tmp_path: Path) -> None:
    ran = cli("ask", "--model", folder("llava_onevision"), scene, "What?", "--overlay", tmp_path / "o.png")
    assert (ran.code, ran.out) == (2, "")
    assert "are not a grid over it" in ran.err


def test_cost(cli: Cli, folder: Folder) -> None:
    asked = ("cost", "--model", folder("qwen3_5"), "--visual-tokens", 1000)
    none, dtp = cli(*asked, "--json").rows
    assert set(none["macs"]) == {"linear", "experts", "attention", "recurrence", "conv", "head", "total"}
    assert none["macs"]["attention"] == 2 * 4 * (8 + 8) * 1022**2
    assert (dtp["kept"], dtp["visual_tokens"]) == ([500, 0], 1000)
    assert dtp["decode_macs"]["attention"] < none["decode_macs"]["attention"]
    table = " ".join(cli(*asked).out.split())
    assert "one image of 1000 visual tokens and 22 text tokens" in table
    assert "(decode, dtp:keep=0.5)" in table
    assert BY_DEPTH in table
    ran = cli("cost", "--model", "cobra", "--visual-tokens", 5)
    assert (ran.code, "whatever the image: leave out --visual-tokens" in ran.err) == (2, True)
    ran = cli("cost", "--model", folder("qwen3_5"), "--convention", "paper")
    assert (ran.code, "is counted with convention 'full'" in ran.err) == (2, True)


def test_budget(cli: Cli, folder: Folder) -> None:
    (row,) = cli("budget", "--model", folder("qwen3_5"), "--macs", 0.5, "--visual-tokens", 1000, "--json").rows
    assert 0.495 < row["share"] <= 0.5
    (again,) = cli(
        "cost", "--model", folder("qwen3_5"), "--visual-tokens", 1000, "--method", row["method"], "--json"
    ).rows
    assert again["share"] == row["share"]
    (vtw,) = cli("budget", "--model", folder("qwen3_vl"), "--macs", 0.5, "--method", "vtw", "--json").rows
    assert vtw["after"] == 3


def test_evaluate(cli: Cli, folder: Folder, tmp_path: Path) -> None:
    asked = ("evaluate", "--model", folder("qwen3_5"), "--limit", 6, "--out", tmp_path / "run", "--method", "none")
    none, dtp = cli(*asked, "--method", "dtp:keep=0.5", "--json").rows
    assert (none["n"], none["macs_share"], none["agreement"]) == (6, 1, 100)
    assert 0.7 < dtp["macs_share"] < 1
    assert BY_DEPTH in dtp["note"]
    lines = (tmp_path / "run" / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 12
    alone = cli(*asked, "--batch-size", 1, "--method", "vtw:after=3", "--json").rows  # the others are in the folder
    assert [row["mean"] for row in alone] == [none["mean"], alone[1]["mean"]]
    assert len((tmp_path / "run" / "answers.jsonl").read_text().splitlines()) == 18
    ran = cli(*asked, "--engine", "ray")
    assert (ran.code, "runs in one process" in ran.err) == (2, True)


def test_sweep(cli: Cli, folder: Folder, tmp_path: Path) -> None:
    """Every method spends what it is told to, on pictures like the benchmark's; a broken run goes on."""
    asked = ("sweep", "--model", folder("qwen3_5"), "--limit", 2, "--out", tmp_path, "--method", "dtp")
    rows = cli(*asked, "--method", "dart", "--share", "0.88,0.92", "--json").rows
    assert [row["method"].partition(":")[0] for row in rows] == ["none", "dtp", "dtp", "dart", "dart"]
    shares = [row["macs_share"] for row in rows]
    assert all(share - 0.05 < got <= share for got, share in zip(shares[1:], (0.88, 0.92) * 2, strict=True))
    again = cli(*asked, "--keep", "0.5", "--json").rows
    assert [row["kept"] for row in again] == [None, [8, 0]]
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2 * (5 + 1)


def test_sweep_takes_scores_that_the_layers_tell(cli: Cli, folder: Folder) -> None:
    """FastV behind LFM2's first attention; a method that cannot prune the model is refused before anything runs."""
    asked = ("sweep", "--model", folder("lfm2_vl"), "--limit", 1, "--keep", "0.8")
    ran = cli(*asked, "--json")
    assert ran.code == 0
    methods = [row["method"] for row in json.loads(ran.out)]
    assert {"dtp:score=last_attention,keep=0.8", "fastv:score=last_attention,after=3,keep=0.8"} < set(methods)
    ran = cli(*asked, "--method", "fastv:score=last_attention")
    assert (ran.code, ran.out) == (2, "")
    assert "needs attention, which no layer before it provides" in ran.err


def test_bench(cli: Cli, folder: Folder) -> None:
    asked = ("bench", "--model", folder("internvl"), "--random-weights", "--rounds", 1, "--batch", 2)
    none, dtp, last = cli(*asked, "--json").rows
    assert (none["batch"], none["visual_tokens"], none["dtype"], none["kept"]) == (2, 16, "float32", None)
    assert abs(none["tokens"] - 16 - 22) <= 5
    assert dtp["kept"] == [8, 0]
    assert min(none["vision_ms"], none["prefill_ms"], none["decode_ms"], none["peak_bytes"]) > 0
    assert none["total_ms"] > none["vision_ms"] + none["prefill_ms"] + 3 * none["decode_ms"]
    assert list(last["ratios"]) == ["dtp:keep=0.5,score=last_attention/none"]
    assert "by transformers' generate" in " ".join(cli(*asked).out.split())
    ran = cli("bench", "--model", folder("internvl"), "--growth")
    assert (ran.code, "--growth is not for" in ran.err) == (2, True)


def test_calibrate_writes_a_plan_that_is_read(cli: Cli, folder: Folder, scene: Path, tmp_path: Path) -> None:
    path, model = tmp_path / "plan.json", folder("qwen3_5")
    found = cli("calibrate", "--model", model, "--samples", 2, "--out", path, "--json").rows
    assert found == json.loads(path.read_text())
    assert found["source"]["score"] == "delta"
    assert found["source"]["layers"] == [0, 1, 2, 4, 5, 6]
    assert len(found["source"]["kl"]) == 8
    path.write_text(json.dumps({**found, "early": 3, "late": 5, "withdrawal": 4}))
    asked = ("ask", "--model", model, scene, "What?", "--max-new-tokens", 1, "--plan", path, "--method", "dtp:keep=0.5")
    _, dtp, vtw = cli(*asked, "--method", "vtw", "--json").rows
    assert (dtp["after"], vtw["after"]) == ([3, 5], [4])
    assert "plan" not in dtp  # a calibrated plan needs no note
    ran = cli("cost", "--model", folder("qwen3_vl"), "--plan", path)
    assert (ran.code, "was made for another model" in ran.err) == (2, True)
    ran = cli("calibrate", "--model", model, "--budget", 0.5, "--one-shot")
    assert (ran.code, "leave out --one-shot, --contribution, --fitprune and --in." in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("convert MODEL NEW", "holds a model of transformers' own (lfm2_vl), which the commands read as it is"),
        ("analyse map --model MODEL", "is a model of transformers' own, which analyse does not take: see calibrate"),
        (
            "calibrate --model MODEL --samples 1 --budget 0.05",
            "is 0.652 of the MACs, so give at least 0.653.",
        ),
        ("calibrate --model MODEL --budget 1.5", "between 0 and 1, such as 0.99."),
    ],
)
def test_mistakes(cli: Cli, folder: Folder, tmp_path: Path, argv: str, said: str) -> None:
    words = {"MODEL": folder("lfm2_vl"), "NEW": tmp_path / "new"}
    ran = cli(*(words.get(word, word) for word in argv.split()))
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said in ran.err


def test_calibrate_finds_what_freeze_may_freeze(cli: Cli, scene: Path, tmp_path: Path) -> None:
    """On 256 visual tokens: of a handful, the recurrence's whole chunks cost more than what is frozen."""
    path, model = tmp_path / "plan.json", folders.write(tmp_path / "model", "qwen3_5", pixels=256 * 64)
    found = cli("calibrate", "--model", model, "--samples", 1, "--budget", 0.85, "--out", path, "--json").rows
    assert found["source"]["freezing"]["shares"][-1] <= 0.85
    assert {change[1] for change in found["freezing"]} <= {"write", "skip"}
    asked = ("ask", "--model", model, scene, "What?", "--max-new-tokens", 1, "--plan", path)
    none, freeze = cli(*asked, "--method", "freeze:budget=0.9", "--json").rows
    assert none["macs_share"] == 1 > freeze["macs_share"]


def test_plot(cli: Cli, folder: Folder, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for figure, more in (("spread", ("--samples", 1)), ("tokens", ())):
        out = tmp_path / f"{figure}.png"
        assert cli("plot", figure, "--model", folder("qwen3_5"), *more, "--out", out).code == 0
        assert width(out) > 300
    ran = cli("plot", "scores", "--model", folder("qwen3_5"))
    assert (ran.code, "plot draws spread and tokens" in ran.err) == (2, True)


def test_the_guide_runs_line_by_line(
    cli: Cli, folder: Folder, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("deltaprune ")]
    assert {"ask", "cost", "budget", "evaluate", "calibrate", "bench", "plot"} <= {line.split()[1] for line in lines}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").symlink_to(scene)
    for line in lines:
        words = [str(folder("qwen3_5")) if word == "DIR" else word for word in shlex.split(line)[1:]]
        ran = cli(*words)
        assert ran.code == 0, (line, ran.err)
