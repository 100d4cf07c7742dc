"""Every figure that one evaluation has data for."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from jax_elastic.data.datasets import Dataset
from jax_elastic.errors import UsageError
from jax_elastic.evaluation import plots, plots_usage
from jax_elastic.evaluation.evaluate import Evaluation, Floats
from jax_elastic.evaluation.plots_anytime import draw_levels, has_levels
from jax_elastic.evaluation.plots_choices import (
    chooses,
    draw_against_candidates,
    draw_choices,
    draw_examples,
)
from jax_elastic.evaluation.plots_images import (
    class_extremes,
    draw_class_extremes,
    draw_right_then_wrong,
    right_then_wrong,
)
from jax_elastic.evaluation.plots_space import (
    draw_fronts,
    draw_preferences,
    has_front,
    is_combination,
)
from jax_elastic.evaluation.rows import Row

Found = Figure | str

# The budgets of the paper's figures 6 and 7; the nearest that were asked are taken.
PAIRS_AT = 0.6
RIGHT_AT, WRONG_AT = 0.8, 0.6


def draw_run(
    found: Evaluation,
    dataset: Dataset,
    title: str,
    size: int | None = None,
    candidates: Sequence[str] = (),
) -> dict[str, Found]:
    """The figures of an evaluation by name, or in place of one why it is left out.

    Accuracy against MACs is always there. Where a network has gates, its usage is too, at each
    budget if it was asked for some; and where its gates are not random, what they do to single
    images: pairs of a class, near S = 0.6, and with budgets images that are right near S = 0.8 and
    wrong near 0.6. Of several label
    levels the finest is drawn; where there are several operating points, all levels against them.
    Where operating points are combinations of choices, also what each choice is worth. Where images
    choose among candidates, how often each is chosen, and images that do.

    Args:
      found: what the evaluator found.
      dataset: the images it was given.
      title: stands above each figure.
      size: of the network's space, if known, see `draw_preferences`.
      candidates: what images choose among, see `Family.candidates`, as text.
    """
    figures: dict[str, Found] = {}
    if has_levels(found.rows):
        figures["accuracy_of_levels"] = draw_levels(found.rows, title)
    found = found.at_finest()
    if all(map(is_combination, found.rows)):
        return figures | _of_combinations(found.rows, title, size)
    if any(map(chooses, found.rows)):
        return figures | _of_choices(found, dataset, title, candidates)
    figures["accuracy_against_macs"] = plots.draw_accuracy_against_macs(found.rows, title)
    opened = [of_row for of_row in found.opened if of_row is not None]
    if len({row["subnet"] for row in found.rows}) > 1 or len(opened) < len(found.rows):
        return figures
    draws = found.rows[0].get("draws")
    of_usage = title if draws is None else f"{title}, means of {draws} draws"
    budgets = [row["asked"] for row in found.rows if row["asked"] is not None]
    if not budgets:
        return figures | _without_budget(found, opened[0], dataset, title, of_usage)
    figures |= _of_usage(found, opened, budgets, of_usage)
    if draws is None:
        at = _nearest(budgets, PAIRS_AT)
        figures["class_extremes"] = _class_extremes(
            opened[at], found.top1[at], budgets[at], dataset, title
        )
        figures["right_then_wrong"] = _right_then_wrong(found, opened, budgets, dataset, title)
    return figures


def _without_budget(
    found: Evaluation, opened: Floats, dataset: Dataset, title: str, of_usage: str
) -> dict[str, Found]:
    count = opened.shape[1]
    shares, stages = _by_block(found.rows[0])
    figures: dict[str, Found] = {
        "kept_ratio": plots_usage.draw_kept_ratio(shares, of_usage, stages),
        "per_image_usage": plots_usage.draw_image_usage(opened.sum(1), of_usage, count),
    }
    if "draws" not in found.rows[0]:
        figures["class_extremes"] = _class_extremes(opened, found.top1[0], None, dataset, title)
    return figures


def _by_block(row: Row) -> tuple[list[float], tuple[int, ...]]:
    """The share of the images that open each block, NaN of one that always runs, and the stages."""
    stages: list[list[str]] = row["blocks_stages"]
    opened: dict[str, float] = row["blocks_open"]
    shares = [opened.get(name, float("nan")) for stage in stages for name in stage]
    return shares, tuple(map(len, stages))


def _of_combinations(rows: Sequence[Row], title: str, size: int | None) -> dict[str, Found]:
    named = [{"run": "its operating points", **row} for row in rows]
    few = not has_front(named)
    found: dict[str, Found] = {
        "accuracy_against_macs": plots.draw_accuracy_against_macs(rows, title)
        if few
        else draw_fronts(named, title)
    }
    if len(rows) == 1:  # somebody asked for this point, not for what choices are worth
        return found
    try:
        found["choices"] = draw_preferences(rows, title, size)
    except UsageError as error:
        found["choices"] = str(error)
    return found


def _of_choices(
    found: Evaluation, dataset: Dataset, title: str, candidates: Sequence[str]
) -> dict[str, Found]:
    # The last point leaves the most to choose.
    at, choice = next(
        (i, choice) for i, choice in reversed(list(enumerate(found.choice))) if choice is not None
    )
    point = f"{title}, {found.rows[at]['subnet']}"
    return {
        "accuracy_against_macs": draw_against_candidates(found.rows, found.macs, title),
        "candidates_chosen": draw_choices(found.rows, candidates, title),
        "images_of_candidates": draw_examples(
            dataset, choice[0], found.answer[at][0], candidates, point
        ),
    }


def _of_usage(
    found: Evaluation, opened: Sequence[Floats], budgets: Sequence[float], title: str
) -> dict[str, Found]:
    of_blocks, stages = zip(*map(_by_block, found.rows), strict=True)
    of_images = [of_row.mean(1) for of_row in opened]
    return {
        "budget_against_usage": plots.draw_budget_against_usage(found.rows, title),
        "block_usage_map": plots.draw_block_usage_map(of_blocks, budgets, title, stages[0]),
        "per_image_usage": plots.draw_per_image_usage(
            of_images, budgets, title, opened[0].shape[1]
        ),
    }


def _class_extremes(
    opened: Floats, right: Floats, budget: float | None, dataset: Dataset, title: str
) -> Found:
    pairs = class_extremes(opened.sum(1), dataset.labels[:, 0])
    if not pairs:
        told = "all images of a class open as many blocks"
        return told if budget is None else f"at S = {budget:g} {told}"
    return draw_class_extremes(dataset, pairs, opened, right, budget, title)


def _right_then_wrong(
    found: Evaluation,
    opened: Sequence[Floats],
    budgets: Sequence[float],
    dataset: Dataset,
    title: str,
) -> Found:
    high = _nearest(budgets, RIGHT_AT)
    below = [budget for budget in budgets if budget < budgets[high]]
    if not below:
        return "it takes two budgets, for example --budgets=0.6,0.8"
    low = budgets.index(below[_nearest(below, WRONG_AT)])
    images = right_then_wrong(found.top1[high], found.top1[low])
    pair = budgets[high], budgets[low]
    if not len(images):
        return f"no image is right at S = {pair[0]:g} and wrong at S = {pair[1]:g}"
    counts = opened[high].sum(1), opened[low].sum(1)
    reverse = len(right_then_wrong(found.top1[low], found.top1[high]))
    return draw_right_then_wrong(dataset, images, counts, pair, title, reverse)


def _nearest(budgets: Sequence[float], wanted: float) -> int:
    return min(range(len(budgets)), key=lambda i: abs(budgets[i] - wanted))
