"""The engine "ray" on a real Ray of two processes: the answers of "local", also when a process is killed."""

import importlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from deltaprune import DTP, NoPruning, UserError
from deltaprune.analysis import sensitivity
from deltaprune.benchmarks import Benchmark, Protocol, Sample, Sampled, mean_of_skills
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.evaluate import evaluate
from deltaprune.evaluate.engines import Place
from deltaprune.evaluate.engines import ray as engine
from deltaprune.evaluate.engines import registry as engines
from deltaprune.evaluate.measuring import run_on
from deltaprune.evaluate.units import Answer, Unit, group
from deltaprune.evaluate.work import Worker

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'deltaprune[ray]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
RULES = Protocol(
    message=lambda sample: sample.question,
    grade=lambda sample, prediction: float(prediction == sample.answer),
    decoding=Sampled(max_new_tokens=4, temperature=0.7),
    summary=mean_of_skills,
    source="this test",
)
N = 24


@dataclass(frozen=True)
class Toy(Benchmark):
    """A fixed list of samples."""

    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    split: ClassVar[str] = "test"
    protocols: ClassVar[Mapping[str, Protocol]] = {"official": RULES}
    items: tuple[Sample, ...]

    def samples(self, split: str, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        return islice(self.items, limit)


@dataclass(frozen=True)
class Deadly:
    """Draws a picture, and kills its process the first few times."""

    sample: Sample
    folder: Path
    deaths: int

    def __call__(self) -> Image.Image:
        before = len(list(self.folder.iterdir()))
        if before < self.deaths:
            (self.folder / f"{before}-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.sample.image


@dataclass(frozen=True)
class Broken:
    """Draws no picture."""

    error: BaseException

    def __call__(self) -> Image.Image:
        raise self.error


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two CPUs, however many there are."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the other processes cannot import it
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy(tuple(Scenes().samples("test", 0, N)))


def with_load(toy: Toy, at: int, load) -> Toy:
    """The same questions, with another way to the picture of the at-th."""
    about = toy.items[at].image_id
    return Toy(tuple(replace(each, load=load) if each.image_id == about else each for each in toy.items))


run = partial(evaluate, methods=["dtp:keep=0.5"], batch_size=1)
on_two = partial(run, engine="ray", place=Place(workers=2))


@pytest.mark.slow
def test_a_killed_process_loses_and_doubles_nothing(tiny, toy, cluster, tmp_path, caplog):
    graves = tmp_path / "graves"
    graves.mkdir()
    deadly = with_load(toy, N // 2, Deadly(toy.items[N // 2], graves, deaths=1))
    seen: list[tuple[int, int]] = []
    rows = on_two(*tiny, deadly, out=tmp_path / "ray", on_progress=lambda done, total: seen.append((done, total)))
    calm = run(*tiny, toy, out=tmp_path / "local")
    (grave,) = graves.iterdir()
    assert f"Ray process {grave.name.partition('-')[2]} died" in caplog.text
    assert [row.records for row in rows] == [row.records for row in calm]
    lines = [sorted((tmp_path / name / "answers.jsonl").read_bytes().splitlines()) for name in ("ray", "local")]
    assert lines[0] == lines[1]
    assert Counter(lines[0]).most_common(1)[0][1] == 1
    assert seen[-1] == (2 * N, 2 * N)
    assert len(seen) == 1 + len(list(group(toy.items, 1)))


def answers(engine: str, *job) -> dict[tuple[int, str], Answer]:
    """All answers by method and question; none comes twice."""
    given = []
    for finished in engines[engine](*job, Place()):
        given += [(done.method, answer) for done in finished for answer in done.answers]
    by_name = {(method, answer.id): answer for method, answer in given}
    assert len(by_name) == len(given)
    return by_name


def test_answers_and_errors_are_those_of_local(tiny, toy, cluster):
    """One picture is broken, another has been answered under one of the methods."""
    broken = with_load(toy, 6, Broken(UserError("The picture 'a.png' is damaged: download it again.")))
    worker = Worker(*tiny, RULES, (NoPruning(), DTP(keep=0.5)))
    units = [Unit(samples, (1,) if i == 2 else (0, 1)) for i, samples in enumerate(group(broken.items, 6))]
    there, here = (answers(name, worker, units) for name in ("ray", "local"))
    assert there == here
    assert sum(answer.error is None for answer in here.values()) > 12
    told = {answer.error for answer in here.values() if answer.error is not None}
    assert told == {"UserError: The picture 'a.png' is damaged: download it again"}


@pytest.mark.slow
def test_measurements_are_those_of_this_process(tiny, toy, cluster):
    vlm, processor = tiny
    inputs = [processor(images=each.image, text=each.question) for each in toy.items[:4]]
    there = sensitivity(vlm, inputs, 0.25, (1, 2), (3, 4), run=run_on("ray", Place(workers=2)))
    here = sensitivity(vlm, inputs, 0.25, (1, 2), (3, 4))
    np.testing.assert_allclose(there.js, here.js, rtol=1e-6, atol=1e-9)
    assert there.samples == here.samples == 4


@pytest.mark.slow
def test_what_breaks_a_run_arrives_as_it_was_raised(tiny, toy, cluster):
    broken = with_load(toy, 0, Broken(LookupError("no such leaf")))
    with pytest.raises(LookupError, match=r"^no such leaf$"):
        run(*tiny, broken, engine="ray", place=Place(workers=1))


@pytest.mark.slow
def test_a_unit_that_kills_every_process_ends_the_run(tiny, toy, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "RETRIES", 1)
    deadly = with_load(toy, 0, Deadly(toy.items[0], tmp_path, deaths=100))
    with pytest.raises(UserError, match=r"kept dying .*smaller --batch-size; with --out"):
        run(*tiny, deadly, engine="ray", place=Place(workers=1))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_a_node_without_the_users_code(tiny, toy, cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def load(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    foreign = with_load(toy, 0, importlib.import_module("only_here").load)
    with pytest.raises(UserError, match=r"No module named 'only_here'.*install the same deltaprune"):
        run(*tiny, foreign, engine="ray", place=Place(workers=1))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (Place(workers=3), "3 workers do not fit the Ray cluster: it has 2 CPUs"),
        (Place(workers=0), "0 workers do not fit"),
        (Place(address="10.0.0.1:6379"), "connected to a Ray cluster already: leave the address out"),
    ],
)
def test_a_place_that_cannot_be(tiny, toy, cluster, place, message):
    with pytest.raises(UserError, match=message):
        run(*tiny, toy, engine="ray", place=place)
    assert ray.is_initialized()


def test_a_gpu_needs_a_cluster_with_gpus(tiny, toy, cluster):
    with pytest.raises(UserError, match="has no GPU: take another device"):
        run(*tiny, toy, engine="ray", place=Place(device="cuda"))


def test_without_ray_installed(tiny, toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    worker = Worker(*tiny, RULES, (NoPruning(),))
    with pytest.raises(UserError, match=r"pip install 'deltaprune\[ray\]'"):
        next(engine.on_ray(worker, [Unit(toy.items, (0,))], Place()))
    assert list(engine.on_ray(worker, [], Place())) == []
