"""Check whether named tensors fit a model; one sentence lists every misfit."""

import difflib
import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from deltaprune.errors import UserError

Sizes = tuple[int, ...]


def check_tensors(where: str, wanted: Mapping[str, Sizes], found: Mapping[str, Sizes]) -> None:
    """Names and shapes are the same on both sides.

    Args:
        where: how the message begins, such as the name of the file.
        wanted: the model's tensors.
        found: the file's tensors.

    Raises:
        UserError: it lists what is missing, unexpected (with the nearest missing name) or misshapen; names that differ
            only in their number are written as one, `layers.{0-63}.norm.weight`.
    """
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    misshapen: dict[str, list[str]] = {}
    for name in wanted:
        if name in found and found[name] != wanted[name]:
            misshapen.setdefault(f"{found[name]} instead of {wanted[name]}", []).append(name)
    complaints = [
        *([f"missing {', '.join(fold(missing))}"] if missing else []),
        *([f"unexpected {', '.join(_with_nearest(unexpected, missing))}"] if unexpected else []),
        *(f"misshapen {', '.join(fold(names))} {shapes}" for shapes, names in misshapen.items()),
    ]
    if complaints:
        raise UserError(f"{where} does not fit its config: {'; '.join(complaints)}.")


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Sizes]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def fold(names: Iterable[str]) -> list[str]:
    """Names that differ only in their first number become one: `layers.{0-2,5}.norm.weight`."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        if number is None:
            numbers[name] = []
        else:
            numbers.setdefault(f"{name[: number.start()]}*{name[number.end() :]}", []).append(int(number[0]))
    return [pattern.replace("*", _ranges(sorted(found)), 1) if found else pattern for pattern, found in numbers.items()]


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> {0-2,5}; a single number stays bare."""
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return "{" + ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) + "}"


def _with_nearest(unexpected: list[str], missing: list[str]) -> list[str]:
    """Each unexpected name, folded, with the nearest of the missing ones."""
    known = fold(missing)
    near = {name: difflib.get_close_matches(name, known, n=1) for name in fold(unexpected)}
    return [f"{name} (did you mean {found[0]}?)" if found else name for name, found in near.items()]
