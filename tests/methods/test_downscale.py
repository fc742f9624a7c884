"""A smaller picture before the towers: its tokens, its cost, and every door by which a picture comes in."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import deltaprune as dp
from deltaprune.ask import ask
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.cost import macs, visual_tokens_per_layer
from deltaprune.cost.macs import projector_macs, tower_macs
from deltaprune.errors import UserError
from deltaprune.evaluate import evaluate
from deltaprune.methods.downscale import Downscale
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.processor import Processor
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.steps import Method, Shape, Shrink, Stage
from deltaprune.vision.pixels import shrink
from deltaprune.vision.towers import TOWERS

SMALLER = Downscale(0.6)  # of the tiny model's 4 x 4 patches 3 x 3


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return next(iter(Scenes().samples("val", 3, 1))).image


@pytest.mark.parametrize(
    ("keep", "n", "side"),
    [(0.5, 729, 19), (0.5, 100, 7), (0.49, 100, 7), (0.48, 100, 6), (0.999, 256, 15), (0.01, 100, 1), (0.3, 16, 2)],
)
def test_the_largest_square_within_the_share(keep: float, n: int, side: int) -> None:
    assert Downscale(keep).checked_steps(Shape(64, n)) == (Shrink(side),)
    assert side**2 <= keep * n < (side + 1) ** 2
    assert visual_tokens_per_layer(Downscale(keep).steps(Shape(3, n)), Shape(3, n)) == [side**2] * 3


def test_all_and_nothing() -> None:
    assert Downscale(1.0).steps(Shape(64, 729)) == ()
    assert Downscale(0.001).steps(Shape(64, 729)) == (Stage(0, 0.0),)


def by_hand(model: dp.VLM, pixels: dict[str, Tensor], side: int) -> Tensor:
    """Shrunk pixels through towers built for the small size, whose position embeddings are resampled."""
    features = []
    for name, config in model.config.shrunk(side).towers.items():
        weights = dict(model.model.vision[name].state_dict())
        (where,) = (key for key in weights if "position_embedding" in key)
        grid, front = round((len(weights[where].flatten(0, -2)) - bool(config.n_prefix)) ** 0.5), bool(config.n_prefix)
        table = weights[where].flatten(0, -2)
        square = table[int(front) :].T.unflatten(1, (grid, grid))[None]
        small = F.interpolate(square, size=(side, side), mode="bicubic", antialias=config.kind == "dinov2")
        weights[where] = torch.cat([table[: int(front)], small[0].flatten(1).T]).reshape(
            *weights[where].shape[:-2], -1, table.shape[-1]
        )
        tower = TOWERS[config.kind](config).eval()
        tower.load_state_dict(weights)
        size = side * config.patch_size
        image = F.interpolate(pixels[f"pixel_values_{name}"], size=(size, size), mode="bicubic", antialias=True)
        features.append(tower(image))
    return model.model.projector(torch.cat(features, -1))


@torch.no_grad()
def test_the_visual_tokens_are_those_of_a_model_for_small_pictures(
    tiny: tuple[dp.VLM, Processor], picture: Image.Image
) -> None:
    model, processor = tiny
    pixels = processor.encode_images([picture, picture.rotate(90)])
    seen = model.see(pixels, SMALLER)
    assert seen is not None
    assert seen.shape == (2, 9, 32)
    torch.testing.assert_close(seen, by_hand(model, dict(pixels), 3), atol=1e-5, rtol=1e-4)
    whole = model.see(pixels)
    assert whole is not None
    assert torch.equal(
        model.model.encode(
            {n.removeprefix("pixel_values_"): p for n, p in pixels.items() if n.startswith("pixel_values_")}, 4
        ),
        whole,
    )


def test_a_clip_tower_takes_it_too() -> None:
    config = ROBOMAMBA.towers["clip"]
    small = type(config)(
        **{**vars(config), "image_size": 28, "width": 16, "n_blocks": 2, "n_heads": 2, "mlp_width": 16}
    )
    tower = TOWERS["clip"](small).eval()
    assert tower(torch.randn(1, 3, 14, 14)).shape == (1, 1, 16)
    assert tower(torch.randn(1, 3, 28, 28)).shape == (1, 4, 16)


def test_shrinking_is_pils_resize_where_nothing_is_cut_off() -> None:
    values = torch.randint(60, 200, (32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    small = Image.fromarray(values.numpy()).resize((24, 24), Image.Resampling.BICUBIC)
    ours = shrink(values.permute(2, 0, 1)[None].float(), 24)[0].permute(1, 2, 0)
    theirs = torch.from_numpy(np.asarray(small).copy())
    assert (ours - theirs).abs().max() <= 1  # PIL rounds to whole levels, twice


def test_what_it_costs() -> None:
    method, text = Downscale(0.5), 22
    cost, whole = macs(COBRA, method, text), macs(COBRA, NoPruning(), text)
    assert cost.share == pytest.approx((361 + text) / (729 + text))
    assert cost.projector == 361 * projector_macs(COBRA)
    small = [type(tower)(**{**vars(tower), "image_size": 19 * 14}) for tower in COBRA.towers.values()]
    assert cost.vision == sum(map(tower_macs, small))
    assert cost.vision < whole.vision / 2
    assert cost.head == whole.head


def test_every_door_leads_to_the_same_answer(tiny: tuple[dp.VLM, Processor], picture: Image.Image) -> None:
    model, processor = tiny
    question = "How many red circles are there?"
    inputs = processor(images=picture, text=question)
    method: Method = SMALLER
    given = model.generate(**inputs, max_new_tokens=6, method=method)
    assert model.start(inputs, method=method).tokens.n_visual == (9,)
    assert torch.equal(model.answer(inputs, 6, method=method).ids, given)
    with method(model):
        assert torch.equal(model.generate(**inputs, max_new_tokens=6), given)
    prefix = model.encode_image(picture, method=method)
    assert prefix.prefilled.tokens.n_visual == (9,)
    text = processor(text=question)
    assert torch.equal(model.generate(**text, max_new_tokens=6, prefix=prefix, method=method), given)
    with pytest.raises(UserError, match="but NoPruning"):
        model.generate(**text, prefix=prefix)
    rows = ask(model, processor, picture, [question], [method, dp.DTP(0.5)], max_new_tokens=6)
    assert rows[1].answer == processor.decode(given[0])
    assert rows[1].macs_share == pytest.approx((9 + rows[1].text_tokens) / (16 + rows[1].text_tokens))
    assert (rows[1].kept, rows[2].kept) == (None, [8, 0])


@pytest.mark.parametrize("prefix", [True, False])
def test_evaluate_shows_each_method_its_own_picture(tiny: tuple[dp.VLM, Processor], prefix: bool) -> None:
    """Beside others, a method answers what it answers alone, in either order."""
    model, processor = tiny
    both = evaluate(model, processor, "scenes", ["none", SMALLER, "dtp"], limit=12, prefix=prefix, max_new_tokens=4)
    turned = evaluate(model, processor, "scenes", ["dtp", SMALLER], limit=12, prefix=prefix, max_new_tokens=4)
    said = [[record.prediction for record in row.records] for row in both]
    assert [[record.prediction for record in row.records] for row in turned] == [said[2], said[1]]
    assert said[0] != said[1]
    samples = list(Scenes().samples(Scenes().split, 0, 12))
    for sample, answer in zip(samples, said[1], strict=True):
        inputs = processor(images=sample.image, text=Scenes().rules.message(sample))
        assert processor.batch_decode(model.generate(**inputs, max_new_tokens=4, method=SMALLER)) == [answer]


def test_it_combines_with_a_stage(tiny: tuple[dp.VLM, Processor], picture: Image.Image) -> None:
    """A stage keeps a share of the small picture's tokens."""

    class Both(Method):
        def steps(self, shape: Shape) -> tuple[Shrink | Stage, ...]:
            return Shrink(3), Stage(1, 0.5, dp.Delta())

    model, processor = tiny
    done = model.start(processor(images=picture, text="a?"), method=Both())
    assert [kept.counts for kept in done.kept] == [(4,)]
    assert visual_tokens_per_layer(Both().steps(model.shape), model.shape) == [9, 4, 4, 4]


def test_mistakes() -> None:
    class Steps(Method):
        def __init__(self, *steps: Shrink):
            self.given = steps

        def steps(self, shape: Shape) -> tuple[Shrink, ...]:
            return self.given

    with pytest.raises(UserError, match=r"Shrink\(side=11\) would give 121 visual tokens and the model has 100"):
        Steps(Shrink(11)).checked_steps(Shape(4, 100))
    with pytest.raises(UserError, match="The picture is shrunk twice: give one Shrink"):
        Steps(Shrink(3), Shrink(4)).checked_steps(Shape(4, 100))
    with pytest.raises(UserError, match="side=0 is not possible"):
        Shrink(0)
    with pytest.raises(UserError, match="between 0 and 1"):
        Downscale(2)
