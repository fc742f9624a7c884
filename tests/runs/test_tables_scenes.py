"""The tables of `scenes`: rows at equal cost, verdicts from the paired test, pages that say what the rows say."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from answers import answers, row
from typer.testing import CliRunner

from deltaprune.benchmarks import mean_of_skills
from deltaprune.benchmarks.scenes import SKILLS, Scenes
from deltaprune.cost import share_of
from deltaprune.evaluate.paper import printed
from deltaprune.evaluate.statistics import Change
from deltaprune.methods import parse
from deltaprune.models import registry
from deltaprune.models.cobra import COBRA
from deltaprune.scores.delta import Delta
from paper_tables.comparisons import Comparison, compare, sentences
from paper_tables.entries import TABLES, paper_means
from tables_scenes import Name, compared, make, text_tokens

BUNDLED = registry["bundled"].config()
GOOD = answers(120, 0.9, seed=1)
BAD = [replace(each, correct=0.0) if i % 3 == 0 else each for i, each in enumerate(GOOD)]
QUITE = [replace(each, correct=1.0 - each.correct) if i % 200 == 1 else each for i, each in enumerate(GOOD)]


@pytest.mark.parametrize("config", [BUNDLED, COBRA], ids=lambda config: config.name)
def test_table_1_compares_at_equal_cost(config) -> None:
    """Within one token's share below DTP; VTW at the layer nearest to it."""
    entries = TABLES["table1"][1](config, 11)
    blocks = list(dict.fromkeys(entry.block for entry in entries if entry.block))
    assert len(blocks) == 2
    for block in blocks:
        dtp, *others = [entry for entry in entries if entry.block == block]
        share = share_of(config, parse(dtp.method), 11)
        assert block == f"{100 * share:.1f} % of the MACs"
        names = [other.method.partition(":")[0] for other in others]
        assert sorted(names) == ["dart", "dtp", "fastv", "mtr", "random", "random", "uniform", "vtw"]
        for other in others:
            theirs = share_of(config, parse(other.method), 11)
            if other.method.startswith("vtw"):
                after = parse(other.method).after
                away = [abs(share_of(config, parse(f"vtw:after={k}"), 11) - share) for k in range(config.lm.n_layers)]
                assert away[after] == min(away)
            else:
                assert share - 1 / config.n_visual < theirs <= share + 1e-9
    assert [parse(entry.method).keep for entry in entries if entry.label == "DTP"] == [0.9, 0.5]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_starts_with_none_and_every_block_with_its_method(name: str) -> None:
    none, *entries = TABLES[name][1](BUNDLED, 11)
    assert (none.method, none.block) == ("none", "")
    assert entries
    methods = [entry.method for entry in entries]
    assert len(set(methods)) == len(methods)
    for block in dict.fromkeys(entry.block for entry in entries):
        first = next(entry for entry in entries if entry.block == block)
        if name in ("freeze", "freeze_others", "budgets"):
            assert first.method.startswith("freeze:")
        else:
            assert first.method.startswith("dtp:")
            assert isinstance(parse(first.method).score, Delta)
        assert block
    for entry in (none, *entries):
        parse(entry.method).checked_steps(BUNDLED.shape)
        assert not entry.paper or list(printed("cobra", entry.paper))
        assert not entry.paper or entry.paper in paper_means(name)


def test_the_two_tables_of_ours_ask_the_same_of_four_scores() -> None:
    """In every block one layer, one share, one stage; the layers and shares are those in the block's name."""
    for name, pattern in (("early", r"after (\d+) layers"), ("keep", r"keep=([\d.]+)")):
        _, *entries = TABLES[name][1](BUNDLED, 11)
        for entry in entries:
            (stage,) = parse(entry.method).steps(BUNDLED.shape)
            found = re.fullmatch(pattern, entry.block)
            assert found
            asked = stage.after if name == "early" else stage.keep
            assert float(found[1]) == asked
        assert len(entries) == 4 * len({entry.block for entry in entries}) >= 32
    assert paper_means("early") == {}


def test_the_papers_means_by_hand() -> None:
    assert paper_means("table1")["dtp:keep=0.9"] == 65.8
    assert paper_means("table3")["none"] == pytest.approx((62.3 + 58.2 + 49.7) / 3)
    assert paper_means("table3")["dtp:keep=0.5,score=readout"] == pytest.approx((58.9 + 44.9 + 49.6) / 3)
    assert paper_means("table4")["dtp:keep=0.5,candidates=all"] == pytest.approx((7.01 + 10.3 + 30.7) / 3)
    assert paper_means("table5")["dtp:keep=0.5,late=none"] == pytest.approx((61.5 + 56.1 + 49.6) / 3)


def test_verdicts() -> None:
    rows = {name: row(name, records) for name, records in {"a": GOOD, "b": BAD, "c": QUITE}.items()}
    won, even = compare([("block", rows["a"], [rows["b"], rows["c"]])], mean_of_skills)
    assert (won.verdict, even.verdict) == ("wins", "neither")
    assert won.change.points == pytest.approx(rows["a"].mean - rows["b"].mean)
    assert won.corrected == pytest.approx(2 * (won.change.p or 0))  # Holm: the smaller of two counts twice
    (lost,) = compare([("block", rows["b"], [rows["a"]])], mean_of_skills)
    assert (lost.verdict, lost.dearer) == ("loses", 0)
    dearer = replace(rows["a"], macs_share=0.58)
    assert compare([("block", rows["b"], [dearer])], mean_of_skills)[0].dearer == pytest.approx(0.08)


