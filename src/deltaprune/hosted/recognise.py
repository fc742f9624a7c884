"""Whether a folder holds a model of transformers' own that can be pruned in place; without importing transformers."""

import json
from pathlib import Path

from deltaprune.errors import UserError, did_you_mean
from deltaprune.inplace.families import registry
from deltaprune.models import registry as models

CONFIG = "config.json"
OURS = "deltaprune"  # the model_type of our own folders


def is_hosted(source: str | Path) -> bool:
    """Whether this is a folder of a model of transformers' own.

    Raises:
        UserError: it is one of a kind that cannot be pruned in place.
    """
    kind = _kind(Path(source))
    if kind is None or kind == OURS:
        return False
    if kind not in registry.names():
        if any(models[name].recognises(Path(source)) for name in models.names()):
            return False
        raise UserError(
            f"{source} holds a model of type {kind!r}, which cannot be pruned in place: "
            f"{did_you_mean(kind, registry.names())}."
        )
    return True


def _kind(folder: Path) -> str | None:
    """`model_type` of the folder's config.json; None where there is none that says one."""
    try:
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = said.get("model_type") if isinstance(said, dict) else None
    return kind if isinstance(kind, str) else None
