"""What `deltaprune plot` measures and draws: one function per figure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from deltaprune.cli._measuring import Measuring, drawn_benchmark, plan_in_place
from deltaprune.cli._plot_options import PlotOptions
from deltaprune.cli._progress import Working
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltaprune.hosted.model import Hosted

METHOD = "dtp:keep=0.5"


def _spread(asked: PlotOptions, working: Working) -> "Figure":
    """The curve of eq. 7, and the layers that the paper's rules find on it."""
    from deltaprune.analysis.figures import spread_curve
    from deltaprune.analysis.parts import here
    from deltaprune.benchmarks import one_of_each
    from deltaprune.calibrate import measure, plan
    from deltaprune.calibrate.plans import check_rule
    from deltaprune.hosted.model import Hosted

    name, rule = asked.benchmark or "scenes", asked.rule or "first_peak"
    check_rule(rule)
    if rule == "js":
        raise UserError("plot spread draws first_peak or argmin: js goes by pruned runs, see calibrate --rule js.")
    benchmark = drawn_benchmark(name)
    about = one_of_each(benchmark, "val", 0, asked.samples or 32)
    vlm, processor = asked.load(working)
    on = Measuring(vlm, processor, benchmark, about, working, here)
    if isinstance(vlm, Hosted):
        return _hosted_spread(on, name, rule)
    curve = on.measured("spread and withdrawal", measure).spread
    found = plan(curve, rule)
    pictures = "1 picture" if curve.samples == 1 else f"{curve.samples} pictures"
    title = f"Spread of token importance, {vlm.config.name}\n{pictures} of {name}, early layer by {rule}"
    return spread_curve(curve.std, found.early, found.late, title)


def _hosted_spread(on: Measuring, name: str, rule: str) -> "Figure":
    """The same for a model of transformers' own, where only some layers have the score.

    A layer without it repeats the value below: a stage reads the nearest layer below that has the score.
    """
    from deltaprune.analysis.figures import spread_curve
    from deltaprune.calibrate.withdrawal import ETA

    found = plan_in_place(on, rule, ETA, {"benchmark": name, "split": "val", "seed": 0})
    by_layer = dict(zip(found.source["layers"], found.source["curve"], strict=True))
    std = [0.0]
    for l in range(len(cast("Hosted", on.vlm).config.layers)):
        std.append(by_layer.get(l, std[-1]))
    pictures = "1 picture" if len(on.samples) == 1 else f"{len(on.samples)} pictures"
    title = f"Spread of {found.source['score']}, {on.vlm.config.name}\n{pictures} of {name}, early layer by {rule}"
    return spread_curve(std[1:], found.early, found.late, title)


def _scores(asked: PlotOptions, working: Working) -> "Figure":
    """The score by which a method ranks, at some layers."""
    from deltaprune.analysis import layer_scores
    from deltaprune.analysis.figures import score_maps
    from deltaprune.analysis.stability import kept
    from deltaprune.methods import parse
    from deltaprune.steps import stages_of

    method = asked.method or METHOD
    config = asked.config()
    after = asked.after(config)
    ranking = [stage for stage in stages_of(parse(method).checked_steps(config.shape)) if stage.score is not None]
    if not ranking:
        raise UserError(f"Method {method!r} ranks no tokens: plot scores draws a method's score, such as {METHOD}'s.")
    picture, question = asked.picture()
    vlm, processor = asked.load(working)
    working.say("measuring the scores")
    inputs = processor(images=picture, text=question).to(vlm.device)
    every = layer_scores(vlm, inputs, ranking[0].score).scores[:, 0]
    scores = [every[k - 1] for k in after]
    best = [kept(row[None], ranking[0])[0] for row in scores]
    title = f"Scores by which {method} ranks the visual tokens of {config.name}, layer by layer"
    if ranking[0].sees_text:
        title += f"\n“{question}”"
    return score_maps(picture, scores, best, after, config.grid, "score", title)


