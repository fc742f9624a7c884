"""Does the divergence that chooses layers follow accuracy: schedules, their JS on calibration pictures, their answers.

    python runs/selector.py

Three families: what layers do with the image (each layer alone at "write", random schedules at some costs, the
beginnings of the shipped plan's order), one early stage at equal cost after each of several layers, and VTW after each
of several. Each selector reads 64 validation pictures, the accuracy comes from 2,000 other validation questions.
Writes numbers/selector.md and .json. Answers are kept in out/tables/selector.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import Float
from rich.progress import track
from scipy.stats import rankdata

import deltaprune as dp
from answering import answered
from deltaprune.analysis import sensitivity
from deltaprune.analysis.drift import jensen_shannon
from deltaprune.benchmarks import messages_about, one_of_each
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import asked_together, budget, measure
from deltaprune.calibrate.freezing import share_of
from deltaprune.calibrate.own_answers import Lesson, flows, lesson, log_p
from deltaprune.evaluate import MethodResult
from deltaprune.evaluate.page import cells
from deltaprune.evaluate.statistics import bootstrap
from deltaprune.mean_states import MeanStates
from deltaprune.methods import parse
from deltaprune.plan import How
from deltaprune.steps import stages_of
from provenance import NUMBERS, ROOT, footer, provenance, publish

SHARES, EACH = (0.75, 0.6, 0.48, 0.36), 6  # costs of the random schedules, and how many at each
STAGED = 0.75  # the cost of one early stage
EARLY = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
WITHDRAWN = (2, 4, 6, 8, 10, 11, 12, 13, 14, 15, 16, 18)
TEXT_TOKENS = 11
RESAMPLES = 2000
ALL, WITHDRAWAL = "all schedules of layers", "VTW"
FREEZING = ("single layers", "random schedules", "the plan's order")
NAMED = {
    "js": "JS, whole answers, every question",
    "js_first": "JS, first token, every question",
    "js_single": "JS, whole answers, one question a picture",
    "js_token": "JS, first token, one question a picture",
    "kl_first": "KL of the first token, every question (ShortV's measure)",
    "kl_token": "KL of the first token, one question a picture (VTW's measure)",
    "std": "Std of Δ at that layer (the paper's, lower is better)",
    "macs": "share of the MACs saved",
}


@dataclass(frozen=True)
class Candidate:
    """A schedule.

    Attributes:
        family: which candidates it is compared with.
        method: as `--method` takes it.
        hows: what layers do with the image; empty for a stage.
        early: after how many layers a stage comes.
        told: what each selector says; the lower, the better.
    """

    family: str
    method: str
    hows: Mapping[int, How]
    early: int | None
    told: Mapping[str, float]


def schedule(hows: Mapping[int, How]) -> str:
    """As `Freeze` takes it."""
    layers = {how: "+".join(str(l) for l in sorted(hows) if hows[l] == how) for how in ("write", "mean", "skip")}
    return "freeze:" + ";".join(f"{how}={text}" for how, text in layers.items() if text)


def candidates(vlm: dp.VLM) -> list[Candidate]:
    """All of them, without what the selectors say."""
    shape, plan = vlm.shape, vlm.config.plan
    assert plan is not None
    found = [Candidate("single layers", schedule({l: "write"}), {l: "write"}, None, {}) for l in range(shape.n_layers)]
    rng = np.random.default_rng(0)
    for share in SHARES:
        for _ in range(EACH):
            hows: dict[int, How] = {}
            for l in rng.permutation(shape.n_layers).tolist():
                if share_of(hows, shape, TEXT_TOKENS) <= share:
                    break
                hows[l] = "write" if rng.random() < 0.75 else "skip"
            found.append(Candidate("random schedules", schedule(hows), hows, None, {}))
    order: dict[int, How] = {}
    for change in plan.freezing:
        order = {**order, change.layer: change.how}
        found.append(Candidate("the plan's order", schedule(order), order, None, {}))
    for k in EARLY:
        text = budget(vlm.config, f"dtp:late=none,early={k}", STAGED, TEXT_TOKENS).label
        found.append(Candidate("one early stage", text, {}, k, {}))
    for k in WITHDRAWN:
        found.append(Candidate(WITHDRAWAL, f"vtw:after={k}", dict.fromkeys(range(k, shape.n_layers), "skip"), None, {}))
    return list({each.method: each for each in reversed(found)}.values())[::-1]


def moved(
    vlm: dp.VLM, given: Lesson, hows: Mapping[int, How], means: MeanStates | None
) -> Iterator[tuple[float, float, float]]:
    """Of each question: JS along the answer, JS and KL of its first token, nats."""
    lm, unpruned = vlm.model.lm, given.log_p.double()
    changed = log_p(lm, given, flows(lm, given, hows, means=means)[-1]).double()
    js, kl = jensen_shannon(changed, unpruned), (unpruned.exp() * (unpruned - changed)).sum(-1)
    for js_of, kl_of in zip(js.split(given.counts), kl.split(given.counts), strict=True):
        yield float(js_of.mean()), float(js_of[0]), float(kl_of[0])


@torch.no_grad()
def told(vlm: dp.VLM, processor: Any, found: Sequence[Candidate], pictures: int) -> list[Candidate]:
    """What each selector says of each candidate, from validation pictures."""
    where, plan = (Scenes(), "val", 0, pictures), vlm.config.plan
    assert plan is not None
    lessons = [lesson(vlm, asked) for asked in asked_together(vlm, processor, messages_about(*where))]
    alone = [processor(images=each.image, text=Scenes().rules.message(each)) for each in one_of_each(*where)]
    curves, singles = measure(vlm, alone), single_questions(lessons)

    def says(each: Candidate) -> dict[str, float]:
        if each.early is not None:
            (stage,) = stages_of(parse(each.method).checked_steps(vlm.shape))
            js = sensitivity(vlm, alone, stage.keep, [each.early], [vlm.shape.n_layers], stage.score).js
            return {"js_token": js.item(), "std": curves.spread.std[each.early - 1]}
        numbers = np.array([row for given in lessons for row in moved(vlm, given, each.hows, plan.means)])
        js, js_first, kl_first = numbers.mean(0).tolist()
        said = {"js": js, "js_first": js_first, "js_single": numbers[singles, 0].mean().item(), "kl_first": kl_first}
        if each.family == WITHDRAWAL:
            said["kl_token"] = curves.withdrawal.kl[min(each.hows)]
        return {**said, "macs": 1 - share_of(each.hows, vlm.shape, TEXT_TOKENS)}

    return [replace(each, told=says(each)) for each in track(found, "selectors")]


def kept(file: Path, vlm: dp.VLM, processor: Any, pictures: int) -> list[Candidate]:
    """The candidates with what the selectors say, as an earlier call on this model wrote it down."""
    held = json.loads(file.read_text()) if file.exists() else {}
    if held.get("model") != vlm.fingerprint:
        found = told(vlm, processor, candidates(vlm), pictures)
        held = {"model": vlm.fingerprint, "told": {each.method: dict(each.told) for each in found}}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(held))
    return [replace(each, told=held["told"][each.method]) for each in candidates(vlm)]


def single_questions(lessons: Sequence[Lesson]) -> list[int]:
    """The places, among all questions, of those that `one_of_each` takes."""
    places, begin = [], 0
    for i, size in enumerate(size for given in lessons for size in torch.bincount(given.picture).tolist()):
        places.append(begin + i % size)
        begin += size
    return places


def ranked(
    selector: Float[np.ndarray, "C"], right: Float[np.ndarray, "C"], draws: Float[np.ndarray, "C R"]
) -> dict[str, float]:
    """Rank correlations of a selector's lowness with accuracy, with 95 % bootstrap intervals.

    Args:
        selector: what it says, the lower the better.
        right: accuracy.
        draws: accuracy on resampled pictures; each draw also takes as many candidates with replacement.
    """
    made: dict[str, float] = {}
    if len(set(right.tolist())) < 2 or len(set(selector.tolist())) < 2:
        return made
    some = np.random.default_rng(0).integers(len(right), size=draws.shape)
    says, drawn = -selector[some], np.take_along_axis(draws, some, axis=0)
    for name, of in {"spearman": spearman, "kendall": kendall}.items():
        whole = of(-selector[:, None], right[:, None]).item()
        low, high = np.nanquantile(of(says, drawn), (0.025, 0.975)).tolist()
        made |= {name: whole, f"{name}_low": low, f"{name}_high": high}
    return made


def spearman(a: Float[np.ndarray, "C R"], b: Float[np.ndarray, "C R"]) -> Float[np.ndarray, "R"]:
    """Column by column; NaN where one of them is constant."""
    ranks = [rankdata(each, axis=0) for each in (a, b)]
    x, y = (each - each.mean(0) for each in ranks)
    with np.errstate(invalid="ignore"):
        return (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))


def kendall(a: Float[np.ndarray, "C R"], b: Float[np.ndarray, "C R"]) -> Float[np.ndarray, "R"]:
    """Tau-b, likewise."""
    found = []
    for x, y in zip(a.T, b.T, strict=True):
        first, second = np.sign(x[:, None] - x), np.sign(y[:, None] - y)
        with np.errstate(invalid="ignore"):
            found.append((first * second).sum() / np.sqrt(np.abs(first).sum() * np.abs(second).sum()))
    return np.array(found)


def correlations(found: Sequence[Candidate], rows: Mapping[str, MethodResult]) -> list[dict[str, Any]]:
    """A row per family and selector."""
    summary = Scenes().rules.summary
    draws = {each.method: bootstrap(rows[each.method].records, summary, RESAMPLES) for each in found}
    families = {ALL: FREEZING} | {name: (name,) for name in dict.fromkeys(each.family for each in found)}
    made = []
    for family, names in families.items():
        some = [each for each in found if each.family in names]
        right = np.array([rows[each.method].mean for each in some])
        drawn = np.stack([draws[each.method] for each in some])
        about = {"family": family, "candidates": len(some), "lowest": right.min(), "highest": right.max()}
        for selector in NAMED:
            if all(selector in each.told for each in some):
                says = np.array([each.told[selector] for each in some])
                made.append({**about, "selector": selector, **ranked(says, right, drawn)})
    return made


def page(found: Sequence[Mapping[str, Any]], pictures: int, questions: int, unpruned: float) -> str:
    """Markdown without the line of provenance."""
    lines, before = [["candidates", "accuracy, %", "selector", "Spearman", "Kendall"], ["---"] * 3 + ["---:"] * 2], ""
    for row in found:
        first = row["family"] != before
        before = row["family"]
        name = f"{row['family']} ({row['candidates']})" if first else ""
        span = f"{row['lowest']:.1f} to {row['highest']:.1f}" if first else ""
        lines.append([name, span, NAMED[row["selector"]], _within(row, "spearman"), _within(row, "kendall")])
    head = (
        "# Does a selector follow accuracy\n\n"
        f"Rank correlation of what a selector says on {pictures} validation pictures with the accuracy on "
        f"{questions:,} other validation questions, of which the unpruned model answers {unpruned:.1f} % right; 1: the "
        "lower the selector, the more is right. In brackets 95 % bootstrap intervals over pictures and candidates.\n\n"
    )
    return head + "\n".join(map(cells, lines)) + "\n"


def _within(row: Mapping[str, Any], name: str) -> str:
    """A correlation with its interval; nothing where all candidates answer alike."""
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]" if name in row else ""


def main(
    questions: Annotated[int, typer.Option(help="Validation questions per candidate, seed 1.")] = 2000,
    pictures: Annotated[int, typer.Option(help="Calibration pictures, seed 0.")] = 64,
    out: Annotated[Path, typer.Option(help="Where the answers are kept.")] = ROOT / "out" / "tables",
    numbers: Annotated[Path, typer.Option(help="Where the page goes.")] = NUMBERS,
) -> None:
    """Tell, answer, correlate."""
    vlm, processor = dp.load("bundled")
    found = kept(out / "selector" / f"told_{pictures}.json", vlm, processor, pictures)
    methods = ["none", *(each.method for each in found)]
    rows = answered(vlm, processor, Scenes(), methods, "val", questions, "selector", out / "selector", seed=1)
    by_method = {row.method: row for row in rows}
    made, source = correlations(found, by_method), provenance()
    about = [
        {
            "family": each.family,
            "method": each.method,
            "mean": by_method[each.method].mean,
            "macs_share": by_method[each.method].macs_share,
            **each.told,
        }
        for each in found
    ]
    held = {"provenance": source, "unpruned": rows[0].mean, "correlations": made, "candidates": about}
    publish("selector", held, page(made, pictures, questions, rows[0].mean) + "\n" + footer(source), numbers)


if __name__ == "__main__":
    typer.run(main)
