"""A table that fits the console: if it is too wide, its columns are split into blocks printed below each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleDimensions
from rich.table import Table
from rich.text import Text

from deltaprune.cli._manner import manner

GAP, EDGE = 2, 1  # blanks between two columns, and at the left of the first
TEXT = 16  # no column of free text is made narrower


@dataclass(frozen=True)
class Grid:
    """A table: its contents, not its layout.

    Attributes:
        header: the columns' names. A name of several words may take several lines; a word is never broken.
        lines: the cells; None draws a rule. A cell that is a `Text` may have several lines.
        about: the line below that explains it, as wide as the console.
        title: the line above.
        n_left: how many columns hold text, aligned to the left; the others hold numbers.
        free: which columns hold free text, which is wrapped; every other cell stays whole.
        first, last: which of the lines are shown, `lines[first:last]`; all of them shape the columns.
    """

    header: Sequence[str]
    lines: Sequence[Sequence[str | Text] | None]
    about: str = ""
    title: str = ""
    n_left: int = 1
    free: frozenset[int] = frozenset()
    first: int = 0
    last: int | None = None

    def blocks(self, width: int) -> list[dict[int, int]]:
        """The columns of each block with their widths; every block begins with the first column, the lines' name.

        Args:
            width: the console's, in letters. Only a block of two columns is ever wider: nothing is cut.
        """
        widest = [max(len(line) for line in self._texts(i)) for i in range(len(self.header))]
        least = [
            min(widest[i], max(TEXT, self._longest_word(i))) if i in self.free else widest[i]
            for i in range(len(self.header))
        ]
        blocks: list[list[int]] = [[0]]
        for i in range(1, len(self.header)):
            if len(blocks[-1]) > 1 and _width(least[j] for j in [*blocks[-1], i]) > width:
                blocks.append([0])
            blocks[-1].append(i)
        return [self._spread(block, least, widest, width) for block in blocks]

    def _spread(self, block: Sequence[int], least: list[int], widest: list[int], width: int) -> dict[int, int]:
        """The widths of a block; its free text takes what the others leave, the first as much as it can use."""
        left = width - _width(least[i] for i in block)
        widths = {}
        for i in block:
            more = min(max(left, 0), widest[i] - least[i]) if i in self.free else 0
            widths[i], left = least[i] + more, left - more
        return widths

    def _texts(self, column: int) -> list[str]:
        """Every line of a column's cells, and the words of its name."""
        cells = [line[column] for line in self.lines if line is not None]
        lines = [part for cell in cells for part in escaped(cell).plain.split("\n")]
        return [*lines, *self.header[column].split(), ""]

    def _longest_word(self, column: int) -> int:
        return max(len(word) for text in self._texts(column) for word in [*text.split(), ""])


def show(*grids: Grid) -> None:
    """Print tables on stdout, as wide as the console: the terminal, COLUMNS, or 80 letters in a pipe or a file.

    Free text wraps, and columns that do not fit go into a further block; no number is cut: a line whose name alone
    fills the width runs over. As LaTeX or Markdown, if that is asked for, each is whole.
    """
    from deltaprune.cli._forms import TEXTS

    if manner().form in TEXTS:
        print("\n\n".join(map(TEXTS[manner().form], grids)))
        return
    console = Console()
    for grid in grids:
        if grid.title:
            console.print(Text.assemble(escaped(grid.title), style="bold"))
        for widths in grid.blocks(console.width):
            wide = Console()
            wide.size = ConsoleDimensions(max(console.width, _width(widths.values())), console.height)
            wide.print(_table(grid, widths))
        if grid.about:
            console.print(Text.assemble(escaped(grid.about), style="dim"))


def escaped(text: str | Text) -> Text:
    """Literal text: no markup, and no control character reaches the terminal."""
    if isinstance(text, Text):
        return text
    return Text("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text))


def paragraphs(*texts: str) -> Text:
    """A cell of several lines."""
    return Text("\n").join(escaped(text) for text in texts)


def _width(widths: Iterable[int]) -> int:
    """The width of a block from those of its columns."""
    return EDGE + sum(each + GAP for each in widths)


def _table(grid: Grid, widths: dict[int, int]) -> Table:
    """One block."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for i, width in widths.items():
        justify = "left" if i < grid.n_left else "right"
        table.add_column(grid.header[i], justify=justify, overflow="fold", width=width)
    for line in grid.lines[grid.first : grid.last]:
        if line is None:
            table.add_section()
        else:
            table.add_row(*(escaped(line[i]) for i in widths))
    return table
