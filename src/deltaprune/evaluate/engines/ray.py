"""A Ray cluster: one process per GPU or CPU, each with the whole model; units go to whichever process is free.

The model is put into Ray's object store once; processes of one machine that compute on the CPU share that one copy. Ray
restarts a process that died and repeats its units. One process answers all questions of a unit, so the answers equal
those of the engine "local".
"""

import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import torch

from deltaprune.errors import UserError, in_words
from deltaprune.evaluate.engines import Answers, Place, registry
from deltaprune.evaluate.engines._parcel import Parcel
from deltaprune.plugins import plugins

RESTARTS = 20  # of one process: in a long run machines may come and go
RETRIES = 3  # of one unit: a unit that kills its process every time ends the run
IN_FLIGHT = 2  # units per process: the current one and the next
PATIENCE = 60  # seconds without news before a warning

_LOG = logging.getLogger("deltaprune.evaluate")


@registry.register("ray")
def on_ray(worker: Answers, units: Sequence[Any], place: Place) -> Generator[list[Any], None, None]:
    """See `Engine`. Each process takes one CPU and computes with one thread; on device cuda it takes a GPU.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, it has no GPU where one is needed, or fewer
            CPUs or GPUs than `place.workers`, or the same unit killed its process again and again.
    """
    if not units:
        return
    ray = _import_ray()
    with _connected(ray, place.address):
        _send_plugins(ray)
        device = torch.device(place.device or worker.vlm.device)
        n = _processes(ray, place.workers, "GPU" if device.type == "cuda" else "CPU", len(units))
        options = {"num_cpus": 1, "num_gpus": int(device.type == "cuda")}
        start = ray.remote(max_restarts=RESTARTS, max_task_retries=RETRIES, **options)(_Process).remote
        parcel = ray.put(Parcel.of(worker))
        processes = [start(device.type) for _ in range(n)]
        try:
            yield from _hand_out(ray, processes, parcel, units)
        finally:
            for process in processes:
                ray.kill(process)


class _Process:
    """What runs in each process of the cluster.

    The parcel's reference comes with every call, not with the constructor, whose arguments Ray does not keep for a
    restart (ray issue 53727). It comes in a list, so that it is fetched once, not for every call.
    """

    def __init__(self, device: str):
        self.device = torch.device(device)
        self.worker: Answers | None = None

    def start(self, parcel: list[Any]) -> tuple[int, list[Any]]:
        """Unpack the model if that is not done; gives this process's id and no answer."""
        import ray

        if self.worker is None:
            torch.set_num_threads(1)
            received: Parcel = ray.get(parcel[0])
            self.worker = received.worker(self.device)
        return os.getpid(), []

    def answer(self, parcel: list[Any], unit: Any) -> tuple[int, list[Any]]:
        """This process's id, and all that the worker gives of the unit."""
        pid, _ = self.start(parcel)
        assert self.worker is not None
        return pid, list(self.worker.answer(unit))


def _hand_out(ray: ModuleType, processes: Sequence[Any], parcel: Any, units: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield finished units as they come.

    Only a process that has started is given units, so that none waits for one that the cluster has no room for. The
    last units are given out one by one, so that none waits behind another while a process is idle.
    """
    todo, missing = deque(units), len(units)
    starting = {process.start.remote([parcel]): i for i, process in enumerate(processes)}
    working: dict[Any, int] = {}
    pids: dict[int, int] = {}
    while missing:
        arrived, _ = ray.wait([*working, *starting], timeout=PATIENCE)
        if not arrived:
            counts = PATIENCE, len(processes), len(starting)
            _LOG.warning("Nothing came for %d s; of %d Ray processes %d have not started (see `ray status`)", *counts)
            continue
        (task,) = arrived
        started = task in starting
        i = (starting if started else working).pop(task)
        pid, finished = _fetch(ray, task)
        if pids.setdefault(i, pid) != pid:
            _LOG.warning("Ray process %d died; %d took its place, and its questions are asked again", pids[i], pid)
            pids[i] = pid
        width = IN_FLIGHT if len(todo) > len(processes) else 1
        while todo and list(working.values()).count(i) < width:
            working[processes[i].answer.remote([parcel], todo.popleft())] = i
        if not started:
            missing -= 1
            yield finished


def _fetch(ray: ModuleType, task: Any) -> Any:
    """A task's result; an error of its process is raised here unchanged."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, ray.exceptions.RayError):
            raise error.cause from error
        raise UserError(
            f"A Ray process could not read its work ({in_words(error.cause)}): install the same deltaprune, and what "
            "extends it, on every node."
        ) from error
    except ray.exceptions.RayError as error:
        raise UserError(
            f"Ray gave up on a process that kept dying ({in_words(error)}): if it lacked memory, take a smaller "
            "--batch-size; with --out, the same command goes on from here."
        ) from error


def _send_plugins(ray: ModuleType) -> None:
    """Classes of a user's own file are pickled by value: the other processes have not imported it."""
    for module in plugins():
        ray.cloudpickle.register_pickle_by_value(module)


def _import_ray() -> ModuleType:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError("The engine \"ray\" needs Ray: pip install 'deltaprune[ray]'.") from error
    return ray


@contextlib.contextmanager
def _connected(ray: ModuleType, address: str | None) -> Iterator[None]:
    """The cluster this process is in already, or the one at the address or at `RAY_ADDRESS`, or one of its own.

    What the cluster's processes print stays in Ray's logs: Ray would send it to our standard output.
    """
    if ray.is_initialized():
        if address is not None:
            raise UserError("This process is connected to a Ray cluster already: leave the address out.")
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        _check_listening(address)
        ray.init(address, logging_level=logging.WARNING, log_to_driver=False, **own)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No Ray cluster at {address!r} can be joined ({in_words(error)}): run `ray start` there, with the same "
            "RAY_AUTH_MODE as here, or leave the address out to run on this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_listening(address: str) -> None:
    """Check that a host and port accept connections, else an OSError: Ray would retry and then end this process."""
    where = urlsplit(address if "://" in address else f"//{address}")
    if where.hostname and where.port:
        socket.create_connection((where.hostname, where.port), timeout=10).close()


def _processes(ray: ModuleType, wanted: int | None, kind: str, units: int) -> int:
    """How many processes to start: no more than there are CPUs or GPUs, or units.

    Raises:
        UserError: more workers than fit, or none.
    """
    most = int(ray.cluster_resources().get(kind, 0))
    if most == 0:
        raise UserError(f"The Ray cluster has no {kind}: take another device, or add a node that has one.")
    if wanted is not None and not 1 <= wanted <= most:
        raise UserError(f"{wanted} workers do not fit the Ray cluster: it has {most} {kind}s, one per worker.")
    return min(wanted or most, units)
