"""Layers that image rows only write to, against a run written out, and what image rows no longer run through."""

import copy
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import written_out
from cuts import Cuts, generated, kept, pruned
from families import FAMILIES, HYBRIDS, IMAGE, ONE, Part, make, one, prompt
from test_families import GATED, SAME, TWO, family, same
from test_inplace_prompts import cache_without_last, hooks_of, some, written_rows
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.nemotron_h.modeling_nemotron_h import mamba2_chunk_scan
from transformers.models.qwen3_5.modeling_qwen3_5 import torch_recurrent_gated_delta_rule

import deltaprune as dp
from deltaprune.inplace.probes import Probe, mamba2, mixer_of
from deltaprune.inplace.probes.gated_delta import GatedDelta, last_state
from deltaprune.inplace.probes.mamba2 import Mamba2
from deltaprune.inplace.target import Target
from deltaprune.scores.last_attention import LastAttention
from deltaprune.steps import Method, Pass

pytestmark = pytest.mark.usefixtures("unchecked")
EXACT = 1e-5  # of the largest logit, which is about 3


@dataclass(frozen=True)
class Schedule:
    written: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()
    cuts: tuple[tuple[int, float], ...] = ()

    @property
    def method(self) -> Cuts:
        return Cuts(self.cuts, skipped=self.skipped, written=self.written)

    def wanted(self, model: Any, inputs: Mapping[str, Tensor], tokens: int = 4) -> Any:
        read = written_out.loudness
        return written_out.greedy(model, inputs, dict(self.cuts), read, tokens, self.skipped, self.written)


MIXED = Schedule((1, 2, 3, 5), (0,), ((3, 0.5),))


def all_but_first(model: Any) -> Schedule:
    return Schedule(tuple(range(1, len(Target(model).layers))))


def close(got: Any, wanted: Any, b: int = 0) -> None:
    assert got[0][b].tolist() == wanted[0]
    equal(got[1][b], wanted[1])


def equal(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=EXACT * float(wanted.abs().max()))


@family
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_eight_tokens(name: str, attention: str) -> None:
    model, inputs = make(name, attention), one(name)
    unpruned = generated(model, inputs, 8)[1][0]
    for schedule in (all_but_first(model), Schedule((0, 1, 2, 3), (4,)), MIXED):
        wanted = schedule.wanted(model, inputs, 8)
        close(pruned(model, schedule.method, inputs, tokens=8), wanted)
        assert (unpruned - wanted[1]).abs().max() > 1000 * EXACT  # the test would notice rows that were updated


@family
def test_freeze(name: str) -> None:
    """By its own fields: explicit layers, a budget, and what it takes without either."""
    model, inputs = make(name, seed=1), one(name)
    explicit = pruned(model, dp.Freeze(write="1-3", skip="4"), inputs)
    close(explicit, Schedule((1, 2, 3), (4,)).wanted(model, inputs))
    last = len(Target(model).layers) - 1
    for method in (dp.Freeze(budget=0.8), dp.Freeze()):
        (step,) = method.steps(Target(model).shape)
        assert isinstance(step, Pass)
        assert step.how == "write"
        assert step.layers == tuple(range(step.layers[0], last + 1))  # from the last one down
        close(pruned(model, method, inputs), Schedule(tuple(step.layers)).wanted(model, inputs))


@family
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_batch_is_its_samples(name: str, attention: str) -> None:
    """Pads on the left, several images, text between them; a stage reads a layer that the image only writes to."""
    model = make(name, attention)
    samples: Sequence[Sequence[Part]] = SAME if len(FAMILIES[name].sizes) == 1 else TWO
    inputs = prompt(name, *samples)
    got = pruned(model, MIXED.method, inputs)
    images = 0
    for b, sample in enumerate(samples):
        alone = prompt(name, sample, seed=images)
        images += sum(not isinstance(part, int) for part in sample)
        same(got, MIXED.wanted(model, alone), b)


@family
@pytest.mark.parametrize("sample", [((4, 4),), ((4, 4), 5), ((4, 4), (4, 4), 5, 6)])
def test_few_rows_of_text_behind_an_image(name: str, sample: tuple[Part, ...]) -> None:
    """A convolution then reads the image's rows while new tokens are decoded."""
    model, inputs = make(name), prompt(name, sample)
    schedule = all_but_first(model)
    close(pruned(model, schedule.method, inputs), schedule.wanted(model, inputs))


