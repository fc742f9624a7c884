"""The cache of image prefixes is bounded in bytes, and the least recently used goes first."""

import pytest
from PIL import Image

from deltaprune.mllm.processor import Processor
from deltaprune.prefix import ImagePrefix
from deltaprune.serve.prefixes import ImageKey, Prefixes
from deltaprune.vlm import VLM


@pytest.fixture(scope="module")
def prefix(tiny: tuple[VLM, Processor]) -> ImagePrefix:
    return tiny[0].encode_image(Image.new("RGB", (32, 32)))


def key(digest: str, method: str = "none") -> ImageKey:
    return ImageKey(digest, "model", method)


def test_the_oldest_goes_first(prefix: ImagePrefix) -> None:
    cache = Prefixes(3 * prefix.nbytes)
    for name in "abc":
        cache.put(key(name), prefix)
    assert cache.get(key("a")) is prefix  # so that b is the oldest
    cache.put(key("d"), prefix)
    assert [cache.get(key(name)) is not None for name in "abcd"] == [True, False, True, True]
    assert (len(cache), cache.nbytes) == (3, 3 * prefix.nbytes)
    assert cache.get(key("a", "dtp")) is None


def test_one_that_is_put_again_counts_once(prefix: ImagePrefix) -> None:
    cache = Prefixes(2 * prefix.nbytes)
    for _ in range(3):
        cache.put(key("a"), prefix)
    assert (len(cache), cache.nbytes) == (1, prefix.nbytes)


@pytest.mark.parametrize("most", [0, 1000])
def test_one_that_does_not_fit_is_not_kept(prefix: ImagePrefix, most: int) -> None:
    cache = Prefixes(most)
    cache.put(key("a"), prefix)
    assert (len(cache), cache.nbytes) == (0, 0)
    assert prefix.nbytes > 4 * 4 * 64 * 16  # the states of four layers, float32