def test_a_small_difference_among_many_comparisons_is_no_win() -> None:
    """One p of .03 is below the level alone, but not as the least of two."""
    some = Comparison("block", "dtp", "x", Change(1.0, 0.1, 1.9, 0.03, None, 100), 0.0, 0.03)
    assert some.verdict == "wins"
    assert replace(some, corrected=0.06).verdict == "neither"


def test_the_sentences() -> None:
    made = [
        Comparison("60 % of the MACs", "dtp", "x", Change(2.0, 1.0, 3.0, 0.0002, None, 100), 0.0, 0.0008),
        Comparison("60 % of the MACs", "dtp", "y", Change(-4.0, -5.0, -3.0, 0.0002, None, 100), 0.03, 0.001),
        Comparison("60 % of the MACs", "dtp", "z", Change(3.0, 1.0, 5.0, 0.01, None, 100), -0.05, 0.03),
        Comparison("60 % of the MACs", "dtp", "w", Change(0.5, -1.0, 2.0, 0.4, None, 100), 0.0, 0.4),
        Comparison("90 %", "dtp:keep=0.9", "w", Change(0.5, -1.0, 2.0, 0.4, None, 100), 0.0, 0.4),
    ]
    named = {"x": "X", "y": "Y", "z": "Z", "w": "W"}
    assert sentences(made, named) == [
        "**60 % of the MACs**, `dtp`: it does better than Z (+3.0 [+1.0, +5.0], p = 0.030, at -5.0 points of MACs), "
        "X (+2.0 [+1.0, +3.0], p < 0.001). It does worse than Y (-4.0 [-5.0, -3.0], p = 0.001, at +3.0 points of "
        "MACs). No difference can be told from W (+0.5 [-1.0, +2.0], p = 0.400).",
        "**90 %**, `dtp:keep=0.9`: no difference can be told from W (+0.5 [-1.0, +2.0], p = 0.400).",
    ]


def test_blocks_are_compared_apart() -> None:
    entries = TABLES["table3"][1](BUNDLED, 11)
    rows = [row(entry.method, GOOD if "score" in entry.method else BAD) for entry in entries]
    found = compared(entries, rows, mean_of_skills)
    assert len(found) == 12
    assert {(each.block, each.dtp) for each in found} == {
        ("keep=0.5", "dtp:keep=0.5"),
        ("keep=0.9", "dtp:keep=0.9"),
    }
    assert all(each.verdict == "loses" for each in found)


@pytest.fixture(scope="module")
def page(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table 5 on the tiny model."""
    folder = tmp_path_factory.mktemp("tables")
    make("table5", *tiny, Scenes(), 8, folder / "out", folder / "numbers")
    return folder


def test_the_page_says_what_the_rows_say(page: Path) -> None:
    text = (page / "numbers" / "scenes_table5.md").read_text()
    held = json.loads((page / "numbers" / "scenes_table5.json").read_text())
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert len({len(line) for line in lines}) == 1
    header, _, guessing, none, block, *ours = lines
    assert header[:4] == ["method", "setting", "MMACs", "ratio"]
    assert header[-5:] == ["mean", "against `none`", "p", "same answers", "paper: Cobra"]
    assert set(header[4:-5]) <= set(SKILLS)
    assert (guessing[0], block[0]) == ("*always the commonest answer*", "**keep=0.5**")
    assert none[1] == "`none`"
    assert none[-4:] == ["", "", "100.0 %", "56.7"]
    assert [line[1] for line in ours] == ["`dtp:keep=0.5`", "`dtp:keep=0.5,late=none`"]
    assert [line[-1] for line in ours] == ["55.7 (-1.0)", "55.7 (-1.0)"]
    for line, measured in zip([none, *ours], held["rows"], strict=True):
        assert line[header.index("mean")].startswith(f"{measured['mean']:.1f} [")
        assert line[header.index("ratio")] == f"{100 * measured['macs_share']:.1f} %"
        assert measured["n"] == 8
    assert "8 questions, the same in every row" in text
    assert held["said"][0] in text
    assert held["provenance"]["command"].replace("`", "") in text
    assert len(held["comparisons"]) == 1
    assert held["comparisons"][0]["verdict"] in ("wins", "loses", "neither")


def test_the_budgets_are_meant_for_the_prompts_that_run(page: Path, tiny) -> None:
    held = json.loads((page / "numbers" / "scenes_table5.json").read_text())
    assert held["rows"][0]["text_tokens"] == text_tokens(tiny[1], Scenes(), 8)


def test_the_same_command_goes_on_where_it_was(page: Path, tiny, tmp_path: Path) -> None:
    answered = page / "out" / "scenes_table5" / "answers.jsonl"
    before = answered.read_bytes()
    make("table5", *tiny, Scenes(), 8, page / "out", tmp_path)
    assert answered.read_bytes() == before
    again, first = (json.loads((f / "scenes_table5.json").read_text()) for f in (tmp_path, page / "numbers"))
    for each in (*again["rows"], *first["rows"]):
        each.pop("ms")
    assert again["rows"] == first["rows"]
    assert (page / "out" / "scenes_table5" / "report.md").exists()


def test_the_commands_know_every_table() -> None:
    assert {each.value for each in Name} == set(TABLES)


def test_an_unknown_table_is_refused() -> None:
    import typer

    from tables_scenes import main

    app = typer.Typer()
    app.command()(main)
    assert CliRunner().invoke(app, ["table2"]).exit_code == 2