def _attention(asked: PlotOptions, working: Working) -> "Figure":
    """Implicit attention of some layers on one scale."""
    from deltaprune.analysis import attention
    from deltaprune.analysis.figures import attention_maps

    config = asked.config()
    after = asked.after(config)
    picture, question = asked.picture()
    vlm, processor = asked.load(working)
    working.say("measuring implicit attention")
    found = attention(vlm, processor(images=picture, text=question).to(vlm.device), after)
    title = f"Implicit attention, {config.name}\n“{question}”"
    return attention_maps([each.matrix for each in found], after, config.n_visual, title)


def _tokens(asked: PlotOptions, working: Working) -> "Figure":
    """What each stage of a method leaves of the picture."""
    from deltaprune.analysis.figures import kept_tokens
    from deltaprune.hosted.recognise import is_hosted
    from deltaprune.methods import parse
    from deltaprune.steps import stages_of

    if is_hosted(asked.model.model):
        return _hosted_tokens(asked, working)
    method = asked.method or METHOD
    chosen = parse(method)
    config = asked.config()
    steps = chosen.checked_steps(config.shape)
    picture, question = asked.picture()
    vlm, processor = asked.load(working)
    working.say("pruning")
    kept = vlm.start(processor(images=picture, text=question).to(vlm.device), method=chosen).checked().kept
    title = f"Visual tokens kept by {method}, {config.name}"
    if any(stage.sees_text for stage in stages_of(steps)):
        title += f"\n“{question}”"
    left = [stage.origin[0].cpu().numpy() for stage in kept]
    return kept_tokens(picture, left, [stage.after for stage in kept], config.grid, title)


def _hosted_tokens(asked: PlotOptions, working: Working) -> "Figure":
    """The same for a model of transformers' own, where its visual tokens are a grid over the picture."""
    from deltaprune.analysis.figures import kept_tokens
    from deltaprune.ask import NO_GRID, ask
    from deltaprune.hosted.config import suited
    from deltaprune.hosted.grid import token_grid

    picture, question = asked.picture()
    loaded: Any = asked.load(working)
    vlm, processor = loaded
    inputs = processor(images=picture, text=question)
    grid = token_grid(inputs, int(vlm.is_visual(inputs["input_ids"]).sum()))
    if grid is None:
        raise UserError(NO_GRID)
    (method,) = [asked.method] if asked.method else suited([METHOD], vlm.config)
    row = ask(vlm, processor, picture, [question], method, 1, working.say)[-1]
    title = f"Visual tokens kept by {method}, {vlm.config.name}\n“{question}”"
    return kept_tokens(picture, list(row.kept_origin), row.after, grid, title)


def _tradeoff(asked: PlotOptions, working: Working) -> "Figure":
    """Accuracy against MACs, from reports; nothing is run."""
    from deltaprune.analysis.figures import tradeoff_curves
    from deltaprune.cli._reports import curves, heading, read_reports

    rows = read_reports(asked.reports)
    methods, unpruned = curves(rows)
    return tradeoff_curves(methods, unpruned, heading(rows))


def _growth(asked: PlotOptions, working: Working) -> "Figure":
    """Cost against tokens: from `bench --growth --json`, or measured now."""
    from deltaprune.analysis.figures import growth_curves
    from deltaprune.cli._grown import measured_growth, read_growth

    if not asked.reports:
        asked.config()
    rows = read_growth(asked.reports) if asked.reports else measured_growth(asked.load(working)[0], working)
    first = rows[0]
    title = f"Cost of a prefill, {first['name']}\n{first['dtype']} on {first['device']}, no pruning"
    tokens, ms, peak = ([row[key] for row in rows] for key in ("tokens", "prefill_ms", "peak_bytes"))
    return growth_curves(tokens, ms, peak, title)


DRAW: dict[str, Callable[[PlotOptions, Working], "Figure"]] = {
    "spread": _spread,
    "scores": _scores,
    "attention": _attention,
    "tokens": _tokens,
    "tradeoff": _tradeoff,
    "growth": _growth,
}
