"""What `deltaprune plot` measures and draws: one function per figure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from deltaprune.cli._common import load_model, patch_grid, read_model_config
from deltaprune.cli._progress import Working
from deltaprune.cli.calibrate import measured
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

    from deltaprune.benchmarks import Benchmark, Sample
    from deltaprune.hosted.model import Hosted
    from deltaprune.mllm.network import MLLMConfig
    from deltaprune.mllm.processor import Processor
    from deltaprune.vlm import VLM

QUESTION = "What is in the picture?"
METHOD = "dtp:keep=0.5"


class Asked(NamedTuple):
    """The options of one call; None where one was not given."""

    model: str
    image: str | None
    question: str | None
    method: str | None
    layers: str | None
    benchmark: str | None
    samples: int | None
    rule: str | None
    plan: str | None
    device: str
    reports: tuple[str, ...] = ()
    towers: list[str] | None = None
    tokenizer: str | None = None
    dtype: str | None = None
    quantize: str | None = None


def _load(asked: Asked, working: Working) -> "tuple[VLM, Processor]":
    """The model that was asked for."""
    how = asked.towers, asked.tokenizer, asked.dtype, asked.quantize
    return load_model(asked.model, asked.device, working, asked.plan, *how)


def _config(asked: Asked) -> "MLLMConfig":
    """Its configuration, before anything is loaded; not of a model of transformers' own, else a `UserError`."""
    from deltaprune.hosted.config import HostedConfig

    config = read_model_config(asked.model, asked.plan, asked.towers, asked.tokenizer)
    if isinstance(config, HostedConfig):
        raise UserError(
            f"{asked.model} is a model of transformers' own, of which plot draws spread and tokens, and tradeoff from "
            "reports."
        )
    return config


def _spread(asked: Asked, working: Working) -> "Figure":
    """The curve of eq. 7, and the layers that the paper's rules find on it."""
    from deltaprune.analysis.figures import spread_curve
    from deltaprune.analysis.parts import here
    from deltaprune.benchmarks import one_of_each, registry
    from deltaprune.calibrate import plan
    from deltaprune.calibrate.plans import check_rule
    from deltaprune.hosted.model import Hosted

    name, rule = asked.benchmark or "scenes", asked.rule or "first_peak"
    check_rule(rule)
    benchmark = registry[name]()
    about = one_of_each(benchmark, "val", 0, asked.samples or 32)
    vlm, processor = _load(asked, working)
    if isinstance(vlm, Hosted):
        return _hosted_spread(vlm, processor, benchmark, about, (name, rule), working)
    curve = measured(vlm, processor, benchmark, about, working, here).spread
    found = plan(curve, rule)
    pictures = "1 picture" if curve.samples == 1 else f"{curve.samples} pictures"
    title = f"Spread of token importance, {vlm.config.name}\n{pictures} of {name}, early layer by {rule}"
    return spread_curve(curve.std, found.early, found.late, title)


def _hosted_spread(
    vlm: "Hosted",
    processor: "Processor",
    benchmark: "Benchmark",
    about: "list[Sample]",
    named: tuple[str, str],
    working: Working,
) -> "Figure":
    """The same for a model of transformers' own: each stage reads the nearest layer below that tells the score."""
    from deltaprune.analysis.figures import spread_curve
    from deltaprune.calibrate.withdrawal import ETA
    from deltaprune.cli.calibrate import hosted

    found = hosted(vlm, processor, benchmark, about, (named[1], ETA), (named[0], "val", 0), working)
    by_layer = dict(zip(found.source["layers"], found.source["curve"], strict=True))
    std = [0.0]
    for l in range(len(vlm.config.layers)):
        std.append(by_layer.get(l, std[-1]))
    pictures = "1 picture" if len(about) == 1 else f"{len(about)} pictures"
    title = f"Spread of {found.source['score']}, {vlm.config.name}\n{pictures} of {named[0]}, early layer by {named[1]}"
    return spread_curve(std[1:], found.early, found.late, title)


def _scores(asked: Asked, working: Working) -> "Figure":
    """The score by which a method ranks, at some layers."""
    from deltaprune.analysis import layer_scores
    from deltaprune.analysis.figures import score_maps
    from deltaprune.analysis.stability import kept
    from deltaprune.methods import parse
    from deltaprune.steps import stages_of

    method = asked.method or METHOD
    config = _config(asked)
    after = _layers(asked.layers, config)
    ranking = [stage for stage in stages_of(parse(method).checked_steps(config.shape)) if stage.score is not None]
    if not ranking:
        raise UserError(f"Method {method!r} ranks no tokens: plot scores draws a method's score, such as {METHOD}'s.")
    picture, question = _picture(asked)
    vlm, processor = _load(asked, working)
    working.say("measuring the scores")
    inputs = processor(images=picture, text=question).to(vlm.device)
    every = layer_scores(vlm, inputs, ranking[0].score).scores[:, 0]
    scores = [every[k - 1] for k in after]
    best = [kept(row[None], ranking[0])[0] for row in scores]
    title = f"Scores by which {method} ranks the visual tokens of {config.name}, layer by layer"
    if ranking[0].sees_text:
        title += f"\n“{question}”"
    return score_maps(picture, scores, best, after, patch_grid(config), "score", title)


