"""Use by quarters of difficulty: who is in which, and what is said of them."""

import numpy as np
import pytest
from matplotlib.text import Text
from scipy.stats import spearmanr, ttest_ind

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.difficulty import (
    Spent,
    columns_of,
    difficulty_row,
    quarters,
    spent,
)
from jax_elastic.evaluation.evaluate import Evaluation
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_difficulty import draw_usage_against_difficulty
from jax_elastic.evaluation.tables import format_table

RNG = np.random.default_rng(0)
LOSS = RNG.exponential(size=40)
USED = np.rint(3 + LOSS + RNG.normal(size=40))


def pair(used=USED, unit="blocks", loss=LOSS, asked=None):
    return Spent({"subnet": "full", "asked": asked, "n": len(loss)}, used, unit, loss)


def texts(figure):
    return {artist.get_text() for artist in figure.findobj(Text)}


def test_quarters_are_of_equal_size_from_the_easiest_to_the_hardest():
    assert quarters(np.array([5.0, 1, 3, 7, 2, 8, 6, 4])).tolist() == [2, 0, 1, 3, 0, 3, 2, 1]


def test_of_equal_losses_the_first_image_is_in_the_lower_quarter():
    assert quarters(np.zeros(8)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_quarter_tells_the_mean_of_its_images_and_where_its_losses_begin():
    row = difficulty_row(pair())
    order = np.argsort(LOSS)
    assert row["used_mean"] == pytest.approx(USED[order].reshape(4, 10).mean(1))
    assert row["loss_from"] == LOSS[order][::10].tolist()
    assert (row["subnet"], row["asked"], row["n"], row["unit"]) == ("full", None, 40, "blocks")


def test_the_mean_of_a_quarter_has_students_interval():
    used = np.tile([0.7, 0.8, 0.9], 4)
    (low, high), *_ = difficulty_row(pair(used, loss=np.arange(12.0)))["used_ci95"]
    # 0.8 +- 4.302653 * 0.1 / sqrt(3).
    assert (low, high) == pytest.approx((0.551586, 1.048414), abs=1e-6)


def test_the_hardest_quarter_is_compared_with_the_easiest_by_welchs_interval():
    row = difficulty_row(pair())
    parts = USED[np.argsort(LOSS)].reshape(4, 10)
    expected = ttest_ind(parts[3], parts[0], equal_var=False).confidence_interval()
    assert row["hardest_less_easiest"] == pytest.approx(parts[3].mean() - parts[0].mean())
    assert row["hardest_less_easiest_ci95"] == pytest.approx(tuple(expected))


def test_the_rank_correlation_is_spearmans_with_ties():
    row = difficulty_row(pair())
    assert row["spearman"] == pytest.approx(spearmanr(LOSS, USED).statistic)
    low, high = row["spearman_ci95"]
    reach = 1.959964 * np.sqrt((1 + row["spearman"] ** 2 / 2) / 37)
    assert np.arctanh([low, high]) == pytest.approx(
        np.arctanh(row["spearman"]) + np.array([-reach, reach])
    )


def test_where_all_images_use_the_same_there_is_no_correlation_and_no_difference():
    row = difficulty_row(pair(np.full(40, 7.0)))
    assert (row["spearman"], row["spearman_ci95"]) == (None, None)
    assert row["used_ci95"] == [(7, 7)] * 4
    assert row["hardest_less_easiest_ci95"] == (0, 0)


def test_too_few_images_for_quarters_are_refused():
    with pytest.raises(UsageError, match="7 images make no quarters; 8 or more"):
        difficulty_row(pair(USED[:7], loss=LOSS[:7]))


# What an evaluation has of it

OPENED = np.eye(3)[np.arange(9) % 3].cumsum(1)
MACS = np.arange(9.0)


def evaluation(opened=None, choice=None, levels=1):
    rows = [
        {"subnet": "full", "asked": None, "n": 9, **({"level": d} if levels > 1 else {})}
        for d in range(levels)
    ]
    one = [np.ones(9)] * levels
    return Evaluation(
        rows,
        one,
        [opened] * levels,
        [MACS] * levels,
        choice=[choice] * levels,
        answer=[np.ones((1, 9), np.int32)] * levels,
        loss=[np.arange(9.0) + 10 * d for d in range(levels)],
    )


def test_images_that_open_blocks_use_blocks_and_those_that_choose_use_macs():
    (gated,) = spent(evaluation(OPENED))
    (chooses,) = spent(evaluation(choice=np.zeros((1, 9), np.int32)))
    assert (gated.unit, gated.used.tolist()) == ("blocks", [3, 2, 1] * 3)
    assert (chooses.unit, chooses.used.tolist()) == ("MACs", MACS.tolist())


def test_an_operating_point_that_is_the_same_for_all_images_is_left_out():
    assert spent(evaluation()) == []


def test_difficulty_is_the_own_loss_at_the_finest_level_or_the_one_that_is_given():
    own = spent(evaluation(OPENED, levels=2))
    (given,) = spent(evaluation(OPENED), -MACS)
    assert [one.loss.tolist() for one in own] == [list(range(9))]
    np.testing.assert_array_equal(given.loss, -MACS)


def test_losses_of_other_images_are_refused():
    with pytest.raises(UsageError, match="8 losses for 9 images"):
        spent(evaluation(OPENED), MACS[:8])


# How it is shown


def test_the_table_names_the_quarters_and_the_unit():
    heading, line = format_table(rows := [difficulty_row(pair())], columns_of(rows)).splitlines()
    assert "easiest  second  third  hardest  hardest - easiest" in heading
    assert line.split()[:2] == ["full", "blocks"] and "asked" not in heading


def test_a_budget_of_zero_is_shown_and_macs_have_their_unit():
    rows = [difficulty_row(pair(1e6 * USED, "MACs", asked=0.0))]
    table = format_table(rows, columns_of(rows))
    assert "asked" in table and " M" in table


def test_the_figure_has_the_quarters_with_their_intervals_and_each_image():
    figure = draw_usage_against_difficulty([pair()], "plain", "toy")
    above, below = figure.axes
    (means,) = (line for line in above.lines if line.get_marker() == "o")
    np.testing.assert_allclose(means.get_ydata(), difficulty_row(pair())["used_mean"])
    dots = next(line for line in below.lines if line.get_marker() == ".")
    np.testing.assert_allclose(np.rint(dots.get_ydata()), USED[np.argsort(LOSS)])
    assert "images by the loss of plain, %: easiest left, hardest right" in texts(figure)
    assert {"toy", "mean of a quarter", "an image's open blocks"} <= texts(figure)


def test_of_several_points_each_has_a_line_and_the_one_with_most_spread_its_images():
    narrow, wide = pair(np.full(40, 7.0), asked=0.2), pair(asked=0.6)
    figure = draw_usage_against_difficulty([narrow, wide], "plain", "toy")
    assert {"full at budget 0.2", "full at budget 0.6"} <= texts(figure)
    assert "an image's open blocks\nfull at budget 0.6" in texts(figure)


def test_what_hardly_differs_does_not_fill_the_panel():
    figure = draw_usage_against_difficulty([pair(7 + 0.001 * USED)], "plain", "toy")
    low, high = figure.axes[0].get_ylim()
    assert high - low >= 1


@pytest.mark.parametrize(("images", "alpha"), [(40, 1), (2000, 0.5)])
def test_dots_of_many_images_let_through_what_is_below_and_are_still_seen(images, alpha):
    loss = np.arange(float(images))
    figure = draw_usage_against_difficulty([pair(loss % 5, loss=loss)], "plain", "toy")
    dots = next(line for line in figure.axes[1].lines if line.get_marker() == ".")
    assert dots.get_alpha() == alpha


def test_macs_are_drawn_in_their_unit():
    figure = draw_usage_against_difficulty([pair(1e6 * USED, "MACs")], "plain", "toy")
    assert {"an image's MACs, M", "mean MACs, M\n(bar: 95 % interval)"} <= texts(figure)


def test_the_same_pairs_give_the_same_bytes(tmp_path):
    first, second = (
        save_figure(draw_usage_against_difficulty([pair()], "a", "t"), tmp_path / n) for n in "ab"
    )
    assert first.read_bytes() == second.read_bytes()
