"""The order in which a layer runs rows when it treats visual rows and text rows differently."""

import torch
from jaxtyping import Int
from torch import Tensor

from deltaprune.rows import Rows

Index = slice | Int[Tensor, "_"]


def phases(rows: Rows) -> list[tuple[bool, Index, tuple[int, ...]]]:
    """(visual?, rows, how many of each sample) of the i-th run of every sample, i = 0, 1, ..., without empty phases."""
    runs = [rows.runs(b) for b in range(len(rows.lengths))]
    starts, found = [start for start, _ in rows.spans], []
    for i in range(max(map(len, runs), default=0)):
        lengths = tuple(each[i][1] if i < len(each) else 0 for each in runs)
        spans = [(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        starts = [end for _, end in spans]
        spans = [span for span in spans if span[0] < span[1]]
        if spans:
            one = len(spans) == 1
            index = slice(*spans[0]) if one else torch.cat([torch.arange(*s, device=rows.x.device) for s in spans])
            found.append((i % 2 == 0, index, lengths))
    return found


def places(index: Index, device: torch.device) -> Int[Tensor, "_"]:
    """An index as numbers."""
    return torch.arange(index.start, index.stop, device=device) if isinstance(index, slice) else index
