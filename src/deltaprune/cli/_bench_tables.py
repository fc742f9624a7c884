"""The tables of `deltaprune bench`."""

from collections.abc import Sequence

from deltaprune.cli._grid import Grid
from deltaprune.cli._tables import JsonRow, table

COMPONENTS = ("vision", "projector", "linear", "conv", "scan", "other")


def bench_table(document: Sequence[JsonRow]) -> Grid:
    """Milliseconds by part, a row for each method and peer of one batch size; the last entry holds the ratios."""
    *rows, last = document
    first = rows[0]
    about = (
        f"{_head(first)}, batch {first['batch']}, {first['tokens']} tokens, scan by {first['kernel']} · ms, medians · "
        "±: half the interquartile range of the prefill · decode: one token · choose: score and select, share of the "
        f"prefill · ratio: of the prefill to {first['method']}'s, within a round · prefill floor: the prefill over its "
        f"matrix products alone · decode floor: decode over reading the weights ({first['weights_ms']:.2f} ms) · "
        f"short floor: a prefill of 23 rows without a picture ({first['short_ms']:.2f} ms) over the longer of its "
        f"products and of reading the weights ({first['short_floor_ms']:.2f} ms) · peak: memory, weights included"
    )
    lines = []
    for row in rows:
        label = row["method"] if row["kernel"] == first["kernel"] else row["kernel"]
        name = f"{label}, CUDA graph" if row["graphed"] else label
        ratio, products = last["ratios"].get(f"{label}/{first['method']}", 1), last["ratios"][f"{label}/products"]
        cells = (
            f"{row['vision_ms']:.2f}",
            f"{row['prefill_ms']:.2f}",
            f"{100 * row['spread']['prefill']:.1f}%",
            f"{row['decode_ms']:.2f}",
            f"{row['total_ms']:.2f}",
            f"{100 * row['choose_share']:.2f}%",
            f"{ratio:.3f}",
            f"{products:.2f}",
            f"{row['decode_ms'] / row['weights_ms']:.2f}",
            f"{row['short_ms'] / row['short_floor_ms']:.2f}",
            f"{row['peak_bytes'] / 1e9:.2f} GB",
        )
        lines.append([name, *cells])
    header = [
        "method",
        "vision",
        "prefill",
        "±",
        "decode",
        "total",
        "choose",
        "ratio",
        "prefill floor",
        "decode floor",
        "short floor",
        "peak",
    ]
    return table(about, header, lines)


def components_table(rows: Sequence[JsonRow]) -> Grid:
    """Milliseconds by component of each method."""
    about = (
        f"{_head(rows[0])}, batch {rows[0]['batch']} · ms, medians: each component alone on the rows it gets · "
        "linear: the LM's matrix products · other: norms, residual adds, pruning, launches: the prefill less the three"
    )
    lines = [[row["method"], *(f"{row['components'][part]:.2f}" for part in COMPONENTS)] for row in rows]
    return table(about, ["method", *COMPONENTS], lines)


def growth_table(document: Sequence[JsonRow]) -> Grid:
    """Cost against tokens."""
    *rows, last = document
    about = (
        f"{_head(rows[0])}, no pruning, scan by {rows[0]['kernel']} · ms, medians · decode: one token after so many · "
        "growth: time over that of the length before, within a round · peak: memory, weights included"
    )
    ratios = ["", *(f"{value:.2f}" for value in last["ratios"].values())]
    lines = []
    for row, grown in zip(rows, ratios, strict=True):
        around, peak = f"{100 * row['spread']['prefill']:.1f}%", f"{row['peak_bytes'] / 1e9:.3f} GB"
        prefill, decode = f"{row['prefill_ms']:.2f}", f"{row['decode_ms']:.2f}"
        lines.append([str(row["tokens"]), prefill, around, decode, grown, peak])
    return table(about, ["tokens", "prefill", "±", "decode", "growth", "peak"], lines, n_left=0)


def questions_table(document: Sequence[JsonRow]) -> Grid:
    """Many questions about one image."""
    *rows, last = document
    about = (
        f"{_head(rows[0])}, {rows[0]['tokens']} tokens with one question, vision not counted · ms, medians · full: "
        "every question with its image, n times one measured prefill · image: the image alone · each: one further "
        "question · packed: all questions in one batch · faster: full over image and packed"
    )
    lines = []
    for row in rows:
        faster = last["ratios"][f"{row['method']} {row['questions']}"]
        times = (f"{row[part]:.2f}" for part in ("full_ms", "prefix_ms", "each_ms", "packed_ms"))
        lines.append([row["method"], str(row["questions"]), *times, f"{faster:.2f}x"])
    return table(about, ["method", "n", "full", "image", "each", "packed", "faster"], lines)


def _head(row: JsonRow) -> str:
    """What ran where."""
    return f"{row['name']}, {row['dtype']} on {row['device']}"
