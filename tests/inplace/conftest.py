"""Folders of tiny models, written once, and commands run in this process."""

from collections.abc import Callable
from pathlib import Path

import folders
import pytest
from gradio_leftovers import collected as collected
from running import cli as cli
from running import scene as scene


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny model."""
    root, made = tmp_path_factory.mktemp("transformers"), dict[str, Path]()

    def of(name: str) -> Path:
        if name not in made:
            made[name] = folders.write(root / name, name)
        return made[name]

    return of
