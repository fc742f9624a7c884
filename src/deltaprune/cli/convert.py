"""`deltaprune convert`."""

from typing import Annotated

import typer

from deltaprune.cli._common import print_json, read_towers
from deltaprune.cli._options import DtypeOption, JsonOption, QuantizeOption, TokenizerOption, TowersOption, local
from deltaprune.cli._progress import Working


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", callback=local, help="A published checkpoint: its folder, a .pth file, cobra, or a Hub id."
        ),
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", callback=local, help="The model folder to make.")],
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
    json: JsonOption = False,
) -> None:
    """Turn a published checkpoint into a model folder.

    The folder holds safetensors, sizes, tokenizer and a record of what they were made from; it loads without pickles
    and answers exactly as the checkpoint does under the same --dtype and --quantize.
    """
    with Working("starting") as working:
        from deltaprune.checkpoints.convert import convert as run

        record = run(
            source,
            dest,
            towers=read_towers(towers),
            tokenizer=tokenizer,
            dtype=dtype,
            quantize=quantize,
            say=working.say,
            count=working.count,
        )
    kind = record["dtype"] if quantize is None else f"{record['quantize']} in {record['dtype']}"
    size = f"{record['bytes'] / 1e9:.2f} GB in {len(record['files'])} weight files"
    summary = f"{dest}: {record['model']}, {kind}, {size}; use it with --model {dest}"
    print_json(record) if json else print(summary)
