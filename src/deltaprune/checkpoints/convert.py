"""`deltaprune convert`: a published checkpoint -> a model folder, which loads without pickles, towers or the Hub."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from deltaprune import __version__
from deltaprune.checkpoints.checkpoint import Checkpoint, kind
from deltaprune.checkpoints.folder import SHARD_BYTES, write_folder
from deltaprune.checkpoints.parts import Towers
from deltaprune.checkpoints.quantize import quantized_names
from deltaprune.checkpoints.sources import open_source
from deltaprune.disk import sync_file, sync_folder
from deltaprune.errors import UserError, in_words

RECORD, PARTIAL = "conversion.json", ".partial"
MB = 10**6


def convert(
    source: str | Path,
    dest: str | Path,
    *,
    towers: Towers | None = None,
    tokenizer: str | Path | None = None,
    dtype: torch.dtype | str | None = None,
    quantize: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    say: Callable[[str], None] = lambda _: None,
    count: Callable[[int, int], None] = lambda _, __: None,
) -> dict[str, Any]:
    """Write a model folder with exactly the weights that `load` would give: the logits are the same, bit for bit.

    It is written into `dest`.partial and renamed when it is complete and on the disk, so an interruption leaves no
    folder that looks finished.

    Args:
        source, towers, tokenizer, dtype, quantize: as in `deltaprune.load`.
        dest: the folder to make; it must not exist.
        shard_bytes: the size of a weight file.
        say, count: called with what is being done, and with how many megabytes of it are done.

    Returns:
        What `conversion.json` says: the library's version, the model, dtypes, the sha256 of each file that was read,
        and for each tensor where it comes from.

    Raises:
        UserError: what `load` raises; `dest` or `dest`.partial exists; the disk is full.
    """
    dest = Path(dest)
    _check_dest(dest)
    partial = dest.with_name(dest.name + PARTIAL)
    say("checking the source")
    checkpoint = open_source(source, towers, tokenizer)
    checkpoint = checkpoint if quantize is None else checkpoint.quantized(quantize)
    chosen = checkpoint.dtype(dtype)
    sizes = checkpoint.sizes(chosen)
    total = sum(sizes.values())
    _check_space(dest, total)
    partial.mkdir()
    try:
        say("writing weights (MB)")
        weights = _counted(checkpoint.read(chosen), total, count)
        chat_template = checkpoint.chat_template
        files = write_folder(
            partial, checkpoint.config, checkpoint.tokenizer, sizes, weights, shard_bytes, chat_template
        )
        say("computing checksums")
        record = _record(checkpoint, chosen, [file.name for file in files], total)
        (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8", newline="\n")
        _sync(partial)
        partial.rename(dest)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{dest} could not be written ({in_words(error)}): free some space or choose another."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _check_dest(dest: Path) -> None:
    """Check that the folder can be made, else a `UserError`."""
    if dest.exists():
        raise UserError(f"{dest} exists: a conversion makes a new folder, so choose another name or remove it.")
    partial = dest.with_name(dest.name + PARTIAL)
    if partial.exists():
        raise UserError(
            f"{partial} exists: a conversion runs there or was killed, so wait for it or remove the folder."
        )
    parent = dest.absolute().parent
    if not parent.is_dir():
        raise UserError(f"{dest}: the folder {str(dest.parent)!r} does not exist, so create it first.")
    if not os.access(parent, os.W_OK):
        raise UserError(f"{dest} cannot be written: you lack the permission for {str(dest.parent)!r}.")


def _check_space(dest: Path, total: int) -> None:
    """Check that the disk has room, else a `UserError`."""
    free = shutil.disk_usage(dest.absolute().parent).free
    if free < total:
        needs = f"needs {total / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB left"
        raise UserError(f"{dest} {needs}: choose another disk, or a smaller dtype.")


def _counted(
    weights: Iterator[tuple[str, Tensor]], total: int, count: Callable[[int, int], None]
) -> Iterator[tuple[str, Tensor]]:
    done = 0
    for name, weight in weights:
        yield name, weight
        done += weight.nbytes
        count(done // MB, total // MB)


def _record(checkpoint: Checkpoint, dtype: torch.dtype, files: list[str], total: int) -> dict[str, Any]:
    """What was made from what."""
    name, forms = str(dtype).removeprefix("torch."), quantized_names(checkpoint.config)
    return {
        "library": f"deltaprune {__version__}",
        "model": checkpoint.config.name,
        "dtype": name,
        "quantize": checkpoint.config.quantize,
        "bytes": total,
        "files": files,
        "sources": {
            role: {"file": file.name, "bytes": file.stat().st_size, "sha256": _sha256(file)}
            for role, file in checkpoint.files.items()
        },
        "tensors": {
            ours: {
                "from": checkpoint.sources.get(ours, "zeros"),
                "dtype": f"{weight.dtype} -> {forms.get(ours, kind(ours, weight, dtype))}".replace("torch.", ""),
            }
            for ours, weight in checkpoint.weights.items()
        },
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Force everything in the folder to the disk before it gets its final name."""
    for file in folder.iterdir():
        sync_file(file)
    sync_folder(folder)
