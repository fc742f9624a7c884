"""Pages of a mapped file leave the process, and nothing else does."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deltaprune.checkpoints.files import read_tensors
from deltaprune.checkpoints.pages import MAPS, MappedFiles

MB = 2**20

pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="pages are given back on Linux only")


def resident_megabytes(file: Path) -> float:
    """How much of a mapped file counts as this process's memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total / 1024


@pytest.mark.parametrize("name", ["big.pt", "big.safetensors"])
def test_a_mapped_tensor_is_given_back_and_can_be_read_again(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    tensors = {"a": torch.arange(4 * MB, dtype=torch.float32), "b": torch.ones(MB)}
    save_file(tensors, file) if name.endswith("safetensors") else torch.save(tensors, file)
    held = read_tensors(file)
    total = held["a"].sum(), held["b"].sum()
    assert resident_megabytes(file) > 19
    MappedFiles([file]).give_back(held["a"])
    assert resident_megabytes(file) < 5
    assert (held["a"].sum(), held["b"].sum()) == total


def test_memory_that_is_no_file_is_left_alone(tmp_path: Path) -> None:
    save_file({"a": torch.ones(MB)}, tmp_path / "a.safetensors")
    own = torch.ones(MB)
    MappedFiles([tmp_path / "a.safetensors"]).give_back(own)
    assert own.eq(1).all()
