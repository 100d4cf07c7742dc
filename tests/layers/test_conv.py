"""Every convolution is lax's, in values, gradients and, off the CPU, in its program."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_elastic.errors import UsageError
from jax_elastic.layers.blocked import FEW, GROUP
from jax_elastic.layers.conv import (
    CONVOLUTIONS,
    Conv,
    blocked_conv,
    canonical_conv,
    native_conv,
)

# image (B, H, W), kernel (k_h, k_w), stride, padding: odd and non-square maps, maps smaller
# than their kernel, windows that leave a remainder, padding beyond k - 1.
GEOMETRIES = [
    ((2, 8, 8), (3, 3), 1, None),
    ((2, 7, 5), (3, 3), 2, None),
    ((1, 8, 11), (3, 3), 3, None),
    ((2, 8, 7), (3, 3), 2, 0),
    ((2, 5, 6), (3, 3), 2, 4),
    ((3, 6, 7), (1, 1), 1, None),
    ((2, 7, 8), (1, 1), 2, None),
    ((2, 8, 6), (1, 1), 3, 1),
    ((1, 9, 6), (5, 5), 1, None),
    ((2, 3, 4), (5, 5), 2, None),
    ((1, 10, 9), (5, 5), 3, 0),
    ((1, 2, 1), (7, 7), 1, None),
    ((2, 9, 11), (7, 7), 2, None),
    ((1, 8, 5), (7, 7), 3, 1),
    ((2, 6, 7), (2, 2), 2, 0),
    ((1, 5, 6), (3, 1), 1, None),
]
# float64 decides whether the formulas are the same; the others only round differently. Each
# is about 20 roundings of sums of some hundred terms, relative to the largest entry.
TOLERANCES = {"float32": 1e-5, "bfloat16": 4e-2, "float64": 1e-13}


def example(image, kernel, stride, padding, dtype, channels=3, features=4):
    """Inputs x and kernel, and a cotangent of the output's shape."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(*image, channels)), dtype)
    w = jnp.asarray(rng.normal(size=(*kernel, channels, features)), dtype)
    out = jax.eval_shape(lambda x, w: reference(x, w, stride, padding), x, w)
    return x, w, jnp.asarray(rng.normal(size=out.shape), dtype)


