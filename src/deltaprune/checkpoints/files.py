"""Files that hold tensors: torch's pickles without running their code, and safetensors. Mapped, not read."""

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deltaprune.errors import UserError, in_words

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
WRAPPERS = ("module.", "model.", "_orig_mod.")
_LOG = logging.getLogger("deltaprune.models")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The named tensors of a file, each a view of the mapped file.

    Raises:
        UserError: no such file, damaged, or anything but named tensors.
    """
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    return named_tensors(file, read_pickle(file))


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped.

    Raises:
        UserError: no such file, or damaged.
    """
    _check_file(file)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged or cut short ({in_words(error)}): copy it again.") from error


def read_pickle(file: Path) -> Any:
    """What `torch.save` wrote, tensors mapped. Only plain containers and tensors are read: no code is ever run.

    Raises:
        UserError: no such file, cut short, in an older format, no pickle at all, or a pickle with code in it.
    """
    _check_file(file)
    if not zipfile.is_zipfile(file):
        raise UserError(_not_a_zip(file))
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)|(?:function|class) ([\w.]+)", str(error))
        what = f" ({code[1] or code[2]})" if code else ""
        raise UserError(
            f"{file} holds more than tensors{what}, and code in a pickle is never run: have its author save the "
            "tensors alone, torch.save(model.state_dict(), ...)."
        ) from error
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged or cut short ({in_words(error)}): copy it again.") from error


def named_tensors(file: Path, content: object, where: str = "") -> dict[str, Tensor]:
    """`content` as a mapping from names to tensors, see `unwrapped`.

    Args:
        file: for the message.
        content: what the file holds.
        where: which part of the file this is, for the message.

    Raises:
        UserError: it is anything else.
    """
    what = f"{file}{f' ({where})' if where else ''}"
    if not isinstance(content, dict):
        raise UserError(f"{what} holds a {type(content).__name__}, not a mapping from names to tensors.")
    odd = [f"{key} (a {type(value).__name__})" for key, value in content.items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(f"{what} holds entries that are no tensors: {', '.join(odd[:5])}.")
    return unwrapped(file, content)


def unwrapped(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the prefix that a wrapper put before every name: `module.`, `model.`, `_orig_mod.`.

    torch's DataParallel and DistributedDataParallel, Lightning and torch.compile keep a model as their own submodule. A
    prefix that only some names have is kept.
    """
    left_out = ""
    while prefix := next((each for each in WRAPPERS if tensors and all(name.startswith(each) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        left_out += prefix
    if left_out:
        _LOG.warning("%s: every name begins with %r, which a wrapper wrote; it is left out.", file, left_out)
    return dict(tensors)


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise UserError(f"There is no file {str(file)!r}: check the path.")
    try:
        file.open("rb").close()
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be read ({error.strerror}): check its permissions.") from error


def _not_a_zip(file: Path) -> str:
    """The message about a file that is not in torch's zip format."""
    with file.open("rb") as opened:
        head = opened.read(40)
    if head.startswith(b"PK"):
        return f"{file} is cut short: download or copy it again."
    if head.startswith(b"version https://git-lfs"):
        return f"{file} is a Git LFS pointer, not the weights themselves: run git lfs pull, or download the file."
    if head.startswith(b"\x80"):
        return f"{file} is a pickle in torch's format from before version 1.6: load and save it with a newer torch."
    return f"{file} is not a file that torch.save wrote: download it again, or check the path."
