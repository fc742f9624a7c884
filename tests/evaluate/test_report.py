"""Reports: what is measured, the same numbers on the page, in the CSV and in the JSON, and files that are whole."""

import json
from collections.abc import Sequence
from csv import DictReader
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from answers import SKILLS, answers, row

from deltaprune import UserError
from deltaprune.benchmarks import mean_of_skills, registry
from deltaprune.evaluate import MethodResult
from deltaprune.evaluate.report import csv, document, markdown, write_report
from deltaprune.evaluate.statistics import change, interval

NONE = answers(60, 0.9, seed=1)
PRUNED = [replace(each, correct=0.0) if i % 4 == 0 else each for i, each in enumerate(NONE)]


@pytest.fixture
def rows() -> list[MethodResult]:
    whole = row("none", NONE, macs_share=1.0, kept=(), agreement=100.0)
    return [row("dtp:keep=0.5", PRUNED), whole]


def table(page: str) -> list[list[str]]:
    """The cells of a page's first table, header first."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert len({len(line) for line in cells}) == 1
    return [cells[0], *cells[2:]]


def column(page: str, name: str) -> list[str]:
    header, *lines = table(page)
    return [line[header.index(name)] for line in lines]


def test_what_is_measured(rows: list[MethodResult]) -> None:
    made = document(rows)
    pruned, whole = made["rows"]
    assert json.loads(json.dumps(made)) == made
    assert pruned.items() >= rows[0].to_dict().items()
    assert tuple(pruned["interval"]) == interval(PRUNED, mean_of_skills)
    against = change(PRUNED, NONE, mean_of_skills)
    assert (pruned["against_none"]["points"], pruned["against_none"]["p"]) == (against.points, against.p)
    assert pruned["against_none"]["points"] == pytest.approx(rows[0].mean - rows[1].mean)
    assert (whole["against_none"]["points"], whole["against_none"]["p"]) == (0, 1)
    assert (pruned["paper"], pruned["label"]) == (None, "")


def test_the_page(rows: list[MethodResult]) -> None:
    page = markdown(document(rows))
    low, high = interval(PRUNED, mean_of_skills) or (0, 0)
    against = change(PRUNED, NONE, mean_of_skills)
    assert page.startswith("# bundled on `scenes`\n\nProtocol `official`, split test, seed 0.\n")
    assert column(page, "method") == ["*always the commonest answer*", "`dtp:keep=0.5`", "`none`"]
    assert column(page, "accuracy")[:2] == ["30.0", f"{rows[0].mean:.1f} [{low:.1f}, {high:.1f}]"]
    assert column(page, "against `none`")[1:] == [
        f"{against.points:+.1f} [{against.low:+.1f}, {against.high:+.1f}]",
        "",
    ]
    assert column(page, "p")[1:] == ["≤ 0.001", ""]
    assert column(page, "same answers")[1:] == ["90.0 %", "100.0 %"]
    assert column(page, "MACs")[1:] == ["50.0 %", "100.0 %"]
    assert column(page, "kept")[1:] == ["50, 0", "all"]
    assert column(page, "ms")[1:] == ["12.5", "12.5"]
    assert column(page, "count") == ["30.0", *(f"{each.by_skill['count']:.1f}" for each in rows)]
    assert column(page, "n")[1:] == ["160", "160"]
    assert "paper" not in table(page)[0]
    for name in ("accuracy", "against `none`", "same answers", "MACs", "ms"):
        assert f"- {name}: " in page
    assert "for 21.5 text tokens" in page
    assert "partial" not in page
    assert "failed" not in page


def test_the_csv_says_the_same(rows: list[MethodResult]) -> None:
    made = document(rows)
    lines = list(DictReader(StringIO(csv(made))))
    for line, measured in zip(lines, made["rows"], strict=True):
        assert float(line["accuracy"]) == measured["mean"]
        assert [float(line["low"]), float(line["high"])] == list(measured["interval"])
        for name, value in measured["against_none"].items():
            if name != "n":
                assert float(line[f"against_none_{name}"]) == value
        assert line["kept"].split() == [str(count) for count in measured["kept"] or ()]
        assert float(line["macs_share"]) == measured["macs_share"]
        assert [float(line[f"skill: {skill}"]) for skill in SKILLS] == [measured["by_skill"][s] for s in SKILLS]
        assert (line["method"], line["label"], line["paper"]) == (measured["method"], "", "")


def test_a_partial_run_is_called_so_everywhere(rows: list[MethodResult]) -> None:
    made = document([replace(each, partial=True, total=12_578) for each in rows])
    page, (line, _) = markdown(made), list(DictReader(StringIO(csv(made))))
    assert column(page, "n")[1:] == ["partial: 160 of 12,578"] * 2
    assert "- **partial**: not the whole split" in page
    assert line["label"] == made["rows"][0]["label"] == "partial: 160 of 12,578"
    assert document([replace(rows[0], partial=True)])["rows"][0]["label"] == "partial: 160"


def test_what_is_special_about_the_questions_is_said_and_never_mixed(rows: list[MethodResult]) -> None:
    made = document([replace(rows[0], note="without OCR tokens"), rows[1]])
    assert "Protocol `official`, without OCR tokens, split test, seed 0." in markdown(made)
    assert next(DictReader(StringIO(csv(made))))["note"] == "without OCR tokens"
    assert made["rows"][0]["against_none"] is None


def test_without_the_unpruned_row_there_is_no_change(rows: list[MethodResult]) -> None:
    for others in ([], [replace(rows[1], seed=1)], [replace(rows[1], protocol="other")]):
        made = document([rows[0], *others], mean_of_skills)
        assert made["rows"][0]["against_none"] is None
        assert column(markdown(made), "p")[1] == "-"
        assert next(DictReader(StringIO(csv(made))))["against_none_points"] == ""


def test_none_as_an_object_is_none_too(rows: list[MethodResult]) -> None:
    made = document([rows[0], replace(rows[1], method="NoPruning()")])
    assert made["rows"][0]["against_none"]["n"] == len(NONE)


def test_the_paper_stands_beside(rows: list[MethodResult]) -> None:
    given = [replace(each, model="cobra", benchmark="gqa", protocol="cobra") for each in rows]
    page = markdown(document([*given, replace(given[0], method="mtr:keep=0.5")], mean_of_skills))
    assert column(page, "paper") == ["", "61.4", "62.3", ""]
    assert "- paper: percent, as printed. The paper's unpruned row is the one of the Cobra paper" in page


def test_errors_are_told(rows: list[MethodResult]) -> None:
    page = markdown(document([replace(each, errors=3) for each in rows]))
    assert "- 3 questions failed and are not among the n." in page


def test_answers_from_the_folder_have_no_time(rows: list[MethodResult]) -> None:
    made = document([replace(rows[0], ms=0.0)])
    assert column(markdown(made), "ms")[1] == "-"
    assert next(DictReader(StringIO(csv(made))))["ms"] == ""


def test_metrics_stand_behind_the_skills(rows: list[MethodResult]) -> None:
    made = document([replace(each, metrics={"f1": 71.25}) for each in rows])
    header = table(markdown(made))[0]
    assert header[header.index("read") + 1] == "f1"
    assert column(markdown(made), "f1") == ["", "71.2", "71.2"]
    assert next(DictReader(StringIO(csv(made))))["metric: f1"] == "71.25"


def test_a_single_skill_is_not_told_twice() -> None:
    page = markdown(document([row("none", answers(20, 0.5, 1, ("all",)))]))
    assert "all" not in table(page)[0]


def test_many_skills_are_left_to_the_csv() -> None:
    many = tuple(f"relation {i}" for i in range(20))
    made = document([row("none", answers(20, 0.5, 1, many))])
    page = markdown(made)
    assert not any("relation" in name for name in table(page)[0])
    assert "- report.csv has 20 further skills and metrics." in page
    assert sum(name.startswith("skill: ") for name in next(DictReader(StringIO(csv(made))))) == 20


def test_many_metrics_leave_the_skills_in_place(rows: list[MethodResult]) -> None:
    made = document([replace(each, metrics={f"metric {i}": 50.0 for i in range(12)}) for each in rows])
    page = markdown(made)
    assert set(SKILLS) < set(table(page)[0])
    assert "metric 0" not in table(page)[0]
    assert "- report.csv has 12 further skills and metrics." in page


def test_one_section_for_each_benchmark(rows: list[MethodResult]) -> None:
    page = markdown(document([*rows, replace(rows[0], seed=1)]))
    assert page.count("# bundled on `scenes`") == 2
    assert "seed 1." in page


def test_one_picture(rows: list[MethodResult]) -> None:
    made = document([row("dtp", PRUNED[:3]), row("none", NONE[:3])])
    assert made["rows"][0]["interval"] is None
    assert column(markdown(made), "accuracy")[1] == f"{made['rows'][0]['mean']:.1f}"
    assert column(markdown(made), "p")[1] == "-"


def test_a_bar_in_a_name_breaks_no_table(rows: list[MethodResult]) -> None:
    page = markdown(document([replace(rows[0], method="a|b")]))
    assert "`a\\|b`" in page
    table(page)


def test_the_files(rows: list[MethodResult], tmp_path: Path) -> None:
    made = write_report(tmp_path / "deep" / "run", rows)
    folder = tmp_path / "deep" / "run"
    assert sorted(path.name for path in folder.iterdir()) == ["report.csv", "report.json", "report.md"]
    again = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert again == made
    assert markdown(again) == (folder / "report.md").read_text(encoding="utf-8")
    assert csv(again) == (folder / "report.csv").read_text(encoding="utf-8")


def test_a_disk_that_fills_up_leaves_the_old_report(
    rows: list[MethodResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, rows)
    old = (tmp_path / "report.md").read_text(encoding="utf-8")

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path, rows[:1])
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == old


def test_a_benchmark_of_ones_own_needs_its_summary(rows: list[MethodResult]) -> None:
    own: Sequence[MethodResult] = [replace(rows[0], benchmark="mine")]
    with pytest.raises(UserError, match="There is no benchmark 'mine'"):
        document(own)
    assert document(own, mean_of_skills)["rows"][0]["interval"] is not None


def test_scenes_has_no_end() -> None:
    assert registry["scenes"]().total("test") is None
