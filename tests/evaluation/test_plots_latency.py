"""The picture of a latency table shows each series, the dense form and the ideal line."""

import struct

import numpy as np
import pytest
from matplotlib.text import Text

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_latency import draw_latency


def row(size, engine, macs, ms, dense=False, p99=1.2):
    return {
        "batch_size": size,
        "engine": engine,
        "dense": dense,
        "macs_mean": macs * 1e6,
        "mac_ratio": macs / 10,
        "ms_per_image": ms,
        "ms_p99": p99 * ms * size,
    }


ROWS = [
    made
    for size, ms in ((1, 4.0), (8, 1.0))
    for made in (
        row(size, "static", 10, ms, dense=True),
        row(size, "compacted", 6, 0.7 * ms),
        row(size, "compacted", 3, 0.4 * ms),
        row(size, "masked", 3, ms),
        row(size, "masked", 6, ms),
    )
]


def curves(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_it_is_a_png_of_a_panel_for_each_batch_size(tmp_path):
    data = save_figure(draw_latency(ROWS, "t"), tmp_path / "latency.png").read_bytes()

    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (960, 870)


def test_each_panel_draws_the_engines_of_its_batch_size_in_the_order_of_macs():
    one, eight = draw_latency(ROWS, "t").axes

    for axes, dense in ((one, 4.0), (eight, 1.0)):
        found = curves(axes)
        np.testing.assert_allclose(found["compacted"], [[3, 0.4 * dense], [6, 0.7 * dense]])
        np.testing.assert_allclose(found["masked"], [[3, dense], [6, dense]])
        np.testing.assert_allclose(found["dense, by static"], [[10, dense]])


def test_the_ideal_line_leads_from_the_origin_through_the_dense_form():
    for axes, dense in zip(draw_latency(ROWS, "t").axes, (4.0, 1.0), strict=True):
        (x0, y0), (x1, y1) = curves(axes)["ideal: time as MACs"]
        assert (x0, y0) == (0, 0)
        assert x1 > 10 and y1 / x1 == pytest.approx(dense / 10)


def test_the_ideal_line_goes_by_the_macs_of_the_dense_form_where_gates_close_some_of_them():
    # A dense form with gates computes all blocks whatever they say.
    (axes,) = draw_latency([row(8, "masked", 5, 1.0, dense=True)], "t").axes
    _, (x, y) = curves(axes)["ideal: time as MACs"]
    assert y / x == pytest.approx(1.0 / 10)


def test_whiskers_reach_to_the_99th_percentile_of_an_image():
    (axes,) = draw_latency(ROWS[5:], "t").axes
    ends = {
        tuple(np.round(segment[:, 1], 6))
        for bars in axes.collections
        for segment in bars.get_segments()
    }
    assert ends == {(1.0, 1.2), (0.7, 0.84), (0.4, 0.48)}


def test_one_slow_call_does_not_flatten_the_others():
    slow = [*ROWS[5:], row(8, "masked", 8, 1.0, p99=50)]
    (axes,) = draw_latency(slow, "t").axes
    assert axes.get_ylim()[1] < 2.5


def test_units_batch_sizes_and_series_are_named():
    figure = draw_latency(ROWS, "digits on cpu")
    found = {artist.get_text() for artist in figure.findobj(Text)}
    assert {"digits on cpu", "ms per image", "batches of 1", "batches of 8"} <= found
    assert "mean MACs per image, M (bar: to the 99th percentile)" in found
    assert {"compacted", "masked", "dense, by static", "ideal: time as MACs"} <= found


def test_a_picture_needs_rows():
    with pytest.raises(UsageError, match="there are no rows to plot"):
        draw_latency([], "t")
