"""The engine of many processes: the model is a deployment of Ray Serve, one replica a CPU or GPU.

Requests about one picture go to one replica, which has its prefix: that is a request router of Ray Serve's own kind. A
replica that dies is started again by Ray; what it was answering is asked again, and goes on where it was.
"""

import logging
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray import serve
from ray.exceptions import ActorUnavailableError, NodeDiedError, RayActorError, RayTaskError, WorkerCrashedError
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from deltaprune.errors import UserError, in_words
from deltaprune.serve.engine import LocalEngine
from deltaprune.serve.errors import ApiError
from deltaprune.serve.jobs import Job, Piece, Reading
from deltaprune.serve.metrics import Metrics
from deltaprune.serve.settings import Settings

APP = "deltaprune"
TRIES = 5  # of one request: one that kills its replica every time ends in an error
DEAD = (RayActorError, ActorUnavailableError, NodeDiedError, WorkerCrashedError)

_LOG = logging.getLogger("deltaprune.serve")


@dataclass(frozen=True)
class Source:
    """What a replica loads: every node must have the files.

    Attributes:
        model: a known name, a folder or a checkpoint.
        options: further arguments of `load`.
        plan: a plan file, or None.
        plugins: files that register what methods name.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    plan: str | None = None
    plugins: tuple[str, ...] = ()


class ImageRouter(RequestRouter):
    """Ranks the replicas for each picture by a hash of both, so that a picture keeps its replica as others come and go.

    The next in rank answers where the first is busy; a prompt without a picture goes to the replica with the fewest.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See `RequestRouter`."""
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # where all are busy, do not ask again at once
        digest = next((each.digest for each in pending_request.args if isinstance(each, Job)), None)
        if digest is None:
            return [candidate_replicas]
        return [[each] for each in sorted(candidate_replicas, key=lambda each: rank(digest, each.replica_id.unique_id))]


def rank(digest: str, replica: str) -> bytes:
    """Where a replica is in the order for a picture."""
    return sha256(f"{digest} {replica}".encode()).digest()


class Replica:
    """One process with the whole model."""

    def __init__(self, source: Source, settings: Settings):
        import torch

        from deltaprune.load import load
        from deltaprune.plugins import load_plugin

        torch.set_num_threads(1)
        for file in source.plugins:
            load_plugin(file)
        vlm, processor = load(source.model, **source.options)
        if source.plan is not None:
            from deltaprune.calibrate import load_plan

            vlm.use_plan(load_plan(source.plan, vlm.config))
        self.engine = LocalEngine(vlm, processor, settings, Metrics())
        self.engine.start()

    async def answer(self, job: Job) -> AsyncGenerator[Reading | Piece | ApiError, None]:
        """What the local engine answers; an error is the last item."""
        try:
            async with aclosing(self.engine.answer(job)) as answer:
                async for told in answer:
                    yield told
        except ApiError as error:
            yield error


class RayEngine:
    """See `Engine`.

    Args:
        source: what replicas load.
        settings: limits, of each replica.
        replicas: how many.
        address: of a Ray cluster; None takes the one that this process is in, else starts one here.
        gpu: whether a replica takes a GPU.
    """

    def __init__(
        self, source: Source, settings: Settings, replicas: int = 1, address: str | None = None, gpu: bool = False
    ):
        self.source, self.settings, self.replicas, self.address, self.gpu = source, settings, replicas, address, gpu
        self._own = False
        self._handle: Any = None

    def start(self) -> None:
        """Start the replicas, unless that is done, and wait until they have loaded the model.

        Raises:
            UserError: there is no such cluster, or a replica cannot start.
        """
        if self._handle is not None:
            return
        try:
            self._connect()
            router: Any = ImageRouter
            deployment: Any = serve.deployment(
                Replica,
                name="model",
                num_replicas=self.replicas,
                max_ongoing_requests=self.settings.queue + self.settings.max_rows,
                ray_actor_options={"num_cpus": 1, "num_gpus": int(self.gpu)},
                request_router_config=RequestRouterConfig(request_router_class=router),
                health_check_period_s=2,
                graceful_shutdown_timeout_s=self.settings.grace,
            )
            app = deployment.bind(self.source, self.settings)
            self._handle = serve.run(app, name=APP, route_prefix=None).options(method_name="answer", stream=True)
        except (RuntimeError, OSError, ValueError, ConnectionError) as error:
            raise UserError(f"The replicas did not start ({in_words(error)}): see Ray's logs.") from error

    def _connect(self) -> None:
        if not ray.is_initialized():
            address = self.address or os.environ.get("RAY_ADDRESS") or "local"
            own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
            parts = urlsplit(address if "://" in address else f"//{address}")
            if parts.hostname and parts.port:  # without a listener, Ray would try for long and then end this process
                socket.create_connection((parts.hostname, parts.port), timeout=10).close()
            ray.init(address, logging_level=logging.WARNING, log_to_driver=False, namespace=APP, **own)
            self._own = True
        serve.start(http_options={"location": "NoServer"})

    def stop(self) -> None:
        """Finish what runs, and stop the replicas; a cluster that was started here ends."""
        serve.delete(APP)
        if self._own:
            serve.shutdown()
            ray.shutdown()

    async def answer(self, job: Job) -> AsyncGenerator[Reading | Piece, None]:
        """See `Engine.answer`. What a dead replica has sent is not sent again."""
        if job.seed is None:
            job = replace(job, seed=random.getrandbits(62))  # a second try draws as the first did
        told: Counter[int | None] = Counter()
        for _ in range(TRIES):
            again: Counter[int | None] = Counter()
            try:
                async with aclosing(self._ask(job)) as answer:
                    async for each in answer:
                        which = each.index if isinstance(each, Piece) else None
                        again[which] += 1
                        if again[which] > told[which]:
                            told[which] += 1
                            yield each
                return
            except DEAD as error:
                _LOG.warning("A replica died (%s): its request is asked again", in_words(error))
        raise ApiError(500, f"The request was given up after {TRIES} replicas died on it: the log says why.")

    async def _ask(self, job: Job) -> AsyncGenerator[Reading | Piece, None]:
        """One replica's answer; closed early, it is cancelled there."""
        response = self._handle.remote(job)
        done = False
        try:
            async for each in response:
                if isinstance(each, ApiError):
                    done = True
                    raise each
                yield each
            done = True
        except RayTaskError as error:
            done = True
            _LOG.error("A replica failed: %s", error)
            raise ApiError(500, "A replica failed on this request: the log says why.") from error
        finally:
            if not done:
                response.cancel()


def plugin_files() -> tuple[str, ...]:
    """The files that `--plugin` has loaded here."""
    from deltaprune.plugins import plugins

    return tuple(str(Path(str(module.__file__)).resolve()) for module in plugins())
