"""The buffers and bookkeeping of graphed decoding, with a graph that is the function; on a GPU, the real one."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from deltaprune.blocks.mamba1 import MambaState
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cuda_graphs import step as graphs
from deltaprune.errors import UserError
from deltaprune.generate import NonFiniteLogits, stream
from deltaprune.kernels import use
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import Prefilled, prefill
from deltaprune.rows import Rows, on_device
from deltaprune.scores.delta import Delta
from deltaprune.steps import Stage
from deltaprune.walk import decode

EOS = 0


def small(device: str = "cpu") -> MambaLM:
    torch.manual_seed(0)  # else one in fifty says nothing but EOS, and steps not once
    model = MambaLM(MambaConfig(d_model=32, n_layers=3, vocab_size=50))
    model.reset_parameters()
    return model.requires_grad_(False).to(device)


def prefilled(model: MambaLM, rows: int = 2, length: int = 5) -> Prefilled:
    x = model.embed(torch.randint(1, 50, (rows, length), device=model.backbone.embedding.weight.device))
    return prefill(model, Rows.pack([row[:0] for row in x], list(x)))


def answer(model: MambaLM, start: Prefilled, tokens: int, graphed: bool | None = None) -> Tensor:
    return torch.stack(list(stream(model, start, EOS, tokens, graphed=graphed)))


@pytest.fixture
def captures(monkeypatch):
    """A graph that is the function itself, written into the same tensor; counts the captures."""
    made = []

    def capture(run):
        logits = run()
        made.append(run)
        return lambda: logits.copy_(run()), logits

    monkeypatch.setattr(graphs, "_capture", capture)
    monkeypatch.setattr(graphs, "_why_not", lambda model, states: None)
    monkeypatch.setattr(graphs, "_IDLE", type(graphs._IDLE)())
    return made


def test_equal_to_the_eager_step(captures):
    model = small()
    for rows in (1, 3):
        start = prefilled(model, rows)
        before = [MambaState(ssm=s.ssm.clone(), conv=s.conv.clone()) for s in start.states]
        assert torch.equal(answer(model, start, 8), answer(model, start, 8, graphed=False))
        for s, old in zip(start.states, before, strict=True):
            assert torch.equal(s.ssm, old.ssm)
            assert torch.equal(s.conv, old.conv)
    assert len(captures) == 2


def test_one_capture_serves_many_answers(captures):
    model = small()
    for _ in range(3):
        answer(model, prefilled(model), 4)
    assert len(captures) == 1
    with use("reference"):
        answer(model, prefilled(model), 4)
    assert len(captures) == 2, "another kernel is another graph"


def test_a_replay_that_overflows_is_told_and_the_graph_is_lent_again(captures):
    model, given = small(), []
    start, skip = prefilled(model), model.blocks[0].mixer.D
    whole, held = answer(model, start, 4), skip[0].clone()
    skip[0] = torch.inf  # in place, so that the graph stays; what was prefilled does not read it again
    with pytest.raises(NonFiniteLogits):
        given.extend(stream(model, start, EOS, 4))
    skip[0] = held
    assert len(given) == 1
    assert torch.equal(answer(model, start, 4), whole)
    assert len(captures) == 1


def test_autocast_around_it_changes_nothing(captures):
    model = small()
    start = prefilled(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = answer(model, start, 6)
    assert len(captures) == 1
    assert torch.equal(under, answer(model, start, 6, graphed=False))


def test_two_at_once_do_not_share_buffers(captures):
    model = small()
    one, other = prefilled(model), prefilled(model)
    alone = [answer(model, p, 6, graphed=False) for p in (one, other)]
    together = list(zip(*(stream(model, p, EOS, 6) for p in (one, other)), strict=False))
    for i, want in enumerate(alone):
        assert torch.equal(torch.stack([pair[i] for pair in together]), want[: len(together)])
    assert len(captures) == 2


def test_moved_weights_are_captured_anew(captures):
    model = small()
    answer(model, prefilled(model), 4)
    _old = [w.data for w in model.parameters()]  # held, so that the new ones lie elsewhere
    model.double()
    model.float()
    start = prefilled(model)
    assert torch.equal(answer(model, start, 4), answer(model, start, 4, graphed=False))
    assert len(captures) == 2
    assert len(graphs._IDLE[model]) == 1, "the graph over the old weights is dropped"


def test_few_are_kept(captures, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_KEPT", 2)
    model = small()
    for rows in (1, 2, 3):
        answer(model, prefilled(model, rows), 3)
    assert [step.key[0] for step in graphs._IDLE[model]] == [2, 3]


def test_an_abandoned_stream_gives_its_graph_back(captures):
    model = small()
    running = stream(model, prefilled(model), EOS, 6)
    next(running), next(running)
    running.close()
    assert len(graphs._IDLE[model]) == 1


def test_no_graph_where_one_token_is_enough(captures):
    model = small()
    answer(model, prefilled(model), 1)
    assert not captures


def test_what_is_asked_for_and_cannot_be_had_says_why():
    model = small()
    with pytest.raises(UserError, match="cannot be a CUDA graph: the model is on cpu"):
        answer(model, prefilled(model), 3, graphed=True)
    with graphs.stepping(model, list(prefilled(model).states)) as step:
        assert not isinstance(step, graphs.GraphedStep)


def test_the_callers_states_are_left_alone_and_every_token_is_as_alone():
    model = small()
    states = prefilled(model).states
    before = [{name: tensor.clone() for name, tensor in state.tensors().items()} for state in states]
    held, want = list(states), []
    for token in (1, 2, 3):
        logits, held = decode(model, torch.tensor([token, 0]), held)
        want.append(logits)
    with graphs.stepping(model, list(states)) as step:
        got = [step(torch.tensor([token, 0])) for token in (1, 2, 3)]
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    for state, old in zip(states, before, strict=True):
        assert all(torch.equal(tensor, old[name]) for name, tensor in state.tensors().items())


def test_a_capture_reads_no_host_memory(monkeypatch):
    """What is freed there would be read again at every replay."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(torch, "tensor", None)
    with FakeTensorMode():
        for numbers in ([0, 5, 9], [7], []):
            made = on_device(numbers, "cuda", torch.int32)
            assert (made.shape, made.dtype, made.device.type) == ((len(numbers),), torch.int32, "cuda")


