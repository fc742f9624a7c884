"""Every figure: nothing overlaps, nothing is cut off, type is readable in print, marks lie where they should."""

import importlib
import itertools
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from deltaprune import Delta, Stage, UserError
from deltaprune.analysis import figures
from deltaprune.analysis.stability import kept

RANDOM = np.random.default_rng(0)
QUESTION = (
    "Implicit attention, bundled\n“How many of the $5 and $10 notes on the long wooden table are still unfolded?”"
)


def attention(n_layers: int, length: int = 30, n_visual: int = 24) -> Figure:
    matrices = [np.tril(RANDOM.lognormal(sigma=4, size=(length, length))).astype(np.float32) for _ in range(n_layers)]
    return figures.attention_maps(matrices, range(1, n_layers + 1), n_visual, QUESTION)


def scores(size: tuple[int, int], scale: float, grid: tuple[int, int] = (9, 9), n_layers: int = 4) -> Figure:
    rows = [scale * RANDOM.random(grid[0] * grid[1]).astype(np.float32) ** k for k in range(1, n_layers + 1)]
    best = [kept(row[None], Stage(after=1, keep=0.25, score=Delta()))[0] for row in rows]
    image, after = Image.new("RGB", size, "teal"), [4 * k for k in range(1, n_layers + 1)]
    return figures.score_maps(image, rows, best, after, grid, "score", "Delta() by layer, bundled")


