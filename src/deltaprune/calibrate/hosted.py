"""Where to prune a model of transformers' own: the paper's rules, VTW's criterion and rule "js", one sample at a time.

Only some layers of a hybrid provide its score (`HostedConfig.score`). The rules read the curve over these layers,
since a stage reads the nearest of them. VTW's KL and "js" are measured by pruned prefills, one run of the whole model
for each layer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.calibrate.divergence import KEEP, jensen_shannon
from deltaprune.calibrate.plans import JS, check_rule, rounded
from deltaprune.calibrate.spread import RULES, SHALLOWEST, Choice, check_some, late
from deltaprune.calibrate.withdrawal import ETA, earliest
from deltaprune.errors import UserError
from deltaprune.hosted.model import Hosted
from deltaprune.inplace.call import rows_of
from deltaprune.inplace.probes import Seen
from deltaprune.inplace.target import Target
from deltaprune.methods.dtp import DTP
from deltaprune.methods.none import NoPruning
from deltaprune.methods.vtw import VTW
from deltaprune.plan import Plan
from deltaprune.prefill import raise_if_not_finite
from deltaprune.scores.delta import Delta
from deltaprune.scores.last_attention import LastAttention
from deltaprune.scoring import importance
from deltaprune.steps import Method, Score
from deltaprune.trace import Trace

SCORES: Mapping[str, Score] = {"delta": Delta(), "last_attention": LastAttention()}


@dataclass(frozen=True)
class HostedCurves:
    """What `hosted_plan` chooses from; means over samples.

    Attributes:
        score: whose spread it is.
        std: eq. 7 by layer, of the layers that provide the score.
        kl: VTW's KL_k in nats, k = 0 .. L-1; empty where it was not measured.
        js: rule "js": nats, by k; empty where it was not measured.
        samples: over how many.
    """

    score: str
    std: Mapping[int, float]
    kl: tuple[float, ...]
    js: Mapping[int, float]
    samples: int


def hosted_curves(
    vlm: Hosted,
    samples: Iterable[Mapping[str, Any]],
    with_js: bool = False,
    on_sample: Callable[[int], None] | None = None,
) -> HostedCurves:
    """Measure the curves, whatever method is active.

    Args:
        vlm: the model.
        samples: processor outputs of one row each.
        with_js: also for rule "js".
        on_sample: called with how many are done.

    Raises:
        UserError: no samples, or one without an image.
        NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
    """
    stds, kls, moved = list[dict[int, float]](), list[list[float]](), list[dict[int, float]]()
    for inputs in samples:
        stds.append(std_by_layer(vlm, inputs))
        unpruned = _log_p(vlm, inputs, NoPruning())
        n = len(vlm.config.layers)
        kls.append([_kl(_log_p(vlm, inputs, VTW(after=k)), unpruned) for k in range(n)])
        if with_js:
            first = min(stds[0]) + 1
            found = {
                k: float(jensen_shannon(_log_p(vlm, inputs, DTP(KEEP, k, None, vlm.config.score)), unpruned))
                for k in range(first, max(first, n // 4 + 1) + 1)
            }
            moved.append(found)
        if on_sample is not None:
            on_sample(len(stds))
    check_some([torch.empty(0)] * len(stds))
    kl = tuple(sum(column) / len(kls) for column in zip(*kls, strict=True))
    return HostedCurves(vlm.config.score, _mean(stds), kl, _mean(moved) if moved else {}, len(stds))


@torch.no_grad()
def std_by_layer(vlm: Hosted, inputs: Mapping[str, Any]) -> dict[int, float]:
    """Eq. 7 in each layer that provides the model's score, for one prompt."""
    ids = inputs["input_ids"]
    visual = vlm.is_visual(ids)
    if len(ids) != 1 or not bool(visual.any()):
        raise UserError("Calibration is about visual tokens: give samples of one row, each with an image.")
    score = SCORES[vlm.config.score]
    told = _told(vlm, inputs, score)
    rows = rows_of(visual, [ids.shape[1]])
    stds = {}
    for l, trace in sorted(told.items()):
        scores = importance(score, score.needs, rows, trace, l + 1)
        raise_if_not_finite([(l + 1, repr(score), torch.isfinite(scores).all())])
        stds[l] = float(scores[visual[0].to(scores.device)].double().std(correction=0))
    return stds


