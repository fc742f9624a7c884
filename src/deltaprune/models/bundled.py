"""The small Cobra that ships with the package: same classes, same code path, trained by `runs/train_bundled.py`."""

from pathlib import Path

from deltaprune.models import Family, registry
from deltaprune.models._folder import load_folder, read_config
from deltaprune.models._mllm import MLLM, MLLMConfig
from deltaprune.models._processor import Processor

FOLDER = Path(__file__).parent / "_bundled"


class Bundled(Family):
    """Answers short questions about synthetic scenes; see its model card."""

    def config(self) -> MLLMConfig:
        return read_config(FOLDER)

    def load(self, source: Path | None = None) -> tuple[MLLM, Processor]:
        return load_folder(source or FOLDER)


registry.register("bundled")(Bundled())