def tokens(size: tuple[int, int], n_stages: int) -> Figure:
    left = [np.arange(64 // 2**i) for i in range(n_stages - 1)] + [np.array([], dtype=np.int64)] * (n_stages > 0)
    name = "Visual tokens kept by dtp:keep=0.5, bundled"
    return figures.kept_tokens(Image.new("RGB", size, "teal"), left, [12 + i for i in range(n_stages)], (8, 8), name)


def layer_map(depth: int, step: int = 1, scale: float = 1.0) -> Figure:
    early, late = tuple(range(1, depth, step)), tuple(range(2, depth + 1, step))
    js = scale * RANDOM.lognormal(sigma=4, size=(len(early), len(late)))
    js[np.array(early)[:, None] >= np.array(late)] = np.nan
    title = "Early and late layer, bundled\nkeep 0.5, 16 pictures; ring: the plan"
    return figures.sensitivity_map(js, early, late, depth, (early[0], late[1]), title)


FIGURES = {
    "map, 4": lambda: layer_map(4),
    "map, 20": lambda: layer_map(20),
    "map, 64": lambda: layer_map(64, 3, 1e-5),
    "keep": lambda: figures.keep_curves(
        [0.05, 0.5, 1.0], [0.3, 0.01, 0.0], [3e-3, 4e-3, 5e-3], 5e-3, "Keeping less, x"
    ),
    "keep, none left": lambda: figures.keep_curves([0.01, 1.0], [0.4, 0.0], [float("nan"), 5e-3], 5e-3),
    "keep, large": lambda: figures.keep_curves([1.0, 0.1], [0.0, 0.6931], [420.0, 900.0], 700.0),
    "correlation": lambda: figures.correlation_curves(
        RANDOM.uniform(-1, 1, (20, 8)), RANDOM.random((20, 8)), 0.5, "Implicit attention and Delta(), bundled"
    ),
    "correlation, 1": lambda: figures.correlation_curves(np.ones((3, 1)), np.ones((3, 1)), 0.25),
    "spread": lambda: figures.spread_curve(RANDOM.random(64) * 1e-3, 15, 45, "Spread of token importance, cobra"),
    "spread, near": lambda: figures.spread_curve([0.3, 0.2, 0.5, 0.1] * 4, 14, 15),
    "spread, steep": lambda: figures.spread_curve([0.003, 0.005, 0.004, 0.003, 0.007, 0.2], 2, 5, "Spread, bundled"),
    "spread, both ends": lambda: figures.spread_curve([1, 2, 3, 4], 1, 4, "Spread"),
    "scores": lambda: scores((300, 300), 0.05),
    "scores, wide": lambda: scores((900, 300), 3000),
    "scores, tall": lambda: scores((300, 900), 1e-6, (27, 27)),
    "scores, one": lambda: scores((300, 300), 1, n_layers=1),
    "scores, all alike": lambda: scores((300, 300), 0),
    "attention, 1": lambda: attention(1),
    "attention, 3": lambda: attention(3),
    "attention, 16": lambda: attention(16),
    "attention, 64": lambda: attention(64),
    "attention, mostly image": lambda: attention(4, length=100, n_visual=97),
    "attention, none at all": lambda: figures.attention_maps([np.zeros((3, 3), np.float32)], [1], 2),
    "attention, text alone": lambda: attention(2, n_visual=0),
    "growth": lambda: figures.growth_curves([2**k for k in range(8, 15)], [90 * 2**k for k in range(7)], [10**9] * 7),
    "growth, two": lambda: figures.growth_curves([100, 200], [0.5, 1.1], [6 * 10**8, 7 * 10**8], "Cost of a prefill"),
    "tokens": lambda: tokens((300, 300), 2),
    "tokens, wide": lambda: tokens((900, 300), 5),
    "tokens, tall": lambda: tokens((300, 900), 1),
    "tokens, none": lambda: tokens((300, 300), 0),
}


def shown_texts(figure: Figure) -> list[Text]:
    """Every text that is drawn; ticks outside an axis' range are not."""
    hidden: set[Text] = set()
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not axis.axes.axison or not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    return [
        text for text in figure.findobj(Text) if text not in hidden and text.get_visible() and text.get_text().strip()
    ]


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_reads_well_in_print(draw) -> None:
    figure = draw()
    FigureCanvasAgg(figure).draw()
    assert figure.get_figwidth() == 3.4
    texts = shown_texts(figure)
    assert len(texts) >= 2
    boxes = [(text.get_text(), text.get_window_extent().padded(-0.5)) for text in texts]
    for (name, box), (other, beside) in itertools.combinations(boxes, 2):
        assert not box.overlaps(beside), f"{name!r} lies over {other!r}"
    page = figure.bbox
    for name, box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, f"{name!r} is cut off"
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, f"{name!r} is cut off"
    assert min(text.get_fontsize() for text in texts) >= 7


def test_overlaps_would_be_found() -> None:
    figure = FIGURES["spread"]()
    figure.text(0.5, 0.5, "first"), figure.text(0.52, 0.5, "second")
    FigureCanvasAgg(figure).draw()
    boxes = {text.get_text(): text.get_window_extent() for text in shown_texts(figure)}
    assert boxes["first"].overlaps(boxes["second"])


def test_nothing_is_left_behind() -> None:
    before = dict(mpl.rcParams)
    FIGURES["spread"]()
    assert dict(mpl.rcParams) == before
    assert not Gcf.figs


def test_the_spread_is_drawn_where_stages_count() -> None:
    axes = figures.spread_curve([1, 5, 2, 3], early=2, late=3).axes[0]
    curve, *marks = axes.get_lines()
    assert curve.get_xdata().tolist() == [1, 2, 3, 4]
    assert curve.get_ydata().tolist() == [1, 5, 2, 3]
    assert [mark.get_xdata()[0] for mark in marks] == [2, 3]
    assert [label.get_text() for label in axes.child_axes[0].get_xticklabels()] == ["early = 2", "late = 3"]


def test_small_values_are_scaled_and_the_label_says_so() -> None:
    axes = figures.spread_curve([1e-4, 5e-4, 2e-4]).axes[0]
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [1, 5, 2])
    assert axes.get_ylabel() == "std of token scores ($10^{-4}$)"


def test_a_layer_far_above_the_others_does_not_hide_them() -> None:
    steep = figures.spread_curve([1e-3, 2e-3, 1e-3, 5e-1]).axes[0]
    assert (steep.get_yscale(), steep.get_ylabel()) == ("log", "std of token scores, log scale")
    assert steep.get_lines()[0].get_ydata().tolist() == [1e-3, 2e-3, 1e-3, 5e-1]
    for flat in ([1, 2, 1, 9], [0, 1, 1, 90]):  # zero has no logarithm
        axes = figures.spread_curve(flat).axes[0]
        assert (axes.get_yscale(), axes.get_ylim()[0]) == ("linear", 0)


def test_attention_shares_one_scale_and_leaves_the_future_blank() -> None:
    first, second = np.tril(np.full((3, 3), 1.0, np.float32)), np.tril(np.full((3, 3), 1e-9, np.float32))
    figure = figures.attention_maps([first, second], [1, 2], 2)
    images = [axes.get_images()[0] for axes in figure.axes[:2]]
    assert [image.get_clim() for image in images] == [(1e-4, 1.0)] * 2
    for image in images:
        assert np.array_equal(image.get_array().mask, ~np.tri(3, dtype=bool))
    assert images[1].get_array().min() == pytest.approx(1e-4)  # what is smaller looks alike
    assert figure.axes[0].get_lines()[0].get_xdata()[0] == 1.5


def test_scores_stand_where_their_patch_is() -> None:
    values = np.arange(6, dtype=np.float32)
    figure = figures.score_maps(Image.new("RGB", (30, 20)), [values], [values > 3], [7], (2, 3))
    where, dots = figure.axes[2:4]
    assert where.get_images()[0].get_array().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [spots.get_offsets().tolist() for spots in dots.collections] == [
        [[4, 4], [5, 5]],
        [[0, 0], [1, 1], [2, 2], [3, 3]],
    ]
    assert dots.get_ylim() == (0, 5)
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["best 33 %", "the others"]


def test_a_score_far_out_does_not_black_out_the_others() -> None:
    values = np.linspace(0, 1, 100, dtype=np.float32)
    values[42] = 1000
    figure = figures.score_maps(Image.new("RGB", (30, 30)), [values], [values > 0.5], [7], (10, 10))
    where, dots = figure.axes[2:4]
    assert where.get_images()[0].get_clim() == (0, 1)
    assert dots.get_ylim() == (0, 1)
    (triangle,) = (spots for spots in dots.collections if len(spots.get_offsets()) == 1)
    assert triangle.get_offsets().tolist() == [[42, 1]]  # at the end of the scale, above its place
    assert figure.axes[1].get_legend().get_texts()[-1].get_text() == "beyond the scale"


@pytest.mark.parametrize("values", [np.arange(100), np.arange(100) ** 3, np.eye(100)[0]], ids=["even", "steep", "one"])
def test_scores_without_any_far_out_are_shown_whole(values: np.ndarray) -> None:
    figure = figures.score_maps(Image.new("RGB", (30, 30)), [values.astype(np.float32)], [values > 50], [7], (10, 10))
    drawn = figure.axes[2].get_images()[0]
    assert drawn.get_clim() == (drawn.get_array().min(), drawn.get_array().max())
    assert len(figure.axes[1].get_legend().get_texts()) == 2


def test_growth_is_read_off_plain_numbers() -> None:
    tokens = [2**k for k in range(8, 15)]
    figure = figures.growth_curves(tokens, [0.4 * n for n in tokens], [10**9] * 7)
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            ticks = [t for t in [*axis.get_major_ticks(), *axis.get_minor_ticks()] if low <= t.get_loc() <= high]
            texts = {tick.label1.get_text(): tick.get_loc() for tick in ticks if tick.label1.get_text()}
            assert len(texts) >= 2
            assert all(float(text) == pytest.approx(place) for text, place in texts.items())
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["256", "2048", "16384"]


def test_tokens_say_what_is_left() -> None:
    figure = figures.kept_tokens(
        Image.new("RGB", (480, 480), "red"), [np.array([0]), np.array([], int)], [2, 3], (2, 2)
    )
    panels = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.get_title() for axes in panels] == [
        "picture\n4 tokens",
        "after layer 2\n1 of 4 kept",
        "after layer 3\nnone kept",
    ]
    corners = np.stack(
        [np.asarray(axes.get_images()[0].get_array())[120::240, 120::240].reshape(4, 3) for axes in panels]
    )
    red = corners.max(-1) - corners.min(-1) > 100
    assert red.tolist() == [[True] * 4, [True, False, False, False], [False] * 4]


