"""The bookkeeping of graphed prefills, with a graph that is the function itself."""

import logging
import threading
from dataclasses import dataclass

import pytest
import torch
from prefills import ROWS, SAMPLES, SHAPE, Reading, drawn, parts, same, small, stages_of
from torch import Tensor

from deltaprune.cuda_graphs import captured
from deltaprune.cuda_graphs import prefills as replays
from deltaprune.cuda_graphs.captured import Buffers, Captured, flatten, restored
from deltaprune.errors import UserError
from deltaprune.kernels import use
from deltaprune.methods import parse, registry
from deltaprune.prefill import prefill
from deltaprune.scores.delta import Delta
from deltaprune.steps import Stage


@pytest.fixture
def captures(monkeypatch):
    """A graph that is the function itself, written into the same tensors; the pool of each that was kept."""
    made = []

    def capture(run, pool=None, stream=None):
        result, tensors = run(), []
        flatten(result, tensors)

        def replay():
            again = []
            flatten(run(), again)
            for into, source in zip(tensors, again, strict=True):
                into.copy_(source)

        made.extend([] if pool is None else [pool])
        return replay, result

    monkeypatch.setattr(captured, "_capture", capture)
    monkeypatch.setattr(replays, "_uncapturable", lambda ops, device, dtype: None)
    monkeypatch.setattr(replays, "_GRAPHS", type(replays._GRAPHS)())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "Stream", object)
    return made


@pytest.mark.parametrize("text", registry.names())
def test_every_method_equals_its_eager_prefill(captures, text):
    model, stages = small(), stages_of(text)
    for turn in range(4):
        tokens = drawn()
        done = prefill(model, tokens, stages)
        assert done.replayed == (turn > 0)
        assert same(done, prefill(model, tokens, stages, graphed=False))
    assert len(captures) == 1


