"""The engine "ray" without a cluster to join: it starts one, and ends it however the run ends."""

import socket

import pytest

from deltaprune import UserError
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.evaluate import evaluate
from deltaprune.evaluate.engines import Place

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'deltaprune[ray]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.mark.slow
def test_ctrl_c_ends_the_cluster_that_the_run_started(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    inside = []

    def press(done: int, total: int) -> None:
        inside.append(ray.is_initialized())
        if 0 < done < total:
            raise KeyboardInterrupt

    job = {"limit": 12, "max_new_tokens": 2, "batch_size": 1, "out": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        evaluate(*tiny, Scenes(), ["none"], engine="ray", on_progress=press, **job)
    assert inside == [False, True]
    assert not ray.is_initialized()
    assert 0 < len((tmp_path / "answers.jsonl").read_text().splitlines()) < 12
    (resumed,) = evaluate(*tiny, Scenes(), ["none"], **job)
    assert resumed.n == 12


def closed_port() -> int:
    """One at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (f"127.0.0.1:{closed_port()}", "ConnectionRefusedError"),
        (f"ray://127.0.0.1:{closed_port()}", "ConnectionRefusedError"),
        ("127.0.0.1:six", "ValueError"),
        ("somewhere", "ValueError"),
    ],
)
def test_no_cluster_at_the_address(tiny, address, why):
    refusal = rf"No Ray cluster at '{address}' can be joined \({why}: .*`ray start` there, .* or leave the address out"
    with pytest.raises(UserError, match=refusal):
        evaluate(*tiny, Scenes(), ["none"], limit=1, engine="ray", place=Place(address=address))
    assert not ray.is_initialized()


def test_the_address_of_the_environment(tiny, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port()}")
    with pytest.raises(UserError, match=r"No Ray cluster at '127\.0\.0\.1"):
        evaluate(*tiny, Scenes(), ["none"], limit=1, engine="ray")
