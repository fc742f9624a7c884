"""The model card and its table, from what was measured and logged."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from deltaprune.benchmarks.scenes import SKILLS
from deltaprune.evaluate import MethodResult
from deltaprune.mllm.network import MLLMConfig
from training.lessons import WEIGHTS
from training.recipe import Recipe, Start


def table(rows: Sequence[MethodResult]) -> str:
    """Accuracy by skill for each method, as Markdown."""
    head = ["method", "MACs", "mean", *SKILLS, "same answer as unpruned"]
    floor = [rows[0].floor, *(rows[0].floor_by_skill[skill] for skill in SKILLS)]
    lines = [_line(head), "|---|" + "---:|" * (len(head) - 1)]
    lines.append(_line(["*always the commonest answer*", "", *(f"{value:.1f}" for value in floor), ""]))
    for row in rows:
        right = [row.mean, *(row.by_skill[skill] for skill in SKILLS)]
        numbers = [f"{100 * row.macs_share:.1f} %", *(f"{value:.1f}" for value in right), f"{row.agreement:.1f} %"]
        lines.append(_line([f"`{row.method}`", *numbers]))
    return "\n".join(lines) + "\n"


def card(config: MLLMConfig, rows: Sequence[MethodResult], source: dict[str, str], footer: str) -> str:
    """The whole card. `source` says where the measurement was made, `config.about` how long the training was."""
    assert config.plan is not None
    tried: list[dict[str, Any]] = config.plan.source["tried"]
    begin = Start()
    start = {"b_and_c": f"{begin.b_and_c:g}", "embedding": begin.embedding}
    start |= {"a_low": begin.a[0], "a_high": begin.a[1], "delta_low": begin.delta[0], "delta_high": begin.delta[1]}
    columns = ("rule", "early", "late", "accuracy", "unpruned")
    return Template((Path(__file__).parent / "card.md").read_text()).substitute(
        {**asdict(config.lm), **asdict(Recipe())},
        **start,
        d_inner=config.lm.d_inner,
        towers=" and ".join(f"{n} ({t.n_blocks - 1} blocks, width {t.width})" for n, t in config.towers.items()),
        n_visual=config.n_visual,
        seen=f"{config.about['pictures']:,}",
        minutes=round(config.about["minutes"]),
        device=source["device"],
        weights=", ".join(f"{skill} {weight:g}" for skill, weight in WEIGHTS.items()),
        n=rows[0].n,
        table=table(rows),
        early=config.plan.early,
        late=config.plan.late,
        rules="\n".join(_line([str(each[column]) for column in columns]) for each in tried),
        chosen_by=config.plan.source["chosen_by"] + ".",
        footer=footer,
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
