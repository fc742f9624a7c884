"""The options that are added to every command: --plugin, --format, -v, --quiet; for long runs also --config."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, cast

import typer

from deltaprune.cli._manner import FORMS, chosen_form, spoken
from deltaprune.cli._options import PluginOption, local
from deltaprune.cli._run_file import read_config, save_config

LONG = ("evaluate", "sweep", "calibrate", "bench")  # their runs can be files
PROSE = ("convert",)  # prints a sentence where others print a table

FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="FORM", help=f"Format of the output: {', '.join(FORMS)}. [default: table]"),
]
VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Log more on stderr; -vv logs most.", show_default=False)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings on stderr.")]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        callback=read_config,
        is_eager=True,
        metavar="FILE.yaml",
        help="Read options from there, as name: value; the command line overrides them.",
    ),
]
SaveConfigOption = Annotated[
    str | None,
    typer.Option("--save-config", callback=local, metavar="FILE.yaml", help="Write this run's options there, and run."),
]


def surrounded(name: str, command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with these options after its own; plugins are imported before it runs."""
    signature = inspect.signature(command)
    added = dict(_added(name, "json" in signature.parameters and name not in PROSE))

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        around: Mapping[str, Any] = {option: values.pop(option) for option in added}
        form = chosen_form(around.get("format"), values.get("json", False))
        if "format" in around:
            values["json"] = form in ("json", "csv")  # both are the document
        with spoken(form, around["verbose"], around["quiet"]):
            if around.get("save_config") is not None:
                save_config(around["save_config"], name, {**values, "plugin": around["plugin"]})
            _import(around["plugin"])
            return command(**values)

    wrapped = cast(Any, run)
    last = [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for option, (annotation, default) in added.items()
    ]
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *last])  # what typer reads
    wrapped.__annotations__ = command.__annotations__ | {option: each for option, (each, _) in added.items()}
    return wrapped


def _added(name: str, prints_rows: bool) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Name -> (annotation, default) of each option."""
    if prints_rows:
        yield "format", (FormatOption, None)
    if name in LONG:
        yield "config", (ConfigOption, None)
        yield "save_config", (SaveConfigOption, None)
    yield "plugin", (PluginOption, None)
    yield "verbose", (VerboseOption, 0)
    yield "quiet", (QuietOption, False)


def _import(plugins: list[str] | None) -> None:
    from deltaprune.plugins import load_plugin

    for file in plugins or ():
        load_plugin(file)
