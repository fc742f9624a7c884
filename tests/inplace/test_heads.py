"""Scores of layers with heads: what the last row reads, and what a state knows, by the layers' own recurrences."""

import pytest
import torch
from cuts import pruned
from families import make, one
from torch import Tensor
from torch.nn.functional import normalize
from transformers.models.nemotron_h.modeling_nemotron_h import mamba2_chunk_scan
from transformers.models.qwen3_5.modeling_qwen3_5 import torch_recurrent_gated_delta_rule

from deltaprune.methods import parse
from deltaprune.rows import Rows
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.scores.readout import ReadoutNorm
from deltaprune.scores.retention import Retention
from deltaprune.scores.stateful import Stateful
from deltaprune.trace import Trace

pytestmark = pytest.mark.usefixtures("unchecked")
n, H, G, N, P = 9, 4, 2, 5, 3
IMAGE = 6  # rows 1 to 6 are visual


def rows(n: int = n, image: int = IMAGE) -> Rows:
    visual = torch.zeros(n, dtype=torch.bool)
    visual[1 : 1 + image] = True
    return Rows.mixed([torch.zeros(n, 2)], [visual])


def trace(erases: bool, n: int = n) -> Trace:
    noise = torch.Generator().manual_seed(0)
    key, query = (torch.randn(n, G, N, generator=noise) for _ in range(2))
    if erases:
        key, query = normalize(key, dim=-1), normalize(query, dim=-1)
    told = {
        "key": key.flatten(1),
        "query": query,
        "value": torch.randn(n, H * P, generator=noise),
        "delta": torch.rand(n, H, generator=noise),
        "decay": -torch.rand(n, H, generator=noise),
    }
    told["step"] = told["delta"].mean(1)
    return Trace(told | ({"erase": told["delta"]} if erases else {}))


