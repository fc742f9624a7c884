"""A setting as a command line and as a few lines of Python."""

import shlex
from collections.abc import Iterable, Mapping
from itertools import groupby


def spans(numbers: Iterable[int]) -> str:
    """{0, 1, 2, 7} -> "0-2+7", as `--method chosen:drop=...` takes it."""
    ascending = sorted(set(numbers))
    runs = [list(run) for _, run in groupby(enumerate(ascending), lambda pair: pair[1] - pair[0])]
    ends = [(run[0][1], run[-1][1]) for run in runs]
    return "+".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def command_line(picture: str, question: str, method: str, loads: Mapping[str, str]) -> str:
    """`deltaprune ask` with this setting, for a shell.

    Args:
        picture: the file's name.
        question, method: as they were asked.
        loads: what differs from the defaults of `load`, "source", "device", "dtype", "quantize"; "plan" is a plan file.
    """
    names = {"source": "--model", "plan": "--plan", "device": "--device", "dtype": "--dtype", "quantize": "--quantize"}
    options = ["--method", method, *(word for name, value in loads.items() for word in (names[name], value))]
    asked = [picture, question]
    dashed = any(word.startswith("-") for word in asked)  # it would be read as an option
    return shlex.join(["deltaprune", "ask", *([*options, "--", *asked] if dashed else [*asked, *options])])


def python_lines(picture: str, question: str, method: str, loads: Mapping[str, str]) -> str:
    """The same in Python: the import, and a line for each step; takes what `command_line` takes."""
    given = {name: repr(value) for name, value in loads.items()}
    source, plan = given.pop("source", repr("bundled")), given.pop("plan", None)
    planned = [] if plan is None else [f"model.use_plan(dp.load_plan({plan}, model.config))"]
    return "\n".join(
        (
            "import deltaprune as dp",
            "",
            f"model, processor = dp.load({', '.join([source, *(f'{name}={value}' for name, value in given.items())])})",
            *planned,
            f"inputs = processor(images={picture!r}, text={question!r})",
            f"print(processor.batch_decode(model.generate(**inputs, method={method!r}))[0])",
        )
    )
