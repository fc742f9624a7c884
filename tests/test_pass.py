"""Passes against loops written out row by row; prefixes, batches, costs, and what is free in the last layer."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from prefills import small
from torch import Tensor

import deltaprune as dp
from deltaprune.blocks.mamba1 import MambaBlock
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cost import macs
from deltaprune.errors import UserError
from deltaprune.kernels import use
from deltaprune.mean_states import MeanStates
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.steps import Method, Pass, Stage, check_steps

SAMPLES = ((9, 4), (5, 3), (0, 2), (7, 1))
L = 4


@pytest.fixture(scope="module")
def lm() -> MambaLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small()


def drawn(samples: tuple[tuple[int, int], ...] = SAMPLES) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(v, 32), torch.randn(t, 32)) for v, t in samples]


def packed(given: list[tuple[Tensor, Tensor]]) -> Rows:
    return Rows.pack([image for image, _ in given], [text for _, text in given])


def one_row(block: MambaBlock, x: Tensor, ssm: Tensor, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One row through a layer, from the paper's equations: its output, the new state, the convolution's new window."""
    m, cfg = block.mixer, block.config
    normed = F.rms_norm(x, x.shape, block.norm.weight, cfg.norm_eps)
    u, z = m.in_proj(normed).split(cfg.d_inner)
    window = torch.cat([window[:, 1:], u[:, None]], dim=1)
    u = F.silu((window * m.conv1d.weight[:, 0]).sum(1) + m.conv1d.bias)
    dt, b, c = m.x_proj(u).split([cfg.rank, cfg.d_state, cfg.d_state])
    delta = F.softplus(m.dt_proj(dt))[:, None]
    ssm = torch.exp(-delta * torch.exp(m.A_log)) * ssm + delta * u[:, None] * b
    y = (ssm * c).sum(1) + m.D * u
    return x + m.out_proj(y * F.silu(z)), ssm, window


@torch.no_grad()
def by_hand(lm: MambaLM, x: Tensor, visual: list[bool], how: dict[int, str]) -> tuple[Tensor, list[Tensor]]:
    """The last row after all layers, and every layer's state, row after row."""
    states = []
    for l, block in enumerate(lm.blocks):
        cfg = block.config
        ssm, window = torch.zeros(cfg.d_inner, cfg.d_state), torch.zeros(cfg.d_inner, cfg.d_conv)
        if any(visual) and how.get(l) == "mean":
            ssm, window = MEANS.layers[l]["ssm"], F.pad(MEANS.layers[l]["conv"], (1, 0))
        rows = []
        for row, seen in zip(x, visual, strict=True):
            if seen and how.get(l) in ("skip", "mean"):
                rows.append(row)
                continue
            out, ssm, window = one_row(block, row, ssm, window)
            rows.append(row if seen and l in how else out)
        x = torch.stack(rows)
        states.append(ssm)
    return x[-1], states


PASSES = {
    "write": (Pass((1, 2), "write"),),
    "write all": (Pass(tuple(range(L)), "write"),),
    "skip": (Pass((2,), "skip"),),
    "skip two": (Pass((1, 2), "skip"),),
    "skip the last two": (Pass((2, 3), "skip"),),
    "write the last two": (Pass((2, 3), "write"),),
    "skip all": (Pass(range(L), "skip"),),
    "both": (Pass((0, 3), "write"), Pass((1,), "skip")),
}
MEANS = MeanStates.of({l: {"ssm": 0.1 * torch.ones(64, 16), "conv": torch.full((64, 3), l - 2.0)} for l in (1, 2)})
AT_MEAN = {
    "mean": (Pass((1,), "mean", MEANS),),
    "all three": (Pass((0, 3), "write"), Pass((1,), "skip"), Pass((2,), "mean", MEANS)),
}  # for images before all text
IMAGES_FIRST = PASSES | AT_MEAN


def hows(steps: tuple[Pass, ...]) -> dict[int, str]:
    return {l: step.how for step in steps for l in step.layers}


