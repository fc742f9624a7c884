"""What the slow, written-out references share: plain Python numbers, one at a time."""

import math

import torch

from deltaprune.rows import Rows

Row = list[float]


def cosine(a: Row, b: Row) -> float:
    lengths = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(p * q for p, q in zip(a, b, strict=True)) / lengths if lengths else 0.0


def best_first(values: list[float], places: range | list[int]) -> list[int]:
    """`places` by descending value, ties by place."""
    return sorted(places, key=lambda j: (-values[j], j))


def rows(n: int, seed: int, tied: bool = False, d: int = 16) -> torch.Tensor:
    """Random rows. Tied ones are few directions of +-1 (length 4, so every cosine is exact), each many times over."""
    draw = torch.Generator().manual_seed(seed)
    if not tied:
        return torch.randn(n, d, generator=draw)
    directions = torch.randint(0, 2, (3, d), generator=draw) * 2.0 - 1
    return directions[torch.randint(0, 3, (n,), generator=draw)]


def packed(shapes: list[tuple[int, int]], seed: int, tied: bool = False) -> Rows:
    """Samples of (visual, text) lengths; keys 0, 1, ..."""
    image = [rows(v, 100 * seed + i, tied) for i, (v, _) in enumerate(shapes)]
    text = [rows(t, 100 * seed + 50 + i, tied) for i, (_, t) in enumerate(shapes)]
    return Rows.pack(image, text, torch.arange(len(shapes)))


def mixed(h: int) -> int:
    """The 31-bit hash behind `Random`, on one number."""
    h = ((h ^ (h >> 16)) * 0x45D9F3B) % 2**31
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) % 2**31
    return h ^ (h >> 16)


def chance(seed: int, key: int, origin: int) -> float:
    """What `Random` gives one row."""
    return (mixed(mixed(mixed(seed % 2**31) ^ key % 2**31) + origin) >> 7) / 2**24
