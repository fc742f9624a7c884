"""A worker that travels: nothing is lost, and a receiver reads the bytes where they lie."""

import pickle

import numpy as np
import pytest
import torch

from deltaprune import DTP, VLM
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.evaluate.engines._parcel import Flat, Parcel
from deltaprune.evaluate.units import Unit
from deltaprune.evaluate.work import Worker


@pytest.fixture(scope="module")
def worker(tiny) -> Worker:
    return Worker(*tiny, Scenes().rules, (DTP(keep=0.5),), batch_size=3, prefix=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5, 3)], ids=str)
def test_a_tensor_comes_back(dtype, shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(100).to(dtype)
    tensor = tensor.mT if tensor.ndim > 1 else tensor
    back = Flat.of(tensor).tensor()
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(back, tensor)


def test_bytes_off_the_boundary_are_copied():
    room = np.zeros(64 + 64 + 40, dtype=np.uint8)
    start = -room.ctypes.data % 64
    for offset, shared in ((0, True), (8, False)):
        data = room[start + offset : start + offset + 40]
        data.flags.writeable = False
        tensor = Flat(data, torch.float32, (10,)).tensor()
        assert tensor.data_ptr() % 64 == 0
        assert (tensor.data_ptr() == data.ctypes.data) is shared


def test_a_worker_comes_back(worker):
    back = Parcel.of(worker).worker(torch.device("cpu"))
    assert back.vlm.fingerprint == worker.vlm.fingerprint
    assert back.vlm.config == worker.vlm.config
    assert not back.vlm.model.training
    assert not any(weight.requires_grad for weight in back.vlm.model.parameters())
    assert (back.methods, back.batch_size, back.prefix) == (worker.methods, 3, False)
    unit = Unit(tuple(Scenes().samples("test", 0, 4)), (0,))
    assert [each.answers for each in back.answer(unit)] == [each.answers for each in worker.answer(unit)]


def test_weights_stay_out_of_the_pickle(worker):
    parcel, buffers = Parcel.of(worker), []
    within = pickle.dumps((parcel.config, parcel.weights), protocol=5, buffer_callback=buffers.append)
    weights = sum(weight.nbytes for weight in worker.vlm.model.parameters())
    assert sum(buffer.raw().nbytes for buffer in buffers) >= weights > 10 * len(within)


def test_packing_leaves_the_worker_as_it_was(worker):
    before = {name: weight.data_ptr() for name, weight in worker.vlm.model.named_parameters()}
    parcel = Parcel.of(worker)
    assert {name: weight.data_ptr() for name, weight in worker.vlm.model.named_parameters()} == before
    assert all(parcel.weights[name].data.ctypes.data == address for name, address in before.items())
    assert isinstance(worker.vlm, VLM)
