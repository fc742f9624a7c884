"""A plan as a JSON file that says where it comes from.

A plan file is read only for the model it was made for, known by its name and shape.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from deltaprune import __version__
from deltaprune.calibrate.plans import rounded
from deltaprune.checks import check_local
from deltaprune.errors import UserError
from deltaprune.hosted.config import HostedConfig
from deltaprune.mean_states import MeanStates, beside
from deltaprune.mllm.network import MLLMConfig
from deltaprune.plan import Change, How, LayerTimes, Thinning
from deltaprune.steps import Plan

FORMAT = 1  # of the file; raised when a field changes its meaning
MAKE = "make one with deltaprune calibrate --out"


def plan_document(plan: Plan, config: MLLMConfig | HostedConfig) -> dict[str, Any]:
    """The content of a plan file: the plan, the model it is for, and which library made it when; plain JSON types."""
    return {
        "format": FORMAT,
        "deltaprune": __version__,
        "date": datetime.date.today().isoformat(),
        "model": _identity(config),
        "early": plan.early,
        "late": plan.late,
        "withdrawal": plan.withdrawal,
        "freezing": [list(change) for change in plan.freezing],
        **({"thinning": [list(each) for each in plan.thinning]} if plan.thinning else {}),
        **({} if plan.means is None else {"means": plan.means.digest}),
        **({} if plan.times is None else {"times": asdict(plan.times)}),
        **({"found": {name: rounded(values) for name, values in plan.found.items()}} if plan.found else {}),
        "source": dict(plan.source),
    }


def save_plan(plan: Plan, config: MLLMConfig | HostedConfig, path: str | Path) -> None:
    """Write a plan file, and its mean states beside it where it has any, see `mean_states.beside`.

    Raises:
        OSError: the file cannot be written.
        UserError: the mean states cannot be written.
    """
    if plan.means is not None:
        plan.means.save(beside(path))
    Path(path).write_text(json.dumps(plan_document(plan, config), indent=2) + "\n", encoding="utf-8", newline="\n")


def load_plan(path: str | Path, config: MLLMConfig | HostedConfig) -> Plan:
    """Read a plan file for a model.

        plan = dp.load_plan("plan.json", model.config)
        model.use_plan(plan)  # what early="plan" and late="plan" then mean

    Raises:
        UserError: no such file, not a plan, another format, a field missing or unusable, or another model's plan.
    """
    raw = _read(Path(path))
    if "format" in raw and raw["format"] != FORMAT:
        raise UserError(f"{path} is a plan of format {raw['format']!r}, and this version reads {FORMAT}: {MAKE} again.")
    for field in ("format", "model", "early", "late", "withdrawal", "source"):
        if field not in raw:
            raise UserError(f"{path} is not a whole plan: it lacks {field!r}, so {MAKE}.")
    _check_model(path, raw["model"], config)
    _check_layers(path, raw, config.shape.n_layers)
    if not isinstance(raw["source"], Mapping):
        raise UserError(f"{path} is not a whole plan: its 'source' is no object, so {MAKE}.")
    found = raw.get("found", {})
    _check_found(path, found, config.shape.n_layers)
    freezing = _freezing(path, raw.get("freezing", []), config.shape.n_layers)
    means = None if raw.get("means") is None else MeanStates.load(beside(path), raw["means"])
    thinning = _thinning(path, raw.get("thinning", []), config.shape.n_layers)
    times = _times(path, raw.get("times"))
    return Plan(raw["early"], raw["late"], raw["source"], raw["withdrawal"], freezing, found, thinning, means, times)


def _read(path: Path) -> dict[str, Any]:
    """The file's JSON object."""
    check_local("The plan", path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The plan {str(path)!r} cannot be read ({error.strerror or error}): {MAKE}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not a plan, because it is not JSON ({error}): {MAKE}.") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path} is not a plan, because it holds no JSON object: {MAKE}.")
    return raw


def _identity(config: MLLMConfig | HostedConfig) -> dict[str, Any]:
    """What a plan file says about the model it is for."""
    return {"name": config.name, "n_layers": config.shape.n_layers, "n_visual": config.n_visual}


