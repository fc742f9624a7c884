"""`deltaprune ask`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltaprune._registry import UserError
from deltaprune._tables import ask_tables, show
from deltaprune.cli._common import (
    DeviceOption,
    JsonOption,
    ModelOption,
    PlanOption,
    TokenizerOption,
    TowersOption,
    check_target,
    check_whole,
    load_model,
    patch_grid,
    print_json,
    write,
)
from deltaprune.cli._progress import Working

if TYPE_CHECKING:
    from PIL import Image

    from deltaprune.ask import AskRow
    from deltaprune.models._mllm import MLLMConfig


def ask(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file.")],
    question: Annotated[list[str], typer.Argument(metavar="QUESTION", help="One or more, each in quotes.")],
    model: ModelOption = "bundled",
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help="name:field=value,...")] = "dtp:keep=0.5",
    overlay: Annotated[
        str | None,
        typer.Option("--overlay", metavar="OUT.png", help="Draw which patches the method kept (first question)."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Upper bound of an answer's length.")] = 16,
    plan: PlanOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Ask about a picture, unpruned beside pruned.

    Times are medians after a warm-up, so compilation is not in them.
    """
    check_whole("--max-new-tokens", max_new_tokens)
    with Working("starting") as working:
        from deltaprune.ask import ask, check_questions
        from deltaprune.methods import parse
        from deltaprune.vision.images import open_image

        check_questions(question)
        parse(method)
        picture = open_image(image)
        if overlay is not None:
            _check_overlay(overlay, image)
        vlm, processor = load_model(model, device, working, plan, towers, tokenizer)
        rows = ask(vlm, processor, picture, question, method, max_new_tokens, working.say)
        if overlay is not None:
            _draw(overlay, picture, vlm.config, rows[len(rows) // len(question) - 1])
    dicts = [row.to_dict() for row in rows]
    print_json(dicts) if json else show(*ask_tables(dicts, device))


def _check_overlay(overlay: str, image: str) -> None:
    """The overlay can be written and does not replace the picture."""
    from PIL import Image

    Image.init()
    check_target(
        "--overlay", overlay, {end for end, form in Image.registered_extensions().items() if form in Image.SAVE}
    )
    if Path(overlay).exists() and Path(overlay).samefile(image):
        raise UserError(f"--overlay {overlay!r} is the picture itself and would replace it: choose another name.")


def _draw(path: str, picture: "Image.Image", config: "MLLMConfig", row: "AskRow") -> None:
    """Write the overlay of one row."""
    from deltaprune.analysis import overlay

    drawn = overlay(picture, row.kept_origin, patch_grid(config), row.after)
    write("--overlay", path, drawn.save)
