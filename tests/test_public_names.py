"""`import deltaprune` costs nothing, and its names are there when they are asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deltaprune

SOURCE = ast.parse(Path(deltaprune.__file__).read_text())


def names_for_type_checkers() -> dict[str, str]:
    """Name -> module, from the `TYPE_CHECKING` block."""
    block = next(node for node in SOURCE.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert all(alias.asname == alias.name for node in imports for alias in node.names)
    return {alias.name: f"{node.module}" for node in imports for alias in node.names}


def test_checkers_and_the_interpreter_see_the_same_names() -> None:
    homes = {name: f"deltaprune.{home}" for name, home in deltaprune._HOME.items()}
    assert homes == names_for_type_checkers()
    assert set(deltaprune.__all__) == {*homes, "__version__"}
    for name, home in homes.items():
        assert getattr(deltaprune, name) is getattr(sys.modules[home], name)
        assert name in dir(deltaprune)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nope'"):
        deltaprune.nope  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_pulls_in_nothing_heavy() -> None:
    code = "import sys, deltaprune; print({'torch', 'transformers', 'numba', 'numpy'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