@pytest.mark.parametrize("name", ["qwen3_5", "nemotron_h_omni", "lfm2_vl"])
def test_images_smaller_than_a_convolution(name: str) -> None:
    """Of one and two tokens; one of text between them, and between runs of a mixer."""
    model, inputs = make(name), prompt(name, (5, (1, 2), 6, (1, 1), 7))
    schedule = all_but_first(model)
    close(pruned(model, schedule.method, inputs), schedule.wanted(model, inputs))


@pytest.mark.parametrize("name", GATED)
def test_delta_is_read_where_rows_only_write(name: str) -> None:
    model, inputs = make(name), one(name)
    wanted = written_out.greedy(model, inputs, {4: 0.5}, written_out.write_strength, 4, (), (1, 2, 3))
    method = Cuts(((4, 0.5),), dp.Delta(), written=(1, 2, 3))
    same(pruned(model, method, inputs), wanted)


@family
def test_attention_is_read_where_rows_only_write(name: str) -> None:
    model, inputs, after = make(name, "eager"), one(name), 4 if name in HYBRIDS else 2
    layers = tuple(range(1, 4))
    wanted = written_out.greedy(model, inputs, {after: 0.5}, written_out.last_attention, 4, (), layers)
    method = Cuts(((after, 0.5),), LastAttention(), written=layers)
    same(pruned(model, method, inputs), wanted)
    same(pruned(make(name), method, inputs), wanted)


@some
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_without_a_cache(name: str, attention: str) -> None:
    model, inputs = make(name, attention), one(name)
    with MIXED.method(model), torch.no_grad():
        logits = model(**inputs, use_cache=False).logits
    equal(logits[0, -1], MIXED.wanted(model, inputs, 1)[1][0])
    assert logits.shape[1] == inputs["input_ids"].shape[1] - 8


