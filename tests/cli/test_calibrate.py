"""`deltaprune calibrate`, and the plan file in every command that prunes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from elsewhere import register

from deltaprune import VLM, Plan, load_plan
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import ETA, save_plan
from deltaprune.checkpoints.folder import read_config
from deltaprune.cost.machine import processor
from deltaprune.plan import LayerTimes


@pytest.fixture(scope="module")
def plan(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan for the tiny model that is not the one in its folder (1, 3)."""
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    save_plan(Plan(early=2, late=3, withdrawal=1), read_config(model), path)
    return path


def test_what_it_writes_can_be_read(cli: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    found = cli("calibrate", "--model", model, "--samples", 2, "--rule", "argmin", "--out", path, "--json").rows
    loaded = load_plan(path, read_config(model))
    assert [loaded.early, loaded.late, loaded.withdrawal] == [found[key] for key in ("early", "late", "withdrawal")]
    assert loaded.source == found["source"]


def test_the_document(cli: Callable[..., Any], model: Path) -> None:
    found = cli("calibrate", "--model", model, "--samples", 3, "--seed", 5, "--split", "test", "--json").rows
    assert found["model"] == {"name": "tiny", "n_layers": 4, "n_visual": 16}
    source = found["source"]
    assert (source["benchmark"], source["split"], source["seed"], source["samples"]) == ("scenes", "test", 5, 3)
    assert source["eta"] == ETA
    assert len(source["curve"]) == len(source["kl"]) == 4


def test_contribution_finds_the_layers_of_shortv(cli: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    found = cli(
        "calibrate", "--model", model, "--samples", 2, "--rule", "argmin", "--contribution", "--out", path, "--json"
    ).rows["found"]["shortv"]
    assert len(found) == 4
    assert found[3] == pytest.approx(0, abs=1e-6)  # nobody reads the image behind the last layer
    least = min(range(4), key=lambda l: (found[l], -l))
    asked = ("cost", "--model", model, "--plan", path, "--json", "--method")
    by_plan, by_name = (cli(*asked, text).rows for text in ("shortv:share=0.25", f"shortv:layers={least}"))
    assert by_plan[0]["macs"] == by_name[0]["macs"]
    both = cli(*asked, "shortv:share=0.5").rows[0]["share"]
    assert both < by_plan[0]["share"] < 1


def test_fitprune_finds_how_many_tokens_each_layer_can_lose(
    cli: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    argv = ("calibrate", "--model", model, "--samples", 2, "--rule", "argmin", "--fitprune", "--out", path, "--json")
    found = cli(*argv).rows["found"]
    assert [name.split()[0] for name in found] == ["fitprune"] * 15
    assert all(len(curve) == 4 for curve in found.values())
    asked = ("cost", "--model", model, "--json", "--method", "fitprune:budget=0.8")
    with_plan, without = cli(*asked, "--plan", path).rows[0], cli(*asked).rows[0]
    assert with_plan["kept"] != without["kept"]
    assert with_plan["share"] <= 0.8


def test_eta_moves_the_withdrawal(cli: Callable[..., Any], model: Path) -> None:
    argv = ("calibrate", "--model", model, "--samples", 2, "--rule", "argmin")
    always, never = cli(*argv, "--eta", 1e9, "--json").rows, cli(*argv, "--eta", 1e-30, "--json").rows
    assert (always["withdrawal"], never["withdrawal"]) == (0, 4)
    assert "no withdrawal" in never["source"]["withdrawal"]
    lines = [line.split()[:2] for line in cli(*argv, "--eta", 1e-30).out.splitlines()]
    assert ["vtw", "never"] in lines


def test_every_kind_of_question_is_asked(cli: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    counted = replace(Scenes().rules, message=lambda sample: asked.append(sample.skill) or sample.question)
    monkeypatch.setattr(Scenes, "protocols", {"official": counted})
    assert cli("calibrate", "--model", model, "--samples", 10, "--json").rows["source"]["samples"] == 10
    assert len(asked) == 10
    assert len(set(asked)) >= 5


def test_a_plan_file_in_cost_and_budget(cli: Callable[..., Any], model: Path, plan: Path) -> None:
    argv = ("cost", "--model", model, "--method", "dtp", "--method", "vtw", "--json")
    by_hand = ("cost", "--model", model, "--method", "dtp:early=2,late=3", "--method", "vtw:after=1", "--json")
    own, planned = cli(*argv).rows, cli(*argv, "--plan", plan).rows
    assert [row["macs"] for row in planned] == [row["macs"] for row in cli(*by_hand).rows]
    assert [row["macs"] for row in planned] != [row["macs"] for row in own]
    (row,) = cli("budget", "--model", model, "--macs", 0.8, "--plan", plan, "--json").rows
    (again,) = cli("cost", "--model", model, "--method", row["method"], "--plan", plan, "--json").rows
    assert row["share"] == again["share"] <= 0.8


def test_a_plan_file_in_ask_and_evaluate(cli: Callable[..., Any], model: Path, plan: Path, scene: Path) -> None:
    argv = ("--model", model, "--method", "dtp", "--json")
    rows = cli("ask", scene, "What?", *argv, "--max-new-tokens", 1, "--plan", plan).rows
    assert rows[1]["after"] == [2, 3]
    (planned,) = cli("evaluate", *argv, "--limit", 2, "--plan", plan).rows
    (own,) = cli("evaluate", *argv, "--limit", 2).rows
    assert planned["macs_share"] > own["macs_share"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("calibrate --eta 0", "eta=0 is no threshold: it lies above 0, such as VTW's own 0.003."),
        ("calibrate --eta x", "--eta takes a number, such as 0.003: 'x' is not one."),
        ("calibrate --split tset", "did you mean 'test'?"),
        ("cost --model bundled --plan PLAN", "made for another model (name tiny, n_layers 4, n_visual 16), not for"),
        ("evaluate --model bundled --plan PLAN", "was made for another model"),
        ("cost --model MODEL --plan nowhere.json", "The plan 'nowhere.json' cannot be read"),
        ("ask SCENE What? --model MODEL --plan SCENE", "is not a plan, because it is not JSON"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    argv: str, sentence: str, cli: Callable[..., Any], model: Path, scene: Path, plan: Path
) -> None:
    texts = {"MODEL": model, "SCENE": scene, "PLAN": plan}
    ran = cli(*(texts.get(word, word) for word in argv.split()))
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_rule_js_reads_the_answers(cli: Callable[..., Any], model: Path) -> None:
    source = cli("calibrate", "--model", model, "--samples", 3, "--rule", "js", "--json").rows["source"]
    assert source["rule"] == "js"
    assert len(source["js"]) == 2
    assert "JS is least" in source["early"]


def test_a_budget_finds_the_order_of_freeze(cli: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    argv = ("calibrate", "--model", model, "--samples", 2, "--rule", "argmin", "--budget", 0.85)
    found = cli(*argv, "--out", out, "--json").rows
    assert json.loads(out.read_text()) == found
    assert not (tmp_path / "plan.json.partial").exists()
    about = found["source"]["freezing"]
    assert about["shares"][-1] <= 0.85
    assert (about["pictures"], about["one_shot"]) == (2, False)
    assert about["questions"] > 6
    assert {how for _, how, _ in found["freezing"]} <= {"write", "mean", "skip"}
    table = cli(*argv, "--one-shot")
    assert table.code == 0
    assert "freeze" in table.out
    told = cli("calibrate", "--model", model, "--samples", 2, "--budget", 1.5)
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "--budget 1.5 must be a share of the prefill's MACs between 0 and 1" in told.err


@pytest.mark.parametrize("how", [(), ("--one-shot",)])
def test_the_least_budget_that_is_named_can_be_met(
    how: tuple[str, ...], cli: Callable[..., Any], model: Path, scene: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """It is named before anything is tried; its plan runs at the same budget, though questions are short here."""
    out = tmp_path / "plan.json"
    argv = ("calibrate", "--model", model, "--samples", 1, "--rule", "argmin", "--out", out, *how, "--budget")
    with monkeypatch.context() as patched:
        patched.setattr("deltaprune.calibrate.trials.Trials.__call__", None)
        told = cli(*argv, 0.05)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert "budget=0.05 is out of reach: with mean, skip, write the least is 0" in told.err
    assert not out.exists()
    least = told.err.rpartition(" ")[2].strip().rstrip(".")
    assert cli(*argv, least).code == 0
    asked = ("ask", scene, "What?", "--model", model, "--max-new-tokens", 1, "--plan", out)
    _, row = cli(*asked, "--method", f"freeze:budget={least},keep=1", "--json").rows
    assert row["macs_share"] <= float(least)


@pytest.mark.parametrize(("budget", "nearest"), [(1, 0.99), (0, 0.6), (1.5, 0.99), (-1, 0.6), (60, 0.6), ("nan", 0.6)])
def test_a_budget_that_is_no_share(budget: Any, nearest: float, cli: Callable[..., Any]) -> None:
    ran = cli("calibrate", "--budget", budget)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith(f" must be a share of the prefill's MACs between 0 and 1, such as {nearest}.\n")


def test_it_runs_on_an_engine(cli: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And finds there what it finds here; the search of --budget does so with --one-shot."""
    sent = register(monkeypatch)
    argv = (
        "calibrate",
        "--model",
        model,
        "--samples",
        9,
        "--rule",
        "js",
        "--contribution",
        "--fitprune",
        "--budget",
        0.8,
    )
    there, here = (cli(*argv, "--one-shot", *engine, "--json").rows for engine in (("--engine", "elsewhere"), ()))
    assert {**there, "source": None} == {**here, "source": None}
    assert there["source"]["freezing"]["shares"] == here["source"]["freezing"]["shares"]
    assert there["source"]["freezing"]["one_shot"]
    assert len(sent) == 8
    refused = cli(*argv, "--engine", "elsewhere")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "leave out --engine, or rank with --one-shot" in refused.err


def test_a_budget_in_milliseconds(
    cli: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order goes on until so many milliseconds are left by the table of layer times; `budget` counts by it."""

    def timed(vlm: VLM, text_tokens: int) -> LayerTimes:
        where = "cpu", processor(vlm.device), torch.get_num_threads(), "float32", vlm.config.n_visual, text_tokens
        return LayerTimes(*where, full=1.0, write=0.5, mean=0.2, skip=0.1)

    monkeypatch.setattr("deltaprune.calibrate.frozen.layer_times", timed)
    out = tmp_path / "plan.json"
    argv = ("calibrate", "--model", model, "--samples", 2, "--rule", "argmin", "--in", "ms")
    found = cli(*argv, "--budget", 2.7, "--out", out, "--json").rows
    about, words = found["source"]["freezing"], found["times"]["text_tokens"]
    assert (about["unit"], about["budget"]) == ("ms", 2.7)
    assert about["ms"][-1] <= 2.7 < about["ms"][-2]
    saved = {"write": 0.5, "mean": 0.8, "skip": 0.9}
    hows = {layer: how for layer, how, _ in found["freezing"]}
    assert about["ms"][-1] == pytest.approx(4 - sum(saved[how] for how in hows.values()))
    asked = ("budget", "--model", model, "--plan", out, "--budget", 2.7, "--in", "ms", "--method")
    freeze, dtp = cli(*asked, "freeze", "--method", "dtp:early=1,late=none", "--json").rows
    assert freeze["ms"] <= 2.7
    assert dtp["ms"] == pytest.approx(1 + 3 * (0.1 + 0.9 * dtp["kept"][0] / 16))
    assert (dtp["unit"], dtp["text_tokens"]) == ("ms", words)
    assert f"{dtp['ms']:.3f}" in cli(*asked, "dtp:late=none").out
    refused = cli(*asked, "dtp:late=none", "--text-tokens", 99)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"measured for text_tokens {words}, not 99" in refused.err
    least = cli(*argv, "--budget", 0.01)
    assert (least.code, least.err.count("\n")) == (2, 1)
    assert (
        "budget=0.01 ms is out of reach: with mean, skip, write the least is 0.400 ms, so give at least 0.4"
        in least.err
    )


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("calibrate --budget -1 --in ms", "--budget -1 must be milliseconds of the prefill above 0"),
        ("calibrate --budget 5 --in s", "There is no unit 's' of a budget"),
        ("calibrate --budget 0.5 --engine ray", "--budget searches, and times layers, in one process"),
        ("budget --model bundled", "Give one of --macs SHARE and --budget VALUE"),
        ("budget --model bundled --macs 0.5 --in ms", "Give one of --macs SHARE and --budget VALUE"),
        ("budget --model bundled --budget 5 --in ms", "This plan has no layer times"),
        ("budget --model bundled --budget 5", "--budget 5 is no share of the MACs"),
    ],
)
def test_a_budget_that_is_none(argv: str, sentence: str, cli: Callable[..., Any]) -> None:
    ran = cli(*argv.split())
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
