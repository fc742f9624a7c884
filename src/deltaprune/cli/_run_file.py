"""A run as a file: the options of one command in YAML, read by --config and written by --save-config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from deltaprune.checks import check_local
from deltaprune.errors import UserError, did_you_mean, in_words

UNSAVED = ("config", "save_config", "json", "format", "verbose", "quiet")  # options about files and output
EMPTY = ("", "~", "null")
WORDS = {"true": True, "false": False}


def read_config(context: typer.Context, value: str | None) -> str | None:
    """Take what the file says for every option that the command line leaves out.

    It is read before all other options. Every value is a text, as on the command line, and is checked like one there.

    Raises:
        UserError: the file is not such YAML, or has a name or a value that the command does not take.
    """
    if value is not None:
        check_local("--config", value)
        params = {str(param.name): param for param in context.command.params if param.name not in UNSAVED}
        given = ((str(name), text) for name, text in _load(value).items())
        context.default_map = {name.replace("-", "_"): _value(value, name, text, params) for name, text in given}
    return value


def _load(file: str) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.load(Path(file).read_text(encoding="utf-8"), yaml.BaseLoader)  # texts alone, so it is safe
    except OSError as error:
        raise UserError(f"--config {file!r} cannot be read: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {file!r} is not YAML ({in_words(error)}): write it as name: value.") from error
    if not isinstance(document, dict) or not document:
        raise UserError(f"--config {file!r} holds no options: write them as name: value, one a line.")
    return document


def _value(file: str, name: str, value: Any, params: Mapping[str, Any]) -> Any:
    """A value as the option takes it; None where it says that it is not given."""
    known = name.replace("-", "_")
    if known not in params:
        raise UserError(f"--config {file!r}: the command has no option {name!r}: {did_you_mean(known, params)}.")
    several, is_flag = getattr(params[known], "multiple", False), getattr(params[known], "is_flag", False)
    if isinstance(value, str) and value in EMPTY:
        return None
    if several and isinstance(value, str):
        return [value]
    if several and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    if several or not isinstance(value, str):
        raise UserError(f"--config {file!r}: {name} takes {'a list of texts' if several else 'one value'}.")
    if is_flag and value not in WORDS:
        raise UserError(f"--config {file!r}: {name} is true or false, not {value!r}.")
    return WORDS[value] if is_flag else value


def save_config(file: str, command: str, values: Mapping[str, Any]) -> None:
    """Write the options that a run has, defaults included, so that it is the same run when defaults have changed."""
    import yaml

    from deltaprune import __version__
    from deltaprune.cli._common import check_target, write

    check_target("--save-config", file)
    kept = {name: value for name, value in values.items() if name not in UNSAVED and value is not None}
    head = f"# deltaprune {command} --config {Path(file).name}   (written by deltaprune {__version__})\n"
    text = head + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    write("--save-config", file, lambda path: path.write_text(text, encoding="utf-8", newline="\n"))