def _told(vlm: Hosted, inputs: Mapping[str, Any], score: Score) -> dict[int, Trace]:
    """The roles that a score needs, as each layer provides them in an unpruned prefill."""
    target, told = Target(vlm.model), dict[int, Trace]()

    def reading(l: int) -> Any:
        def hook(mixer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if l not in told:  # the prefill comes first
                hidden = args[0] if args else kwargs["hidden_states"]
                seen = Seen(hidden, None, kwargs.get("position_embeddings"))
                roles = target.blocks[l](mixer, seen, frozenset(score.needs))
                told[l] = Trace({role: value[0] for role, value in roles.items()})

        return hook

    with ExitStack() as hooks:
        for l, (mixer, block) in enumerate(zip(target.mixers, target.blocks, strict=True)):
            if score.needs <= block.offers:
                hooks.callback(mixer.register_forward_pre_hook(reading(l), with_kwargs=True).remove)
        vlm.start(inputs, NoPruning())
    return told


def _log_p(vlm: Hosted, inputs: Mapping[str, Any], method: Method) -> Float[Tensor, "1 V"]:
    """The next token's log-probabilities, float64."""
    return vlm.next_logits(vlm.start(inputs, method)).double().log_softmax(-1)


def _kl(p: Float[Tensor, "1 V"], q: Float[Tensor, "1 V"]) -> float:
    return float((p.exp() * (p - q)).sum())


def _mean(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    return {l: sum(curve[l] for curve in curves) / len(curves) for l in curves[0]}


def hosted_plan(
    curves: HostedCurves,
    n_layers: int,
    rule: str = "first_peak",
    where: Mapping[str, Any] | None = None,
    eta: float = ETA,
) -> Plan:
    """The plan that the curves ask for.

    Args:
        curves: what `hosted_curves` measured.
        n_layers: the model's depth.
        rule: for the early layer: "first_peak", "argmin" or "js", see `plans.plan`.
        where: benchmark, split and seed of the samples, for the plan's `source`.
        eta: VTW's threshold in nats.

    Raises:
        UserError: an unknown rule, too few layers that provide the score, or an early layer not before the late one.
    """
    check_rule(rule)
    layers, std = list(curves.std), list(curves.std.values())
    if len(layers) < SHALLOWEST:
        raise UserError(
            f"The rules need at least {SHALLOWEST} layers that tell {curves.score}, and this model has {len(layers)}: "
            "set the layers by hand, --method dtp:early=LAYER,late=LAYER."
        )
    first = _least(curves.js) if rule == JS else _in_model(RULES[rule](std), layers, n_layers)
    last = _in_model(late(std), layers, n_layers)
    if first.after >= last.after:
        raise UserError(
            f"Rule {rule!r} puts the early stage after layer {first.after}, not before the late one after layer "
            f"{last.after}: try another rule, or set both layers by hand."
        )
    found = earliest(curves.kl, eta)
    source = {
        "rule": rule,
        "early": first.why,
        "late": last.why,
        "withdrawal": found.why,
        "eta": eta,
        **(where or {}),
        "samples": curves.samples,
        "score": curves.score,
        "layers": layers,
        "curve": rounded(std),
        "kl": rounded(curves.kl),
        **({"js": rounded(list(curves.js.values())), "js_keep": KEEP} if curves.js else {}),
    }
    return Plan(first.after, last.after, source, found.after)


def _in_model(choice: Choice, layers: Sequence[int], n_layers: int) -> Choice:
    """A choice among the layers that provide the score, as a layer of the model."""
    l = layers[choice.after - 1]
    if len(layers) == n_layers:
        return choice
    return Choice(l + 1, f"{choice.why}, of the {len(layers)} layers that tell the score; that is layer {l} of all")


def _least(js: Mapping[int, float]) -> Choice:
    if not js:
        raise UserError('Rule "js" needs pruned runs: hosted_curves(..., with_js=True).')
    k = min(js, key=lambda k: js[k])
    return Choice(k, f"JS is least, {js[k]:.2g} nats, at k={k} of {min(js)} <= k <= {max(js)} (keep={KEEP:g})")
