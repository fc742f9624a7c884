"""The small Cobra that ships with the package: same classes, same code path, trained by `runs/train_bundled.py`."""

from pathlib import Path

from deltaprune.models import Family, registry
from deltaprune.models._checkpoint import Checkpoint
from deltaprune.models._folder import open_folder, read_config
from deltaprune.models._mllm import MLLMConfig
from deltaprune.models._parts import Towers, refuse_parts

FOLDER = Path(__file__).parent / "_bundled"


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
        return open_folder(source or FOLDER)


registry.register("bundled")(Bundled())
