"""Every resize is JAX's bilinear one, in values and gradients; scales are decimal numbers."""

import fractions
import functools
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jax_elastic.errors import UsageError
from jax_elastic.layers.resize import RESIZES, resize, resize_within, scaled
from jax_elastic.macs import count_macs

IMPLS = sorted(RESIZES)
SIDES = st.integers(1, 7)


def example(height, width, dtype="float32"):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3))
    return jnp.asarray(x, dtype)


def by_jax(x, size):
    return jax.image.resize(x, (len(x), *size, x.shape[-1]), "bilinear", antialias=False)


def value_and_gradient(form, x, ct):
    out, vjp = jax.vjp(form, x)
    return out, *vjp(ct)


@hypothesis.settings(max_examples=12)  # every pair of sizes compiles
@hypothesis.given(SIDES, SIDES, SIDES, SIDES)
def test_values_and_gradients_are_those_of_jax_between_any_two_sizes(height, width, h, w):
    forms = [by_jax, *(functools.partial(resize, impl=impl) for impl in IMPLS)]

    @jax.jit
    def all_forms(x, ct):
        return [value_and_gradient(lambda x, f=f: f(x, (h, w)), x, ct) for f in forms]

    with jax.enable_x64(True):
        x, ct = example(height, width, "float64"), example(h, w, "float64")
        expected, *found = all_forms(x, ct)
    for ours in found:
        # Numbers of size 1, and sums of at most 49 of them.
        np.testing.assert_allclose(ours[0], expected[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours[1], expected[1], rtol=0, atol=1e-12)


def in_corner(x, shape):
    """An array in the upper left corner of zeros."""
    canvas = np.zeros(shape)
    canvas[tuple(map(slice, x.shape))] = x
    return canvas


@jax.jit
def within(x, ct, old, new):
    """Value and gradient between canvases, compiled once for all sizes."""
    return value_and_gradient(lambda x: resize_within(x, old, new, ct.shape[1:3]), x, ct)


@hypothesis.settings(max_examples=20)
@hypothesis.given(SIDES, SIDES, SIDES, SIDES)
def test_traced_sizes_on_a_canvas_give_the_same_map_and_zeros_around_it(height, width, h, w):
    with jax.enable_x64(True):
        # What lies around the map is no zero, and is not read.
        canvas, ct = example(7, 8, "float64"), example(8, 7, "float64")
        out, gradient = within(canvas, ct, jnp.int32([height, width]), jnp.int32([h, w]))

        exact = functools.partial(resize, size=(h, w), impl="gather")
        expected = value_and_gradient(exact, canvas[:, :height, :width], ct[:, :h, :w])
        # Numbers of size 1, and sums of at most 49 of them.
        for found, own in zip((out, gradient), expected, strict=True):
            np.testing.assert_allclose(found, in_corner(own, found.shape), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_map_on_a_canvas_is_rounded_once_to_its_dtype(dtype):
    x = example(5, 5, dtype)
    exact = resize(x.astype(jnp.float32), (3, 4), "matmul")
    on_canvas = resize_within(x, jnp.int32([5, 5]), jnp.int32([3, 4]), (3, 4))
    assert on_canvas.dtype == dtype
    np.testing.assert_allclose(on_canvas, exact.astype(dtype), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_map_that_has_the_size_already_is_handed_on_itself(impl):
    x = example(4, 5)
    assert resize(x, (4, 5), impl) is x


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_the_dtype_is_kept(impl, dtype):
    with jax.enable_x64(dtype == "float64"):
        assert resize(example(4, 4, dtype), (3, 7), impl).dtype == dtype


@pytest.mark.parametrize("impl", IMPLS)
def test_bfloat16_is_rounded_once_at_the_end(impl):
    x = example(5, 6, "bfloat16")
    exact = resize(x.astype(jnp.float32), (3, 8), impl)
    np.testing.assert_array_equal(resize(x, (3, 8), impl), exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("size", [(3, 2), (7, 9), (7, 2)], ids=str)
def test_the_gather_counts_zero_and_the_product_counts_its_taps(size):
    x, (h, w) = example(4, 6), size
    count = {impl: count_macs(lambda x, i=impl: resize(x, size, i), x) for impl in IMPLS}
    assert count["gather"] == 0
    # 2 images of 3 channels: rows first, then columns.
    assert count["matmul"] == 2 * 3 * (h * 4 * 6 + h * w * 6)
    assert count["auto"] in (count["gather"], count["matmul"])


@pytest.mark.parametrize("size", [(2, 3), (9, 8)], ids=str)
def test_what_overflowed_at_one_pixel_leaves_pixels_that_do_not_read_it_alone(size):
    x = example(5, 5)
    clean = resize(x, size, "gather")
    hit = resize(x.at[:, 0, 0].set(jnp.inf), size, "gather")
    np.testing.assert_array_equal(hit[:, -1], clean[:, -1])
    np.testing.assert_array_equal(hit[:, :, -1], clean[:, :, -1])
    assert not jnp.isfinite(hit[:, 0, 0]).any()


def test_an_unknown_implementation_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="'nearest' is unknown; there are: auto, gather, matmul"):
        resize(example(2, 2), (1, 1), "nearest")


def test_a_side_without_a_pixel_is_refused():
    with pytest.raises(UsageError, match="cannot be resized to 3x0"):
        resize(example(2, 2), (3, 0))


@hypothesis.given(st.integers(1, 1024), st.integers(1, 2000))
def test_a_decimal_scale_gives_the_side_that_exact_numbers_give(side, thousandths):
    exact = fractions.Fraction(thousandths, 1000) * side
    hypothesis.assume(exact >= 1)
    assert scaled(side, thousandths / 1000) == math.floor(exact)


@pytest.mark.parametrize(
    "side,scale,expected",
    [(10, 0.7, 7), (100, 0.57, 57), (100, 0.29, 29), (56, 0.9, 50), (7, 0.5, 3), (3, 1 / 3, 1)],
)
def test_a_scaled_side_is_rounded_down_but_not_by_a_float_error(side, scale, expected):
    assert scaled(side, scale) == expected


@pytest.mark.parametrize("scale", [0.2, 0, -1, math.nan, math.inf])
def test_a_scale_that_leaves_no_map_is_refused(scale):
    with pytest.raises(UsageError, match=r"leaves no map .*; .* at least 1/4"):
        scaled(4, scale)
