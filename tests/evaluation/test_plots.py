"""Figures: valid, repeatable PNG files whose axes say what they show."""

import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib.text import Text

from jax_elastic.errors import UsageError
from jax_elastic.evaluation import plots
from jax_elastic.evaluation.figures import save_figure

BUDGETS = (0.2, 0.6, 1.0)
USAGE = np.linspace(0, 1, 18).reshape(3, 6)
OPEN_SHARE = np.array([[0, 1, 1, 2], [3, 4, 4, 5], [6, 6, 6, 6]]) / 6


def budget_row(asked):
    return {
        "subnet": "full",
        "n": 1797,
        "asked": asked,
        "achieved": 0.1 + 0.9 * asked,
        "achieved_std": 0.05,
        "achieved_p99": min(0.3 + 0.9 * asked, 1),
        "top1": 0.8 + 0.1 * asked,
        "top1_ci95": (0.79 + 0.1 * asked, 0.81 + 0.1 * asked),
        "macs_mean": 1e8 * (0.2 + asked),
        "macs_std": 1e7,
    }


def static_row(subnet, macs):
    top1 = {"top1": 0.9, "top1_ci95": (0.89, 0.91)}
    return {"subnet": subnet, "n": 1797, "asked": None, "macs_mean": macs, "macs_std": None, **top1}


ROWS = [budget_row(s) for s in BUDGETS] + [static_row("width:2", 0.9e8)]

# Name -> (draw it, expected size in pixels): 960 wide at 150 dpi.
FIGURES = {
    "accuracy": (lambda: plots.draw_accuracy_against_macs(ROWS, "t"), (960, 645)),
    "budget": (lambda: plots.draw_budget_against_usage(ROWS, "t"), (960, 690)),
    "map": (lambda: plots.draw_block_usage_map(USAGE, BUDGETS, "t", (2, 4)), (960, 387)),
    "images": (lambda: plots.draw_per_image_usage(OPEN_SHARE, BUDGETS, "t", 6), (960, 405)),
}


def texts(figure):
    return {artist.get_text() for artist in figure.findobj(Text)}


@pytest.mark.parametrize(("draw", "size"), FIGURES.values(), ids=FIGURES)
def test_a_figure_is_a_png_of_the_expected_size(tmp_path, draw, size):
    path = save_figure(draw(), tmp_path / "figure.png")
    data = path.read_bytes()
    assert path == tmp_path / "figure.png"
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == size
    assert b"tEXt" not in data


@pytest.mark.parametrize("draw", [draw for draw, _ in FIGURES.values()], ids=FIGURES)
def test_the_same_rows_give_the_same_bytes_in_every_thread(tmp_path, draw):
    def save(path):
        return save_figure(draw(), path)

    expected = save(tmp_path / "expected.png").read_bytes()
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(save, [tmp_path / f"{i}.png" for i in range(3)]))
    assert [path.read_bytes() == expected for path in paths] == [True] * 3


def test_accuracy_says_its_units_its_images_and_names_each_point():
    found = texts(plots.draw_accuracy_against_macs(ROWS, "digits"))
    assert "mean MACs per image, M (thin bar: std over images)" in found
    assert "top-1, % (bar: 95 % interval, 1,797 images)" in found
    assert {"digits", "0.2", "0.6", "1", "width:2"} <= found


def test_accuracy_is_drawn_in_percent_and_in_the_axis_unit():
    figure = plots.draw_accuracy_against_macs([budget_row(0.6)], "digits")
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    # 1e-9 is rounding in 100 * share.
    np.testing.assert_allclose(lines[0].get_xydata(), [[80, 86]], rtol=1e-9)


def drawn_lines(rows):
    """Legend -> (style, points) of what `draw_accuracy_against_macs` joins or leaves apart."""
    lines = plots.draw_accuracy_against_macs(rows, "digits").axes[0].lines
    named = {line.get_label(): line for line in lines if not line.get_label().startswith("_")}
    return {
        name: (line.get_linestyle(), line.get_xydata().tolist()) for name, line in named.items()
    }


def test_points_along_one_axis_are_a_line_of_their_own():
    rows = [static_row(f"width:{k}", k * 1e8) for k in (2, 1, 3)]
    points = [[100, 90], [200, 90], [300, 90]]
    assert drawn_lines(rows) == {"operating points, width": ("-", points)}


def test_points_of_several_numbers_or_axes_are_not_joined():
    fixed = ["full", "blocks:1,0,1", "resolution:1,0.7", "resolution:1,1"]
    rows = [static_row(subnet, i * 1e8) for i, subnet in enumerate(fixed, 1)]
    points = [[100, 90], [200, 90], [300, 90], [400, 90]]
    assert drawn_lines(rows) == {"fixed operating point": ("None", points)}