def test_files(tmp_path: Path) -> None:
    figure = figures.spread_curve([1, 2, 3])
    assert figures.save(figure, tmp_path / "both") == [tmp_path / "both.png", tmp_path / "both.svg"]
    with Image.open(tmp_path / "both.png") as drawn:
        assert drawn.width == round(3.4 * 300)
    assert ET.parse(tmp_path / "both.svg").getroot().tag.endswith("svg")
    assert figures.save(figure, tmp_path / "one.PDF") == [tmp_path / "one.PDF"]
    assert (tmp_path / "one.PDF").read_bytes().startswith(b"%PDF")
    figures.save(figures.spread_curve([1, 2, 3]), tmp_path / "again")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "both.svg").read_bytes()


SQUARE = Image.new("RGB", (9, 9))


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: figures.spread_curve([]), "There is no curve to draw"),
        (lambda: figures.spread_curve([1, 2], late=3), "late=3 lies beyond the curve: it has 2 layers"),
        (lambda: figures.attention_maps([], [], 1), "0 matrices and 0 layers"),
        (lambda: figures.attention_maps([np.eye(2, dtype=np.float32)], [1, 2], 1), "1 matrices and 2 layers"),
        (lambda: figures.score_maps(SQUARE, [], [], [], (3, 3)), "0 layers of scores, 0 masks and 0 names"),
        (lambda: figures.score_maps(SQUARE, [np.ones(4)], [np.ones(4) > 0], [1], (3, 3)), "4 scores for 3 x 3 = 9"),
        (lambda: figures.kept_tokens(SQUARE, [np.array([9])], [1], (3, 3)), "numbered 0 to 8"),
        (lambda: figures.kept_tokens(SQUARE, [np.array([8])], [], (3, 3)), "one layer per stage"),
        (lambda: figures.save(Figure(), "x.gif"), "'x.gif' does not end in a format for figures"),
        (lambda: figures.paths("x.sgv"), "did you mean '.svg'"),
    ],
)
def test_mistakes_are_told(draw, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        draw()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("deltaprune.analysis.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"not installed: run pip install 'deltaprune\[plot\]'"):
        importlib.import_module("deltaprune.analysis.figures")