def _attention(asked: Asked, working: Working) -> "Figure":
    """Implicit attention of some layers on one scale."""
    from deltaprune.analysis import attention
    from deltaprune.analysis.figures import attention_maps

    config = _config(asked)
    after = _layers(asked.layers, config)
    picture, question = _picture(asked)
    vlm, processor = _load(asked, working)
    working.say("measuring implicit attention")
    found = attention(vlm, processor(images=picture, text=question).to(vlm.device), after)
    title = f"Implicit attention, {config.name}\n“{question}”"
    return attention_maps([each.matrix for each in found], after, config.n_visual, title)


def _tokens(asked: Asked, working: Working) -> "Figure":
    """What each stage of a method leaves of the picture."""
    from deltaprune.analysis.figures import kept_tokens
    from deltaprune.hosted.recognise import is_hosted
    from deltaprune.methods import parse
    from deltaprune.steps import stages_of

    if is_hosted(asked.model):
        return _hosted_tokens(asked, working)
    method = asked.method or METHOD
    chosen = parse(method)
    config = _config(asked)
    steps = chosen.checked_steps(config.shape)
    picture, question = _picture(asked)
    vlm, processor = _load(asked, working)
    working.say("pruning")
    kept = vlm.start(processor(images=picture, text=question).to(vlm.device), method=chosen).checked().kept
    title = f"Visual tokens kept by {method}, {config.name}"
    if any(stage.sees_text for stage in stages_of(steps)):
        title += f"\n“{question}”"
    left = [stage.origin[0].cpu().numpy() for stage in kept]
    return kept_tokens(picture, left, [stage.after for stage in kept], patch_grid(config), title)


def _hosted_tokens(asked: Asked, working: Working) -> "Figure":
    """The same for a model of transformers' own, where its visual tokens are a grid over the picture."""
    from deltaprune.analysis.figures import kept_tokens
    from deltaprune.ask import NO_GRID, ask
    from deltaprune.hosted.config import suited
    from deltaprune.hosted.grid import token_grid

    picture, question = _picture(asked)
    loaded: Any = _load(asked, working)
    vlm, processor = loaded
    inputs = processor(images=picture, text=question)
    grid = token_grid(inputs, int(vlm.is_visual(inputs["input_ids"]).sum()))
    if grid is None:
        raise UserError(NO_GRID)
    (method,) = [asked.method] if asked.method else suited([METHOD], vlm.config)
    row = ask(vlm, processor, picture, [question], method, 1, working.say)[-1]
    title = f"Visual tokens kept by {method}, {vlm.config.name}\n“{question}”"
    return kept_tokens(picture, list(row.kept_origin), row.after, grid, title)


def _tradeoff(asked: Asked, working: Working) -> "Figure":
    """Accuracy against MACs, from reports; nothing is run."""
    from deltaprune.analysis.figures import tradeoff_curves
    from deltaprune.cli._reports import curves, heading, read_reports

    rows = read_reports(asked.reports)
    methods, unpruned = curves(rows)
    return tradeoff_curves(methods, unpruned, heading(rows))


def _growth(asked: Asked, working: Working) -> "Figure":
    """Cost against tokens: from `bench --growth --json`, or measured now."""
    from deltaprune.analysis.figures import growth_curves
    from deltaprune.cli._grown import measured_growth, read_growth

    if not asked.reports:
        _config(asked)
    rows = read_growth(asked.reports) if asked.reports else measured_growth(_load(asked, working)[0], working)
    first = rows[0]
    title = f"Cost of a prefill, {first['name']}\n{first['dtype']} on {first['device']}, no pruning"
    tokens, ms, peak = ([row[key] for row in rows] for key in ("tokens", "prefill_ms", "peak_bytes"))
    return growth_curves(tokens, ms, peak, title)


DRAW: dict[str, Callable[[Asked, Working], "Figure"]] = {
    "spread": _spread,
    "scores": _scores,
    "attention": _attention,
    "tokens": _tokens,
    "tradeoff": _tradeoff,
    "growth": _growth,
}


def _picture(asked: Asked) -> "tuple[Image.Image, str]":
    """The picture and the question asked for; without a picture the first scene, with its own question."""
    from deltaprune.ask import check_questions
    from deltaprune.benchmarks import registry
    from deltaprune.vision.images import open_image

    if asked.question is not None:
        check_questions([asked.question])
    if asked.image is not None:
        return open_image(asked.image), asked.question or QUESTION
    (scene,) = registry["scenes"]().samples("val", 0, 1)
    return scene.image, asked.question or scene.question


def _layers(text: str | None, config: "MLLMConfig") -> list[int]:
    """The layers asked for, ascending; by default the plan's two with one before and one between, as in Figure 4."""
    from deltaprune.analysis.layers import check_layers

    n, plan = config.lm.n_layers, config.plan
    if text is None:
        four = (n // 4, n // 2, 3 * n // 4, n)
        if plan is not None:
            four = (plan.early // 3, plan.early, (plan.early + plan.late) // 2, plan.late)
        return sorted({max(1, k) for k in four})
    if text == "all":
        return list(range(1, n + 1))
    try:
        after = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--layers {text!r} is no list of layers: write 1,{n} or all.") from None
    check_layers(after, n)
    return after