@pytest.mark.parametrize("name", ["minicpmv4_6", "nemotron_h_omni", "lfm2_vl", "internvl", "smolvlm"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_new_image_in_a_chat(name: str, attention: str) -> None:
    model, first = make(name, attention), one(name)
    layers = all_but_first(model).written
    tokens, _, _ = Schedule(layers).wanted(model, first, 3)
    both = prompt(name, (*ONE, *tokens, 13, (4, 4), 7, 8))
    new = prompt(name, (13, (4, 4), 7, 8), seed=1)
    new["input_ids"], new["attention_mask"] = both["input_ids"], both["attention_mask"]
    with Schedule(layers).method(model):
        cache = cache_without_last(model, first, tokens)
        ids, logits, _ = generated(model, new, 3, cache=copy.deepcopy(cache))
    wanted = Schedule(layers).wanted(model, both, 3)
    close((ids, logits), wanted)


@some
def test_a_chat_goes_on_behind_a_stage(name: str) -> None:
    model, inputs = make(name), one(name)
    tokens, _, rows = MIXED.wanted(model, inputs, 3)
    question = [*tokens, 14, 15]
    longer = written_out.extended(inputs, question)
    with MIXED.method(model):
        _, _, cache = generated(model, inputs, 3)
        text = {key: longer[key] for key in ("input_ids", "attention_mask")}
        _, logits, _ = generated(model, text, 1, cache=cache)
    stay = {l: torch.tensor(sorted(written_rows(inputs, left))) for l, left in rows.items()}
    read = written_out.loudness
    steps = written_out.logits(
        model, inputs, question, dict(MIXED.cuts), read, stay, skipped=MIXED.skipped, written=MIXED.written
    )
    equal(logits[0, 0], steps)


@some
def test_beams_and_return_sequences(name: str) -> None:
    model, inputs = make(name), one(name)
    with MIXED.method(model), torch.no_grad():
        out = model.generate(
            **inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False, num_beams=2, num_return_sequences=2,
            suppress_tokens=[IMAGE], return_dict_in_generate=True, output_scores=True, length_penalty=0.0,
        )  # fmt: skip
    for ids, score in zip(out.sequences[:, -3:].tolist(), out.sequences_scores.tolist(), strict=True):
        total, stay = 0.0, {}
        for i, token in enumerate(ids):
            logits = written_out.logits(
                model, inputs, ids[:i], dict(MIXED.cuts), written_out.loudness, stay,
                skipped=MIXED.skipped, written=MIXED.written,
            )  # fmt: skip
            total += float(logits.log_softmax(-1)[token])
        assert score == pytest.approx(total, abs=1e-4)


class Counter:
    """Rows that enter each projection of a layer while the prompt runs."""

    def __init__(self, layer: nn.Module):
        self.rows: dict[str, int] = {}
        self.handles = []
        for name, part in layer.named_modules():
            if isinstance(part, nn.Linear):
                self.handles.append(part.register_forward_hook(self._count(name)))

    def _count(self, name: str) -> Any:
        def hook(part: nn.Module, args: Any, output: Tensor) -> None:
            self.rows[name] = self.rows.get(name, 0) + args[0].shape[:-1].numel()

        return hook


def rows_of(model: Any, l: int, inputs: Mapping[str, Tensor], method: Method) -> dict[str, int]:
    with method(model), torch.no_grad():
        counter = Counter(Target(model).layers[l])
        model(**inputs)
        for handle in counter.handles:
            handle.remove()
    return counter.rows


SPARED = {  # family, layer, in turn -> rows beside the text's 7 that enter a projection; the others have 16 image rows
    ("qwen3_5", 1, True): {"linear_attn.in_proj_qkv": 0, "linear_attn.in_proj_z": 0, "linear_attn.out_proj": 0},
    ("qwen3_5", 2, False): {"linear_attn.in_proj_qkv": 3, "linear_attn.in_proj_z": 3, "linear_attn.out_proj": 0},
    ("qwen3_5", 3, True): {"self_attn.q_proj": 0, "self_attn.o_proj": 0, "mlp.down_proj": 0, "mlp.up_proj": 0},
    ("qwen3_5_moe", 1, True): {"linear_attn.out_proj": 0, "mlp.shared_expert.up_proj": 0},
    ("nemotron_h_omni", 2, True): {"mixer.in_proj": 0, "mixer.out_proj": 0},
    ("nemotron_h_omni", 2, False): {"mixer.in_proj": 3, "mixer.out_proj": 0},
    ("nemotron_h_omni", 3, True): {"mixer.q_proj": 0, "mixer.o_proj": 0},
    ("nemotron_h_omni", 1, True): {"mixer.shared_experts.up_proj": 0, "mixer.shared_experts.down_proj": 0},
    ("lfm2_vl", 1, True): {"conv.in_proj": 2, "conv.out_proj": 0, "feed_forward.w1": 0},
    ("lfm2_vl", 2, True): {"self_attn.q_proj": 0, "self_attn.out_proj": 0, "feed_forward.w1": 0},
    ("smolvlm", 1, True): {"self_attn.q_proj": 0, "self_attn.o_proj": 0, "mlp.up_proj": 0},
}  # fmt: skip


@pytest.mark.parametrize(("name", "l", "in_turn"), SPARED)
def test_what_image_rows_no_longer_run_through(
    name: str, l: int, in_turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_turn:
        at_once(monkeypatch)
    model, inputs = make(name), one(name)
    total = inputs["input_ids"].shape[1]
    rows = rows_of(model, l, inputs, dp.Freeze(write=(l,)))
    spared = {part: total - 16 + near for part, near in SPARED[name, l, in_turn].items()}
    assert {part: rows[part] for part in spared} == spared
    assert set(rows_of(model, l, inputs, dp.NoPruning()).values()) == {total}


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (GatedDelta, Mamba2):
        monkeypatch.setattr(kind, "writes_alone", False)


@pytest.mark.parametrize("name", GATED)
def test_all_rows_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recurrences as they run on a GPU and in padded batches, here without pads."""
    at_once(monkeypatch)
    model, inputs = make(name), prompt(name, (5, (4, 4), (4, 4), 6))
    for schedule in (all_but_first(model), MIXED):
        close(pruned(model, schedule.method, inputs), schedule.wanted(model, inputs))


@pytest.mark.parametrize("n", [1, 3, 63, 64, 65, 200])
@pytest.mark.parametrize("continued", [False, True])
def test_the_last_state_is_that_of_transformers(n: int, continued: bool) -> None:
    """Two samples, four heads of the values for two of the keys."""
    generator = torch.Generator().manual_seed(n)
    key, value = (torch.randn(2, n, h, w, generator=generator) for h, w in ((2, 8), (4, 6)))
    decay, beta = -torch.rand(2, n, 4, generator=generator) * 3, torch.rand(2, n, 4, generator=generator)
    state = torch.randn(2, 4, 8, 6, generator=generator) if continued else None
    _, wanted = torch_recurrent_gated_delta_rule(
        key, key, value, decay, beta, state, output_final_state=True, use_qk_l2norm_in_kernel=True
    )
    assert wanted is not None
    torch.testing.assert_close(last_state(key, value, decay, beta, state), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 3, 200])
@pytest.mark.parametrize("continued", [False, True])
def test_mamba2s_last_state_is_that_of_transformers(n: int, continued: bool) -> None:
    """Two samples, four heads for two groups of B; some heads forget all but a row, others nothing."""
    generator = torch.Generator().manual_seed(n)
    x, key = (torch.randn(2, n, h, w, generator=generator) for h, w in ((4, 6), (2, 8)))
    dt, a = torch.rand(2, n, 4, generator=generator) * 3, -torch.tensor([0.001, 0.1, 3.0, 20.0])
    state = torch.randn(2, 4, 6, 8, generator=generator) if continued else None
    _, wanted = mamba2_chunk_scan(x, dt, a, key, key, 16, initial_states=state, return_final_states=True)
    assert wanted is not None
    torch.testing.assert_close(mamba2.last_state(x, dt, a, key, state), wanted, rtol=1e-5, atol=1e-5)


def test_one_row_of_text_in_a_chat_has_the_prompts_step_size() -> None:
    """Nemotron-H has a lower limit of dt in a prompt, none in decoding; here all steps are below it."""
    model = make("nemotron_h_omni")
    for mixer in Target(model).mixers:
        mixer.time_step_limit = (5.0, float("inf"))
    first, both = prompt("nemotron_h_omni", (5, 6, 7)), prompt("nemotron_h_omni", (5, 6, 7, (4, 4), 8, 9))
    schedule = all_but_first(model)
    with schedule.method(model), torch.no_grad():
        both |= {"cache": model(**first).cache}  # the new turn's text before its image is one mark
        logits = generated(model, both, 1)[1]
    equal(logits[0, 0], schedule.wanted(model, {key: both[key] for key in both if key != "cache"}, 1)[1][0])


def sizes_of(target: Target) -> list[tuple[float, float]]:
    return [(updated.total, written.total) for updated, written in target.rows]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("qwen3_5_moe", "nemotron_h_omni")])
def test_a_row_costs_what_torch_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What writing in every layer saves; the last rows before the text are spared less."""
    at_once(monkeypatch)  # chunks of 64 rows are most of so small a model's work
    model, inputs = make(name), one(name)
    target = Target(model)
    images = int((inputs["input_ids"] == IMAGE).sum())
    predicted = 2 * images * sum(updated - written for updated, written in sizes_of(target))
    saved = flops(model, inputs, dp.NoPruning()) - flops(model, inputs, dp.Freeze(write=range(len(target.layers))))
    assert 0.95 * predicted < saved <= predicted
    assert name in HYBRIDS or saved == predicted


def flops(model: Any, inputs: Mapping[str, Tensor], method: Method) -> int:
    counter = FlopCounterMode(display=False)
    with method(model), torch.no_grad(), counter:
        model(**inputs)
    return counter.get_total_flops()


def test_experts_by_hand() -> None:
    """Torch does not count the product that experts run through."""
    gate, expert, shared, router = 32, 3 * 32 * 32, 3 * 32 * 32, 4 * 32
    mlp = gate + 2 * expert + shared + router
    attention = 32 * (2 * 32 + 2 * 16) + 32 * 32
    convolved = 64
    delta = 32 * (convolved + 32 + 2 * 4) + 4 * convolved + 32 * 32
    delta_written = 32 * (convolved - 16 + 2 * 4) + 4 * (convolved - 16)
    sizes = sizes_of(Target(make("qwen3_5_moe")))
    assert sizes[3] == (mlp + attention, 32 * 2 * 16)
    assert sizes[2] == (mlp + delta, delta_written)
    experts = 2 * 2 * 32 * 32 + 2 * 32 * 32 + 4 * 32
    assert sizes_of(Target(make("nemotron_h_omni")))[1] == (experts, 0)


class Adapted(nn.Module):
    """A projection that is more than its weight, as with LoRA."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + x.flip(-1).sum(-1, keepdim=True) / 10


@pytest.mark.parametrize(("name", "l", "parts"), [
    ("qwen3_5", 1, ("in_proj_qkv", "in_proj_z", "out_proj")), ("nemotron_h_omni", 2, ("in_proj", "out_proj")),
    ("lfm2_vl", 1, ("in_proj", "out_proj")),
])  # fmt: skip
def test_adapters(name: str, l: int, parts: Collection[str]) -> None:
    """Of such a projection all columns are computed or none."""
    model, inputs = make(name), one(name)
    mixer = Target(model).mixers[l]
    for part in parts:
        setattr(mixer, part, Adapted(mixer.get_submodule(part)))
    assert Target(model).shape.write > 0
    schedule = Schedule((l,))
    close(pruned(model, schedule.method, inputs), schedule.wanted(model, inputs))


def test_a_mixer_that_says_nothing_runs_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the rest of the layer alone is spared."""
    monkeypatch.setattr(GatedDelta, "written", Probe.written)
    at_once(monkeypatch)
    model, inputs = make("qwen3_5"), one("qwen3_5")
    schedule = all_but_first(model)
    close(pruned(model, schedule.method, inputs), schedule.wanted(model, inputs))
    rows, total = rows_of(model, 1, inputs, dp.Freeze(write=(1,))), inputs["input_ids"].shape[1]
    assert {n for part, n in rows.items() if part.startswith("linear_attn")} == {total}
    assert {n for part, n in rows.items() if part.startswith("mlp")} == {total - 16}


@family
def test_nothing_is_left_behind(name: str) -> None:
    model, inputs = make(name), one(name)
    plain, before = generated(model, inputs)[1], hooks_of(model)  # transformers hooks its towers when first called
    with pytest.raises(RuntimeError, match="mine"):
        fail_within(model, inputs)
    assert hooks_of(model) == before
    assert torch.equal(generated(model, inputs)[1], plain)


def fail_within(model: Any, inputs: Mapping[str, Tensor]) -> None:
    def broken(*given: Any) -> None:
        raise RuntimeError("mine")

    last = list(Target(model).layers[2].modules())[-1]
    with MIXED.method(model):
        handle = last.register_forward_pre_hook(broken)
        try:
            model(**inputs)
        finally:
            handle.remove()


def test_threads_at_once() -> None:
    """One writes, one prunes by stages, one does neither; the hooks are on the same modules."""
    model, inputs = make("qwen3_5"), one("qwen3_5")
    methods = (MIXED.method, Cuts(((3, 0.25),)), dp.Freeze(write="1-7"), dp.NoPruning())
    alone = [pruned(model, method, inputs)[1] for method in methods]
    barrier, done = threading.Barrier(len(methods)), [torch.empty(0)] * len(methods)

    def work(i: int, method: Method) -> None:
        barrier.wait()
        for _ in range(2):
            done[i] = pruned(model, method, inputs)[1]

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(methods)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(done, alone, strict=True))


def halved(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: x.to(torch.bfloat16) if x.is_floating_point() else x for key, x in inputs.items()}


@pytest.mark.parametrize("name", ["qwen3_5", "nemotron_h_omni", "llava+bamba"])
def test_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that is written piece by piece is overwritten, which a backward pass cannot go through."""
    model, inputs = make(name).requires_grad_(True), one(name)

    def gradient() -> Tensor:
        model.zero_grad()
        with Cuts((), written=(0, 1, 3))(model):
            model(**inputs).logits[:, -1].logsumexp(-1).sum().backward()
        return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

    got = gradient()
    for kind in {type(block) for block in Target(model).blocks}:
        monkeypatch.setattr(kind, "writes_alone", False)
    assert got.norm() > 1
    torch.testing.assert_close(got, gradient(), rtol=0, atol=1e-4)


def test_bfloat16_runs() -> None:
    for name in ("qwen3_5", "nemotron_h_omni", "lfm2_vl"):
        model = make(name).to(torch.bfloat16)
        _, logits, target = pruned(model, MIXED.method, halved(one(name)))
        assert [len(each) for each in kept(target).values()] == [8]
        assert bool(logits.isfinite().all())


def test_every_mixer_says_what_is_written() -> None:
    """All that transformers ships and we know; `None` would run them in full."""
    for name in HYBRIDS:
        target = Target(make(name))
        for layer, probe in zip(target.layers, target.blocks, strict=True):
            found = mixer_of(layer)
            assert found is not None
            assert probe.sees != "state" or probe.written(found[1]) is not None


@pytest.mark.parametrize("which", ["model", "text", "layer"])
def test_hooks_that_another_thread_takes_off_meanwhile(which: str) -> None:
    """The other thread leaves its block while this one is in a module whose hooks torch has already looked up."""
    model, inputs = make("qwen3_5"), one("qwen3_5")
    target = Target(model)
    module = {"model": model, "text": target.text, "layer": target.layers[2]}[which]
    on, off, done = threading.Event(), threading.Event(), threading.Event()

    def other() -> None:
        with MIXED.method(model):
            on.set()
            off.wait(60)
        done.set()

    def wait(module: torch.nn.Module, args: Any) -> None:
        off.set()
        assert done.wait(60)

    want = generated(model, inputs)[1]
    handle = module.register_forward_pre_hook(wait)  # torch calls it first
    thread = threading.Thread(target=other)
    thread.start()
    assert on.wait(60)
    try:
        assert torch.equal(generated(model, inputs)[1], want)
    finally:
        thread.join()
        handle.remove()
