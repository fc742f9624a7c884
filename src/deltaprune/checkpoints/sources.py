"""From what a user names to a checkpoint: a known name, a folder, a file, or an id of the Hub."""

import re
from pathlib import Path

from deltaprune.checkpoints.checkpoint import Checkpoint
from deltaprune.checkpoints.folder import open_folder
from deltaprune.checkpoints.hub import HubError, fetch
from deltaprune.checkpoints.parts import Towers, refuse_parts
from deltaprune.checks import check_local
from deltaprune.errors import UserError, did_you_mean
from deltaprune.models import registry


def open_source(source: str | Path, towers: Towers | None = None, tokenizer: str | Path | None = None) -> Checkpoint:
    """Find a model and check it, without reading its weights.

    Args:
        source: a known name ("bundled", "cobra", "robomamba"), a model folder, a published checkpoint in its own
            layout, or an id of the Hub ("han1997/cobra", or one whose repository is a model folder).
        towers, tokenizer: what a published checkpoint leaves out, see `find_parts`.

    Raises:
        UserError: there is no such model, or it is incomplete or damaged.
    """
    check_local("The model", source)
    name, path = str(source), Path(source)
    if name and path.is_dir():
        return _open_path(path, towers, tokenizer)
    families = {known: registry[known] for known in registry.names()}
    family = families.get(name) or next((each for each in families.values() if each.repo == name), None)
    if family is not None:
        return family.open(None, towers, tokenizer)
    if path.is_file():
        return _open_path(path, towers, tokenizer)
    why = "it is neither a folder nor a known name"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        try:
            return _open_path(fetch(name, ["*.json", "*.safetensors"]), towers, tokenizer)
        except HubError as error:
            why += f", and the Hub did not give it ({error})"
    raise UserError(f"There is no model {name!r}: {why}; {did_you_mean(name, families)}.")


def _open_path(path: Path, towers: Towers | None, tokenizer: str | Path | None) -> Checkpoint:
    """Open a folder or file according to its layout."""
    for name in registry.names():
        if registry[name].recognises(path):
            return registry[name].open(path, towers, tokenizer)
    if path.is_file():
        raise UserError(
            f"{path} is not a checkpoint: give a model's folder, or a .pth file such as RoboMamba's (a tower's file is "
            "given with towers=)."
        )
    refuse_parts(f"The model folder {path}", towers, tokenizer)
    return open_folder(path)
