"""Checks of the arguments of stages and methods; each failure is a `UserError` of one sentence."""

import re
from sys import float_info

from deltaprune.errors import UserError, did_you_mean


def check_share(name: str, share: object) -> None:
    """A share lies in [0, 1], else a `UserError`."""
    if getattr(share, "generate", None) is not None:  # dp.DTP(model)
        raise UserError(f"{name}= was given a model: make the method first, then apply it, dp.DTP(keep=0.5)(model).")
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise UserError(f"{name}={share!r} is not a number: it is a share between 0 and 1, such as 0.5.")
    if not 0 <= share <= 1:
        nearest = "0.5" if share != share else f"{min(max(share, 0.0), 1.0):g}"
        raise UserError(f"{name}={share} is not a share: it lies between 0 and 1 (try {name}={nearest}).")


def check_keep(keep: object) -> None:
    """The share that is kept lies in [0, 1], else a `UserError`."""
    check_share("keep", keep)


def check_layer(name: str, layer: object, *others: object) -> None:
    """A layer count is an integer from 0 up or one of `others` ("plan", None), else a `UserError`."""
    whole = isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0
    if not whole and layer not in others:
        also = "".join(f", or {'none' if other is None else other}" for other in others)
        raise UserError(f"{name}={layer!r} is not a layer: it is an integer from 0 up{also}.")


def check_at_least_one(name: str, number: object) -> None:
    """A step or a number of things is a whole number from 1 up, else a `UserError`."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UserError(f"{name}={number!r} is not possible: it is a whole number from 1 up.")


def check_positive(name: str, number: object, zero: bool = False) -> None:
    """A number above 0, or from 0 up, and finite, else a `UserError`."""
    least = 0.0 if zero else float_info.min
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= float_info.max:
        raise UserError(f"{name}={number!r} is not possible: it is a number {'from 0 up' if zero else 'above 0'}.")


def check_flag(name: str, flag: object) -> None:
    """A switch is on or off, else a `UserError`."""
    if not isinstance(flag, bool):
        raise UserError(f"{name}={flag!r} is neither on nor off: it is true or false.")


def check_choice(name: str, choice: object, known: tuple[str, ...]) -> None:
    """One of a few words, else a `UserError` that names the nearest."""
    if choice not in known:
        raise UserError(f"There is no {name}={choice!r}: {did_you_mean(str(choice), known)}.")


def check_seed(seed: object) -> None:
    """A seed is a whole number from 0 up, else a `UserError`."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed!r} is not a seed: it is a whole number from 0 up.")


def check_candidates(candidates: object) -> None:
    """Who competes to be kept is "visual" or "all", else a `UserError`."""
    if candidates not in ("visual", "all"):
        raise UserError(f'candidates={candidates!r} is unknown: it is "visual" or "all".')


def check_local(name: str, path: object) -> None:
    """A path is not a web address, else a `UserError` that names the address as it was typed.

    `Path` turns "https://x" into "https:/x", so the second slash is put back.

    Args:
        name: the option or argument, for the sentence.
        path: what was given.
    """
    found = re.match(r"(?i)((?:https?|ftp|s3|gs):)/+(.*)", str(path))
    if found is None:
        return
    address = f"{found[1]}//{found[2]}"
    hub = re.match(r"(?i)https?://(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)/?$", address)
    also = "" if hub is None else f", or the id of the Hub, {hub[1]!r}, where one is taken"
    raise UserError(f"{name} {address!r} is a web address: download it and give the path on this machine{also}.")