def _check_model(path: str | Path, made_for: object, config: MLLMConfig | HostedConfig) -> None:
    """The plan was made for this model, else a `UserError`."""
    here = _identity(config)
    if made_for != here:
        there = made_for if not isinstance(made_for, Mapping) else ", ".join(f"{k} {v}" for k, v in made_for.items())
        raise UserError(
            f"{path} was made for another model ({there}), not for {config.name} (n_layers {here['n_layers']}, "
            f"n_visual {here['n_visual']}): {MAKE} for this one."
        )


def _check_layers(path: str | Path, raw: Mapping[str, Any], n_layers: int) -> None:
    """Early comes before late and both lie in the model; VTW's layer may be open, or L for no withdrawal."""
    highest = {"early": n_layers - 1, "late": n_layers - 1, "withdrawal": n_layers}
    for field, top in highest.items():
        layer = raw[field]
        if field == "withdrawal" and layer is None:
            continue
        if type(layer) is not int or not 0 <= layer <= top:
            raise UserError(f"{path} has {field}={layer!r}: it is a whole number from 0 to {top}, so {MAKE} again.")
    if raw["early"] >= raw["late"]:
        raise UserError(f"{path} has early={raw['early']} not before late={raw['late']}: {MAKE} again.")


def _freezing(path: str | Path, raw: object, n_layers: int) -> tuple[Change, ...]:
    """The order of `Freeze`: [layer, how, divergence] each; plans before it had none."""
    fits = isinstance(raw, list) and all(
        isinstance(each, list)
        and len(each) == 3
        and type(each[0]) is int
        and 0 <= each[0] < n_layers
        and each[1] in get_args(How)
        and isinstance(each[2], int | float)
        for each in raw
    )
    if not fits:
        hows = " or ".join(map(repr, get_args(How)))
        raise UserError(f"{path} has a 'freezing' that is no list of [layer, {hows}, number]: {MAKE} again.")
    assert isinstance(raw, list)
    return tuple(Change(*each) for each in raw)


def _thinning(path: str | Path, raw: object, n_layers: int) -> tuple[Thinning, ...]:
    """How `Freeze` drops rows by budget: [budget, early layer, number of changes, divergence] each."""
    fits = isinstance(raw, list) and all(
        isinstance(each, list)
        and len(each) == 4
        and all(type(value) in (int, float) for value in each)
        and 0 < each[0] <= 1
        and type(each[1]) is int
        and 0 < each[1] < n_layers
        and type(each[2]) is int
        and each[2] >= 0
        for each in raw
    )
    if not fits:
        raise UserError(
            f"{path} has a 'thinning' that is no list of [budget, layer, number of changes, number]: {MAKE} again."
        )
    assert isinstance(raw, list)
    return tuple(Thinning(*each) for each in raw)


def _times(path: str | Path, raw: object) -> LayerTimes | None:
    """A table of layer times: a text or a number above 0 for each field; plans by MACs have none."""
    if raw is None:
        return None
    kinds: dict[str, Any] = {each.name: each.type for each in fields(LayerTimes)}
    given: dict[str, Any] = dict(raw) if isinstance(raw, Mapping) else {}
    fits = given.keys() == kinds.keys() and all(type(given[name]) is kind for name, kind in kinds.items())
    if not fits or any(given[name] <= 0 for name, kind in kinds.items() if kind is not str):
        raise UserError(f"{path} has a 'times' that is no table of layer times: {MAKE} again.")
    return LayerTimes(**given)


def _check_found(path: str | Path, found: object, n_layers: int) -> None:
    """What methods found is one finite number per layer, under each one's name."""
    for curve in found.values() if isinstance(found, Mapping) else [found]:
        numbers = curve if isinstance(curve, list) else []
        if len(numbers) != n_layers or not all(type(value) in (int, float) and isfinite(value) for value in numbers):
            raise UserError(f"{path} has a 'found' that is not {n_layers} numbers for each method: {MAKE} again.")
