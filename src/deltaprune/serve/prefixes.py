"""The image prefixes that are kept: the least recently used ones go first."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from deltaprune.prefix import ImagePrefix


@dataclass(frozen=True)
class ImageKey:
    """What a prefix belongs to.

    Attributes:
        digest: SHA-256 of the picture's file.
        model: the model's fingerprint.
        method: the method's `repr`.
    """

    digest: str
    model: str
    method: str


class Prefixes:
    """An LRU cache of at most `most` bytes; several threads may use it."""

    def __init__(self, most: int):
        self.most, self.nbytes = most, 0
        self._kept: OrderedDict[ImageKey, tuple[ImagePrefix, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: ImageKey) -> ImagePrefix | None:
        """The prefix, which is now the last to go; None if it is not here."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: ImageKey, prefix: ImagePrefix) -> None:
        """Keep one, in the place of the oldest; one that is larger than `most` is not kept."""
        size = prefix.nbytes
        if size > self.most:
            return
        with self._lock:
            if key in self._kept:
                self.nbytes -= self._kept.pop(key)[1]
            self._kept[key] = prefix, size
            self.nbytes += size
            while self.nbytes > self.most:
                self.nbytes -= self._kept.popitem(last=False)[1][1]
