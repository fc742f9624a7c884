"""A picture with the patches that pruning dropped greyed and struck through; a line below says how many were kept."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deltaprune.errors import UserError

SMALLEST, LARGEST = 480, 1280  # the long side, pixels
CELL = 6  # the least width of a drawn patch, however flat the picture
GRID, INK, PAPER = (255, 255, 255, 60), (30, 30, 30), (250, 250, 250)
LIGHT, DARK = (255, 255, 255, 210), (0, 0, 0, 210)  # a stroke has a light core and a dark rim, visible on any picture


def overlay(
    image: Image.Image,
    kept_origin: Sequence[np.ndarray],
    grid: tuple[int, int],
    after: Sequence[int] | None = None,
    title: str | None = None,
) -> Image.Image:
    """Draw which patches survive: the dropped ones are grey, darker, and struck through.

    The grid is stretched over the whole picture, as the resize to the tower's square is (resize-naive). With several
    stages, patches dropped earlier are darker; the first stage's have a cross, the others a single stroke. A last stage
    that drops everything is not drawn; the caption names it.

    Args:
        image: the picture.
        kept_origin: for each stage, the indices `(K,)` of the visual tokens it left, row by row; none: no pruning.
        grid: rows and columns of patches.
        after: for each stage, how many layers see all tokens that reach it; named in the caption.
        title: the caption's first line, such as the method.

    Returns:
        RGB, the long side of the picture in it between 480 and 1280 pixels, a caption strip below.

    Raises:
        UserError: an index outside the grid, or not one layer per stage.
    """
    n = grid[0] * grid[1]
    kept = check_kept(kept_origin, grid, after)
    picture = enlarged(image.convert("RGB"), grid)
    return _with_caption(shaded(picture, _dropped_at(kept, n), grid), _caption(kept, n, after), title)


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures in a row on paper, upper edges level."""
    gap = CELL * 2
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    out = Image.new("RGB", (width, max(picture.height for picture in pictures)), PAPER)
    left = 0
    for picture in pictures:
        out.paste(picture, (left, 0))
        left += picture.width + gap
    return out


def as_png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file, which is what notebooks show."""
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def check_kept(
    kept_origin: Sequence[np.ndarray], grid: tuple[int, int], after: Sequence[int] | None
) -> list[np.ndarray]:
    """The indices of each stage, ascending; a `UserError` where they do not fit the grid or the layers."""
    n = grid[0] * grid[1]
    kept = [np.unique(np.asarray(indices, dtype=np.int64)) for indices in kept_origin]
    for indices in kept:
        if indices.size and not 0 <= indices[0] <= indices[-1] < n:
            raise UserError(
                f"A kept index lies outside the grid: {grid[0]} x {grid[1]} patches are numbered 0 to {n - 1}."
            )
    if after is not None and len(after) != len(kept):
        raise UserError(f"{len(after)} layers are named for {len(kept)} stages: give one layer per stage.")
    return kept


def _dropped_at(kept: list[np.ndarray], n: int) -> np.ndarray:
    """Per patch: the stage that dropped it, or -1; complete withdrawal after other stages does not count."""
    while len(kept) > 1 and kept[-1].size == 0:
        kept = kept[:-1]
    stage = np.full(n, -1)
    for i, indices in reversed(list(enumerate(kept))):
        stage[np.setdiff1d(np.arange(n), indices)] = i
    return stage


def enlarged(picture: Image.Image, grid: tuple[int, int]) -> Image.Image:
    """Scale the long side into range, with no side so short that the patches vanish."""
    long = max(picture.size)
    scale = min(max(long, SMALLEST), LARGEST) / long
    width, height = (
        max(round(scale * side), CELL * cells) for side, cells in zip(picture.size, grid[::-1], strict=True)
    )
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def shaded(picture: Image.Image, dropped_at: np.ndarray, grid: tuple[int, int]) -> Image.Image:
    """Grey, dark and struck where a stage dropped the patch (its number; -1 for none), thin lines between all."""
    rows, columns = grid
    xs = [round(column * picture.width / columns) for column in range(columns + 1)]
    ys = [round(row * picture.height / rows) for row in range(rows + 1)]
    grey = picture.convert("L").convert("RGB")
    n_stages = dropped_at.max(initial=-1) + 1
    shades = [
        Image.blend(grey, Image.new("RGB", picture.size), 0.62 - 0.3 * i / max(1, n_stages - 1))
        for i in range(n_stages)
    ]
    out = picture.copy()
    for patch, stage in enumerate(dropped_at.tolist()):
        if stage >= 0:
            row, column = divmod(patch, columns)
            box = (xs[column], ys[row], xs[column + 1], ys[row + 1])
            out.paste(shades[stage].crop(box), box[:2])
    pen = ImageDraw.Draw(out, "RGBA")
    for x in xs[1:-1]:
        pen.line((x, 0, x, out.height), fill=GRID)
    for y in ys[1:-1]:
        pen.line((0, y, out.width, y), fill=GRID)
    for patch, stage in enumerate(dropped_at.tolist()):
        if stage >= 0:
            row, column = divmod(patch, columns)
            box = (xs[column], ys[row], xs[column + 1] - 1, ys[row + 1] - 1)
            _strike(pen, box, crossed=bool(stage == 0 and n_stages > 1))
    return out


def _strike(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], crossed: bool) -> None:
    """A stroke from corner to corner of a patch, or two."""
    side = min(box[2] - box[0], box[3] - box[1])
    rim, core = (3, 1) if side >= 12 else (1, 1)
    left, top, right, bottom = (edge + side // 6 * sign for edge, sign in zip(box, (1, 1, -1, -1), strict=True))
    strokes = [(left, bottom, right, top), *([(left, top, right, bottom)] if crossed else [])]
    for colour, width in ((DARK, rim), (LIGHT, core)):
        for stroke in strokes:
            pen.line(stroke, fill=colour, width=width)


def _caption(kept: list[np.ndarray], n: int, after: Sequence[int] | None) -> list[str]:
    """What each stage left, one clause each."""
    if not kept:
        return [f"all {n} visual tokens kept"]
    clauses = []
    for i, indices in enumerate(kept):
        where = f"by stage {i + 1}" if after is None else f"after layer {after[i]}"
        what = "visual tokens " if i == 0 else ""
        if indices.size == 0:
            clauses.append(f"all {what}dropped {where}")
        else:
            clauses.append(f"{indices.size} of {n} {what}kept {where}")
    return clauses


def _with_caption(picture: Image.Image, clauses: list[str], title: str | None = None) -> Image.Image:
    """The picture on paper, centred, with the caption below, one line where that fits, else a line per clause."""
    size = 16 if max(picture.size) < 900 else 24
    font = ImageFont.load_default(size)
    whole = ", ".join(clauses)
    fits = font.getlength(whole) <= picture.width - size
    lines = [whole] if fits else [f"{clause}," for clause in clauses[:-1]] + clauses[-1:]
    lines = lines if title is None else [title, *lines]
    width = max(picture.width, *(round(font.getlength(line)) + size for line in lines))
    margin = size // 2
    out = Image.new("RGB", (width, picture.height + len(lines) * (size + margin) + margin), PAPER)
    out.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(out)
    for i, line in enumerate(lines):
        pen.text((width / 2, picture.height + margin + i * (size + margin)), line, fill=INK, font=font, anchor="ma")
    return out