def run(told: Trace, part: slice, value: Tensor, query: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What rows read of values `(m, H, w)`, `(m, H, w)`, and the state `(H, N, w)` behind them, by transformers."""
    wide = [told[role][part].unflatten(1, (G, -1)).repeat_interleave(H // G, 1)[None] for role in ("key", "query")]
    k, q = wide[0], wide[1] if query is None else query
    delta, decay = told["delta"][part][None], told["decay"][part][None]
    if "erase" in told:
        out, state = torch_recurrent_gated_delta_rule(q, k, value[None], decay, delta, None, output_final_state=True)
        assert state is not None
        return out[0] * N**0.5, state[0]
    a = torch.tensor([-0.5, -1.0, -2.0, -3.0])
    out, state = mamba2_chunk_scan(value[None], delta, a, k, q, 4, return_final_states=True)
    return out[0], state[0].mT


def unified(erases: bool) -> Trace:
    """As above; in Mamba-2 the decay is that of `run`."""
    told = trace(erases)
    if erases:
        return told
    decay = told["delta"] * torch.tensor([-0.5, -1.0, -2.0, -3.0])
    return Trace({**told.rows, "decay": decay})


def query_of(told: Trace) -> Trace:
    """`run` takes the query as `key` is."""
    return Trace({**told.rows, "query": told["query"].flatten(1)})


kinds = pytest.mark.parametrize("erases", [True, False], ids=["gated_delta", "mamba2"])


@kinds
def test_what_the_last_row_reads(erases: bool) -> None:
    """Of values that are the rows' own unit vectors."""
    told = unified(erases)
    out, _ = run(query_of(told), slice(0, n), torch.eye(n)[:, None].expand(-1, H, -1))
    got = HiddenAttention()(rows(), told)
    torch.testing.assert_close(got, out[-1].abs().mean(0), rtol=1e-5, atol=1e-6)


@kinds
def test_what_the_state_knows(erases: bool) -> None:
    """R_imp from the last state, R_uni from the states before and behind each row, run anew for each."""
    told, image = unified(erases), slice(1, 1 + IMAGE)
    value = told["value"].unflatten(1, (H, P))
    given = value if erases else value * told["delta"][..., None]

    def state(end: int) -> Tensor:
        if end == image.start:
            return torch.zeros(H, N, P)
        return run(query_of(told), slice(image.start, end), value[image.start : end])[1]

    def read(role: str, j: int, known: Tensor) -> Tensor:
        probe = told[role][j].unflatten(0, (G, -1)) if role == "key" else told[role][j]
        return (probe.repeat_interleave(H // G, 0)[:, None] @ known).flatten()

    def psi(a: Tensor, b: Tensor) -> Tensor:
        return (1 - torch.nn.functional.cosine_similarity(a, b, 0)) / 2

    wanted, last, zero = [], state(image.stop), torch.tensor(0.5)
    for j in range(image.start, image.stop):
        turned = []
        for t in range(j, min(j + 4, image.stop)):
            pair = read("query", t, state(j + 1)), read("query", t, state(j))
            turned.append(zero if j == image.start else psi(*pair))
        known = 1 - psi(read("key", j, last), given[j].flatten())
        wanted.append(0.9 * known + 0.1 * torch.stack(turned).mean())
    got = Retention()(rows(), told)
    torch.testing.assert_close(got[image], torch.stack(wanted), rtol=1e-4, atol=1e-5)
    assert set(got[: image.start].tolist() + got[image.stop :].tolist()) == {2.0}


@kinds
@pytest.mark.parametrize("image", [63, 64, 65, 150])
def test_several_chunks_of_rows(erases: bool, image: int) -> None:
    """Against the recurrence row by row, of an image that ends at, before and behind a chunk's end."""
    told, length = trace(erases, image + 3), image + 3
    key = told["key"].unflatten(1, (G, N)).repeat_interleave(H // G, 1)
    query = told["query"].repeat_interleave(H // G, 1)
    value, weight, kept = told["value"].unflatten(1, (H, P)), told["delta"], told["decay"].exp()
    erase = told["erase"] if erases else torch.zeros_like(weight)

    def after(j: int, state: Tensor) -> Tensor:
        k, e, w, g = key[j], erase[j, :, None, None], weight[j, :, None, None], kept[j, :, None, None]
        held = torch.einsum("hn,hnp->hp", k, state)
        return g * (state - e * k[:, :, None] * held[:, None]) + w * k[:, :, None] * value[j, :, None]

    def read(probe: Tensor, state: Tensor) -> Tensor:
        return torch.einsum("hn,hnp->hp", probe, state).flatten()

    def psi(a: Tensor, b: Tensor) -> Tensor:
        return (1 - normalize(a, dim=0) @ normalize(b, dim=0)) / 2

    p, paid = query[-1], []
    for j in range(length - 1, -1, -1):
        along = (p * key[j]).sum(-1)
        paid.insert(0, (along * weight[j]).abs().mean())
        p = kept[j, :, None] * (p - (erase[j] * along)[:, None] * key[j])
    torch.testing.assert_close(HiddenAttention()(rows(length, image), told), torch.stack(paid), rtol=1e-4, atol=1e-7)
    states, wanted = [torch.zeros(H, N, P)], []
    for j in range(1, 1 + image):
        states.append(after(j, states[-1]))
    for j in range(1, 1 + image):
        turned = [
            psi(read(query[t], states[j]), read(query[t], states[j - 1])) for t in range(j, min(j + 4, 1 + image))
        ]
        given = value[j] if erases else value[j] * weight[j, :, None]
        known = 1 - psi(read(key[j], states[-1]), given.flatten())
        wanted.append(0.9 * known + 0.1 * torch.stack(turned).mean())
    got = Retention()(rows(length, image), told)[1 : 1 + image]
    torch.testing.assert_close(got, torch.stack(wanted), rtol=1e-5, atol=1e-5)


@kinds
def test_what_the_question_finds(erases: bool) -> None:
    told = unified(erases)
    text, key = [0, 7, 8], told["key"].unflatten(1, (G, N))
    for j, got in enumerate(Stateful()(rows(), told).tolist()):
        found = [abs(float(told["query"][t, g] @ key[j, g])) for t in text for g in range(G)]
        assert got == pytest.approx(sum(found) / len(found) * float(told["step"][j]), rel=1e-5)
    norms = ReadoutNorm()(rows(), told)
    torch.testing.assert_close(norms, told["query"].square().sum((1, 2)).sqrt())


@pytest.mark.parametrize("name", ["qwen3_5", "nemotron_h_omni", "llava+next", "llava+bamba"])
@pytest.mark.parametrize("method", ["dtp:score=hidden_attention", "dtp:score=retention", "dtp:score=stateful", "vcola"])
def test_in_place(name: str, method: str) -> None:
    plan = ",early=3,late=none" if method.startswith("dtp") else ":after=3,late=none"
    _, logits, target = pruned(make(name), parse(method + plan), one(name))
    assert [kept.counts for kept in target.kept] == [(8,)]
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("erases", [False, True])
def test_a_window_ends_with_the_image(erases: bool) -> None:
    """A wider one is no other, and takes no more memory: its width is a number in a method's text."""
    told = trace(erases)
    wanted = Retention(0.5, IMAGE)(rows(), told)
    torch.testing.assert_close(Retention(0.5, 10**15)(rows(), told), wanted, rtol=0, atol=0)