def test_autocast_around_it_changes_nothing(captures):
    model, stages, tokens = small(), stages_of("dtp"), drawn()
    eager = prefill(model, tokens, stages, graphed=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(prefill(model, tokens, stages, graphed=True), eager)
    assert same(prefill(model, tokens, stages, graphed=True), eager)
    assert len(captures) == 1


@pytest.mark.parametrize("text", ["none", "dtp", "dart", "divprune"])
def test_questions_on_a_prefix(captures, text):
    """Also where the prefix waits for the question, and with another image each time."""
    model, stages = small(), stages_of(text)
    for turn in range(3):
        image = prefill(model, drawn(((9, 0), (5, 0))), stages, awaits_text=True, graphed=False)
        image = image.repeat(torch.tensor([0, 1, 1]))
        text_rows = drawn(((0, 3), (0, 2), (0, 3)))
        done = prefill(model, text_rows, stages, resume=image)
        assert done.replayed == (turn > 0)
        assert same(done, prefill(model, text_rows, stages, resume=image, graphed=False))
    assert len(captures) == 1


def test_a_conversation_of_any_length_goes_on_in_one_graph(captures):
    model, stages = small(), stages_of("dtp")
    talk = prefill(model, drawn(ROWS), stages)
    for turn in range(3):
        following = drawn(((0, 5),))
        want = prefill(model, following, stages, resume=talk, graphed=False)
        talk = prefill(model, following, stages, resume=talk)
        assert talk.replayed == (turn > 0)
        assert same(talk, want)
        assert talk.seen == (13 + 5 * (turn + 1),)
    assert len(captures) == 1


def test_a_result_outlives_the_next_replay(captures):
    model, stages = small(), stages_of("dtp")
    inputs = [drawn() for _ in range(3)]
    results = [prefill(model, tokens, stages, graphed=True) for tokens in inputs]
    for tokens, done in zip(inputs, results, strict=True):
        assert same(done, prefill(model, tokens, stages, graphed=False))


def test_inputs_are_left_as_they_are(captures):
    model, stages = small(), stages_of("dtp")
    image = prefill(model, drawn(((9, 0),)), stages, awaits_text=True, graphed=False)
    tokens = drawn(((0, 3),))
    before = [tensor.clone() for tensor in (tokens.x, *parts(image)[1])]
    for _ in range(3):
        prefill(model, tokens, stages, resume=image)
    assert all(torch.equal(a, b) for a, b in zip(before, (tokens.x, *parts(image)[1]), strict=True))


def test_what_a_graph_has_baked_in_makes_another(captures):
    """Lengths, stages, kernels and what stops the loop; not the values."""
    model, ways = small(), []
    for samples in (SAMPLES, SAMPLES[::-1], ROWS):
        ways += [lambda samples=samples: prefill(model, drawn(samples), stages_of("dtp"))]
    ways += [lambda: prefill(model, drawn(), parse("dtp:keep=0.3").checked_steps(SHAPE))]
    ways += [lambda: prefill(model, drawn(((9, 0),)), stages_of("dart"), awaits_text=True)]
    ways += [lambda: prefill(model, drawn(((9, 0),)), stages_of("dart"))]
    for i, way in enumerate(ways):
        assert [way().replayed for _ in range(3)] == [False, True, True], i
    with use("reference"):
        assert not ways[0]().replayed
    assert len(captures) == len(ways)
    assert len(set(captures)) == 1, "they share their memory"


def test_moved_weights_are_captured_anew(captures):
    model = small()
    for _ in range(2):
        prefill(model, drawn())
    _old = [w.data for w in model.parameters()]  # held, so that the new ones lie elsewhere
    model.double()
    model.float()
    tokens = drawn()
    assert same(prefill(model, tokens), prefill(model, tokens, graphed=False))
    (graphs,) = replays._GRAPHS.values()
    assert len(graphs.kept) <= 1
    prefill(model, tokens), prefill(model, tokens)
    assert len(graphs.kept) == 1, "the graph over the old weights is dropped"
    assert len(set(captures)) == 2, "with its memory"


def test_the_last_used_are_kept(captures, monkeypatch):
    monkeypatch.setattr(replays, "MOST_KEPT", 2)
    model, lengths = small(), {n: ((n, 2),) for n in (1, 2, 3)}
    for n in (1, 2, 1, 3):
        prefill(model, drawn(lengths[n]), graphed=True)
    assert prefill(model, drawn(lengths[1])).replayed
    assert prefill(model, drawn(lengths[3])).replayed
    assert not prefill(model, drawn(lengths[2])).replayed, "dropped, and its shape counts as new"


def test_they_share_their_buffers(captures):
    model = small()
    for samples in (SAMPLES, ROWS, SAMPLES[::-1]):
        prefill(model, drawn(samples), graphed=True)
    (graphs,) = replays._GRAPHS.values()
    for part in ("inputs", "results"):
        first, *others = ([x.data_ptr() for x in getattr(graph, part)] for graph in graphs.kept.values())
        assert all(other[0] == first[0] for other in others)
        assert len({*first}) == len(first)


def test_few_shapes_are_remembered(captures, monkeypatch):
    monkeypatch.setattr(replays, "MOST_SEEN", 2)
    model = small()
    assert not any(prefill(model, drawn(((n, 1),))).replayed for n in (1, 2, 3, 1, 2, 3))


def test_many_rows_are_not_worth_a_graph_unless_asked_for(captures, monkeypatch):
    model = small()
    for bound, value in (("MOST_ROWS", 20), ("MOST_SAMPLES", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(f"deltaprune.prefill.{bound}", value)
            assert not any(prefill(model, drawn()).replayed for _ in range(3))
            assert prefill(model, drawn(), graphed=True).replayed


def test_a_stage_that_cannot_be_captured_is_told_once_and_runs_eagerly(captures, monkeypatch, caplog):
    def refuse(run, pool=None, stream=None):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(captured, "_capture", refuse)
    model, stages = small(), (Stage(after=1, keep=0.5, score=Reading()),)
    with caplog.at_level(logging.WARNING, "deltaprune.kernels"):
        for samples in (SAMPLES, ROWS):
            for _ in range(3):
                tokens = drawn(samples)
                done = prefill(model, tokens, stages)
                assert not done.replayed
                assert same(done, prefill(model, tokens, stages, graphed=False))
    (told,) = caplog.messages
    assert "Reading()" in told
    assert "not permitted when stream is capturing" in told
    with pytest.raises(UserError, match="cannot be a CUDA graph: RuntimeError: operation not permitted"):
        prefill(model, drawn(), stages, graphed=True)


@dataclass(frozen=True)
class Listed(Reading):
    weights: list[float]


def test_what_is_asked_for_and_cannot_be_had_says_why(captures, monkeypatch):
    model, tokens = small(), drawn()

    def asked(*stages: Stage) -> None:
        prefill(model, tokens, stages, graphed=True)

    competing = Stage(after=1, keep=0.5, score=Delta(), candidates="all")
    with pytest.raises(UserError, match="how many visual tokens won has to be read back; leave `graphed` unset"):
        asked(competing)
    with pytest.raises(UserError, match="unhashable type: 'list'"):
        asked(Stage(after=1, keep=0.5, score=Listed([0.1])))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(UserError, match="one is being captured around it"):
        asked()
    assert not prefill(model, tokens, (competing,)).replayed


def test_on_a_cpu_there_is_none():
    model = small()
    assert not any(prefill(model, drawn()).replayed for _ in range(3))
    with pytest.raises(UserError, match="The prefill cannot be a CUDA graph: the model is on cpu; leave"):
        prefill(model, drawn(), graphed=True)


def test_two_threads(captures):
    model, stages, wrong = small(), stages_of("dtp"), []

    def work(samples: tuple[tuple[int, int], ...]) -> None:
        for _ in range(10):
            tokens = drawn(samples)
            if not same(prefill(model, tokens, stages), prefill(model, tokens, stages, graphed=False)):
                wrong.append(samples)

    threads = [threading.Thread(target=work, args=(samples,)) for samples in (SAMPLES, SAMPLES, ROWS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(captures) == 2


def test_inference_mode_and_its_end(captures):
    model = small()
    for mode in (True, True, False, True):
        with torch.inference_mode(mode):
            tokens = drawn()
            assert same(prefill(model, tokens), prefill(model, tokens, graphed=False))


def test_nested_values_come_back():
    value = (drawn(), None, (1, (torch.ones(2, 0), torch.tensor(True))), "a")
    tensors: list[Tensor] = []
    layout = flatten(value, tensors)
    again = restored(layout, iter(tensors))
    assert again[0].x is value[0].x
    assert again[1:2] + again[3:] == (None, "a")
    assert again[2][1][1] is value[2][1][1]
    assert hash(layout) == hash(flatten(again, []))


def test_flags_and_empty_tensors_are_copied(captures):
    inputs = [torch.tensor(3.0), torch.ones(0, 4)]
    shared = Buffers(), Buffers(), object(), None
    graph = Captured(lambda x, empty: ((x > 2), empty, x + 1), flatten(tuple(inputs), []), inputs, shared)
    high, _, _ = graph(inputs)
    low, empty, more = graph([torch.tensor(1.0), torch.ones(0, 4)])
    assert bool(high)
    assert not bool(low)
    assert (empty.shape, more.item()) == ((0, 4), 2.0)
