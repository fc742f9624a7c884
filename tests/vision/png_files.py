"""PNG files of any kind, written chunk by chunk: PIL writes only some of them."""

import struct
import zlib

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(levels: np.ndarray, kind: int, depth: int, before: bytes = b"") -> bytes:
    """A file of `levels (H, W, C)`, each in 0..2^depth - 1, with the chunks `before` in front of the pixels."""
    height, width, channels = levels.shape
    assert channels == CHANNELS[kind]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    rows = b"".join(b"\0" + _packed(row.reshape(-1), depth) for row in levels)
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def transparent(*levels: int) -> bytes:
    """The chunk that names one transparent colour, at the file's own depth."""
    return chunk(b"tRNS", struct.pack(f">{len(levels)}H", *levels))


def _packed(row: np.ndarray, depth: int) -> bytes:
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = "".join(f"{level:0{depth}b}" for level in row.tolist())
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
