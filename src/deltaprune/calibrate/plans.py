"""From curves to a plan: the rules that choose where to prune."""

from collections.abc import Sequence
from typing import Any

from deltaprune.calibrate.divergence import Divergence, least
from deltaprune.calibrate.spread import RULES, Choice, Spread, check_depth, late
from deltaprune.calibrate.withdrawal import ETA, Withdrawal, earliest
from deltaprune.errors import UserError, did_you_mean
from deltaprune.steps import Plan

JS = "js"
NAMES = (*RULES, JS)  # of the rules for the early layer


def plan(
    curve: Spread,
    rule: str = "first_peak",
    benchmark: str | None = None,
    split: str | None = None,
    seed: int | None = None,
    withdrawal: Withdrawal | None = None,
    eta: float = ETA,
    divergence: Divergence | None = None,
) -> Plan:
    """The plan that the curves ask for.

    Args:
        curve: what `spread` measured.
        rule: for the early layer: "first_peak" (the text, from which the paper's 15 comes), "argmin" (the poster) or
            "js" (ours, which needs `divergence`).
        benchmark, split, seed: where the samples came from; written into the plan's `source`.
        withdrawal: what `withdrawal` measured, for VTW; None leaves VTW's layer open.
        eta: VTW's threshold in nats.
        divergence: what `divergence` measured, for rule "js".

    Raises:
        UserError: an unknown rule, too few layers, a curve whose early layer does not come before its late one, or an
            eta not above 0.
    """
    check_rule(rule)
    check_depth(curve.std)
    first, last = early_by(rule, curve, divergence), late(curve.std)
    if first.after >= last.after:
        others = ", ".join(repr(name) for name in NAMES if name != rule)
        raise UserError(
            f"Rule {rule!r} puts the early stage after layer {first.after}, not before the late one after layer "
            f"{last.after}: try rule {others}, or set both layers by hand."
        )
    source: dict[str, Any] = {
        "rule": rule,
        "early": first.why,
        "late": last.why,
        "benchmark": benchmark,
        "split": split,
        "seed": seed,
        "samples": curve.samples,
        "curve": rounded(curve.std),
    }
    if divergence is not None:
        source |= {"js": rounded(divergence.js), "js_keep": divergence.keep}
    if withdrawal is None:
        return Plan(early=first.after, late=last.after, source=source)
    found = earliest(withdrawal.kl, eta)
    source |= {"withdrawal": found.why, "eta": eta, "kl": rounded(withdrawal.kl)}
    return Plan(early=first.after, late=last.after, source=source, withdrawal=found.after)


def early_by(rule: str, curve: Spread, divergence: Divergence | None) -> Choice:
    """The early layer by a rule of `NAMES`."""
    if rule != JS:
        return RULES[rule](curve.std)
    if divergence is None:
        raise UserError('Rule "js" needs what calibrate.divergence measured: plan(..., divergence=divergence(...)).')
    return least(divergence)


def check_rule(rule: str) -> None:
    """A known rule for the early layer, else a `UserError`."""
    if rule not in NAMES:
        raise UserError(f"There is no rule {rule!r} for the early layer: {did_you_mean(rule, NAMES)}.")


def rounded(curve: Sequence[float]) -> list[float]:
    """A curve as it is written down."""
    return [float(f"{value:.4g}") for value in curve]
