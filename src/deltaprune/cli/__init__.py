"""The command line: argument parsing only, one file per command.

Whatever is slow to import is imported inside the command that needs it, so that `--help` is quick.
"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from deltaprune import __version__
from deltaprune.cli._around import surrounded
from deltaprune.cli.analyse import analyse
from deltaprune.cli.ask import ask
from deltaprune.cli.bench import bench
from deltaprune.cli.budget import budget
from deltaprune.cli.calibrate import calibrate
from deltaprune.cli.convert import convert
from deltaprune.cli.cost import cost
from deltaprune.cli.evaluate import evaluate
from deltaprune.cli.methods import methods
from deltaprune.cli.plot import plot
from deltaprune.cli.score import score
from deltaprune.cli.serve import serve
from deltaprune.cli.studio import studio
from deltaprune.cli.sweep import sweep
from deltaprune.errors import NotFinite, UserError, did_you_mean

COMMANDS = {
    "ask": ask,
    "cost": cost,
    "budget": budget,
    "evaluate": evaluate,
    "sweep": sweep,
    "score": score,
    "calibrate": calibrate,
    "analyse": analyse,
    "bench": bench,
    "plot": plot,
    "convert": convert,
    "serve": serve,
    "methods": methods,
    "studio": studio,
}
USAGE: Any = typer.BadParameter.__mro__[1]  # UsageError, whether typer brings its own click or not

NUMBERS = {  # in typer's messages -> what the option takes, and an example where it has no default
    "valid integer": ("a whole number", 100),
    "valid float": ("a number", 0.5),
    "valid number": ("a number", 0.5),
}
HELP = {"help_option_names": ["-h", "--help"]}


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=HELP)
for _name, _command in COMMANDS.items():
    app.command(_name)(surrounded(_name, _command))


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Visual-token pruning for multimodal LLMs with a recurrence inside.

    \b
    deltaprune ask photo.png "How many red circles are there?" --overlay kept.png
    deltaprune cost --model cobra --method none --method dtp:keep=0.5
    deltaprune evaluate --method none --method dtp:keep=0.25 --limit 200

    A method is written name:field=value,field=value; `deltaprune methods` lists them.
    """
    if version:
        print(f"deltaprune {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """The entry point of `deltaprune`."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """One command. Returns the exit code: 0; 2 and a line on stderr for a mistake of the user or an overflow."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an answer may hold letters that the terminal cannot show
    try:
        _check_command(argv)
        code = app(list(argv), prog_name="deltaprune", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (UserError, NotFinite) as error:
        return _refuse(str(error))
    except USAGE as error:
        return _refuse(_usage(error, argv))
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # `deltaprune ... | head`: the reader has gone; flushing at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _check_command(argv: Sequence[str]) -> None:
    """Check that the first word that is no option is a known command, else a `UserError`."""
    words = [word for word in argv if not word.startswith("-")]
    if words and argv[0] == words[0] and words[0] not in COMMANDS:
        raise UserError(f"There is no command {words[0]!r}: {did_you_mean(words[0], COMMANDS)}.")


def _usage(error: Any, argv: Sequence[str]) -> str:
    """One sentence for what typer reports about a wrong command line."""
    command = "deltaprune" if not argv or argv[0] not in COMMANDS else f"deltaprune {argv[0]}"
    params = [] if error.ctx is None else error.ctx.command.get_params(error.ctx)
    param: Any = getattr(error, "param", None)
    if type(error).__name__ == "NoSuchOption":
        if command == "deltaprune" and any(word in COMMANDS for word in argv):
            return f"{error.option_name!r} does not come before the command: write deltaprune COMMAND [OPTIONS]."
        known = [name for each in params for name in each.opts if name.startswith("--")]
        return f"{command} has no option {error.option_name!r}: {did_you_mean(error.option_name, known)}."
    typed = param is not None and any(word.split("=")[0] in param.opts for word in argv)
    if param is not None and error.ctx is not None and not typed:
        written = (error.ctx.default_map or {}).get(param.name)
        if written is not None:
            return f"In the file of --config, {param.name} is {written!r}: {getattr(error, 'message', error)}."
    wanted = next((each for words, each in NUMBERS.items() if words in str(getattr(error, "message", ""))), None)
    if param is not None and typed and wanted is not None:
        kind, example = wanted if param.default is None else (wanted[0], param.default)
        return f"{param.opts[0]} takes {kind}, such as {example}: {_given(param.opts[0], argv)!r} is not one."
    said = " ".join(error.format_message().split()).rstrip(".")
    arguments = [each.metavar + "..." * (each.nargs == -1) for each in params if each.param_type_name == "argument"]
    return f"{said}: the form is {' '.join([command, *arguments])} [OPTIONS], see {command} --help."


def _given(option: str, argv: Sequence[str]) -> str:
    """The text that was given as an option's value."""
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith(f"{option}=") else [word])]
    return words[words.index(option) + 1]


def _refuse(sentence: str) -> int:
    print(" ".join(sentence.splitlines()), file=sys.stderr)
    return 2