@pytest.mark.parametrize("name", IMAGES_FIRST)
def test_it_is_the_written_out_loop(name: str, lm: MambaLM) -> None:
    given = drawn()
    done = prefill(lm, packed(given), IMAGES_FIRST[name])
    for b, (image, text) in enumerate(given):
        visual = [True] * len(image) + [False] * len(text)
        last, states = by_hand(lm, torch.cat([image, text]), visual, hows(IMAGES_FIRST[name]))
        torch.testing.assert_close(done.hidden[b], last, atol=1e-5, rtol=1e-5)
        for state, want in zip(done.states, states, strict=True):
            torch.testing.assert_close(state.tensors()["ssm"][b], want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PASSES)
def test_visual_rows_may_be_anywhere(name: str, lm: MambaLM) -> None:
    """Text, an image, text, another image, text; and a sample that ends in an image."""
    torch.manual_seed(2)
    masks = [[False] * 3 + [True] * 4 + [False] + [True] * 2 + [False] * 2, [True, False, True], [False] * 4]
    x = [torch.randn(len(mask), 32) for mask in masks]
    rows = Rows.mixed(x, [torch.tensor(mask) for mask in masks])
    done = prefill(lm, rows, PASSES[name])
    for b, mask in enumerate(masks):
        last, states = by_hand(lm, x[b], mask, hows(PASSES[name]))
        torch.testing.assert_close(done.hidden[b], last, atol=1e-5, rtol=1e-5)
        for state, want in zip(done.states, states, strict=True):
            torch.testing.assert_close(state.tensors()["ssm"][b], want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", IMAGES_FIRST)
def test_a_batch_is_its_samples(name: str, lm: MambaLM) -> None:
    given = drawn()
    together = prefill(lm, packed(given), IMAGES_FIRST[name])
    for b, sample in enumerate(given):
        alone = prefill(lm, packed([sample]), IMAGES_FIRST[name])
        torch.testing.assert_close(together.hidden[b], alone.hidden[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", IMAGES_FIRST)
def test_an_image_first_then_its_text(name: str, lm: MambaLM) -> None:
    given, steps = [each for each in drawn() if len(each[0])], IMAGES_FIRST[name]
    whole = prefill(lm, packed(given), steps)
    images = prefill(lm, packed([(image, text[:0]) for image, text in given]), steps, awaits_text=True)
    text = packed([(image[:0], text) for image, text in given])
    torch.testing.assert_close(prefill(lm, text, steps, images).hidden, whole.hidden, atol=1e-6, rtol=1e-5)


def test_a_mean_state_needs_the_image_first(lm: MambaLM) -> None:
    rows = Rows.mixed([torch.randn(3, 32)], [torch.tensor([False, True, False])])
    with pytest.raises(UserError, match="needs the image before all text"):
        prefill(lm, rows, AT_MEAN["mean"])
    with pytest.raises(UserError, match="of layer 3: the plan has those of 1, 2"):
        Pass((1, 3), "mean", MEANS)
    with pytest.raises(UserError, match="needs means="):
        Pass((1,), "mean")


def test_with_stages_before_and_after(lm: MambaLM) -> None:
    """Rows that a write left as they were are ranked by the step sizes that the write computed."""
    given = drawn(((12, 4),))
    steps = (Pass((0, 1), "write"), Stage(2, 0.5, Delta()), Pass((2,), "write"), Stage(3, 0.0))
    done = prefill(lm, packed(given), steps)
    x, (image, text) = torch.cat(given[0]), given[0]
    traced = lm.blocks[1].prefill(Rows.pack([image], [by_layers(lm, x, 2)[len(image) :]]), None, frozenset({"step"}))[2]
    best = traced["step"][: len(image)].topk(6).indices.sort().values
    assert done.kept[0].origin[0].tolist() == best.tolist()
    assert done.kept[0].read == 2
    assert [kept.counts for kept in done.kept] == [(6,), (0,)]
    assert len(text) == done.tokens.lengths[0]


@torch.no_grad()
def by_layers(lm: MambaLM, x: Tensor, layers: int) -> Tensor:
    """What enters layer 1 of the model above, whose image rows were only written in layer 0."""
    rows = Rows.pack([x[:12]], [x[12:]])
    for block in lm.blocks[: layers - 1]:
        rows, _, _ = block.write(rows)
    return rows.x


def test_a_write_in_the_last_layer_changes_no_logit(tiny: tuple[dp.VLM, object]) -> None:
    """Nobody reads the image rows behind the last layer: the logits are the same bits."""
    model = tiny[0].model.lm
    torch.manual_seed(3)
    for samples in (((16, 22),), ((16, 7), (9, 30), (16, 1))):
        rows = packed([(torch.randn(v, 32), torch.randn(t, 32)) for v, t in samples])
        plain, written = prefill(model, rows), prefill(model, rows, (Pass((3,), "write"),))
        assert torch.equal(model.logits(plain.hidden), model.logits(written.hidden))
        assert not torch.equal(plain.tokens.x, written.tokens.x)


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_in_bfloat16(backend: str) -> None:
    torch.manual_seed(0)
    lm = small()
    given = packed(drawn())
    exact = prefill(lm, given, PASSES["both"]).hidden
    with use(backend):
        rounded = prefill(lm.bfloat16(), given, PASSES["both"]).hidden
    torch.testing.assert_close(rounded, exact, atol=0.15, rtol=0.05)


def test_a_skipped_layer_tells_nothing(lm: MambaLM) -> None:
    """A stage reads the nearest layer that tells what its score needs, and says which."""
    given = packed(drawn(((12, 4),)))
    done = prefill(lm, given, (Pass((1,), "skip"), Stage(2, 0.5, Delta())))
    plain = prefill(lm, given, (Stage(1, 0.5, Delta()),))
    assert (done.kept[0].after, done.kept[0].read) == (2, 1)
    assert done.kept[0].origin[0].tolist() == plain.kept[0].origin[0].tolist()
    with pytest.raises(UserError, match=r"Delta\(\) after layer 2 needs step, which no layer before it provides"):
        prefill(lm, given, (Pass((0, 1), "skip"), Stage(2, 0.5, Delta())))


@dataclass(frozen=True)
class Passing(Method):
    how: str

    def steps(self, shape: dp.Shape) -> tuple[Pass, ...]:
        return (Pass(tuple(range(1, shape.n_layers)), self.how),)  # pyright: ignore[reportArgumentType]


def test_costs(tiny: tuple[dp.VLM, object]) -> None:
    config = tiny[0].config
    lm, image, text = config.lm, config.n_visual, 10
    full, write = (sum(lm.macs(how).values()) for how in ("full", "write"))
    none = lm.n_layers * (image + text) * full
    for how, rest in (("write", write), ("skip", 0.0)):
        cost = macs(config, Passing(how), text)
        expected = (lm.n_layers * text + image) * full + (lm.n_layers - 1) * image * rest
        assert cost.linear + cost.conv + cost.scan == pytest.approx(expected)
        assert cost.share == pytest.approx(expected / none)
    cobra = MambaConfig()
    assert 0.35 < sum(cobra.macs("write").values()) / sum(cobra.macs().values()) < 0.38


@pytest.mark.usefixtures("unchecked")
def test_mistakes() -> None:
    with pytest.raises(UserError, match="how='wrtie'"):
        Pass((1,), "wrtie")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="layers=3 must be a list of layer numbers"):
        Pass(3, "write")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="holds -1: layers are counted from 0"):
        Pass((-1, 2), "skip")
    with pytest.raises(UserError, match="There is no layer 4 for a pass: the model's layers are 0 to 3"):
        check_steps((Pass((4,), "write"),), L)
    with pytest.raises(UserError, match="Layer 1 is in two passes"):
        check_steps((Pass((1,), "write"), Pass((1, 2), "skip")), L)
    assert Pass([3, 1, 1], "skip") == Pass((1, 3), "skip")


def test_a_score_behind_skipped_layers_reads_the_layer_before_them() -> None:
    """Also what belongs to that layer as a whole, though layers after it have run the text since."""
    lm, rows = small(), packed([drawn(((30, 5),))[0]])
    for block in lm.blocks:
        torch.nn.init.normal_(block.mixer.A_log, std=2)
    at_once = prefill(lm, rows, (Stage(1, 0.4, HiddenAttention()),))
    later = prefill(lm, rows, (Pass((1, 2), "skip"), Stage(3, 0.4, HiddenAttention())))
    assert torch.equal(later.kept[0].origin[0], at_once.kept[0].origin[0])
