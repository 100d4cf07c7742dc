"""The picture of a search: every operating point that was measured, and which was chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import (
    GREY,
    SMALL,
    VERMILLION,
    Style,
    new_figure,
    series_style,
)
from jax_elastic.evaluation.plots_series import Series, accuracy_axis, finish, look
from jax_elastic.evaluation.plots_space import draw_cloud
from jax_elastic.evaluation.rows import Row, name_point
from jax_elastic.evaluation.tables import count_unit

AXES = {
    "macs": "MACs per image",
    "flops": "FLOPs per image",
    "params": "parameters",
    "ms": "ms of a call",
}
"""The costs that can be along the x axis, and what is written there."""

_UNITS = {"macs": "MACs", "flops": "FLOPs", "params": "parameters", "ms": "ms"}


def draw_search(
    rows: Sequence[Row],
    chosen: Row | None,
    cost: str,
    most: float | None,
    title: str,
    limits: Mapping[str, float] | None = None,
) -> Figure:
    """Top-1 (percent) of every operating point against a cost, the Pareto front joined.

    The front is found on the images that are drawn, so it flatters (docs/search.md).

    Args:
      rows: of a table; those without the cost are left out.
      chosen: the row that is marked and named; None for none.
      cost: in `AXES`.
      most: the limit of that cost, drawn as a line; None for none.
      title: stands above the axes.
      limits: of any costs. What breaks one that the axis does not show is grey, and the front is
        that of the others.

    Raises:
      UsageError: no row has the cost.
    """
    unseen = {name: limit for name, limit in (limits or {}).items() if name != cost}
    measured = Series("", series_style(0), tuple(rows)).having(cost)
    if not measured.rows:
        raise UsageError(f"no row of the table has {cost}", next_step="measure it by --ms")
    kept = tuple(row for row in measured.rows if not _breaks(row, unseen))
    series = replace(measured, name="Pareto front (small: the other points)", rows=kept)
    broken = Series(
        f"beyond the limit of {', '.join(_UNITS[name] for name in unseen)}",
        Style(GREY, ".", ""),
        tuple(row for row in measured.rows if _breaks(row, unseen)),
    )
    figure, axes = new_figure(4.3, title)
    costs = [*measured.values(cost), *([] if most is None else [most])]
    size, unit = (1.0, "") if cost == "ms" else count_unit(max(costs))
    shown = [one for one in (series, broken) if one.rows]
    if broken.rows:
        small = {**look(broken), "markersize": 3, "alpha": 0.5}
        axes.plot(broken.values(cost, 1 / size), broken.values("top1", 100), **small)
    if series.rows:
        draw_cloud(axes, series, cost, 1 / size)
    if most is not None:
        axes.axvline(most / size, color=GREY, linewidth=1.0, linestyle="--")
        axes.annotate(
            f"limit {most / size:.4g} {unit and f'{unit} '}{_UNITS[cost]}",
            (most / size, 0.02),
            (-3, 0),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="right",
            fontsize=SMALL,
            color=GREY,
        )
    if chosen is not None:
        # Its name stands in the legend: beside the point, it would cover others.
        one = Series(f"chosen: {name_point(chosen)}", Style(VERMILLION, "*", ""), (chosen,))
        star = {**look(one), "markersize": 12}
        axes.plot(one.values(cost, 1 / size), one.values("top1", 100), **star)
        shown.append(one)
    axes.set_xlabel(f"{AXES[cost]}{unit and f', {unit}'}")
    accuracy_axis(axes, [measured], ["bar: 95 % interval"])
    finish(figure, [axes], shown)
    return figure


def _breaks(row: Row, limits: Mapping[str, float]) -> bool:
    """Whether a row costs more than one of several limits."""
    return any(row.get(name) is not None and row[name] > most for name, most in limits.items())
