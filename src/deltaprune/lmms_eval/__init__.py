"""The plugin for lmms-eval: `lmms-eval --model deltaprune --model_args "pretrained=cobra,method=dtp:keep=0.5" ...`.

lmms-eval finds it through the entry-point group `lmms_eval.models` and imports this file on every start, whichever
model it is asked for; so torch and the class itself are only imported when this model is.
"""

from typing import Any


def manifest() -> Any:
    """What lmms-eval registers: a `ModelManifest` (lmms_eval/models/registry_v2.py).

    There is only a chat class: the tasks that need the other kind score choices by likelihood, see `DeltapruneModel`.
    """
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return ModelManifest("deltaprune", chat_class_path="deltaprune.lmms_eval.model.DeltapruneModel")