def reference(x, kernel, stride, padding):
    pads = [(k // 2, k // 2) if padding is None else (padding, padding) for k in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_gradients(conv, x, kernel, ct):
    out, vjp = jax.vjp(conv, x, kernel)
    return out, *vjp(ct)


def assert_close(actual, desired, dtype):
    for ours, theirs in zip(actual, desired, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        assert ours.shape == theirs.shape
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        scale = np.abs(theirs).max() + 1e-30
        np.testing.assert_array_less(np.abs(ours - theirs).max() / scale, TOLERANCES[dtype])


@pytest.mark.parametrize("image,kernel,stride,padding", GEOMETRIES, ids=str)
@pytest.mark.parametrize("impl", ["blocked", "canonical", "native"])
def test_values_and_gradients_are_those_of_lax(impl, image, kernel, stride, padding):
    with jax.enable_x64(True):
        arrays = example(image, kernel, stride, padding, "float64")
        ours = value_and_gradients(lambda x, w: CONVOLUTIONS[impl](x, w, stride, padding), *arrays)
        theirs = value_and_gradients(lambda x, w: reference(x, w, stride, padding), *arrays)
        assert_close(ours, theirs, "float64")


@pytest.mark.parametrize(
    "batch,channels,features,stride",
    [
        *((batch, 3, 4, 1) for batch in (1, GROUP, GROUP + 1, 2 * GROUP)),
        (2 * GROUP, 3, FEW, 1),
        (2 * GROUP, 3, FEW + 1, 1),
        (2 * GROUP, FEW + 1, 3, 1),
        (2 * GROUP, 3, 4, 2),
        (GROUP + 1, 3, FEW + 1, 2),
    ],
)
def test_blocked_is_lax_for_few_and_many_channels_and_for_any_batch(
    batch, channels, features, stride
):
    with jax.enable_x64(True):
        arrays = example((batch, 5, 4), (3, 3), stride, None, "float64", channels, features)
        ours = value_and_gradients(lambda x, w: blocked_conv(x, w, stride), *arrays)
        theirs = value_and_gradients(lambda x, w: reference(x, w, stride, None), *arrays)
        assert_close(ours, theirs, "float64")


@pytest.mark.parametrize("conv", [blocked_conv, canonical_conv])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "image,kernel,stride,padding", [*GEOMETRIES[:3], ((2 * GROUP, 4, 4), (3, 3), 1, None)], ids=str
)
def test_narrow_dtypes_are_kept_and_agree_within_their_rounding(
    dtype, conv, image, kernel, stride, padding
):
    arrays = example(image, kernel, stride, padding, dtype)
    ours = value_and_gradients(lambda x, w: conv(x, w, stride, padding), *arrays)
    theirs = value_and_gradients(lambda x, w: reference(x, w, stride, padding), *arrays)
    assert_close(ours, theirs, dtype)


def test_blocked_gradients_are_the_same_where_devices_share_the_batch():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    shared = jax.NamedSharding(mesh, jax.P("data"))
    with jax.enable_x64(True):
        x, w, ct = example((2 * GROUP, 5, 6), (3, 3), 1, None, "float64")
        alone = value_and_gradients(blocked_conv, x, w, ct)
        x, ct = jax.device_put((x, ct), shared)
        ours = jax.jit(functools.partial(value_and_gradients, blocked_conv))(x, w, ct)
        assert_close(ours, alone, "float64")
        assert ours[1].sharding == shared


def chain(conv, x, kernels, ct):
    """Gradients of a scan whose body convolves, at the weights `kernels` (n, k, k, C, C)."""

    def loss(x, kernels):
        return (lax.scan(lambda c, w: (conv(c, w), None), x, kernels)[0] * ct).sum()

    return jax.grad(loss, (0, 1))(x, kernels)


@pytest.mark.parametrize("conv", [blocked_conv, canonical_conv])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_inside_a_scan_the_gradients_are_those_of_lax(dtype, conv):
    with jax.enable_x64(dtype == "float64"):
        x, w, ct = example((2, 5, 6), (3, 3), 1, None, dtype, features=3)
        kernels = jnp.stack([w, w * 2, w[::-1]])
        ours = jax.jit(functools.partial(chain, conv))(x, kernels, ct)
        theirs = jax.jit(functools.partial(chain, native_conv))(x, kernels, ct)
        assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("stride", [2, 3])
def test_inside_a_scan_strided_gradients_are_those_outside(stride):
    with jax.enable_x64(True):
        x, w, ct = example((2, 7, 8), (3, 3), stride, None, "float64")
        kernels = jnp.stack([w, w * 2])

        def gradients(x, w):
            return jax.vjp(lambda x, w: canonical_conv(x, w, stride), x, w)[1](ct)

        inside = jax.jit(
            lambda x, kernels: lax.scan(lambda c, w: (c, gradients(x, w)), 0.0, kernels)[1]
        )(x, kernels)
        outside = [gradients(x, w), gradients(x, w * 2)]
        assert_close(inside, [jnp.stack(pair) for pair in zip(*outside, strict=True)], "float64")


@pytest.mark.parametrize("conv", [blocked_conv, canonical_conv])
def test_a_batch_of_kernels_under_vmap_gives_each_its_own_gradient(conv):
    with jax.enable_x64(True):
        x, w, ct = example((2 * GROUP, 5, 6), (3, 3), 2, None, "float64")
        kernels = jnp.stack([w, w * w])

        def gradients(conv, w):
            return jax.vjp(lambda x, w: conv(x, w, 2), x, w)[1](ct)

        ours = jax.vmap(functools.partial(gradients, conv))(kernels)
        theirs = jax.vmap(functools.partial(gradients, native_conv))(kernels)
        assert_close(ours, theirs, "float64")


def compiled_layouts(conv):
    """Dimension labels of every convolution in a compiled gradient of a scan, on CPU."""
    x, w, ct = example((2 * GROUP, 7, 6), (3, 3), 1, None, "float32", features=3)
    kernels = jnp.stack([w, w])
    compiled = jax.jit(functools.partial(chain, conv)).lower(x, kernels, ct).compile()
    return re.findall(r"dim_labels=([^,\s]+)", compiled.as_text())


@pytest.mark.parametrize("conv", [blocked_conv, canonical_conv])
def test_on_cpu_the_gradients_in_a_scan_are_compiled_in_the_canonical_layout(conv):
    layouts = compiled_layouts(conv)
    assert len(layouts) >= 3
    assert set(layouts) == {"b01f_01io->b01f"}


def test_on_cpu_native_gradients_in_a_scan_are_not_canonical():
    # The reason for canonical_conv. When this fails, XLA (jax#12868) has learned to
    # canonicalise inside loops, and canonical_conv can be taken out.
    assert set(compiled_layouts(native_conv)) != {"b01f_01io->b01f"}


def cuda_convolutions(conv, stride):
    """The convolutions of value and gradients lowered for CUDA, without operand names."""
    x, w, ct = example((2 * GROUP, 7, 6), (3, 3), stride, None, "float32")

    def both(x, w, ct):
        return value_and_gradients(lambda x, w: conv(x, w, stride), x, w, ct)

    text = jax.jit(both).trace(x, w, ct).lower(lowering_platforms=("cuda",)).as_text()
    return sorted(re.findall(r"stablehlo\.convolution\([^)]*\)(.*)", text))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("conv", [blocked_conv, canonical_conv])
def test_lowered_for_cuda_the_convolutions_are_those_of_lax(conv, stride):
    ours = cuda_convolutions(conv, stride)
    assert len(ours) == 3
    assert ours == cuda_convolutions(native_conv, stride)


@pytest.mark.parametrize("impl", ["blocked", "canonical", "native"])
def test_a_map_that_no_window_fits_is_refused(impl):
    with pytest.raises(UsageError, match="2x3 map padded by 1 and 1 is smaller than its 5x5"):
        CONVOLUTIONS[impl](jnp.ones((1, 2, 3, 1)), jnp.ones((5, 5, 1, 1)), 1, 1)


@pytest.mark.parametrize("impl", ["canonical", "native"])  # the forward of `blocked` rounds else
@pytest.mark.parametrize("size,stride", [(1, 1), (3, 2), (7, 2)])
def test_the_layer_pads_both_sides_by_half_its_kernel(impl, size, stride):
    layer = Conv(features=4, size=size, stride=stride, impl=impl)
    x = jax.random.normal(jax.random.key(0), (2, 9, 6, 3))
    out, variables = layer.init_with_output(jax.random.key(1), x)
    chex.assert_shape(out, (2, -(-9 // stride), -(-6 // stride), 4))
    expected = reference(x, variables["params"]["kernel"], stride, size // 2)
    np.testing.assert_array_equal(out, expected)


def test_the_layer_has_one_float32_parameter_even_where_it_computes_in_bfloat16():
    layer = Conv(features=4)
    out, variables = layer.init_with_output(jax.random.key(1), jnp.ones((1, 5, 5, 3), jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)
    assert shapes == {"params": {"kernel": ((3, 3, 3, 4), jnp.float32)}}


def test_the_kernel_is_he_normal_over_fan_out_and_not_truncated():
    variables = Conv(features=64).init(jax.random.key(0), jnp.ones((1, 8, 8, 32)))
    unit = variables["params"]["kernel"] / np.sqrt(2 / (3 * 3 * 64))
    # 18,432 draws: the deviation's standard error is 0.5 %; four of them. A truncated normal
    # would stop at 2.3 deviations.
    assert abs(unit.std() - 1) < 0.02
    assert jnp.abs(unit).max() > 3


def test_an_unknown_implementation_is_a_usage_error_that_lists_the_known():
    with pytest.raises(
        UsageError, match=r"'winograd' is unknown; there are: blocked, canonical, native"
    ):
        Conv(features=4, impl="winograd").init(jax.random.key(0), jnp.ones((1, 5, 5, 3)))
