"""Every depthwise convolution is one convolution per channel, in values, gradients and loops."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_elastic.errors import UsageError
from jax_elastic.layers.conv import native_conv
from jax_elastic.layers.depthwise import DEPTHWISE, DepthwiseConv, depthwise_conv
from jax_elastic.macs import count_macs

IMPLS = sorted(DEPTHWISE)
FAST = sorted({*IMPLS} - {"native"})
# Map, kernel, stride: odd and even sides, kernels wider than the map, and a stride that leaves
# pixels behind the last window.
CASES = [
    ((6, 5), (3, 3), 1),
    ((6, 5), (3, 3), 2),
    ((5, 7), (5, 1), 2),
    ((7, 6), (1, 1), 2),
    ((2, 1), (7, 7), 1),
    ((7, 8), (3, 5), 3),
]
# float64 decides whether the formulas are the same; the others only round differently: some 20
# roundings of sums of some hundred terms, relative to the largest entry.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 4e-2}


def example(case, dtype="float64", batch=3, channels=4):
    """Inputs x and kernel, and a cotangent of the output's shape."""
    (height, width), sides, stride = case
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, height, width, channels)), dtype)
    kernel = jnp.asarray(rng.normal(size=(*sides, 1, channels)), dtype)
    out = (batch, -(-height // stride), -(-width // stride), channels)
    return x, kernel, jnp.asarray(rng.normal(size=out), dtype)


def value_and_gradients(conv, x, kernel, ct):
    out, vjp = jax.vjp(conv, x, kernel)
    return out, *vjp(ct)


def run(impl, arrays, stride=1):
    conv = functools.partial(depthwise_conv, impl=impl, stride=stride)
    return jax.jit(functools.partial(value_and_gradients, conv))(*arrays)


def assert_close(actual, desired, dtype="float64"):
    for ours, theirs in zip(actual, desired, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        assert ours.shape == theirs.shape
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        np.testing.assert_array_less(
            abs(ours - theirs).max(), TOLERANCES[dtype] * abs(theirs).max()
        )


@functools.cache
def defined(case):
    """Value and gradients by the definition: a convolution of its own for each channel."""
    *_, stride = case

    def channel_by_channel(x, kernel):
        outs = [native_conv(x[..., [c]], kernel[..., [c]], stride) for c in range(x.shape[-1])]
        return jnp.concatenate(outs, -1)

    return jax.jit(functools.partial(value_and_gradients, channel_by_channel))(*example(case))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_those_of_a_convolution_per_channel(case, impl):
    with jax.enable_x64(True):
        assert_close(run(impl, example(case), stride=case[-1]), defined(case))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("impl", FAST)
def test_narrow_dtypes_are_kept_and_agree_with_native_within_their_rounding(impl, dtype):
    arrays = example(CASES[0], dtype)
    assert_close(run(impl, arrays), run("native", arrays), dtype)


@pytest.mark.parametrize("impl", FAST)
def test_inside_a_scan_values_and_gradients_are_those_of_native(impl):
    def chain(impl, x, kernels):
        def body(x, kernel):
            return depthwise_conv(x, kernel, impl), None

        return lax.scan(body, x, kernels)[0]

    def both(impl):
        return jax.jit(functools.partial(value_and_gradients, functools.partial(chain, impl)))

    with jax.enable_x64(True):
        x, kernel, ct = example(CASES[0])
        kernels = jnp.stack([kernel, kernel * 2, kernel[::-1]])
        assert_close(both(impl)(x, kernels, ct), both("native")(x, kernels, ct))


@pytest.mark.parametrize("impl", FAST)
def test_a_batch_of_kernels_under_vmap_gives_each_its_own_gradient(impl):
    def both(impl, x, kernels, ct):
        conv = functools.partial(depthwise_conv, impl=impl, stride=2)
        return jax.jit(jax.vmap(lambda k: value_and_gradients(conv, x, k, ct)))(kernels)

    with jax.enable_x64(True):
        x, kernel, ct = example(CASES[1])
        kernels = jnp.stack([kernel, kernel * kernel])
        assert_close(both(impl, x, kernels, ct), both("native", x, kernels, ct))


def test_gradients_are_the_same_where_devices_share_the_batch():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.enable_x64(True):
        x, kernel, ct = example(CASES[0], batch=4)
        alone = run("auto", (x, kernel, ct))
        x, ct = jax.device_put((x, ct), jax.NamedSharding(mesh, jax.P("data")))

        shared = run("auto", (x, kernel, ct))

        assert_close(shared, alone)
        assert shared[0].sharding == shared[1].sharding == x.sharding


@pytest.mark.parametrize("impl", IMPLS)
def test_another_channels_inputs_change_no_bit(impl):
    x, kernel, _ = example(CASES[0], "float32")
    conv = jax.jit(lambda x: depthwise_conv(x, kernel, impl))
    np.testing.assert_array_equal(conv(x)[..., :2], conv(x.at[..., 2:].set(1e6))[..., :2])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_native_is_counted_as_one_product_per_tap_and_channel(case):
    *_, (height, width), stride = case
    x, kernel, ct = example(case, "float32")
    counted = count_macs(lambda x, k: depthwise_conv(x, k, "native", stride), x, kernel)
    assert counted == ct.size * height * width


def lowered_convolutions(impl, platform):
    """The convolutions of value and gradients lowered for a platform, without operand names."""
    x = jax.ShapeDtypeStruct((2, 4, 4, 8), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 1, 8), jnp.float32)
    both = functools.partial(value_and_gradients, functools.partial(depthwise_conv, impl=impl))
    text = jax.jit(both).trace(x, kernel, x).lower(lowering_platforms=(platform,)).as_text()
    return sorted(re.findall(r"stablehlo\.convolution\([^)]*\)(.*)", text))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_auto_is_the_platforms_own_convolution_on_accelerators(platform):
    ours = lowered_convolutions("auto", platform)

    assert len(ours) == 3
    assert ours == lowered_convolutions("native", platform)


def test_auto_has_no_convolution_on_a_cpu():
    assert lowered_convolutions("auto", "cpu") == []


def test_the_layer_has_one_float32_parameter_even_where_it_computes_in_bfloat16():
    x = jnp.ones((1, 5, 4, 6), jnp.bfloat16)

    out, variables = jax.eval_shape(
        DepthwiseConv(5, stride=2).init_with_output, jax.random.key(1), x
    )

    assert (out.shape, out.dtype) == ((1, 3, 2, 6), jnp.bfloat16)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)
    assert shapes == {"params": {"kernel": ((5, 5, 1, 6), jnp.float32)}}


def test_the_kernel_is_he_normal_over_the_outputs_of_all_channels():
    variables = jax.jit(DepthwiseConv(7).init)(jax.random.key(0), jnp.ones((1, 1, 1, 256)))

    unit = variables["params"]["kernel"] / np.sqrt(2 / (7 * 7 * 256))
    # 12,544 draws: the deviation's standard error is 0.63 %; four of them.
    assert abs(unit.std() - 1) < 0.025


@pytest.mark.parametrize(
    "shape,impl,message",
    [
        ((3, 3, 1, 6), "winograd", "'winograd' is unknown; there are: auto, native, shifted"),
        ((3, 3, 1, 5), "auto", r"\(3, 3, 1, 5\) is no depthwise one of 6 .* \(1, 6\) behind"),
        ((3, 3, 6, 6), "auto", r"\(3, 3, 6, 6\) is no depthwise one"),
        ((2, 3, 1, 6), "native", r"\(2, 3, 1, 6\) is no depthwise one of 6 channels; odd sides"),
    ],
)
def test_what_the_convolution_cannot_be_is_one_error_that_tells_what_can(shape, impl, message):
    with pytest.raises(UsageError, match=message):
        depthwise_conv(jnp.ones((1, 5, 5, 6)), jnp.ones(shape), impl)