def test_a_point_at_which_images_differ_in_cost_is_not_called_fixed():
    row = {**static_row("full", 1e8), "macs_std": 1e6}
    assert list(drawn_lines([row])) == ["operating point"]


def test_budgets_of_each_of_several_points_are_a_line():
    rows = [{**budget_row(s), "subnet": f"width:{k}"} for s in BUDGETS for k in (1, 2)]
    lines = drawn_lines([*rows, static_row("full", 0.9e8)])
    shapes = {name: (style, len(points)) for name, (style, points) in lines.items()}
    assert shapes == {
        "width:1: asked budget S": ("-", 3),
        "width:2: asked budget S": ("-", 3),
        "fixed operating point": ("None", 1),
    }


def test_accuracy_shows_what_random_draws_leave_open():
    drawn = [{**budget_row(s), "draws": 10, "top1_draws_ci95": (0.7, 0.75)} for s in BUDGETS]
    assert "95 % of 10 draws (wide caps)" in texts(plots.draw_accuracy_against_macs(drawn, "t"))
    assert not any("draws" in text for text in texts(plots.draw_accuracy_against_macs(ROWS, "t")))


def test_points_that_coincide_share_one_label():
    rows = [{**budget_row(0.3), "asked": asked} for asked in (0.1, 0.2)] + [budget_row(1.0)]
    assert "0.1, 0.2" in texts(plots.draw_accuracy_against_macs(rows, "digits"))


def test_labels_do_not_cover_each_other():
    rows = [static_row(f"resolution:1,0.{i}", 1e8 + 4e6 * i) for i in range(5)]
    figure = plots.draw_accuracy_against_macs([*rows, static_row("full", 3e8)], "digits")
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    overlaps = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert len(boxes) == 6
    assert not any(overlaps)


def test_budget_figure_draws_the_diagonal_and_states_the_tracking_error():
    figure = plots.draw_budget_against_usage(ROWS, "digits")
    curves = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert curves["achieved = asked"] == [[0, 0], [1, 1]]
    # achieved - asked = 0.1 (1 - asked): 0.08, 0.04 and 0, so 0.04 in the mean.
    assert "tracking error, mean 0.040" in texts(figure)
    assert len(curves["mean over images"]) == 3


def test_budget_figure_needs_a_row_that_asks():
    with pytest.raises(UsageError, match="no row asks for a budget; evaluate with --budgets"):
        plots.draw_budget_against_usage([static_row("full", 1e8)], "digits")


def test_accuracy_needs_a_row():
    with pytest.raises(UsageError, match="no rows"):
        plots.draw_accuracy_against_macs([], "digits")


def test_the_map_shows_budgets_upwards_from_zero_to_one():
    figure = plots.draw_block_usage_map(USAGE, BUDGETS, "digits", (2, 4))
    image = figure.axes[0].images[0]
    assert image.origin == "lower"
    assert image.get_clim() == (0, 1)
    np.testing.assert_array_equal(image.get_array(), USAGE)
    assert {"stage 1", "stage 2", "0.2", "0.6", "1"} <= texts(figure)


def test_the_map_draws_a_line_between_stages():
    figure = plots.draw_block_usage_map(USAGE, BUDGETS, "digits", (2, 3, 1))
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [1.5, 4.5]


@pytest.mark.parametrize(
    ("usage", "stages"), [(USAGE[:2], None), (USAGE[0], None), (USAGE, (2, 5)), (USAGE[:, :0], ())]
)
def test_the_map_refuses_shapes_that_do_not_fit(usage, stages):
    with pytest.raises(ValueError, match="usage has"):
        plots.draw_block_usage_map(usage, BUDGETS, "digits", stages)


def test_per_image_bars_are_the_histogram_of_open_blocks():
    figure = plots.draw_per_image_usage(OPEN_SHARE[:1], (0.2,), "digits", 6)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    # Counts 1, 2, 1 of 0, 1, 2 open blocks, scaled so that the peak is 0.8 of a strip.
    assert heights == [0.4, 0.8, 0.4, 0, 0, 0, 0]
    assert {"open blocks of an image, of 6", "1.0 ± 0.7"} <= texts(figure)


@pytest.mark.parametrize("shares", [OPEN_SHARE[:2], OPEN_SHARE[0], OPEN_SHARE[:, :0]])
def test_per_image_usage_refuses_shapes_that_do_not_fit(shares):
    with pytest.raises(ValueError, match="open_share has shape"):
        plots.draw_per_image_usage(shares, BUDGETS, "digits", 6)
