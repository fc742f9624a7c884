"""`deltaprune ask`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltaprune.cli._common import check_target, check_whole, print_json, write
from deltaprune.cli._cost_tables import ask_tables
from deltaprune.cli._loading import ModelOptions, load_model
from deltaprune.cli._manner import manner
from deltaprune.cli._options import (
    ASKED,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    PlanOption,
    QuantizeOption,
    TokenizerOption,
    TowersOption,
    local,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import show
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from deltaprune.ask import AskRow
    from deltaprune.mllm.processor import Processor
    from deltaprune.vlm import VLM


def ask(
    image: Annotated[str, typer.Argument(metavar="IMAGE", callback=local, help="A picture file.")],
    question: Annotated[list[str], typer.Argument(metavar="QUESTION", help="One or more, each in quotes.")],
    model: ModelOption = "bundled",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help=f"name:field=value,...; repeatable, unpruned is always shown. [default: {' and '.join(ASKED)}]",
        ),
    ] = None,
    overlay: Annotated[
        str | None,
        typer.Option(
            "--overlay", callback=local, metavar="OUT.png", help="Draw which patches each method kept (first question)."
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Upper bound of an answer's length.")] = 16,
    plan: PlanOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
    json: JsonOption = False,
) -> None:
    """Ask about a picture: the answers without pruning and with each method.

    Times are medians after a warm-up, so they do not include compilation.
    """
    check_whole("--max-new-tokens", max_new_tokens)
    methods = method or list(ASKED)
    with Working("starting") as working:
        from deltaprune.ask import ask, check_questions
        from deltaprune.hosted.config import suited
        from deltaprune.methods import parse
        from deltaprune.vision.images import open_image

        check_questions(question)
        for each in methods:
            parse(each)
        _check_order(image, question)
        picture = open_image(image)
        if overlay is not None:
            _check_overlay(overlay, image)
        options = ModelOptions(model, plan, towers, tokenizer, dtype, quantize)
        vlm, processor = load_model(options, device, working)
        if overlay is not None:
            _check_grid(vlm, processor, picture)
        methods = methods if method else suited(methods, vlm.config)
        rows = ask(vlm, processor, picture, question, methods, max_new_tokens, working.say)
        drawn = rows[1 : len(rows) // len(question)] or rows[:1]  # of the first question; unpruned only if alone
        if overlay is not None:
            _draw(overlay, drawn)
    dicts = [row.to_dict() for row in rows]
    print_json(dicts) if json else show(*ask_tables(dicts, vlm.device.type))
    if overlay is not None:
        print(_told(overlay, drawn), file=sys.stdout if manner().form == "table" else sys.stderr)


def _check_order(image: str, questions: list[str]) -> None:
    """The picture comes first, else a `UserError`."""
    picture = next(filter(os.path.isfile, questions), None)
    if picture is not None and not os.path.exists(image):
        raise UserError(
            f"There is no image {image!r}, and {picture!r} is a file: write the picture first, deltaprune ask IMAGE "
            "QUESTION."
        )


def _check_overlay(overlay: str, image: str) -> None:
    """The overlay can be written and does not replace the picture."""
    from PIL import Image

    Image.init()
    check_target(
        "--overlay", overlay, {end for end, form in Image.registered_extensions().items() if form in Image.SAVE}
    )
    if Path(overlay).exists() and Path(overlay).samefile(image):
        raise UserError(f"--overlay {overlay!r} is the picture itself and would replace it: choose another name.")


def _check_grid(vlm: "VLM", processor: "Processor", picture: "Image.Image") -> None:
    """The picture's visual tokens can be drawn over it, else a `UserError`, before the model runs."""
    from deltaprune.ask import NO_GRID
    from deltaprune.hosted.grid import token_grid
    from deltaprune.hosted.model import Hosted

    if isinstance(vlm, Hosted):
        inputs = processor(images=picture, text="?")
        if token_grid(inputs, int(vlm.is_visual(inputs["input_ids"]).sum())) is None:
            raise UserError(NO_GRID)


def _draw(path: str, rows: "Sequence[AskRow]") -> None:
    """Write what each row kept, side by side, in the patches of the picture that its method shows to the towers."""
    from deltaprune.analysis import overlay, side_by_side

    drawn = [
        overlay(row.picture, row.kept_origin, row.grid, row.after, row.method if len(rows) > 1 else None)
        for row in rows
        if row.grid is not None
    ]
    write("--overlay", path, side_by_side(drawn).save)


def _told(path: str, rows: "Sequence[AskRow]") -> str:
    """What is in the file."""
    kept = ", ".join(row.method for row in rows)
    return f"wrote {path}: the patches kept for the first question by {kept}; dropped ones are grey and struck through"
