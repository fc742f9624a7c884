"""Import a user's own file, so that the scores, methods or benchmarks it registers can be named."""

import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from deltaprune.checks import check_local
from deltaprune.errors import UserError, in_words

_LOADED: dict[Path, ModuleType] = {}


def load_plugin(path: str | Path) -> ModuleType:
    """Import a Python file; a file that was imported before is not run again.

        load_plugin("examples/new_score.py")  # then dp.DTP(score=...) and --method dtp:score=unusual know it

    Raises:
        UserError: there is no such file, it is not a Python file, or it cannot be imported.
    """
    name = str(path)
    check_local("--plugin", name)
    file = Path(path).resolve()
    if file in _LOADED:
        return _LOADED[file]
    if not file.is_file():
        raise UserError(f"There is no plugin {name!r}: give a Python file that registers a score, method or benchmark.")
    if file.suffix != ".py":
        raise UserError(f"The plugin {name!r} is not a Python file: its name has to end in .py.")
    title = re.sub(r"\W", "_", file.stem)
    spec = importlib.util.spec_from_file_location(f"deltaprune_plugin_{len(_LOADED)}_{title}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their classes up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        del sys.modules[spec.name]
        why = str(error).rstrip(".") if isinstance(error, UserError) else in_words(error)
        raise UserError(f"The plugin {name!r} cannot be imported{_line(error, file)} ({why}).") from error
    _LOADED[file] = module
    return module


def plugins() -> list[ModuleType]:
    """The modules that `load_plugin` has imported in this process."""
    return list(_LOADED.values())


def _line(error: BaseException, file: Path) -> str:
    """The line of the file in which an error arose, or "" where it is unknown."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f": line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f": line {lines[-1]}" if lines else ""
