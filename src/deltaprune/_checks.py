"""What a user may write into a stage or a method, told in one sentence where it is not."""

from deltaprune._registry import UserError


def check_keep(keep: object) -> None:
    """A share lies in [0, 1], else a `UserError`."""
    if isinstance(keep, bool) or not isinstance(keep, int | float):
        raise UserError(f"keep={keep!r} is not a number: it is a share between 0 and 1, such as 0.5.")
    if not 0 <= keep <= 1:
        nearest = "0.5" if keep != keep else f"{min(max(keep, 0.0), 1.0):g}"
        raise UserError(f"keep={keep} is not a share: it lies between 0 and 1 (try keep={nearest}).")


def check_layer(name: str, layer: object, *others: object) -> None:
    """A layer count is an integer from 0 up or one of `others` ("plan", None), else a `UserError`."""
    whole = isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0
    if not whole and layer not in others:
        also = "".join(f", or {'none' if other is None else other}" for other in others)
        raise UserError(f"{name}={layer!r} is not a layer: it is an integer from 0 up{also}.")


def check_seed(seed: object) -> None:
    """A seed is a whole number from 0 up, else a `UserError`."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed!r} is not a seed: it is a whole number from 0 up.")


def check_candidates(candidates: object) -> None:
    """Who competes to be kept is "visual" or "all", else a `UserError`."""
    if candidates not in ("visual", "all"):
        raise UserError(f'candidates={candidates!r} is unknown: it is "visual" or "all".')
