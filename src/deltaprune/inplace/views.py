"""Which rows of a call a layer is handed, and how these part into text and image."""

from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from deltaprune.inplace.layout import Layout
from deltaprune.rows import Rows


class View:
    """Some rows of a call.

    Args:
        layout: how they lie in the rectangle `(B, W, ...)`.
        columns: of the call, for each place of the layout, `(B, W)`; None where all are there.
    """

    def __init__(self, layout: Layout, columns: Int[Tensor, "B W"] | None = None):
        self.layout, self.columns = layout, columns
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, table: Tensor) -> Tensor:
        """`(B, T, ...)` or `(1, T, ...)` of the call -> that of these rows; gathered once for all layers."""
        if self.columns is None:
            return table
        known = self._tables.get(id(table))
        if known is None:
            known = self._tables[id(table)] = table, taken(table, self.columns.to(table.device))
        return known[1]


class Split:
    """The text rows and the image rows of a view.

    Args:
        whole: the view.
        rows: its rows, packed.
        device: of the stream.

    Attributes:
        text: the view of its text rows alone.
        words, image: where the text rows, and the image rows, are among the packed ones.
    """

    def __init__(self, whole: View, rows: Rows, device: torch.device):
        self.whole, self.rows, self.words = whole, rows, rows.text
        self.image = torch.cat([rows.visual_rows(b) for b in range(len(rows.lengths))])
        columns, width = whole.columns, whole.layout.width
        if columns is None:
            columns = torch.arange(width, device=device).expand(len(rows.lengths), -1)
        layout = Layout.of([n - v for n, v in zip(rows.lengths, rows.n_visual, strict=True)], device)
        self.text = View(layout, layout.unpack(whole.layout.pack(columns)[self.words]))
        self._flat: dict[int, tuple[Tensor, Tensor]] = {}

    def narrow(self, x: Tensor) -> Tensor:
        """`(B, W, ...)` of the whole view -> `(B, w, ...)` of its text."""
        return self.text.layout.unpack(self.whole.layout.pack(x)[self.words])

    def renewed(self, x: Tensor, text: Tensor) -> Tensor:
        """The whole view's `(B, W, ...)` with its text rows replaced by `(B, w, ...)`."""
        layout = self.whole.layout
        return layout.unpack(layout.pack(x).index_copy(0, self.words, self.text.layout.pack(text)))

    def joined(self, text: Tensor, image: Tensor) -> Tensor:
        """Text `(B, w, ...)` and image `(V, ...)`, packed, -> `(B, W, ...)`; pads are zero."""
        packed = text.new_empty(len(self.words) + len(self.image), *text.shape[2:])
        packed = packed.index_copy(0, self.words, self.text.layout.pack(text)).index_copy(0, self.image, image)
        return self.whole.layout.unpack(packed)

    @cached_property
    def runs(self) -> list[tuple[bool, int]] | None:
        """(image?, columns) of the runs of columns, where these are the same in all samples and there are no pads; read
        from the device.
        """
        found = [self.rows.runs(b) for b in range(len(self.rows.lengths))]
        same = self.whole.layout.valid is None and all(each == found[0] for each in found)
        return [run for run in found[0] if run[1]] if same else None

    def in_turn(self, shortest: int) -> list[tuple[bool, int]] | None:
        """`runs`, if each of text has so many rows."""
        return self.runs if self.runs and all(image or n >= shortest for image, n in self.runs) else None

    @cached_property
    def places(self) -> Int[Tensor, "B w"]:
        """The column of the whole view in which each text row is; a pad is given the last column."""
        layout = self.whole.layout
        columns = torch.arange(layout.width, device=self.words.device).expand(len(layout.lengths), -1)
        places, valid = self.text.layout.unpack(layout.pack(columns)[self.words]), self.text.layout.valid
        return places if valid is None else places.masked_fill(~valid, layout.width - 1)

    def flat(self, reach: int) -> tuple[Int[Tensor, "_"], Int[Tensor, "_"]]:
        """Places in the flattened rectangle: of the text rows with the image rows that are at most `reach` rows before
        one, or before the end, and of all other image rows."""
        if reach not in self._flat:
            whole = self.whole.layout
            image = whole.unpack(self.rows.visual)
            text = ~image if whole.valid is None else ~image & whole.valid
            near, ahead = text, pad(text, (0, reach), value=True)
            for i in range(1, reach + 1):
                near = near | ahead[:, i : i + whole.width]
            near, far = (image & near) | text, image & ~near
            self._flat[reach] = near.flatten().nonzero()[:, 0], far.flatten().nonzero()[:, 0]
        return self._flat[reach]


def taken(table: Tensor, columns: Tensor) -> Tensor:
    """`(B, T, ...)`, or `(1, T, ...)` for all samples, at the columns `(B, W)` of each sample."""
    samples = torch.arange(len(columns), device=table.device)[:, None]
    return table.expand(len(columns), *table.shape[1:])[samples, columns]
