"""Every grouped convolution is one convolution per group, in values, gradients and loops."""

import functools
import re

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax

from jax_elastic.errors import UsageError
from jax_elastic.layers.conv import Conv, native_conv
from jax_elastic.layers.grouped import DENSE, GROUPED, WIDTH, GroupedConv, grouped_conv
from jax_elastic.macs import count_macs

# groups, channels in and out of each, kernel's side, stride: one group, as many as channels, a
# rest that fills no run of `split`, groups wider than a run, and inputs that are not outputs.
CASES = [
    (1, 3, 4, 3, 1),
    (5, 4, 4, 3, 1),
    (17, 1, 1, 3, 2),
    (3, 7, 2, 5, 2),
    (3, 2, 7, 1, 1),
    (2, WIDTH + 1, 3, 3, 1),
]
# float64 decides whether the formulas are the same; the others only round differently: some 20
# roundings of sums of some hundred terms, relative to the largest entry.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 4e-2}
IMPLS = sorted(GROUPED)


def example(case, dtype):
    """Inputs x and kernel, and a cotangent of the output's shape."""
    groups, ins, outs, size, stride = case
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 6, 5, groups * ins)), dtype)
    kernel = jnp.asarray(rng.normal(size=(size, size, ins, groups * outs)), dtype)
    out = (2, -(-6 // stride), -(-5 // stride), groups * outs)
    return x, kernel, jnp.asarray(rng.normal(size=out), dtype)


def value_and_gradients(conv, x, kernel, ct):
    out, vjp = jax.vjp(conv, x, kernel)
    return out, *vjp(ct)


def assert_close(actual, desired, dtype):
    for ours, theirs in zip(actual, desired, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        assert ours.shape == theirs.shape
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        np.testing.assert_array_less(
            abs(ours - theirs).max(), TOLERANCES[dtype] * abs(theirs).max()
        )


@functools.cache
def defined(case):
    """Value and gradients by the definition: a convolution of its own for each group."""
    groups, *_, stride = case

    def group_by_group(x, kernel):
        xs, kernels = jnp.split(x, groups, -1), jnp.split(kernel, groups, -1)
        outs = [native_conv(x, k, stride) for x, k in zip(xs, kernels, strict=True)]
        return jnp.concatenate(outs, -1)

    return jax.jit(functools.partial(value_and_gradients, group_by_group))(
        *example(case, "float64")
    )


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_those_of_a_convolution_per_group(case, impl):
    groups, *_, stride = case

    def ours(x, kernel, ct):
        return value_and_gradients(
            lambda x, w: grouped_conv(x, w, groups, impl, stride), x, kernel, ct
        )

    with jax.enable_x64(True):
        assert_close(jax.jit(ours)(*example(case, "float64")), defined(case), "float64")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("impl", sorted({*IMPLS} - {"native"}))
def test_narrow_dtypes_are_kept_and_agree_with_native_within_their_rounding(impl, dtype):
    arrays = example(CASES[1], dtype)

    def run(impl):
        return jax.jit(
            functools.partial(value_and_gradients, lambda x, w: grouped_conv(x, w, 5, impl))
        )(*arrays)

    assert_close(run(impl), run("native"), dtype)


@pytest.mark.parametrize("impl", sorted({*IMPLS} - {"native"}))
def test_inside_a_scan_values_and_gradients_are_those_of_native(impl):
    with jax.enable_x64(True):
        x, kernel, ct = example(CASES[1], "float64")
        kernels = jnp.stack([kernel, kernel * 2, kernel[::-1]])

        def chain(impl, x, kernels):
            def body(x, kernel):
                return grouped_conv(x, kernel, 5, impl), None

            return lax.scan(body, x, kernels)[0]

        def run(impl):
            return jax.jit(functools.partial(value_and_gradients, functools.partial(chain, impl)))(
                x, kernels, ct
            )

        assert_close(run(impl), run("native"), "float64")


@pytest.mark.parametrize("impl", IMPLS)
def test_the_first_groups_alone_give_the_first_channels(impl):
    with jax.enable_x64(True):
        x, kernel, _ = example(CASES[1], "float64")
        whole = grouped_conv(x, kernel, 5, impl)
        first = grouped_conv(x[..., :12], kernel[..., :12], 3, impl)
        assert_close([first], [whole[..., :12]], "float64")


@pytest.mark.parametrize("impl", IMPLS)
def test_another_groups_inputs_change_no_bit(impl):
    x, kernel, _ = example(CASES[1], "float32")
    run = jax.jit(lambda x: grouped_conv(x, kernel, 5, impl))
    np.testing.assert_array_equal(run(x)[..., :8], run(x.at[..., 8:].set(1e6))[..., :8])


@hypothesis.given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_split_multiplies_by_zeros_only_within_runs_of_few_channels(groups, ins, outs):
    x = jax.ShapeDtypeStruct((1, 4, 4, groups * ins), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, ins, groups * outs), jnp.float32)

    split = count_macs(lambda x, w: grouped_conv(x, w, groups, "split"), x, kernel)

    at_once = min(groups, max(1, WIDTH // max(ins, outs)))
    native = 3 * 3 * ins * groups * outs * 4 * 4
    assert native <= split <= at_once * native
    assert groups % at_once or split == at_once * native


@pytest.mark.parametrize("case", CASES, ids=str)
def test_native_is_counted_as_grouped_and_dense_with_its_zeros(case):
    groups, ins, _, size, stride = case
    x, kernel, ct = example(case, "float32")
    taps = size * size * ins * ct.size

    counted = {
        impl: count_macs(
            lambda x, w, impl=impl: grouped_conv(x, w, groups, impl, stride), x, kernel
        )
        for impl in ("native", "dense")
    }

    assert counted == {"native": taps, "dense": taps * groups}


def lowered_convolutions(groups, width, impl, platform):
    """The convolutions of value and gradients lowered for a platform, without operand names."""
    x = jax.ShapeDtypeStruct((2, 4, 4, groups * width), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, width, groups * width), jnp.float32)
    both = functools.partial(value_and_gradients, lambda x, w: grouped_conv(x, w, groups, impl))
    text = jax.jit(both).trace(x, kernel, x).lower(lowering_platforms=(platform,)).as_text()
    return sorted(re.findall(r"stablehlo\.convolution\([^)]*\)(.*)", text))


@pytest.mark.parametrize(
    "groups,width,platform,impl",
    [
        (5, 4, "cpu", "split"),
        (9, WIDTH + 1, "cpu", "split"),
        (DENSE // 32, 32, "cuda", "dense"),
        (DENSE // 32 + 1, 32, "cuda", "native"),
        (DENSE // 32, 32, "tpu", "dense"),
        (DENSE // 32 + 1, 32, "tpu", "native"),
    ],
)
def test_auto_is_what_is_best_on_the_platform_it_is_lowered_for(groups, width, platform, impl):
    ours = lowered_convolutions(groups, width, "auto", platform)

    assert len(ours) >= 3
    assert ours == lowered_convolutions(groups, width, impl, platform)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("size,stride", [(1, 1), (3, 2)])
def test_the_layer_of_one_group_is_the_plain_convolution(impl, size, stride):
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    plain = Conv(4, size, stride)
    variables = plain.init(jax.random.key(1), x)

    out = GroupedConv(1, 4, size, stride, impl).apply(variables, x)

    # Another order of additions, nothing else.
    np.testing.assert_allclose(out, plain.apply(variables, x), rtol=1e-5, atol=1e-5)


def test_the_layer_has_one_float32_parameter_even_where_it_computes_in_bfloat16():
    x = jnp.ones((1, 5, 4, 6), jnp.bfloat16)

    out, variables = GroupedConv(3, 12, stride=2).init_with_output(jax.random.key(1), x)

    assert (out.shape, out.dtype) == ((1, 3, 2, 12), jnp.bfloat16)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)
    assert shapes == {"params": {"kernel": ((3, 3, 2, 12), jnp.float32)}}


def test_the_kernel_is_he_normal_over_the_outputs_of_all_groups_and_not_truncated():
    layer = GroupedConv(groups=4, features=64)
    variables = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((1, 8, 8, 128)))
    assert variables["params"]["kernel"].shape == (3, 3, 32, 64)

    kernel = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 8, 8, 128)))["params"]["kernel"]

    unit = kernel / np.sqrt(2 / (3 * 3 * 64))
    # 18,432 draws: the deviation's standard error is 0.5 %; four of them. A truncated normal
    # would stop at 2.3 deviations.
    assert abs(unit.std() - 1) < 0.02
    assert jnp.abs(unit).max() > 3


@pytest.mark.parametrize(
    "layer,message",
    [
        (GroupedConv(2, 4, impl="winograd"), "'winograd' is unknown; there are: auto, dense, nat"),
        (GroupedConv(0, 4), "0 groups are asked for; at least 1"),
        (GroupedConv(4, 8), "6 input channels cannot be shared by 4 groups; .* for example 8"),
        (GroupedConv(3, 8), "8 output channels cannot be shared by 3 groups; .* for example 9"),
    ],
)
def test_what_the_layer_cannot_be_is_one_error_that_tells_what_can(layer, message):
    with pytest.raises(UsageError, match=message):
        layer.init(jax.random.key(0), jnp.ones((1, 5, 5, 6)))


@pytest.mark.parametrize("impl", IMPLS)
def test_a_kernel_of_other_groups_is_refused(impl):
    with pytest.raises(UsageError, match=r"3 channels a group .* must be \(3, 3, 2, 6\)"):
        grouped_conv(jnp.ones((1, 5, 5, 6)), jnp.ones((3, 3, 3, 6)), 3, impl)
