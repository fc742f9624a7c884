"""`deltaprune convert`."""

from typing import Annotated

import typer

from deltaprune._registry import UserError
from deltaprune.cli._common import JsonOption, print_json
from deltaprune.cli._progress import Working


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A published checkpoint: its folder, a .pth file, cobra, or a Hub id.")
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="The model folder to make.")],
    towers: Annotated[
        list[str] | None,
        typer.Option(
            "--towers",
            metavar="DIR|NAME=FILE",
            help="The vision towers: a folder of dino.safetensors, siglip.safetensors, or one of them; repeatable.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="FILE", help="The LM's tokenizer.json, or its folder.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", metavar="float32|bfloat16|float16", help="Of the weights. [default: the checkpoint's own]"
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Turn a published checkpoint into a model folder.

    The folder holds safetensors, sizes, tokenizer and a record of what they were made from; it loads without pickles
    and answers exactly as the checkpoint does.
    """
    with Working("starting") as working:
        from deltaprune.models._convert import convert as run

        record = run(
            source, dest, towers=_towers(towers), tokenizer=tokenizer, dtype=dtype, say=working.say, count=working.count
        )
    size = f"{record['bytes'] / 1e9:.2f} GB in {len(record['files'])} weight files"
    summary = f"{dest}: {record['model']}, {record['dtype']}, {size}; use it with --model {dest}"
    print_json(record) if json else print(summary)


def _towers(words: list[str] | None) -> str | dict[str, str] | None:
    """--towers as `load` takes it: one folder, or NAME=FILE for each tower."""
    if not words:
        return None
    if all("=" in word for word in words):
        return dict(word.split("=", 1) for word in words)
    if len(words) > 1:
        raise UserError(f"--towers {' '.join(words)!r}: give one folder, or NAME=FILE for each tower.")
    return words[0]
