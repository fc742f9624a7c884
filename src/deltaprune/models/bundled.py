"""The small Cobra that ships with the package: same classes, same code path, trained by `python -m training.train`."""

import functools
import logging
from pathlib import Path

from deltaprune.checkpoints.checkpoint import Checkpoint
from deltaprune.checkpoints.folder import open_folder, read_config
from deltaprune.checkpoints.parts import Towers, refuse_parts
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models import Family, registry

FOLDER = Path(__file__).parent / "_bundled"
_LOG = logging.getLogger("deltaprune.models")


class Bundled(Family):
    """Answers short questions about synthetic scenes; see its model card."""

    def config(self) -> MLLMConfig:
        return read_config(FOLDER)

    def recognises(self, path: Path) -> bool:
        return False  # it is a model folder like any other

    def open(
        self, source: Path | None, towers: Towers | None = None, tokenizer: str | Path | None = None
    ) -> Checkpoint:
        refuse_parts("The bundled model", towers, tokenizer)
        _tell_what_it_knows()
        return open_folder(source or FOLDER)


@functools.cache
def _tell_what_it_knows() -> None:
    """Warn once per process (on stderr unless logging is set up): answers about a photograph would mislead."""
    _LOG.warning(
        "The bundled model was trained only on the synthetic pictures of the benchmark scenes, and guesses about any "
        "other picture: take Cobra or RoboMamba for photographs."
    )


registry.register("bundled")(Bundled())