@pytest.mark.gpu
def test_numbers_of_a_capture_are_its_own_on_a_gpu():
    replay, made = graphs._capture(lambda: on_device([0, 5, 9], "cuda", torch.int32))
    for _ in range(20):
        on_device([-1, -1, -1], "cuda", torch.int32)
    made.zero_()
    replay()
    assert made.tolist() == [0, 5, 9]


@pytest.mark.gpu
def test_a_pruned_prefill_in_a_graph_on_a_gpu():
    model = small("cuda")
    tokens = Rows.pack([torch.randn(9, 32, device="cuda")], [torch.randn(4, 32, device="cuda")])
    stages = (Stage(after=1, keep=0.5, score=Delta()), Stage(after=2, keep=0))
    want = prefill(model, tokens, stages).hidden
    replay, hidden = graphs._capture(lambda: prefill(model, tokens, stages).hidden)
    for numbers in range(20):  # memory that the capture may have let go of
        on_device([numbers] * 2, "cuda", torch.int32)
    hidden.zero_()
    replay()
    torch.testing.assert_close(hidden, want)


@pytest.mark.gpu
def test_on_a_gpu():
    model = small("cuda")
    start = prefilled(model, rows=3)
    want = answer(model, start, 8, graphed=False)
    for _ in range(2):
        assert torch.equal(answer(model, start, 8, graphed=True), want)
    with use("reference"), pytest.raises(UserError, match="asks the device for values"):
        answer(model, start, 8, graphed=True)
